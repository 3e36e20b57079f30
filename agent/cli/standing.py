"""How things stand on this host: what `releasehand-agent status` answers, read from the disk and seen now.

Nothing of it is asked of the controller or of the running agent, so it is told while either is away."""

import asyncio
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from agent.assembly import make_service
from agent.config import AgentConfig
from agent.core.certificate import BadCertificateError, find_pem, read_own
from agent.core.record import AttemptRecord
from agent.daemon import agent_version
from agent.doctor.account import account_of
from agent.instance_config import InstanceSection
from agent.journal import JOURNAL_NAME, JournalError
from agent.journal.glance import Glance, glance_at
from agent.link_file import read_link
from agent.observation import Observation
from agent.state_dir import find_holder
from agent.switch import InstallRoot
from releasehand.model.codes import FailureCode
from releasehand.model.status import OperationKind, Phase, ServiceState
from shared.errors import AttemptError, ReleasehandError
from shared.identity_folder import IdentityFolder
from shared.tasks import TaskGroup

OBSERVE_TIMEOUT_S: Final = 5.0
NOT_RUNNING: Final = "the agent does not run"


class StandingUnreadableError(ReleasehandError):
    """This account may not look. The text says who may."""


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class LinkStanding(_Answer):
    """`state`: connecting, online, refused, offline, or stopped while no agent runs here."""

    state: str
    since: datetime | None = None
    controller: str = ""
    last_heard: datetime | None = None
    why: str = ""


class ReleaseStanding(_Answer):
    """A complete release on the disk. `good`: it was active and passed its check; null: never tried."""

    release: str
    version: str
    good: bool | None = None
    pinned: bool = False


class InstanceStanding(_Answer):
    """`active` is what `current` names, null for nothing; `state` how the service does, seen now. `problem`
    says why the instance is not well, "" when it is or nothing is installed."""

    instance_id: str
    service: str
    root: str
    active: ReleaseStanding | None
    kept: list[ReleaseStanding]
    state: ServiceState
    detail: str
    problem: str


class TaskStanding(_Answer):
    """An attempt as the journal has it; `finished` tells whether it has ended, in the phase `phase`."""

    instance_id: str
    operation_id: str
    kind: OperationKind
    version: str
    generation: int
    attempt: int
    phase: Phase
    finished: bool
    entered_at: datetime
    error_code: FailureCode | None = None
    message: str = ""


class Standing(_Answer):
    """The whole answer of `status --json`. Fields may be added; those that are here stay."""

    agent_id: str
    version: str
    pid: int | None
    link: LinkStanding
    instances: list[InstanceStanding]
    tasks: list[TaskStanding]
    reports_waiting: int
    problems: list[str]


def read_link_standing(config: AgentConfig) -> tuple[int | None, LinkStanding]:
    """The agent's process, None when none runs, and its link. Raises StandingUnreadableError."""
    try:
        holder = find_holder(config.state_dir)
        state = read_link(holder, config.state_dir) if holder else None
    except OSError as exc:
        raise _unreadable(config, exc) from exc
    if holder is None:
        return None, LinkStanding(state="stopped", why=NOT_RUNNING)
    if state is None:
        return holder, LinkStanding(state="connecting", why="the agent has just started")
    link = LinkStanding(
        state=state.condition.value,
        since=state.since,
        controller=state.controller,
        last_heard=state.last_heard,
        why=state.why,
    )
    return holder, link


async def read_standing(config: AgentConfig) -> Standing:
    """Everything. Raises StandingUnreadableError."""
    pid, link = await asyncio.to_thread(read_link_standing, config)
    problems: list[str] = []
    try:
        glance = await asyncio.to_thread(glance_at, config.state_dir / JOURNAL_NAME)
    except PermissionError as exc:
        raise _unreadable(config, exc) from exc
    except JournalError as exc:
        glance = None
        problems.append(str(exc))
    glance = glance or Glance()
    async with TaskGroup() as group:
        looks = [group.create_task(_look_at(section, glance)) for section in config.instance]
    return Standing(
        agent_id=_read_agent_id(config, problems),
        version=agent_version(),
        pid=pid,
        link=link,
        instances=[look.result() for look in looks],
        tasks=[_describe(record) for record in glance.attempts],
        reports_waiting=glance.waiting,
        problems=problems,
    )


