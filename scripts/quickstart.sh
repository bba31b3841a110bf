#!/usr/bin/env bash
# Trains the quickstart model on the bundled data and shows what it learned.
#
#   scripts/quickstart.sh [MODEL_DIR] [--gin.NAME=VALUE ...]
#
# The same command again goes on where it stopped.
set -euo pipefail
# shellcheck disable=SC1091
source "$(dirname "${BASH_SOURCE[0]}")/setup_venv.sh"

model_dir=$root/runs/quickstart
if [[ $# -gt 0 && $1 != --* ]]; then
  model_dir=$1
  shift
fi
exec python -m t2tjax.train --gin_file=recipes/quickstart.gin \
  --gin.MODEL_DIR="'$model_dir'" "$@"
