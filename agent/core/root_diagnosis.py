"""Whether releases can be installed in a root: by the rights of the agent's account and by the sandbox of
its unit. The probes are in agent.doctor."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from agent.core.finding import Finding, fine, problem, warning
from agent.core.unit_diagnosis import Unit

_HOMES: Final = ("/home", "/root", "/run/user")
_SYSTEM: Final = ("/usr", "/boot", "/efi")


@dataclass(frozen=True, slots=True)
class Root:
    """An instance's root. `nearest` is the path itself where `exists`, else the nearest folder above that
    does. `writable` is for the agent's account; None: it cannot be told."""

    instance: str
    path: str
    nearest: str
    exists: bool
    is_folder: bool
    writable: bool | None
    account: str


def judge_root(root: Root, agent: Unit | None) -> list[Finding]:
    """Whether releases can be installed there."""
    check = "root.write"
    if not root.is_folder:
        return [
            problem(
                check,
                root.path,
                f"{root.nearest} is no folder",
                why=f"it is, or is above, the root of {root.instance}",
                mend=f"move it away, or change the root of {root.instance} in agent.toml",
            )
        ]
    found = []
    if root.writable is None:
        found.append(
            warning(
                check,
                root.path,
                f"whether {root.account} may write {root.nearest} cannot be told",
                why="only root may ask for another account",
                mend="sudo releasehand-agent doctor",
            )
        )
    elif not root.writable:
        make = "" if root.exists else f"mkdir -p {root.path} && "
        found.append(
            problem(
                check,
                root.path,
                f"{root.account} may not write {root.nearest}",
                why=f"releases of {root.instance} are installed in {root.path}",
                mend=f"{make}chown {root.account}: {root.path}",
            )
        )
    if agent is not None and (lock := _find_lock(agent, root.path)):
        found.append(
            problem(
                "root.sandbox",
                root.path,
                f"{root.path} is closed to the agent: {agent.name} has {lock}",
                why=f"releases of {root.instance} are installed there, and the unit gives no other place",
                mend=_open_in_unit(agent, root.path, lock),
            )
        )
    words = f"{root.account} may write {root.path}" + ("" if root.exists else ", which it makes when needed")
    return found or [fine(check, root.path, words)]


def _open_in_unit(agent: Unit, path: str, lock: str) -> str:
    if lock.startswith("Protect") and "Home" in lock:
        return f"move the root out of {path}: homes are closed to the agent on purpose"
    if lock.startswith("PrivateTmp"):
        return f"move the root out of {path}: the agent has temporary folders of its own"
    folder, name = f"/etc/systemd/system/{agent.name}.d", path.strip("/").replace("/", "-")
    return (
        f"mkdir -p {folder} {path} && printf '[Service]\\nReadWritePaths=%s\\n' {path} >{folder}/{name}.conf"
        f" && systemctl daemon-reload && systemctl restart {agent.name}"
    )


def _find_lock(unit: Unit, path: str) -> str:
    """Which setting of the unit keeps it from writing `path` (systemd.exec(5)); "" for none. Of several that
    name folders above it the nearest counts."""
    rules: list[tuple[str, str]] = [("/", f"ProtectSystem={unit.protect_system}")]
    if unit.protect_system != "strict":
        rules = [("/", "")]
        if unit.protect_system in {"yes", "full"}:
            rules += [(folder, f"ProtectSystem={unit.protect_system}") for folder in _SYSTEM]
        if unit.protect_system == "full":
            rules.append(("/etc", "ProtectSystem=full"))
    if unit.protect_home != "no":
        rules += [(folder, f"ProtectHome={unit.protect_home}") for folder in _HOMES]
    if unit.private_tmp:
        rules += [(folder, "PrivateTmp=yes") for folder in ("/tmp", "/var/tmp")]  # noqa: S108 - only compared
    rules += [(folder, f"ReadOnlyPaths={folder}") for folder in unit.unwritable]
    rules += [(folder, f"InaccessiblePaths={folder}") for folder in unit.hidden]
    rules += [(folder, "") for folder in unit.writable]
    place = PurePosixPath(path)
    over = [
        (len(PurePosixPath(folder).parts), lock) for folder, lock in rules if place.is_relative_to(folder)
    ]
    deepest = max(depth for depth, _ in over)
    locks = [lock for depth, lock in over if depth == deepest]
    return "" if "" in locks else locks[-1]