def _unreadable(config: AgentConfig, error: OSError) -> StandingUnreadableError:
    who = _who_may_look(config.state_dir) if isinstance(error, PermissionError) else ""
    why = f"{error.filename or config.state_dir}: {error.strerror}"
    return StandingUnreadableError(f"cannot look at this host's agent: {why}{who and f'; use {who}'}")


def _who_may_look(state_dir: Path) -> str:
    """Only root, where the agent runs as root or as this very account, which may not."""
    try:
        found = state_dir.stat()
    except OSError:  # it lies in a closed folder, and does not tell whose it is
        return "root"
    if found.st_uid in {0, os.geteuid()}:
        return "root"
    return f"root, or {account_of(found.st_uid, found.st_gid).name}, whom the agent runs as"


def _read_agent_id(config: AgentConfig, problems: list[str]) -> str:
    """Who the host joined as; else what agent.toml says, "" for nothing."""
    file = IdentityFolder(config.state_dir).certificate_file
    try:
        return read_own_name(file.read_text(encoding="ascii"))
    except FileNotFoundError:
        problems.append("this host has not joined a controller (releasehand-agent join)")
    except (OSError, BadCertificateError, ValueError) as exc:
        problems.append(f"cannot use {file}: {exc}")
    return config.agent_id or ""


def read_own_name(pem: str) -> str:
    """The agent whose certificate this is. Raises ValueError."""
    from ssl import PEM_cert_to_DER_cert

    return read_own(PEM_cert_to_DER_cert(find_pem(pem))).agent_id


async def _look_at(section: InstanceSection, glance: Glance) -> InstanceStanding:
    root = InstallRoot(section.root)
    problem = dict(glance.broken).get(section.id, "")
    active: str | None = None
    kept: list[ReleaseStanding] = []
    try:
        kept = await asyncio.to_thread(_list_kept, root, section.id, glance)
        active = await asyncio.to_thread(root.current)
    except (AttemptError, OSError) as exc:
        problem = problem or str(exc)
    seen = await _observe(section, root)
    if active and not problem and seen.state in {ServiceState.FAILED, ServiceState.STOPPED}:
        problem = seen.detail
    return InstanceStanding(
        instance_id=section.id,
        service=section.service,
        root=str(section.root),
        active=next((one for one in kept if one.release == active), None),
        kept=kept,
        state=seen.state,
        detail=seen.detail,
        problem=problem,
    )


async def _observe(section: InstanceSection, root: InstallRoot) -> Observation:
    try:
        async with asyncio.timeout(OBSERVE_TIMEOUT_S):
            return await make_service(section, root).observe()
    except TimeoutError:
        return Observation(ServiceState.UNKNOWN, None, f"could not be asked within {OBSERVE_TIMEOUT_S:g} s")


def _list_kept(root: InstallRoot, instance_id: str, glance: Glance) -> list[ReleaseStanding]:
    """What is on the disk, the newest activation first. Raises AttemptError."""
    if not root.path.joinpath("releases").is_dir():
        return []
    found = {one.name: one for one in root.releases()}
    marks = {name: (good, pinned) for of, name, good, pinned in glance.releases if of == instance_id}
    order: Sequence[str] = [name for name in marks if name in found]
    names = [*order, *(name for name in found if name not in marks)]
    return [
        ReleaseStanding(
            release=name,
            version=found[name].version,
            good=marks.get(name, (None, False))[0],
            pinned=marks.get(name, (None, False))[1],
        )
        for name in names
    ]


def _describe(record: AttemptRecord) -> TaskStanding:
    command, failure, end = record.command, record.failure, record.end
    return TaskStanding(
        instance_id=command.ref.instance_id,
        operation_id=command.operation_id,
        kind=command.kind,
        version=command.version,
        generation=command.ref.generation,
        attempt=command.ref.attempt,
        phase=record.phase,
        finished=not record.live,
        entered_at=record.entered_at.wall,
        error_code=end.code if end else failure.code if failure else None,
        message=end.message if end else failure.message if failure else "",
    )
