"""What this host can do to confine what it unpacks, as `hello` and the agent's log tell it.

Where a layer is missing, the one before it still holds (docs/explanation/unpacking.md); nobody should have to
guess where that is so."""

from collections.abc import Mapping
from typing import Final

from agent.unpack.landlock import LEAST_ABI
from agent.unpack.sandbox import Sandbox
from shared.logs import get_log

LANDLOCK: Final = "unpack_landlock"
USER: Final = "unpack_user"

log = get_log(__name__)


def describe_sandbox(found: Sandbox) -> dict[str, str]:
    """Facts for the controller, beside those of `metadata` in agent.toml."""
    return {LANDLOCK: _landlock(found.landlock_abi), USER: "unprivileged" if found.own_user else "root"}


def log_sandbox(found: Sandbox) -> None:
    """Say it once, at the start: as a warning where something is missing that this host could have."""
    facts = describe_sandbox(found)
    if is_whole(found):
        log.info("unpacking is confined", **facts)
    else:
        log.warning("unpacking is confined by less than it could be", **facts, mend=_mend(found))


def is_whole(found: Sandbox) -> bool:
    """Whether no layer is missing."""
    return found.landlock_abi >= LEAST_ABI and found.own_user


def with_sandbox(metadata: Mapping[str, str], found: Sandbox) -> dict[str, str]:
    """`metadata` of agent.toml and what was found; what was found counts where both have a name."""
    return {**metadata, **describe_sandbox(found)}


def _landlock(abi: int) -> str:
    if abi >= LEAST_ABI:
        return f"abi {abi}"
    return f"abi {abi}, which is too old" if abi else "missing"


def _mend(found: Sandbox) -> str:
    wanted = []
    if found.landlock_abi < LEAST_ABI:
        wanted.append("Linux 5.19 or later with Landlock, and its system calls let through")
    if not found.own_user:
        wanted.append("the capabilities CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID and SETUID for the agent")
    return "; ".join(wanted)
