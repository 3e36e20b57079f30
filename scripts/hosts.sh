#!/bin/sh
# Installs what test hosts need where it is missing, as root on Debian. Never fails: tests/hosts/probe.sh says what a
# machine lacks after it.
set -u
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ] || [ ! -f /etc/debian_version ] || ! command -v apt-get >/dev/null; then exit 0; fi
missing=
# A package, and a file that it brings.
while read -r package file; do
    [ -e "$file" ] || [ -e "/usr$file" ] || missing="$missing $package"
done <<END
bash /bin/bash
curl /usr/bin/curl
dbus /usr/bin/dbus-daemon
dpkg /usr/bin/dpkg-deb
iproute2 /sbin/ip
mount /bin/mount
polkitd /usr/share/dbus-1/system-services/org.freedesktop.PolicyKit1.service
python3 /usr/bin/python3
systemd /lib/systemd/systemd
util-linux /usr/bin/setpriv
END
/usr/bin/python3 -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
[ -n "$missing" ] || exit 0
printf 'installing%s\n' "$missing" >&2
# Nothing of it is to run on this machine: hosts start their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
{
    apt-get update -qq &&
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
            -o Dpkg::Options::=--force-confold $missing
} </dev/null >&2 || printf 'not all of it could be installed: tests on hosts are left out\n' >&2
exit 0
