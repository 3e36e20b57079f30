#!/bin/bash
# Becomes the first process of a host: namespaces, a file system over the machine's own, then systemd.
# Called by lab.py in the lab's namespaces, first as `boot.sh enter`, then by itself as `boot.sh root`.
# NAME, DISK (u: the host's own layer, w, m), CGROUP, PIDFILE and HOSTS (a file for /etc/hosts) are set.
set -eu
if [ "$1" = enter ]; then
    exec unshare --mount --propagation private --uts --ipc --pid --fork --kill-child -- "$0" start
fi
if [ "$1" = start ]; then
    read -r pid _ </proc/self/stat # /proc is still the lab's, and so is the number
    mkdir -p "$CGROUP"
    echo 0 >"$CGROUP/cgroup.procs"
    echo "$pid" >"$PIDFILE"
    exec unshare --cgroup -- "$0" root
fi

root=$DISK/m
mount -t overlay "host-$NAME" -o "lowerdir=/,upperdir=$DISK/u,workdir=$DISK/w" "$root"
cp "$HOSTS" "$root/etc/hosts"
hostname "$NAME"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755,nosuid,size=4m dev "$root/dev"
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"
mount -t tmpfs -o mode=1777,nosuid,nodev shm "$root/dev/shm"
mount -t tmpfs -o mode=755,nosuid,nodev,size=256m run "$root/run"
mount -t tmpfs -o mode=1777,nosuid,nodev,size=256m tmp "$root/tmp" # systemd empties /tmp, which must not be the machine's
cat /proc/sys/kernel/random/uuid >"$root/run/.boot_id"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro,nosuid,nodev,noexec "$root/proc/sys"
mount --bind "$root/run/.boot_id" "$root/proc/sys/kernel/random/boot_id"
for file in sysrq-trigger kmsg; do
    [ ! -e "$root/proc/$file" ] || mount --bind /dev/null "$root/proc/$file"
done
mkdir -p "$root/run/.old"
cd "$root"
pivot_root . run/.old
cd /
umount -l /run/.old
rmdir /run/.old
mount --make-rshared / # as a container's systemd expects it; LoadCredential= needs it
for systemd in /lib/systemd/systemd /usr/lib/systemd/systemd; do
    [ ! -x "$systemd" ] || break
done
exec env -i container=lab PATH="$PATH" LANG=C.UTF-8 TERM=dumb \
    setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio,-syslog,-wake_alarm,-block_suspend --inh-caps=-all -- \
    "$systemd" --system --show-status=0
