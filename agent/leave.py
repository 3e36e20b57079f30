"""Makes this host an agent no more: the controller lets it go, then the host forgets who it was.

What is deployed stays, and so does the journal: a host that joins again goes on from there."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from agent.enrolment import RefusedError, UnansweredError, ask_to_leave
from agent.identity import Expected, IdentityError, Membership, NotJoinedError, read_membership
from agent.renewal import Renewals
from agent.state_dir import StateDirBusyError, hold_state_dir
from shared.clock import Clock
from shared.errors import ProtocolError, ReleasehandError
from shared.identity_folder import IdentityFolder


class LeaveError(ReleasehandError):
    """This host stays what it is; nothing was changed on it. The text says what to do."""


@dataclass(frozen=True, slots=True)
class Departure:
    """What was left, "" where that could not be read. `joined`: whether the host was an agent at all.
    `released` are the instances that the controller gave up; None where it was not asked."""

    joined: bool
    agent_id: str = ""
    url: str = ""
    released: int | None = None


async def leave(state_dir: Path, clock: Clock, *, url: str = "", offline: bool = False) -> Departure:
    """Leave; on disk on return, here and at the controller, which is at `url` if not where this host joined.
    With `offline` it is not asked.

    Safe to repeat after a crash or a lost answer: the host forgets who it is when it has been let go. Raises
    LeaveError, OSError."""
    folder = IdentityFolder(state_dir)
    try:
        with hold_state_dir(state_dir):
            departure = await _part(state_dir, clock, url, offline=offline)
            await asyncio.to_thread(folder.remove)
            return departure
    except FileNotFoundError:  # no state directory
        return Departure(joined=False)
    except StateDirBusyError as exc:
        process = f" (process {exc.holder})" if exc.holder else ""
        raise LeaveError(
            f"cannot leave: the agent runs{process}; stop it first:"
            " systemctl disable --now releasehand-agent releasehand-agent-user"
        ) from exc


async def _part(state_dir: Path, clock: Clock, url: str, *, offline: bool) -> Departure:
    try:
        member = await asyncio.to_thread(read_membership, state_dir, Expected(url=url))
    except NotJoinedError:
        return Departure(joined=False)
    except IdentityError as exc:
        if offline:
            return Departure(joined=True)
        raise LeaveError(f"{exc} - or forget it here alone: releasehand-agent leave --offline") from exc
    if offline:
        return Departure(True, member.agent_id, member.url)
    try:
        left = await _ask(state_dir, member, clock)
    except RefusedError as exc:
        raise LeaveError(
            f"cannot leave {member.url}: {exc}. Nothing was changed here; releasehand-agent leave --offline"
            " forgets who this host was without asking"
        ) from exc
    except (UnansweredError, ProtocolError, OSError) as exc:
        raise LeaveError(
            f"cannot leave {member.url}: {exc}. Nothing was changed: try again when the controller is there,"
            " or forget who this host was without asking: releasehand-agent leave --offline"
        ) from exc
    return Departure(True, member.agent_id, member.url, left)


async def _ask(state_dir: Path, member: Membership, clock: Clock) -> int:
    """How many instances were released."""
    if member.ends_at <= clock.now():  # TLS takes it no more
        member = await Renewals(state_dir, clock, lambda: 0.0).renew_expired(member)
    return (await ask_to_leave(member.url, member.tls)).released
