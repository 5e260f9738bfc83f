#!/bin/sh
# Runs the tests: most of them side by side, those with real workers and real time one after another.
# A test that failed is tried once more alone: the failure may be the busy machine's.
# Usage: test.sh PYTHON WORKERS [pytest arguments: then all in one go]
set -u
python=$1 workers=$2
shift 2

attempt() {
    "$python" -m pytest "$@" && return 0
    echo "===== once more, alone ====="
    "$python" -m pytest --last-failed --last-failed-no-failures none
}

if [ $# -gt 0 ]; then
    exec "$python" -m pytest -n "$workers" --dist worksteal "$@"
fi
failed=0
attempt -n "$workers" --dist worksteal --ignore tests/chaos --ignore tests/integration/workers tests || failed=1
attempt tests/chaos || failed=1
exit $failed
