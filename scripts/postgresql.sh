#!/bin/sh
# Installs PostgreSQL's server where it is missing, as root on Debian; the tests start servers of their own from it.
# Never fails: without it the tests that need it are skipped, and say so.
set -u

if command -v postgres >/dev/null || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; then exit 0; fi
if [ "$(id -u)" != 0 ] || [ ! -f /etc/debian_version ] || ! command -v apt-get >/dev/null; then exit 0; fi
printf 'installing postgresql\n' >&2
# Debian's package would make a cluster and start it on port 5432: nobody asked for that one.
settings=/etc/postgresql-common/createcluster.conf
if [ ! -e "$settings" ]; then
    mkdir -p "$(dirname "$settings")"
    printf 'create_main_cluster = false\n' >"$settings"
fi
{
    apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
            -o Dpkg::Options::=--force-confold postgresql
} </dev/null >&2 || printf 'postgresql could not be installed: its tests are skipped\n' >&2
exit 0
