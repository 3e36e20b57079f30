#!/bin/sh
# Makes .venv from requirements-dev.txt, or brings it up to date; safe to repeat. The Makefile calls it when .venv is
# missing or older than the lock file. PYTHON names the interpreter to use; without it the first fitting one is taken.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' 2>/dev/null; }

choose_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14}; do
        if fits "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    say "cannot set up: no ${PYTHON:-python3} of version 3.11 to 3.14 (Debian: apt-get install python3)"
    return 1
}

# Debian keeps ensurepip, which venv needs, in a package of its own.
require_ensurepip() {
    if "$1" -c 'import ensurepip, venv' 2>/dev/null; then return; fi
    package="$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    if [ "$(id -u)" = 0 ] && [ -f /etc/debian_version ] && command -v apt-get >/dev/null; then
        say "installing $package"
        apt-get update -qq >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$package" </dev/null >&2
    else
        say "cannot set up: $1 has no ensurepip; install the system package $package"
        return 1
    fi
}

# A clone that was moved, or whose interpreter went away, has a .venv that cannot run.
if ! fits .venv/bin/python || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python="$(choose_python)"
    require_ensurepip "$python"
    say "making .venv with $("$python" --version) at $python"
    rm -rf .venv
    "$python" -m venv .venv
fi

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
say "installing the locked libraries"
.venv/bin/python -m pip install --quiet --require-hashes -r requirements-dev.txt </dev/null
.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation -e ./releasehand -e . </dev/null
touch .venv/.complete
