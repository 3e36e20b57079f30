#!/bin/sh
# Builds dist/: the wheels of releasehand and releasehand-daemons, and a Debian package with both daemons, the command
# line, units, manual pages and a virtual environment of their own under /opt/releasehand.
#
# The package fits the distribution that it was built on: its interpreter is the system's python3, which its version
# names (0.1.0+py3.11), so that those of several distributions lie in one folder. The same commit and
# the same SOURCE_DATE_EPOCH (the commit's time when it is not set) give the same files.
#
# dist/.made-of names what the files were made of and what they are; where both are still so, nothing is built.
set -eu
cd "$(dirname "$0")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || date +%s)}"
export SOURCE_DATE_EPOCH

say() { printf '%s\n' "$*" >&2; }

# Everything that the files depend on, committed or not, by its content; the interpreter and the commit's time too.
name_sources() {
    {
        printf '%s\n' "$SOURCE_DATE_EPOCH" "$(/usr/bin/python3 -VV 2>&1)" "$(.venv/bin/python -VV)" "$(uname -m)"
        tar --create --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --exclude=__pycache__ --exclude='*.pyc' \
            releasehand shared controller agent systemd packaging scripts/dist.sh scripts/manual.py LICENSE README.md \
            CHANGELOG.md pyproject.toml requirements.txt requirements-dev.txt .gitignore ||
            date +%s%N # what cannot be read is not known to be the same
    } | sha256sum
}

name_products() { find dist -maxdepth 1 -type f ! -name .made-of -exec sha256sum {} + | LC_ALL=C sort -k 2; }

build_wheels() {
    rm -rf dist build/deb
    mkdir -p dist
    .venv/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist ./releasehand . </dev/null
}

# A virtual environment that was made elsewhere works in /opt/releasehand when nothing in it names that place.
build_environment() { # TREE
    home="$1/opt/releasehand"
    /usr/bin/python3 -m venv --without-pip "$home"
    .venv/bin/python -m pip --python "$home/bin/python" install --quiet --no-compile --only-binary :all: \
        --require-hashes --requirement requirements.txt </dev/null
    .venv/bin/python -m pip --python "$home/bin/python" install --quiet --no-compile --no-deps dist/*.whl </dev/null
    find "$home/bin" -mindepth 1 ! -name 'python*' ! -name 'releasehand*' -delete
    sed -i '1s|^#!.*|#!/opt/releasehand/bin/python3|' "$home"/bin/releasehand*
    printf 'home = /usr/bin\ninclude-system-site-packages = false\n' >"$home/pyvenv.cfg"
    find "$home" -name direct_url.json -delete # says where the wheels lay
    "$home/bin/python" -I -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        -s "$1" -p / "$home/lib" >/dev/null
}

install_files() { # TREE
    install -Dm 644 -t "$1/usr/lib/systemd/system" systemd/*.service
    for folder in sysusers.d tmpfiles.d system-preset; do
        target="$folder"
        [ "$folder" = system-preset ] && target=systemd/system-preset
        install -Dm 644 -t "$1/usr/lib/$target" systemd/"$folder"/*
    done
    install -Dm 644 -t "$1/usr/share/doc/releasehand-daemons" LICENSE CHANGELOG.md packaging/deb/copyright
    install -Dm 644 -t "$1/usr/share/doc/releasehand-daemons/examples" packaging/examples/*
    mkdir -p "$1/usr/bin" "$1/usr/sbin" "$1/usr/share/man"
    ln -s /opt/releasehand/bin/releasehand "$1/usr/bin/releasehand"
    for daemon in controller agent; do
        ln -s "/opt/releasehand/bin/releasehand-$daemon" "$1/usr/sbin/releasehand-$daemon"
    done
    .venv/bin/python scripts/manual.py "$1/usr/share/man"
}

build_package() {
    tree=build/deb release="$(.venv/bin/python -c 'from importlib.metadata import version as v; print(v("releasehand-daemons"))')"
    architecture="$(dpkg --print-architecture)"
    python="$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
    following="$(/usr/bin/python3 -c 'import sys; print("%d.%d" % (sys.version_info[0], sys.version_info[1] + 1))')"
    version="$release+py$python"
    build_environment "$tree"
    install_files "$tree"
    install -Dm 755 -t "$tree/DEBIAN" packaging/deb/postinst packaging/deb/prerm packaging/deb/postrm
    sed -e "s|@VERSION@|$version|" -e "s|@ARCHITECTURE@|$architecture|" -e "s|@PYTHON@|$python|" \
        -e "s|@FOLLOWING@|$following|" -e "s|@SIZE@|$(du -sk --exclude=DEBIAN "$tree" | cut -f1)|" \
        packaging/deb/control >"$tree/DEBIAN/control"
    find "$tree" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group -Zzstd -z9 --build "$tree" "dist/releasehand-daemons_${version}_$architecture.deb" >/dev/null
}

sources="$(name_sources)"
if [ -f dist/.made-of ] && [ "$(printf '%s\n' "$sources" "$(name_products)")" = "$(cat dist/.made-of)" ]; then
    say "dist/ is of this tree already"
    exit 0
fi
build_wheels
if [ -f /etc/debian_version ] && command -v dpkg-deb >/dev/null; then
    build_package
else
    say "no .deb was built: this is no Debian, or dpkg-deb is missing"
fi
ls -l dist | awk 'NR > 1 { printf "%9d  dist/%s\n", $5, $NF }' >&2
# What was edited while it was built is built again next time.
[ "$(name_sources)" != "$sources" ] || printf '%s\n' "$sources" "$(name_products)" >dist/.made-of
