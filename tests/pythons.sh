#!/bin/sh
# Runs the tests on every supported Python that is installed beside the one of .venv: those within one
# process that do not repeat themselves, whole rollouts, and a part of the demo for all that takes several.
set -eu
cd "$(dirname "$0")/.."

find_python() { # find_python 3.12: prints its path, from the search path or from pyenv
    if "python$1" -c '' 2>/dev/null; then
        command -v "python$1"
    elif command -v pyenv >/dev/null 2>&1; then
        PYENV_VERSION=$(pyenv latest "$1" 2>/dev/null) pyenv which "python$1" 2>/dev/null || true
    fi
}

tests='tests/core tests/contracts tests/edges tests/simulation/test_rollouts.py -m "not processes and not repeats"'
own=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
for version in 3.11 3.12 3.13; do
    [ "$version" = "$own" ] && continue
    python=$(find_python "$version")
    if [ -z "$python" ]; then
        echo "Python $version is not installed; not tested on it."
        continue
    fi
    echo "Python $version:"
    make --no-print-directory tests VENV=".venv-$version" PYTHON="$python" ARGS="$tests"
    ".venv-$version/bin/canary" demo --json --only errors --only broken
done
