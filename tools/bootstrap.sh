#!/bin/sh
# Make .venv hold exactly what uv.lock says: `dev` (all extras and the tools) or `demo` (no tools).
set -eu
cd "$(dirname "$0")/.."
level=${1:-dev}
venv=.venv

say() { printf '%s\n' "$*" >&2; }

find_python() {
    for candidate in "${PYTHON:-python3}" python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s' "$candidate"
            return
        fi
    done
    say "Python 3.11 or newer is needed; set PYTHON to one, or install it (Debian: apt-get install python3)."
    exit 1
}

# Debian keeps the part of Python that makes a venv with pip in a package of its own.
need_venv_module() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null && return
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        say "Installing python3-venv with apt-get ..."
        export DEBIAN_FRONTEND=noninteractive
        apt-get install -qq -y --no-install-recommends python3-venv >/dev/null 2>&1 ||
            { apt-get update -qq && apt-get install -qq -y --no-install-recommends python3-venv >/dev/null; }
        "$1" -c 'import ensurepip, venv' 2>/dev/null && return
    fi
    say "This Python cannot make a virtual environment. Debian: apt-get install python3-venv (as root)."
    exit 1
}

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    need_venv_module "$python"
    say "Making $venv with $("$python" --version) ..."
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi
"$venv/bin/python" -m uv --version >/dev/null 2>&1 ||
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check 'uv>=0.8'

# UV_PROJECT_ENVIRONMENT and VIRTUAL_ENV of the calling shell must not lead uv elsewhere.
unset VIRTUAL_ENV
export UV_PROJECT_ENVIRONMENT="$venv"
case $level in
    dev) set -- --all-extras --group dev ;;
    # --inexact: it must not take the tools out of an environment that has them.
    demo) set -- --inexact --extra sql --extra cli --extra dashboard ;;
    *) say "bootstrap.sh takes dev or demo, not $level."; exit 2 ;;
esac
say "Installing the locked Python packages ($level) ..."
"$venv/bin/python" -m uv sync --quiet --locked --python "$venv/bin/python" "$@"
touch "$venv/.ready-$level"
[ "$level" = demo ] || touch "$venv/.ready-demo"
