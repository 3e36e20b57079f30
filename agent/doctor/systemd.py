"""What systemd and polkit say of units. Nothing is started, stopped or reloaded."""

import os
import subprocess
from pathlib import Path
from typing import Final

from agent.core.unit_diagnosis import AGENT_UNITS, Allowance, Unit
from agent.doctor.account import Account
from agent.service.systemd import CHANGING_VERBS
from agent.tool import SYSTEMD_ENVIRONMENT

RUNNING: Final = Path("/run/systemd/system")  # sd_booted(3)
_PROPERTIES: Final = (
    "Id,LoadState,ActiveState,UnitFileState,Result,User,NeedDaemonReload,ProtectSystem,ProtectHome,PrivateTmp,"
    "ReadWritePaths,ReadOnlyPaths,InaccessiblePaths,StateDirectory,RuntimeDirectory,CacheDirectory,LogsDirectory"
)
_FOLDERS: Final = {
    "StateDirectory": "/var/lib",
    "RuntimeDirectory": "/run",
    "CacheDirectory": "/var/cache",
    "LogsDirectory": "/var/log",
}
_TIMEOUT_S: Final = 10.0
_ALLOWED, _REFUSED, _NEEDS_PASSWORD, _DISMISSED = 0, 1, 2, 3  # pkcheck(1)


def show_unit(name: str) -> Unit | None:
    """What systemd has of a unit, there or not; None where no systemd answers."""
    if not RUNNING.is_dir():
        return None
    try:
        shown = subprocess.run(
            ["systemctl", "show", f"--property={_PROPERTIES}", "--", name],  # noqa: S607 - by PATH below
            check=False,
            capture_output=True,
            text=True,
            env=SYSTEMD_ENVIRONMENT,
            timeout=_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if shown.returncode else read_unit(name, shown.stdout)


def read_unit(name: str, shown: str) -> Unit:
    """The output of `systemctl show`."""
    found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)

    def paths(key: str) -> tuple[str, ...]:
        return tuple(word.lstrip("-+") for word in found.get(key, "").split())

    own = [f"{above}/{word}" for key, above in _FOLDERS.items() for word in found.get(key, "").split()]
    return Unit(
        name=name,
        load=found.get("LoadState", ""),
        active=found.get("ActiveState", ""),
        enabled=found.get("UnitFileState", ""),
        result=found.get("Result", ""),
        user=found.get("User", ""),
        needs_reload=found.get("NeedDaemonReload") == "yes",
        protect_system=found.get("ProtectSystem", "no"),
        protect_home=found.get("ProtectHome", "no"),
        private_tmp=found.get("PrivateTmp") == "yes",
        writable=(*paths("ReadWritePaths"), *own),
        unwritable=paths("ReadOnlyPaths"),
        hidden=paths("InaccessiblePaths"),
    )


def find_agent_unit() -> Unit | None:
    """The unit that is the agent on this host: what runs before what is enabled; None without systemd, or
    without such a unit."""
    units = [unit for name in AGENT_UNITS if (unit := show_unit(name)) is not None and unit.exists]

    def rank(unit: Unit) -> int:
        return 2 * (unit.active in {"active", "activating", "reloading"}) + (unit.enabled == "enabled")

    return max(units, key=rank, default=None)


def ask_polkit(account: Account, unit: str) -> Allowance:
    """Whether the account may restart the unit, as systemd would ask when it did."""
    if account.uid == 0:
        return Allowance(True, account.name)
    if os.geteuid() != 0:  # "Only trusted callers … can use CheckAuthorization() and pass details"
        return Allowance(None, account.name, "only root may ask polkit of a single unit")
    try:
        with account.start(["/bin/cat"]) as asker:  # ends with its input
            answers = [_check(asker.pid, unit, verb) for verb in CHANGING_VERBS]
    except FileNotFoundError:
        return Allowance(None, account.name, "there is no pkcheck on this host: is polkit installed?")
    except (OSError, subprocess.TimeoutExpired) as exc:
        return Allowance(None, account.name, f"polkit could not be asked: {exc}")
    if all(code == _ALLOWED for code, _ in answers):
        return Allowance(True, account.name)
    strange = [
        said for code, said in answers if code not in {_ALLOWED, _REFUSED, _NEEDS_PASSWORD, _DISMISSED}
    ]
    if strange:
        return Allowance(None, account.name, f"polkit could not be asked: {strange[0]}")
    return Allowance(False, account.name)


def _check(pid: int, unit: str, verb: str) -> tuple[int, str]:
    """Raises OSError, subprocess.TimeoutExpired."""
    done = subprocess.run(
        [
            *("pkcheck", "--action-id", "org.freedesktop.systemd1.manage-units", "--process", str(pid)),
            *("--detail", "unit", unit, "--detail", "verb", verb),
        ],
        check=False,
        capture_output=True,
        text=True,
        env=SYSTEMD_ENVIRONMENT,
        timeout=_TIMEOUT_S,
    )
    return done.returncode, (done.stderr or done.stdout).strip()
