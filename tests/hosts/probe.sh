#!/bin/bash
# Tries, without the product, what test hosts are made of; each lack is a line on stdout. Ends with 0 where there is none.
#   probe.sh         what every host needs
#   probe.sh cable   what a bad cable (relay.py) needs besides
# Leaves nothing behind: mounts, links and processes are in namespaces of its own.
set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
lacks=0
lack() { printf '%s\n' "$*"; lacks=$((lacks + 1)); }
finish() { exit $((lacks > 0)); }

# WHAT COMMAND...: a lack is told with the last line that the command printed.
try() {
    local what="$1" said
    shift
    said="$("$@" 2>&1)" || lack "$what (${said##*$'\n'})"
}

look_for_programs() {
    local name kernel
    for name in unshare nsenter mount umount pivot_root setpriv mknod ip bash systemctl journalctl systemd-sysusers \
        systemd-analyze dbus-daemon dpkg dpkg-deb curl; do
        command -v "$name" >/dev/null || lack "the command $name"
    done
    [ -x /lib/systemd/systemd ] || [ -x /usr/lib/systemd/systemd ] || lack "systemd"
    [ -x /usr/lib/polkit-1/polkitd ] || [ -x /usr/libexec/polkitd ] || lack "polkitd"
    [ -f /etc/debian_version ] || lack "Debian, for its package"
    /usr/bin/python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        lack "/usr/bin/python3 of 3.11 or later with venv"
    kernel="$(uname -r)"
    [ "$(printf '%s\n5.8\n' "$kernel" | sort -V | head -n 1)" = 5.8 ] || lack "Linux 5.8 or later"
    # Disks of hosts are in memory: two labs side by side fill 1.5 GB, and their daemons as much.
    [ "$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)" -ge 3000 ] || lack "3 GB of free memory"
}

try_root() { # as boot.sh makes a host's file system
    mount -t tmpfs -o mode=755,size=16m probe /mnt && mkdir /mnt/u /mnt/w /mnt/m /mnt/u/opt &&
        mknod /mnt/u/fstab c 0 0 &&
        python3 -c 'import os; os.setxattr("/mnt/u/opt", "trusted.overlay.opaque", b"y")' &&
        mount -t overlay probe -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w /mnt/m &&
        mount -t proc proc /mnt/m/proc && mount -t sysfs -o ro sysfs /mnt/m/sys &&
        mount -t tmpfs dev /mnt/m/dev && mkdir /mnt/m/dev/pts && : >/mnt/m/dev/null &&
        mount --bind /dev/null /mnt/m/dev/null &&
        mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts /mnt/m/dev/pts &&
        mount --bind /mnt/m/proc/sys /mnt/m/proc/sys && mount -o remount,bind,ro /mnt/m/proc/sys &&
        mount -t tmpfs run /mnt/m/run && mkdir /mnt/m/run/old && cd /mnt/m && pivot_root . run/old && cd / &&
        umount -l /run/old && mount --make-rshared / && hostname probe &&
        setpriv --bounding-set=-sys_time,-sys_module --inh-caps=-all -- test -x /bin/sh
}

try_group() { # a control group of the host's own, below this process's
    local own group id
    own="$(sed -n 's/^0:://p' /proc/self/cgroup)"
    [ -n "$own" ] || { echo "no hierarchy of version 2" && return 1; }
    mount -t cgroup2 probe /mnt || return 1
    read -r id </proc/sys/kernel/random/uuid # several probe at once, each as process 1 of its namespace
    group="/mnt$own/releasehand-probe-$id"
    mkdir "$group" || return 1
    # shellcheck disable=SC2016
    group="$group" bash -c 'echo 0 >"$group/cgroup.procs" && mkdir "$group/inner" && rmdir "$group/inner" && unshare --cgroup true'
    local code=$?
    rmdir "$group"
    return $code
}

try_network() {
    : >"$1/ns" && unshare --net="$1/ns" true && ip link add br0 type bridge forward_delay 0 stp_state 0 &&
        ip link add probe type veth peer name eth0 netns "$1/ns" && ip link set probe master br0 up
}

try_cable() {
    [ -c /dev/net/tun ] || { echo "no /dev/net/tun" && return 1; }
    ip link add br0 type bridge && ip link add probe type veth peer name other && ip tuntap add dev tap0 mode tap vnet_hdr &&
        ip link set tap0 master br0 up &&
        /usr/bin/python3 -Ic 'import socket as s; p = s.socket(s.AF_PACKET, s.SOCK_RAW, 0); p.setsockopt(263, 15, 1); p.bind(("probe", 3))'
}

case "${1:-}" in
try_root | try_group | try_network | try_cable) # in the namespaces
    "$@"
    exit
    ;;
esac
[ "$(id -u)" = 0 ] || { lack root && finish; }
own=(unshare --mount --propagation private --net --pid --fork --kill-child --mount-proc --)
if [ "${1:-}" = cable ]; then
    try "packet sockets and tap devices" "${own[@]}" "$0" try_cable
    finish
fi
look_for_programs
[ "$lacks" = 0 ] || finish
try "namespaces" "${own[@]}" true
[ "$lacks" = 0 ] || finish
folder="$(mktemp -d)"
trap 'rmdir "$folder"' EXIT
inner=(unshare --mount --propagation private --uts --ipc --pid --fork --kill-child --mount-proc --)
try "a file system over the machine's own" "${own[@]}" "${inner[@]}" "$0" try_root
try "a control group of version 2" "${own[@]}" "$0" try_group
# shellcheck disable=SC2016
try "networks of its own" "${own[@]}" bash -c 'mount -t tmpfs probe "$1" && "$0" try_network "$1"' "$0" "$folder"
finish
