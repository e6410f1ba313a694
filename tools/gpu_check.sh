#!/usr/bin/env bash
# All that needs a GPU, in ten minutes: tests, times and one training, each with a limit of its own, so that one that
# fails does not lose the others. What was seen goes to a folder, as JSON and text.
#
#   tools/gpu_check.sh [--out DIR] [--wheels DIR] [--minutes N]     # on a machine with a GPU
#   tools/gpu_check.sh --smoke                                      # the same steps in small, on a CPU
#   tools/gpu_check.sh --list                                       # what would run
#
# On a bare machine without a network, --wheels names a folder of wheels that was carried along (made elsewhere with
# pip download -d DIR -c constraints.txt '.[dev]'); without it, .venv or the python of the PATH has to have them.
set -euo pipefail
cd "$(dirname "$0")/.."

wheels=""
previous=""
for word in "$@"; do
  [ "$previous" = "--wheels" ] && wheels=$word
  previous=$word
done
if [ -n "$wheels" ] && [ ! -e .venv/.ready ]; then
  "${PYTHON:-python3}" -m venv .venv
  .venv/bin/python -m pip install --no-index --find-links "$wheels" -e '.[dev]'
  .venv/bin/python -m pip install --no-index --find-links "$wheels" --no-deps -r requirements-offline.txt
  touch .venv/.ready
fi

python=${PYTHON:-python3}
[ -x .venv/bin/python ] && python=.venv/bin/python
exec "$python" tools/gpu_check.py "$@"
