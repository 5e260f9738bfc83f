#!/bin/sh
# Runs the tests: first those that need little beside the processor, then, a file at a time on each
# core, those with real workers and real time, which mostly wait.
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
slowest="--durations=25 --durations-min=2"
attempt -n "$workers" --dist worksteal $slowest \
    --ignore tests/chaos --ignore tests/integration/workers --ignore tests/integration/fastapi \
    tests || failed=1
attempt -n "$workers" --dist loadfile $slowest \
    tests/chaos tests/integration/workers tests/integration/fastapi || failed=1
exit $failed
