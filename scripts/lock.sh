#!/bin/sh
# Writes requirements.txt (run time) and requirements-dev.txt (development) again, with the newest versions that
# pyproject.toml allows. One resolution serves Python 3.11 to 3.14; hashes of all files are listed, so it serves every
# machine. The files name no index: where packages come from is the reader's choice. PostgreSQL's driver is in both.
set -eu
cd "$(dirname "$0")/.."
uv_version=0.13.9

if [ "$(.venv-lock/bin/uv --version 2>/dev/null | cut -d' ' -f2)" != "$uv_version" ]; then
    .venv/bin/python -m venv .venv-lock
    .venv-lock/bin/python -m pip install --quiet --disable-pip-version-check "uv==$uv_version"
fi

compile() {
    .venv-lock/bin/uv --quiet pip compile --upgrade --universal --python-version 3.11 \
        --generate-hashes --no-emit-index-url --no-emit-find-links --strip-extras --no-annotate \
        --no-header --no-emit-package releasehand --extra postgres \
        "$@" pyproject.toml releasehand/pyproject.toml >/dev/null
}

compile --output-file requirements.txt
compile --constraints requirements.txt --group dev --output-file requirements-dev.txt
