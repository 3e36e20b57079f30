"""The story: its steps go through the client, and each is proved at the services' own ports."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from rich.table import Table

from demo.errors import DifferenceError
from demo.installation import Installation
from demo.operations import Note, Operations
from demo.packages import KIB, Package
from demo.report import tabulate_history, tabulate_versions
from demo.screen import Screen
from demo.witness import Seen, Witness
from releasehand.model import (
    DeployStatus,
    FailureCode,
    HistoryAction,
    HistoryStatus,
    InstanceStatus,
    Phase,
    RollbackStatus,
    Status,
    TaskResult,
)
from shared.clock import Clock

WEB_V1, WEB_V2 = Package("web", "v1"), Package("web", "v2")
API_V1, API_V2 = Package("api", "v1"), Package("api", "v2")
WEB_V3 = Package("web", "v3", comes_up=False)
WEB_V4 = Package("web", "v4", weight_bytes=2048 * KIB)  # 8 s at the origin's slow speed
API_V3 = Package("api", "v3", weight_bytes=768 * KIB)  # 3 s at the origin's slow speed
PACKAGES: Final = (WEB_V1, WEB_V2, WEB_V3, WEB_V4, API_V1, API_V2, API_V3)
VICTIM: Final = "host-2"
WATCH_EVERY_S: Final = 0.05
TOLD_OF: Final = "web-2"
LIVED: Final = (  # newest first
    (HistoryAction.ROLLBACK, "v1", HistoryStatus.SUCCESS),
    (HistoryAction.DEPLOY, "v4", HistoryStatus.CANCELLED),
    (HistoryAction.REVERT, "v2", HistoryStatus.SUCCESS),
    (HistoryAction.DEPLOY, "v3", HistoryStatus.FAILED),
    (HistoryAction.DEPLOY, "v2", HistoryStatus.SUCCESS),
    (HistoryAction.DEPLOY, "v1", HistoryStatus.SUCCESS),
)


class Story:
    """Tells itself once, from hosts with nothing on them. Raises DemoError at the first difference."""

    def __init__(
        self,
        installation: Installation,
        operations: Operations,
        witness: Witness,
        screen: Screen,
        clock: Clock,
    ) -> None:
        self._installation, self._layout = installation, installation.layout
        self._operations, self._witness, self._screen, self._clock = operations, witness, screen, clock
        self._versions: dict[str, str] = {}
        """What should be live now, by instance."""
        self.tables: dict[str, Table] = {}
        """What the last step read, by title."""

    async def tell(self) -> None:
        """All steps in their order."""
        web = self._layout.instances("web")
        everywhere = f"{len(self._layout.hosts)} hosts"
        await self._step(
            f"Deploy v1 of web and api on {everywhere}", lambda note: self._deploy(API_V1, WEB_V1, note=note)
        )
        await self._step("Deploy v2 of both", lambda note: self._deploy(API_V2, WEB_V2, note=note))
        await self._step("Deploy web v3, which does not come up", self._fail)
        await self._step("Cancel web v4 during its slow download", self._cancel)
        await self._step(f"Roll {web[0]} back to v1", lambda note: self._roll_back_one(web[0], note))
        await self._step(f"Deploy api v3, and SIGKILL the agent of {VICTIM} meanwhile", self._kill)
        await self._step(
            "Stop the package origin, roll the rest of web back to v1",
            lambda note: self._roll_back_rest(web[1:], note),
        )
        await self._step("Read the version table and one history", self._read)

    async def _step(self, title: str, work: Callable[[Note], Awaitable[str]]) -> None:
        with self._screen.step(title) as step:
            try:
                evidence = await work(step.note)
                step.note("asking every service which version it is")
                await self._witness.expect(self._versions)
                await self._operations.expect_recorded(self._versions)
            except Exception:
                self._installation.check()
                raise
            step.done(evidence)

    # the steps; each returns what was seen

    async def _deploy(self, *packages: Package, note: Note) -> str:
        notes = dict.fromkeys(packages, "")

        async def deploy(package: Package) -> None:
            def tell(text: str) -> None:
                notes[package] = text
                note("   ".join(filter(None, notes.values())))

            await self._operations.finish(await self._operations.start(package), Status.COMPLETED, tell)
            self._now_live(package.version, *self._layout.instances(package.service))

        async with asyncio.TaskGroup() as group:
            for package in packages:
                group.create_task(deploy(package))
        return f"{' '.join(sorted(self._versions))} answer {packages[0].version}"

    async def _fail(self, note: Note) -> str:
        ended = await self._operations.finish(await self._operations.start(WEB_V3), Status.FAILED, note)
        for task in ended.instances:
            _expect(f"why {task.instance_id} failed", FailureCode.CHECK_FAILED, task.error_code)
        return f"failed; each agent took its host back: {_names(ended)} answer v2"

    async def _cancel(self, note: Note) -> str:
        web = self._layout.instances("web")
        seen, traces = await self._witness.ask(web), self._witness.traces(web)
        deploy_id = await self._operations.start(WEB_V4, slowly=True)
        under_way = await self._operations.until(
            deploy_id, lambda now: all(task.bytes_done > 0 for task in now.instances), note
        )
        await self._operations.cancel(deploy_id)
        ended = await self._operations.finish(deploy_id, Status.CANCELLED, note)
        _expect("services and their processes after the cancel", seen, await self._witness.ask(web))
        _expect("what is on the hosts' disks after the cancel", traces, self._witness.traces(web))
        most = max(task.bytes_done * 100 // task.bytes_total for task in under_way.instances)
        return f"cancelled after {most} %; the hosts of {_names(ended)} are untouched"

    async def _roll_back_one(self, instance: str, note: Note) -> str:
        ended = await self._operations.roll_back_one(instance, "v1", note)
        _expect_kept(ended)
        self._now_live("v1", instance)
        return f"{instance} answers v1, all others still v2"

    async def _kill(self, note: Note) -> str:
        agent, there = self._installation.agents[VICTIM], self._layout.on_host(VICTIM)
        before = await self._witness.ask(there)
        deploy_id = await self._operations.start(API_V3, slowly=True)
        await self._operations.until(deploy_id, lambda now: _is_downloading(now, there), note)
        await agent.kill()
        note(f"the agent of {VICTIM} is dead, and is started again")
        asked = await self._watch(before, self._installation.restart_agent(VICTIM))
        ended = await self._operations.finish(deploy_id, Status.COMPLETED, note)
        for task in ended.instances:
            _expect(f"attempts that {task.instance_id} took", 1, task.attempt)
        self._now_live("v3", *self._layout.instances("api"))
        others = {name: seen for name, seen in before.items() if name not in self._layout.instances("api")}
        _expect(f"services on {VICTIM} that nothing was deployed to", others, await self._witness.ask(others))
        return f"completed; {' '.join(there)} gave {asked} of {asked} answers while the agent was away"

    async def _watch(self, before: Mapping[str, Seen], back: Awaitable[None]) -> int:
        """Ask services until `back` is done; returns how many answers came.

        Raises DifferenceError unless each is that of the same process."""
        asked = 0
        async with asyncio.TaskGroup() as group:
            coming = group.create_task(_run(back))
            while not coming.done():
                _expect(f"services on {VICTIM} without their agent", before, await self._witness.ask(before))
                asked += len(before)
                await self._clock.sleep(WATCH_EVERY_S)
        return asked

    async def _roll_back_rest(self, instances: list[str], note: Note) -> str:
        await self._installation.origin.stop()
        ended = await self._operations.roll_back_batch("web", instances, "v1", note)
        _expect_kept(ended)
        self._now_live("v1", *instances)
        return f"{_names(ended)} answer v1, from the releases kept on their hosts"

    async def _read(self, note: Note) -> str:
        note("reading what the controller has recorded")
        for table in (tables := await self._operations.version_tables()):
            for one in table.instances:
                _expect(f"status of {one.instance_id}", InstanceStatus.RUNNING, one.status)
        history = await self._operations.history(TOLD_OF)
        lived = tuple((entry.action, entry.version, entry.status) for entry in history.history)
        _expect(f"history of {TOLD_OF}", LIVED, lived)
        self.tables = {
            "What runs where": tabulate_versions(tables, self._layout),
            f"What happened to {TOLD_OF}, the newest first": tabulate_history(history),
        }
        return f"{len(self._versions)} instances running, {history.total} entries about {TOLD_OF}"

    def _now_live(self, version: str, *instances: str) -> None:
        self._versions |= dict.fromkeys(instances, version)


async def _run(work: Awaitable[None]) -> None:
    await work


def _expect(what: str, expected: object, found: object) -> None:
    if found != expected:
        raise DifferenceError(what, expected, found)


def _expect_kept(ended: RollbackStatus) -> None:
    for task in ended.instances:
        _expect(f"where {task.instance_id} took its release from", TaskResult.KEPT, task.result)


def _is_downloading(status: DeployStatus, instances: list[str]) -> bool:
    """Whether the one of `instances` that the deployment is about downloads now."""
    return any(task.phase == Phase.DOWNLOADING and task.instance_id in instances for task in status.instances)


def _names(ended: DeployStatus | RollbackStatus) -> str:
    return " ".join(task.instance_id for task in ended.instances)
