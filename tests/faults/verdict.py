"""Whether the host, its journal, the controller and the service itself tell the same story."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import aiohttp

from releasehand.model import HistoryAction, HistoryStatus, Phase, Status, TaskStatus
from tests.fakes.waiting import until
from tests.faults.world import SERVICE, Host, World

_SETTLE_S = 8.0


@dataclass(frozen=True)
class Story:
    """What should be true after an operation: `history` are its entries, the oldest first."""

    operation_id: str
    task: TaskStatus
    status: Status
    live: str
    phase: Phase
    history: tuple[tuple[HistoryAction, HistoryStatus, str], ...]
    attempt: int = 1
    error_code: str = ""


async def judge(world: World, host: Host, story: Story) -> list[str]:
    """What is not as the story says, each in a sentence; nothing if all is."""
    settled = await _settle(host)
    wrong = [*settled, *_judge_task(story), *_judge_journal(host, story), *_judge_disk(host, story)]
    try:
        version, pid = await host.ask()
        if version != story.live:
            wrong.append(f"the service answers {version} instead of {story.live}")
        if host.starts[-1] != (version, pid):
            wrong.append(f"process {pid} answers, but the one started last is {host.starts[-1]}")
    except (aiohttp.ClientError, TimeoutError) as exc:
        wrong.append(f"the service does not answer: {exc!r}")
    wrong += [line async for line in _judge_api(world, host, story)]
    return [f"{host.instance}: {line}" for line in wrong]


async def _settle(host: Host) -> list[str]:
    """The last acknowledgement may still be on its way when the operation has ended."""
    try:
        await until(lambda: not host.unreported() and not host.leftovers, within_s=_SETTLE_S)
    except TimeoutError:
        return [f"{host.unreported()} reports are not acknowledged; left behind: {host.leftovers}"]
    return []


def _judge_task(story: Story) -> Iterator[str]:
    found = story.task
    for name, is_, should in (
        ("status", found.status, story.status),
        ("attempt", found.attempt, story.attempt),
        ("phase", found.phase, story.phase),
        ("version", found.version, story.live),
        ("current_version", found.current_version, story.live),
        ("error_code", found.error_code, story.error_code),
    ):
        if is_ != should:
            yield f"the task's {name} is {is_!r} instead of {should!r} ({found.error_message})"
    if found.waiting_for:
        yield f"the task has ended and waits for {found.waiting_for}"


def _judge_journal(host: Host, story: Story) -> Iterator[str]:
    newest = host.attempts()[-1]
    if (newest.command.operation_id, newest.phase) != (story.operation_id, story.phase):
        yield f"the journal ends with {newest.command.operation_id} being {newest.phase}"


def _judge_disk(host: Host, story: Story) -> Iterator[str]:
    if host.live != story.live:
        yield f"current names {host.live or 'nothing'} instead of {story.live}"


async def _judge_api(world: World, host: Host, story: Story) -> AsyncIterator[str]:
    versions = await world.client.get_service_instance_versions(SERVICE, include_stopped=True)
    listed = {one.instance_id: one.version for one in versions.instances}
    if listed.get(host.instance) != story.live:
        yield f"versions says {listed.get(host.instance)} instead of {story.live}"
    history = await world.client.get_version_history(host.instance)
    entries = tuple(
        (entry.action, entry.status, entry.version)
        for entry in reversed(history.history)
        if entry.deploy_id == story.operation_id
    )
    if entries != story.history:
        yield f"history holds {entries} instead of {story.history}"
    if unplanned := [entry for entry in history.history if not entry.deploy_id]:
        yield f"history holds changes that nobody made: {unplanned}"
