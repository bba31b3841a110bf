#!/usr/bin/env bash
# Checks the format, lints, checks the types and runs the tests.
#
#   scripts/test.sh [PYTEST_ARGUMENT ...]      e.g. -m 'not slow'
set -euo pipefail
# shellcheck disable=SC1091
source "$(dirname "${BASH_SOURCE[0]}")/setup_venv.sh"

cd "$root"
ruff format --check .
ruff check .
codespell
mypy
pytest -n auto --maxprocesses 8 "$@"
