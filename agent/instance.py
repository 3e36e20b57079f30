"""One instance on this host: what is on its disk, joined with what the journal knows of it, and how it
does."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from agent.check import HealthCheck
from agent.config import InstanceSection
from agent.finish import finish
from agent.hooks import HookPlace
from agent.hooks.child import HookChild
from agent.journal import Change, Journal, ReleaseMark
from agent.observation import Observation
from agent.service import NoOutput, ServiceManager, ServiceOutput
from agent.switch import InstallRoot
from agent.verify import VerificationPolicy
from releasehand.model.status import ServiceState
from shared.errors import AttemptError
from shared.frames import MAX_MESSAGE_CHARS, Active, InstancePulse, Kept, Ref
from shared.source import DOWN, Holding

OBSERVE_TIMEOUT_S: Final = 3.0  # a cancel must be answered within 5 s, and its report looks once


@dataclass
class Told:
    """Which releases the controller was told are kept, by `hello` or by the end of an attempt; None before
    either. Heartbeats tell what differs from it: which old ones were removed since, which were pinned."""

    releases: list[Kept] | None = None

    def differs_from(self, kept: list[Kept]) -> bool:
        """Whether `kept` is news, in whatever order."""
        return self.releases is None or _in_order(self.releases) != _in_order(kept)


@dataclass(frozen=True)
class Instance:
    """The parts that stand for one instance. Its root is used by one task at a time."""

    section: InstanceSection
    root: InstallRoot
    service: ServiceManager
    check: HealthCheck
    journal: Journal
    verification: VerificationPolicy = field(default_factory=VerificationPolicy)
    told: Told = field(default_factory=Told)
    output: ServiceOutput = field(default_factory=NoOutput)
    hook_place: HookPlace = field(default_factory=HookChild)

    @property
    def id(self) -> str:
        return self.section.id

    async def current(self) -> str:
        """The name of the active release, "" for none. Raises BrokenLinkError, HostError."""
        return await finish(asyncio.to_thread(self.root.current)) or ""

    async def kept(self) -> list[Kept]:
        """Every complete release on the disk in the order of activation, the newest last. Raises
        HostError."""
        on_disk = {one.name: one for one in await finish(asyncio.to_thread(self.root.releases))}
        marked = await self.journal.releases(self.id)
        known = [one for one in marked if one.release in on_disk]
        names = {one.release for one in known}
        unknown = [
            Kept(release=one.name, version=one.version, sha256=one.sha256)
            for one in on_disk.values()
            if one.name not in names
        ]
        return unknown + known

    async def holding(self) -> Holding:
        """What may be built on. Raises BrokenLinkError, HostError."""
        kept = await self.kept()
        active = _describe(await self.current(), kept)
        down = (await self.observe()).state in DOWN
        return Holding(active, kept, broken=bool(await self.journal.broken(self.id)), down=down)

    async def live_now(self) -> tuple[Active, list[Kept], str]:
        """The active release and all kept ones, read back from disk, and why that cannot be told, "" if
        it can."""
        try:
            kept = await self.kept()
        except AttemptError as exc:
            return Active(), [], str(exc)
        try:
            return _describe(await self.current(), kept), kept, ""
        except AttemptError as exc:
            return Active(), kept, str(exc)

    async def adopt(self) -> None:
        """Tell a journal that never heard of this instance what is on its disk: the active release is
        taken for good, since it is what runs. Raises HostError; a `current` that names nothing of ours
        adopts nothing as active."""
        kept = await self.kept()
        active, _, _ = await self.live_now()
        marks = [
            ReleaseMark(
                release=one.release,
                version=one.version,
                sha256=one.sha256,
                good=True if one.release == active.release else None,
                activated=one.release == active.release,
            )
            for one in kept
        ]
        await self.journal.adopt(self.id, marks)

    async def commit(self, *changes: Change) -> None:
        """Write `changes` down, all or none. Durable on return. Raises JournalError."""
        await self.journal.commit(*changes)
        for change in changes:
            if change.record.end is not None:
                self.told.releases = change.record.end.releases

    async def repeat_report(self, ref: Ref) -> None:
        """See Journal.repeat_report. What it says of kept releases may be old. Raises JournalError."""
        await self.journal.repeat_report(ref)
        self.told.releases = None

    async def observe(self) -> Observation:
        """Look at the service; UNKNOWN when the look takes too long."""
        try:
            async with asyncio.timeout(OBSERVE_TIMEOUT_S):
                return await self.service.observe()
        except TimeoutError:
            return Observation(
                ServiceState.UNKNOWN, None, f"could not be asked within {OBSERVE_TIMEOUT_S:g} s"
            )

    async def pulse(self) -> InstancePulse:
        """How the instance does: "" as the reason when it does well or nothing is installed."""
        active, kept, trouble = await self.live_now()
        seen = await self.observe()
        reason = await self.journal.broken(self.id) or trouble
        if not reason and active.release and seen.state is not ServiceState.RUNNING:
            reason = seen.detail
        readable = bool(kept or not trouble)
        return InstancePulse(
            instance_id=self.id,
            active=active,
            state=seen.state,
            reason=reason[:MAX_MESSAGE_CHARS],
            releases=kept if readable and self.told.differs_from(kept) else None,
        )


def _in_order(kept: list[Kept]) -> list[Kept]:
    return sorted(kept, key=lambda one: one.release)


def _describe(name: str, kept: list[Kept]) -> Active:
    for one in kept:
        if one.release == name:
            return Active(release=one.release, version=one.version, sha256=one.sha256)
    return Active(release=name)
