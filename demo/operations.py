"""The scheduler's side: the demo's releases, asked for through `releasehand.Client` like anybody's."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

from demo.errors import DemoError, DifferenceError
from demo.layout import Layout
from demo.packages import Package
from releasehand import Client, WaitTimeoutError
from releasehand.cli.operation import remark, stage
from releasehand.model import (
    ENDED,
    BatchRollbackParams,
    DeployParams,
    DeployStatus,
    InstanceRollbackParams,
    Phase,
    RollbackStatus,
    ServiceVersions,
    Status,
    TaskStatus,
    VersionHistory,
)
from shared.clock import Clock

STEP_TIMEOUT_S: Final = 45.0
ASK_EVERY_S: Final = 0.1
NOTE_EVERY_S: Final = 0.2

Note = Callable[[str], None]
StatusT = TypeVar("StatusT", DeployStatus, RollbackStatus)


class Operations:
    """Starts operations and follows them; `note` is told how far each instance is."""

    def __init__(self, client: Client, layout: Layout, digests: Mapping[Package, str], clock: Clock) -> None:
        """`digests` are the SHA-256 of the packages at the origin."""
        self._client, self._layout, self._digests, self._clock = client, layout, digests, clock

    async def start(self, package: Package, *, slowly: bool = False) -> str:
        """Deploy a package to all instances of its service; returns the id."""
        speed = "slow" if slowly else "packages"
        started = await self._client.execute_deployment(
            DeployParams(
                service=package.service,
                version=package.version,
                instances=self._layout.instances(package.service),
                package_url=f"{self._layout.origin_url}/{speed}/{package.file_name}",
                package_sha256=self._digests[package],
                deploy_id=f"{package.service}-{package.version}",
            )
        )
        return started.deploy_id

    async def finish(self, deploy_id: str, expected: Status, note: Note) -> DeployStatus:
        """Wait for the end. Raises DifferenceError when it is not as `expected`, or does not come."""
        what = f"deployment {deploy_id}"
        status = await self._follow(
            what,
            self._client.wait_for_deployment(deploy_id, timeout_s=STEP_TIMEOUT_S),
            lambda: self._client.get_deployment_status(deploy_id),
            note,
        )
        _expect_end(what, expected, status)
        return status

    async def until(
        self, deploy_id: str, condition: Callable[[DeployStatus], bool], note: Note
    ) -> DeployStatus:
        """Look at an open deployment until `condition` holds. Raises DemoError when it ends before."""
        try:
            async with asyncio.timeout(STEP_TIMEOUT_S):
                while True:
                    status = await self._client.get_deployment_status(deploy_id)
                    note(describe(status))
                    if status.status in ENDED:
                        raise DemoError(
                            f"deployment {deploy_id} was {status.status} too soon: {describe(status)}"
                        )
                    if condition(status):
                        return status
                    await self._clock.sleep(ASK_EVERY_S)
        except TimeoutError:
            raise DemoError(f"deployment {deploy_id} came no further within {STEP_TIMEOUT_S:g} s") from None

    async def cancel(self, deploy_id: str) -> None:
        """Ask for a cancel."""
        await self._client.cancel_deployment(deploy_id)

    async def roll_back_one(self, instance: str, version: str, note: Note) -> RollbackStatus:
        """Take one instance back, to the end."""
        started = await self._client.rollback_instance(
            InstanceRollbackParams(instance_id=instance, target_version=version)
        )
        return await self._finish_rollback(started.rollback_id, note)

    async def roll_back_batch(
        self, service: str, instances: list[str], version: str, note: Note
    ) -> RollbackStatus:
        """Take several instances back, to the end."""
        started = await self._client.rollback_batch(
            BatchRollbackParams(service=service, instances=instances, target_version=version)
        )
        return await self._finish_rollback(started.rollback_id, note)

    async def expect_recorded(self, versions: Mapping[str, str]) -> None:
        """Raises DifferenceError where the controller's record of a live version is another."""
        tables = await self.version_tables()
        recorded = {one.instance_id: one.version for table in tables for one in table.instances}
        if recorded != versions:
            raise DifferenceError("what the controller has recorded as live", versions, recorded)

    async def version_tables(self) -> list[ServiceVersions]:
        """What the controller has recorded about each service, stopped instances included."""
        services = dict.fromkeys(place.service for place in self._layout.places)
        return [
            await self._client.get_service_instance_versions(one, include_stopped=True) for one in services
        ]

    async def history(self, instance: str) -> VersionHistory:
        """What was tried on an instance, newest first."""
        return await self._client.get_version_history(instance)

    async def _finish_rollback(self, rollback_id: str, note: Note) -> RollbackStatus:
        what = f"rollback {rollback_id}"
        status = await self._follow(
            what,
            self._client.wait_for_rollback(rollback_id, timeout_s=STEP_TIMEOUT_S),
            lambda: self._client.get_rollback_status(rollback_id),
            note,
        )
        _expect_end(what, Status.COMPLETED, status)
        return status

    async def _follow(
        self, what: str, end: Awaitable[StatusT], ask: Callable[[], Awaitable[StatusT]], note: Note
    ) -> StatusT:
        """Await `end`, which hears of it at once, and `note` meanwhile what `ask` tells."""
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(self._watch(ask, note))
            try:
                status = await end
            except WaitTimeoutError as exc:
                raise DifferenceError(what, f"an end within {STEP_TIMEOUT_S:g} s", exc) from exc
            finally:
                watcher.cancel()
        note(describe(status))
        return status

    async def _watch(self, ask: Callable[[], Awaitable[StatusT]], note: Note) -> None:
        while True:
            note(describe(await ask()))
            await self._clock.sleep(NOTE_EVERY_S)


def describe(status: DeployStatus | RollbackStatus) -> str:
    """Where each instance stands, in one line."""
    return "   ".join(f"{task.instance_id} {_describe_task(task)}" for task in status.instances)


def _describe_task(task: TaskStatus) -> str:
    where = stage(task)
    if where == Phase.DOWNLOADING and task.bytes_total:
        return f"{where} {task.bytes_done * 100 // task.bytes_total} %"
    return where


def _expect_end(what: str, expected: Status, status: DeployStatus | RollbackStatus) -> None:
    if status.status is not expected:
        told = "; ".join(f"{task.instance_id} {stage(task)}, {remark(task)}" for task in status.instances)
        raise DifferenceError(what, expected, f"{status.status} ({told})")
