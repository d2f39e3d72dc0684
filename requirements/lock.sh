#!/bin/sh
# Writes the five locked sets with hashes, for every supported Python, and without index addresses.
# Usage: requirements/lock.sh path/to/uv
set -eu
cd "$(dirname "$0")/.."
uv=$1
lock() { # lock OUTPUT [sources and options]
    out=$1
    shift
    UV_FIND_LINKS='' "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-annotate --no-strip-extras --custom-compile-command 'make lock' \
        "$@" --output-file "requirements/$out"
}
lock production.txt pyproject.toml
lock emulator.txt pyproject.toml --extra emulator --constraint requirements/production.txt --group build
lock dev.txt pyproject.toml --extra emulator --constraint requirements/production.txt --group build --group dev
lock bench.txt pyproject.toml --extra emulator --constraint requirements/dev.txt --group build --group dev --group bench
lock build.txt --constraint requirements/emulator.txt --group build
