"""Hosts on one machine, each with a real systemd and with processes, network, journal and files of its own.

Everything hangs on one process, the lab's first; when that ends, the kernel ends all the rest. Nothing
reaches the machine's own network, and nothing of it is seen in its mounts. Needs root and Linux 5.8."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Self

from .host import ENVIRONMENT, HERE, Host, LabError, wait_for

NET: Final = "10.213.77"
_NETWORK: Final = """
set -eu
mkdir -p "$LAB/ns" "$LAB/disk" "$LAB/cg"
mount -t tmpfs -o mode=755,size=1m ns "$LAB/ns"
mount -t tmpfs -o mode=755,size=1m disk "$LAB/disk"
mount -t cgroup2 cg "$LAB/cg"
ip link set lo up
ip link add br0 type bridge forward_delay 0 stp_state 0
ip link set br0 up
"""
_PLUG: Final = """
set -eu
: >"$LAB/ns/$NAME"
unshare --net="$LAB/ns/$NAME" true
ip link add "v-$NAME" type veth peer name eth0 netns "$LAB/ns/$NAME"
ip link set "v-$NAME" master br0 up
nsenter --net="$LAB/ns/$NAME" ip -batch - <<END
link set lo up
addr add $ADDRESS/24 dev eth0
link set eth0 up
END
mkdir -p "$LAB/disk/$NAME"
mount -t tmpfs -o "mode=755,size=$SIZE" "disk-$NAME" "$LAB/disk/$NAME"
"""


def find_lacks(of: str = "") -> list[str]:
    """Why this machine cannot have hosts, in words; empty if it can. With "cable": no bad cables."""
    probe = subprocess.run(
        [HERE / "probe.sh", of], capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    if probe.returncode and not probe.stdout:
        raise LabError(f"the probe itself failed: {probe.stderr}")
    return probe.stdout.splitlines()


_UNSHARE: Final = (
    *(
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ),
    "--",
)


class Lab:
    """Use as a context: hosts are up inside, and gone after it."""

    def __init__(self, names: Sequence[str], *, disk_size: str = "1g") -> None:
        """Names have up to 12 letters and digits."""
        self.folder = Path(tempfile.mkdtemp(prefix="releasehand-lab-"))
        self.folder.chmod(0o755)
        self.cgroup = f"{_own_cgroup()}/releasehand-lab-{os.getpid()}".lstrip("/")
        self.hosts = {name: Host(self, name, f"{NET}.{11 + number}") for number, name in enumerate(names)}
        self._disk_size = disk_size
        self._stack = contextlib.ExitStack()
        self._first = 0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            stack.callback(self._remove_cgroups)
            self._first = stack.enter_context(self._run_first())
            lines = [f"{host.address} {host.name}\n" for host in self.hosts.values()]
            (self.folder / "hosts").write_text("127.0.0.1 localhost\n" + "".join(lines), encoding="ascii")
            self.run(["bash", "-c", _NETWORK], LAB=str(self.folder))
            for host in self.hosts.values():
                self._plug_in(host)
            for host in self.hosts.values():
                stack.callback(host.let_go)
                host.boot()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _plug_in(self, host: Host) -> None:
        """Give it a cable and an empty disk."""
        more = {"NAME": host.name, "ADDRESS": host.address, "SIZE": self._disk_size}
        self.run(["bash", "-c", _PLUG], LAB=str(self.folder), **more)
        disk = f"{self.folder}/disk/{host.name}"
        self.run(["/usr/bin/python3", "-c", _LAY_OUT, str(HERE.parents[1]), disk, host.name])

    @contextlib.contextmanager
    def guest(self, name: str, number: int) -> Iterator[Host]:
        """One more host, with nothing installed, until the block ends; once for each name. `number` makes
        its address, from 100 on."""
        host = Host(self, name, f"{NET}.{number}")
        self._plug_in(host)
        try:
            host.boot()
            yield host
        finally:
            host.let_go()

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def enter(self, *, fork: bool = True) -> list[str]:
        """What in front of a command runs it in the lab, beside the hosts. Without `fork` it is the very
        process that was started, and sees the machine's processes."""
        return ["nsenter", "-t", str(self._first), "-m", "-n", *(["-p"] if fork else []), "--"]

    def run(self, argv: Sequence[str], **environment: str) -> str:
        """What it printed. Raises LabError."""
        ran = subprocess.run(
            [*self.enter(), *argv],
            env=ENVIRONMENT | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            raise LabError(f"{argv}: {ran.stdout}{ran.stderr}")
        return ran.stdout

    def try_run(self, argv: Sequence[str]) -> int:
        return subprocess.run(
            [*self.enter(), *argv], env=ENVIRONMENT, capture_output=True, check=False
        ).returncode

    @contextlib.contextmanager
    def _run_first(self) -> Iterator[int]:
        """The lab's first process; its number as the machine has it."""
        first = subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", *_UNSHARE, "sleep", "infinity"],
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
        )
        try:
            children = Path(f"/proc/{first.pid}/task/{first.pid}/children")
            wait_for(
                lambda: bool(children.read_text(encoding="ascii").split()), 10.0, "the lab's first process"
            )
            pid = int(children.read_text(encoding="ascii").split()[0])
            wait_for(
                lambda: Path(f"/proc/{pid}/comm").read_text(encoding="ascii") == "sleep\n", 10.0, "it sleeps"
            )
            yield pid
        finally:
            first.send_signal(signal.SIGKILL)
            first.wait()

    def _remove_cgroups(self) -> None:
        """In a mount of its own, for machines differ in where they have it."""
        top = f"/mnt/{self.cgroup}"
        remove = f"find {top} -depth -type d -exec rmdir {{}} +"
        script = f"mount -t cgroup2 none /mnt && {{ [ ! -d {top} ] || {remove}; }}"
        argv = ["unshare", "--mount", "--propagation", "private", "--", "bash", "-c", script]
        wait_for(
            lambda: subprocess.run(argv, env=ENVIRONMENT, capture_output=True, check=False).returncode == 0,
            10.0,
            "the hosts' control groups are empty",
        )


_LAY_OUT: Final = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.hosts.disk import lay_out
lay_out(Path(sys.argv[2]), sys.argv[3])
"""


def _own_cgroup() -> str:
    for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
        if line.startswith("0::"):
            return line[3:]
    raise LabError("this machine has no cgroup hierarchy of version 2")
