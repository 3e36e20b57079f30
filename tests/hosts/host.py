"""One host of a lab: its power, its cable, its disk, and what runs on it."""

import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from shared.clock import SystemClock

HERE: Final = Path(__file__).parent
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT: Final = {"PATH": PATH, "LANG": "C.UTF-8"}
BOOT_S: Final = 60.0


class LabError(Exception):
    """A lab could not do what was asked; the text has what was printed."""


@dataclass(frozen=True)
class Ran:
    """How a command ended on a host; `output` has stdout and stderr."""

    code: int
    output: str


class Surroundings(Protocol):
    """The lab, as a host needs it."""

    folder: Path
    cgroup: str

    def enter(self, *, fork: bool = True) -> list[str]: ...

    def run(self, argv: Sequence[str], **environment: str) -> str: ...

    def try_run(self, argv: Sequence[str]) -> int: ...


@dataclass(eq=False)  # a host is itself alone
class Host:
    """One host of a lab."""

    lab: Surroundings
    name: str
    address: str
    runner: subprocess.Popen[bytes] | None = None
    _relay: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _is_cut: bool = False

    # power

    def boot(self) -> None:
        """Start it and wait until systemd has started what is enabled. Raises LabError."""
        pid_file = self.lab.folder / f"{self.name}.pid"
        pid_file.unlink(missing_ok=True)
        with (self.lab.folder / f"{self.name}.console").open("ab") as console:
            self.runner = subprocess.Popen(
                [
                    *self.lab.enter(),
                    "nsenter",
                    f"--net={self.lab.folder}/ns/{self.name}",
                    "--",
                    HERE / "boot.sh",
                    "enter",
                ],
                env={
                    **ENVIRONMENT,
                    "NAME": self.name,
                    "DISK": f"{self.lab.folder}/disk/{self.name}",
                    "CGROUP": f"{self.lab.folder}/cg/{self.lab.cgroup}/{self.name}",
                    "PIDFILE": str(pid_file),
                    "HOSTS": str(self.lab.folder / "hosts"),
                },
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        wait_for(self._is_up, BOOT_S, f"{self.name} boots; its console: {pid_file.with_suffix('.console')}")

    def _is_up(self) -> bool:
        if not (self.lab.folder / f"{self.name}.pid").exists():
            return False
        return self.run("systemctl is-system-running", check=False).output.strip() in {"running", "degraded"}

    def cut_power(self) -> None:
        """Everything on it ends at one moment; its disk stays."""
        assert self.runner is not None, "it was booted"
        self._freeze(1)  # else what is ended a little later sees what was ended a little earlier
        self.lab.run(["kill", "-9", self.pid])
        self.runner.wait(60)
        self._freeze(0)

    def _freeze(self, on: int) -> None:
        """See the kernel's cgroup-v2: it is true of all below as soon as cgroup.events says so."""
        group = f"{self.lab.folder}/cg/{self.lab.cgroup}/{self.name}"
        self.lab.run(["bash", "-c", f"echo {on} >{group}/cgroup.freeze"])
        told = ["grep", "-q", f"^frozen {on}$", f"{group}/cgroup.events"]
        wait_for(lambda: self.lab.try_run(told) == 0, 60, f"{self.name} stands still: {on}")

    def signal(self, name: str) -> None:
        """Send a signal to its first process, systemd: STOP and CONT, for instance."""
        self.lab.run(["kill", f"-{name}", self.pid])

    def let_go(self) -> None:
        """End what runs for it; safe to repeat."""
        self._end_relay()
        if self.runner is not None and self.runner.poll() is None:
            self.lab.try_run(["kill", "-9", self.pid])
            self.runner.wait(20)

    @property
    def pid(self) -> str:
        """Its first process, as the lab numbers it."""
        return (self.lab.folder / f"{self.name}.pid").read_text(encoding="ascii").strip()

    def mend(self) -> None:
        """Boot it if it has no power; heal its cable if that is cut."""
        if self._is_cut:
            self.heal()
        if self.runner is None or self.runner.poll() is not None:
            self.boot()

    # work

    def run(self, script: str, *, check: bool = True, timeout_s: float = 120.0, stdin: bytes = b"") -> Ran:
        """Run `script` by bash as root. Raises LabError where it fails, unless `check` is off."""
        argv = [
            *self.lab.enter(),
            *("nsenter", "-t", self.pid, "-m", "-u", "-i", "-n", "-p", "-C", "--"),
            *(
                "env",
                "-i",
                f"PATH={PATH}",
                "HOME=/root",
                "LANG=C.UTF-8",
                "SYSTEMD_PAGER=",
                "SYSTEMD_COLORS=0",
            ),
            *("bash", "-c", script),
        ]
        ran = subprocess.run(
            argv,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=timeout_s,
        )
        found = Ran(ran.returncode, ran.stdout.decode("utf-8", "replace"))
        if check and found.code:
            raise LabError(f"{self.name}: {script!r} ended with {found.code}: {found.output[-2000:]}")
        return found

    def put(self, path: str, content: bytes | str, *, mode: int = 0o644) -> None:
        """Write a file, its folders too."""
        data = content.encode() if isinstance(content, str) else content
        self.run(f"mkdir -p $(dirname {path}) && cat >{path} && chmod {mode:o} {path}", stdin=data)

    def find_own(self, name: str) -> list[str]:
        """What it has on its disk by that name, beside what the machine below it has."""
        upper = f"{self.lab.folder}/disk/{self.name}/u"
        found = self.lab.run(["find", upper, "-name", name, "!", "-type", "c", "-printf", "/%P\n"])
        return found.splitlines()

    # faults

    def cut(self, how: str = "drop") -> None:
        """`drop`: nothing passes, and nobody is told; `down`: the cable is pulled; `in`, `out`: one way."""
        self.heal()
        self._is_cut = True
        if how == "down":
            self.lab.run(["ip", "link", "set", f"v-{self.name}", "down"])
        elif how == "drop":
            self.lab.run(["ip", "link", "set", f"v-{self.name}", "nomaster", "up"])
        else:
            self._start_relay(lost_in=100 * (how == "in"), lost_out=100 * (how == "out"))

    def impair(self, *, delay_ms: float, loss: float) -> None:
        """Both ways are late by `delay_ms`, and lose `loss` of a hundred packets."""
        self.heal()
        self._is_cut = True
        self._start_relay(lost_in=loss, lost_out=loss, delay_ms=delay_ms)

    def heal(self) -> None:
        """The cable is as good as new."""
        self._end_relay()
        self.lab.run(["ip", "link", "set", f"v-{self.name}", "master", "br0", "up"])
        self._is_cut = False

    def limit_disk(self, size: str) -> None:
        """Its file system holds no more than `size`, like 64m."""
        self.lab.run(["mount", "-o", f"remount,size={size}", f"{self.lab.folder}/disk/{self.name}"])

    def _end_relay(self) -> None:
        if self._relay is not None:
            self._relay.kill()
            self._relay.wait()
            self._relay = None

    def _start_relay(self, *, lost_in: float, lost_out: float, delay_ms: float = 0.0) -> None:
        self.lab.run(["ip", "link", "set", f"v-{self.name}", "nomaster", "up"])
        numbers = [str(number) for number in (lost_in, lost_out, delay_ms)]
        self._relay = subprocess.Popen(
            [
                *self.lab.enter(fork=False),
                "/usr/bin/python3",
                "-I",
                HERE / "relay.py",
                f"v-{self.name}",
                f"t-{self.name}",
                *numbers,
            ],
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
        )
        shown = ["ip", "link", "show", "dev", f"t-{self.name}"]
        wait_for(lambda: self.lab.try_run(shown) == 0, 10.0, f"the relay of {self.name} starts")
        self.lab.run(["ip", "link", "set", f"t-{self.name}", "master", "br0", "up"])


def wait_for(done: Callable[[], object], within_s: float, what: str | Callable[[], str]) -> None:
    """Ask until it is so. Raises LabError when the time is over; `what` is asked then."""
    clock, pause, pause_s = SystemClock(), threading.Event(), 0.05
    end = clock.monotonic() + within_s
    while not done():
        if clock.monotonic() > end:
            text = what() if callable(what) else what
            raise LabError(f"it was not so within {within_s:g} s: {text}")
        pause.wait(pause_s)
        pause_s = min(0.5, 1.2 * pause_s)  # each question takes a few processes, of a machine for all hosts
