"""What each phase of an attempt does. Every step is safe to repeat from its start and safe to cancel.

The order on disk is that of docs/architecture.md «On the host»: it survives a power cut at any point.
Deciding what a step's end means is not done here (agent.runner)."""

import asyncio
from collections.abc import Callable
from contextlib import closing
from typing import Final, Protocol

from pydantic import TypeAdapter, ValidationError

from agent.activation import Activation
from agent.core.record import AttemptRecord
from agent.download import Download
from agent.errors import HostError
from agent.finish import finish
from agent.instance import Instance
from agent.switch import ReleaseMeta
from agent.unpack import Limits, unpack
from agent.unpack.process import Standby
from agent.verify import Request, verify_digest, verify_package
from releasehand.model.codes import FailureCode
from releasehand.model.fields import OptionalDigest, Version
from releasehand.model.status import OperationKind, Phase, TaskResult
from shared.attempt import Outcome
from shared.errors import AttemptError
from shared.frames import Kept
from shared.source import AlreadyActive, Fetch, NoSource, UseKept, plan_fetched, plan_start

Checkpoint = Callable[[str], None]
Progress = Callable[[int, int | None], None]

_VERSION: Final[TypeAdapter[str]] = TypeAdapter(Version)
_DIGEST: Final[TypeAdapter[str]] = TypeAdapter(OptionalDigest)


class Fetcher(Protocol):
    """Where packages come from: agent.download.Downloader, or a fake in the tests."""

    async def fetch(self, url: str, *, progress: Progress, expected_sha256: str = "") -> Download:
        """The package, from its origin or, when a digest is expected, kept here from before; another one may
        come nevertheless. Safe to cancel. Raises AttemptError."""
        ...

    async def fetch_sidecar(self, url: str, suffix: str) -> bytes:
        """The small file beside the package; see agent.download.sidecar. Raises AttemptError."""
        ...


class NoSourceError(AttemptError):
    """Neither the host nor the command has the release."""

    code = FailureCode.NO_SOURCE


class CommandRefusedError(AttemptError):
    """The command does not fit this instance; a controller that checks its callers sends none like it."""

    code = FailureCode.HOST_ERROR


