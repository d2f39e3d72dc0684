#!/bin/sh
# Sees to it that nginx and wrk are installed, which the benchmark of the HTTP front needs.
set -eu
missing=""
for tool in nginx wrk; do
    command -v "$tool" >/dev/null 2>&1 || [ -x "/usr/sbin/$tool" ] || missing="$missing $tool"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing$missing (once) ..."
    apt-get update -qq
    # shellcheck disable=SC2086 # one word for each package
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    # The package starts a server; the benchmark starts its own.
    service nginx stop >/dev/null 2>&1 || true
else
    echo "The benchmark needs$missing. Install with: sudo apt-get install$missing" >&2
    exit 1
fi
