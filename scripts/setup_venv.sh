#!/usr/bin/env bash
# Makes a virtual environment with the pinned packages and t2tjax in it.
# Sourced by quickstart.sh and test.sh; the second time it costs nothing.
#
#   T2TJAX_VENV  where the environment goes (default: .venv in the checkout)
#   PYTHON       the Python to make it with (default: python3; 3.11 or 3.12)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${T2TJAX_VENV:-$root/.venv}
python=${PYTHON:-python3}

if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))'; then
  echo "t2tjax needs Python 3.11 or 3.12, but $python is" \
    "$("$python" --version 2>&1). Set PYTHON=/path/to/python3.11." >&2
  exit 2
fi

# The stamp is written last, so that an install that was cut off is repeated.
stamp=$venv/.t2tjax-$(cat "$root/setup.py" "$root/scripts/requirements.lock" | sha256sum | cut -c1-16)
if [[ ! -e $stamp ]]; then
  echo "Installing t2tjax into $venv (about two minutes) ..."
  "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --upgrade pip
  "$venv/bin/python" -m pip install --quiet -r "$root/scripts/requirements.lock"
  "$venv/bin/python" -m pip install --quiet --no-deps -e "$root"
  touch "$stamp"
fi
# shellcheck disable=SC1091
source "$venv/bin/activate"