class Steps:
    """The steps of one attempt, and what it holds between them: a downloaded package, an activation."""

    def __init__(
        self,
        instance: Instance,
        fetcher: Fetcher,
        *,
        limits: Limits,
        progress: Progress,
        checkpoint: Checkpoint,
    ) -> None:
        """`checkpoint` is told the name of each effect right after it happened; tests kill the agent
        there."""
        self._instance, self._fetcher, self._limits = instance, fetcher, limits
        self._progress, self._checkpoint = progress, checkpoint
        self._package: Download | None = None
        self._standby = Standby()
        self._activation = Activation(instance, checkpoint=checkpoint)

    async def run(self, record: AttemptRecord) -> tuple[Outcome, AttemptRecord]:
        """Do the phase that `record` is in; the record comes back with what was learned.

        Raises AttemptError, ValueError for a phase that has no step."""
        match record.phase:
            case Phase.QUEUED:
                return await self._plan(record)
            case Phase.DOWNLOADING:
                await self._obtain(record)
            case Phase.VERIFYING:
                return await self._verify(record)
            case Phase.UNPACKING:
                return await self._unpack(record)
            case Phase.STAGED:
                return await self._look_before_switching(record)
            case Phase.ACTIVATING:
                await self._activation.activate(record)
            case Phase.CHECKING:
                await self._activation.check(record)
                if not self._instance.service.sees_process:
                    record = record.model_copy(update={"result": TaskResult.UNVERIFIED_PROCESS})
            case Phase.REVERTING:
                record = await self._activation.revert(record)
            case _:
                raise ValueError(f"no step belongs to {record.phase}")
        return Outcome.OK, record

    @property
    def account(self) -> str:
        """What the host's hooks printed so far."""
        return self._activation.account.text

    async def withdraw(self, record: AttemptRecord) -> None:
        """Take back the release that the attempt put on the host, if it put one there and never switched to
        it; `clear` deletes it. Raises HostError, NoSpaceError."""
        if record.target and record.result is TaskResult.DOWNLOADED:
            await finish(asyncio.to_thread(self._instance.root.put_away, record.target))

    async def clear(self) -> None:
        """Leave nothing of the attempt but complete releases: the package goes, and so do what was staged and
        a child that was to unpack.

        Raises HostError, NoSpaceError."""
        await finish(self._standby.end())
        if self._package is not None:
            package, self._package = self._package, None
            await finish(asyncio.to_thread(package.close))
        await finish(asyncio.to_thread(self._instance.root.clear_staging))

    # before the point of no return

    async def _plan(self, record: AttemptRecord) -> tuple[Outcome, AttemptRecord]:
        command = record.command
        _refuse_misfit(record, self._instance.section.service)
        await finish(asyncio.to_thread(self._instance.root.prepare))  # it may have been removed meanwhile
        match plan_start(command, await self._instance.holding()):
            case AlreadyActive(release):
                return Outcome.ALREADY, _with(record, release, TaskResult.ALREADY_ACTIVE)
            case UseKept(release):
                return Outcome.KEPT, _with(record, release, TaskResult.KEPT)
            case Fetch():
                return Outcome.OK, record.model_copy(update={"result": TaskResult.DOWNLOADED})
            case NoSource():
                what = "good release" if command.kind is OperationKind.ROLLBACK else "release"
                why = command.url_lost or "no URL is known"
                raise NoSourceError(
                    f"cannot install {command.version}: no {what} of it is kept here and {why}"
                )

    async def _obtain(self, record: AttemptRecord) -> Download:
        """The package: at hand already, or fetched (again, after a restart of the agent)."""
        if self._package is None:
            command = record.command
            self._package = await self._fetcher.fetch(
                command.url,
                progress=self._show,
                expected_sha256=record.sha256 or command.sha256 or command.source_sha256,
            )
            self._checkpoint("fetched")
            if record.sha256:  # what was verified before the restart is what must come again
                verify_digest(self._package.sha256, record.sha256)
        return self._package

    def _show(self, done: int, total: int | None) -> None:
        """The child that is to unpack takes a moment to start: half of the package is time enough."""
        if total and done >= total // 2:
            self._standby.begin()
        self._progress(done, total)

    async def _verify(self, record: AttemptRecord) -> tuple[Outcome, AttemptRecord]:
        package, command = await self._obtain(record), record.command
        request = Request(
            service=self._instance.section.service,
            version=command.version,
            url=command.url,
            sha256=command.sha256 or command.source_sha256,
        )
        await verify_package(package, request, self._instance.verification, self._fetcher.fetch_sidecar)
        record = record.model_copy(update={"sha256": package.sha256})
        plan = plan_fetched(record.command, package.sha256, await self._instance.holding())
        if not isinstance(plan, Fetch):
            await finish(self._standby.end())  # nothing is to be unpacked
        match plan:
            case AlreadyActive(release):
                return Outcome.ALREADY, _with(record, release, TaskResult.ALREADY_ACTIVE)
            case UseKept(release):
                return Outcome.KEPT, _with(record, release, TaskResult.KEPT)
            case Fetch():
                return Outcome.OK, record

    async def _unpack(self, record: AttemptRecord) -> tuple[Outcome, AttemptRecord]:
        """A release that was committed right before the agent died is found again: it was never tried."""
        root, version = self._instance.root, record.command.version
        for one in await self._instance.kept():
            if one.version == version and one.sha256 == record.sha256 and one.good is None:
                return Outcome.OK, record.model_copy(update={"target": one.release})
        package = await self._obtain(record)
        name = await finish(asyncio.to_thread(root.release_name, version, package.sha256))
        meta = ReleaseMeta(name=name, version=version, sha256=package.sha256, size_bytes=package.size_bytes)
        staging = await finish(asyncio.to_thread(root.make_staging))
        with closing(staging.witness):
            await unpack(package.file, staging.path, self._limits, standby=self._standby)
            self._checkpoint("unpacked")
            await finish(asyncio.to_thread(root.describe, staging, meta))
            await asyncio.to_thread(root.sync, staging)  # a cancel does not wait for a slow disk
        try:
            await finish(asyncio.to_thread(root.publish, staging, name))
        except asyncio.CancelledError:
            await finish(asyncio.to_thread(root.put_away, name))  # the host is left as it was
            raise
        self._checkpoint("committed")
        return Outcome.OK, record.model_copy(update={"target": name})

    async def _look_before_switching(self, record: AttemptRecord) -> tuple[Outcome, AttemptRecord]:
        previous = await self._instance.current()
        if record.target not in {one.release for one in await self._instance.kept()}:
            raise HostError(self._instance.root.release_path(record.target), "the release is gone")
        before = {
            "previous": previous,
            "process_before": await self._activation.process_now(),
            "output_mark": await self._instance.output.mark(),
        }
        return Outcome.OK, record.model_copy(update=before)


def _with(record: AttemptRecord, release: Kept, result: TaskResult) -> AttemptRecord:
    return record.model_copy(update={"target": release.release, "sha256": release.sha256, "result": result})


def _refuse_misfit(record: AttemptRecord, service: str) -> None:
    """The version becomes a name on the disk, so it is checked here whatever the controller checked."""
    command = record.command
    if command.service != service:
        raise CommandRefusedError(
            f"cannot run the command: this is an instance of {service}, not {command.service}"
        )
    try:
        _VERSION.validate_python(command.version)
        _DIGEST.validate_python(command.sha256)
        _DIGEST.validate_python(command.source_sha256)
    except ValidationError as exc:
        reason = exc.errors(include_url=False, include_input=False)[0]["msg"]
        raise CommandRefusedError(f"cannot run the command: {reason}") from exc
