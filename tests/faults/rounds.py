"""A round of work that passes every point of the controller, and the verdict on it from outside."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from releasehand.model import ENDED, DeployStatus, HistoryAction, Phase, RollbackStatus, Status
from tests.fakes.agent import FakeAgent, Script
from tests.fakes.waiting import until_told
from tests.faults.fleet import SERVICE, Fleet, make_agent, new_key

PER_AGENT: Final = 3
PER_ROUND: Final = 6
"""Operations of one round."""
_ENDS_WITHIN_S: Final = 60.0

_SPARE: Final = "spare-0"
_UNPLANNED: Final = frozenset({HistoryAction.DRIFT, HistoryAction.ADOPT, HistoryAction.REVERT})

Ended = DeployStatus | RollbackStatus


@dataclass
class Stage:
    """Three hosts that work: `quick` always does, `slow` holds what it is told to, `moody` lists one instance
    now and then. Two that hand an instance to each other, and one that was there once."""

    quick: FakeAgent = field(default_factory=lambda: make_agent("quick-host", _names("quick")))
    slow: FakeAgent = field(default_factory=lambda: make_agent("slow-host", _names("slow")))
    moody: FakeAgent = field(default_factory=lambda: make_agent("moody-host", _names("moody")))
    away: FakeAgent = field(default_factory=lambda: make_agent("away-host", ["away-0"]))
    owner: FakeAgent = field(default_factory=lambda: make_agent("one-host", [_SPARE]))
    heir: FakeAgent = field(default_factory=lambda: make_agent("other-host", []))
    ended: list[Ended] = field(default_factory=list)

    @property
    def present(self) -> list[FakeAgent]:
        return [*self.working, self.owner, self.heir]

    @property
    def working(self) -> list[FakeAgent]:
        return [self.quick, self.slow, self.moody]

    def names(self) -> list[str]:
        return [name for agent in self.working for name in agent.versions]


def _names(agent: str) -> list[str]:
    return [f"{agent}-{number}" for number in range(PER_AGENT)]


async def play(fleet: Fleet, stage: Stage, number: int) -> list[str]:
    """One round; what is wrong afterwards. The controller may die anywhere in it."""
    async with asyncio.TaskGroup() as group:
        late = group.create_task(_miss_and_try_again(fleet, number))
        group.create_task(_hand_over_and_retire(fleet, stage))
        await _cancel_what_is_held(fleet, stage, f"v{number}")
        await _supersede_what_is_held(fleet, stage, f"w{number}")
        await _list_less_and_then_all_again(fleet, stage)
    stage.ended += late.result()
    return await judge(fleet, stage)


async def _cancel_what_is_held(fleet: Fleet, stage: Stage, version: str) -> None:
    """A deployment to all, of which a third is cancelled."""
    held = list(stage.slow.versions)
    stage.slow.scripts = [Script(hold=Phase.DOWNLOADING)] * len(held)
    await _order_deployment(fleet, version, stage.names())
    await stage.slow.until_in(Phase.DOWNLOADING, held)
    for agent in stage.working:
        agent.beat()
    await fleet.ask(f"/v1/deployment/{version}/cancel", {})
    stage.ended.append(await _deployment(fleet, version))


async def _supersede_what_is_held(fleet: Fleet, stage: Stage, version: str) -> None:
    """A deployment that a forced rollback takes the place of, and a rollback beside it."""
    held = list(stage.slow.versions)
    stage.slow.scripts = [Script(hold=Phase.VERIFYING)] * len(held)
    await _order_deployment(fleet, version, held)
    await stage.slow.until_in(Phase.VERIFYING, held)
    body = {"service": SERVICE, "target_version": f"{version}-back", "package_url": _url(version)}
    forced = await fleet.ask("/v1/rollback/batch", body | {"instances": held, "force": True}, new_key())
    quick = list(stage.quick.versions)
    beside = await fleet.ask("/v1/rollback/batch", body | {"instances": quick}, new_key())
    stage.ended.append(await _deployment(fleet, version))
    for answer in (forced, beside):
        stage.ended.append(await _rollback(fleet, answer["rollback_id"]))


async def _list_less_and_then_all_again(fleet: Fleet, stage: Stage) -> None:
    """An instance that its host no longer lists is retired, and comes back when it is listed."""
    moody = stage.moody
    name, version = next(iter(moody.versions.items()))
    del moody.versions[name]
    moody.cut()
    await _until_listed(fleet, name, listed=False)
    moody.versions[name] = version
    moody.cut()
    await _until_listed(fleet, name, listed=True)


async def _until_listed(fleet: Fleet, name: str, *, listed: bool) -> None:
    await until_told(fleet.live, lambda live: (name in live) is listed, within_s=_ENDS_WITHIN_S)


async def _miss_and_try_again(fleet: Fleet, number: int) -> list[Ended]:
    """Two deployments to a host that is away, the second of what failed of the first."""
    late, again = f"late-{number}", f"again-{number}"
    await _order_deployment(fleet, late, ["away-0"], timeout=1)
    missed = await _deployment(fleet, late)
    await fleet.ask(f"/v1/deployment/{late}/retry-failed", {"deploy_id": again})
    return [missed, await _deployment(fleet, again)]


async def _hand_over_and_retire(fleet: Fleet, stage: Stage) -> None:
    """An instance is given to another host, which lists it; then it is retired by hand, and listed again."""
    owner, heir = stage.owner, stage.heir
    await fleet.ask(f"/v1/instance/{_SPARE}/move", {"agent_id": heir.agent_id})
    version = owner.versions.pop(_SPARE)
    heir.versions[_SPARE] = version
    owner.cut()
    heir.cut()
    await _until_listed(fleet, _SPARE, listed=True)
    del heir.versions[_SPARE]
    await fleet.ask(f"/v1/instance/{_SPARE}", None, method="DELETE")
    await _until_listed(fleet, _SPARE, listed=False)
    heir.versions[_SPARE] = version
    heir.cut()
    await _until_listed(fleet, _SPARE, listed=True)
    stage.owner, stage.heir = heir, owner


async def _order_deployment(fleet: Fleet, version: str, instances: Sequence[str], **more: Any) -> None:
    """Its id is its version. A call that was not answered has left nothing, or all of it."""
    body = {"service": SERVICE, "version": version, "package_url": _url(version), "deploy_id": version} | more
    answer = await fleet.ask("/v1/deployment", body | {"instances": list(instances)})
    again = await fleet.ask("/v1/deployment", body | {"instances": list(reversed(instances))})
    assert again | {"status": answer["status"]} == answer, f"asked again: {again} after {answer}"
    status = await fleet.deployment(version)
    assert sorted(task.instance_id for task in status.instances) == sorted(instances), status


async def _deployment(fleet: Fleet, deploy_id: str) -> DeployStatus:
    return await until_told(
        lambda: fleet.deployment(deploy_id), lambda status: status.status in ENDED, within_s=_ENDS_WITHIN_S
    )


async def _rollback(fleet: Fleet, rollback_id: str) -> RollbackStatus:
    return await until_told(
        lambda: fleet.rollback(rollback_id), lambda status: status.status in ENDED, within_s=_ENDS_WITHIN_S
    )


def _url(version: str) -> str:
    return f"https://packages.test/{version}.tar.gz"


# ------------------------------------------------------------------------------------------------ the verdict


async def judge(fleet: Fleet, stage: Stage) -> list[str]:
    """What is wrong with what the API says of the newest operations, beside what the hosts have counted."""
    ended = [await _ask_again(fleet, status) for status in stage.ended[-PER_ROUND:]]
    return [line async for line in _judge(fleet, stage, ended)]


async def _ask_again(fleet: Fleet, status: Ended) -> Ended:
    if isinstance(status, DeployStatus):
        return await fleet.deployment(status.deploy_id)
    return await fleet.rollback(status.rollback_id)


async def _judge(fleet: Fleet, stage: Stage, ended: Sequence[Ended]) -> AsyncIterator[str]:
    activations = fleet.activations()
    dispatched: dict[str, list[str]] = {}
    for status in ended:
        name = status.deploy_id if isinstance(status, DeployStatus) else status.rollback_id
        for line in _judge_operation(status):
            yield f"{name}: {line}"
        for task in status.instances:
            if task.attempt:
                dispatched.setdefault(task.instance_id, []).append(name)
            count, should = activations[name, task.instance_id], int(task.status is Status.COMPLETED)
            if count != should:
                yield f"{name}: {task.instance_id} {task.status} was activated {count} times"
    live = await fleet.live()
    for agent in stage.present:
        for instance, version in agent.versions.items():
            if live.get(instance) != version:
                yield f"{instance} runs {version}, and is said to run {live.get(instance)}"
            for line in await _judge_history(fleet, instance, dispatched.get(instance, [])):
                yield f"{instance}: {line}"
    stats = await fleet.read(fleet.client.get_system_stats)
    total = stats.deployments.total + stats.rollbacks.total
    if total != len(stage.ended):
        yield f"{total} operations have ended, and {len(stage.ended)} were asked for"


def _judge_operation(status: Ended) -> Iterator[str]:
    found = [task.status for task in status.instances]
    progress = status.progress
    counted = {
        Status.COMPLETED: progress.completed,
        Status.FAILED: progress.failed,
        Status.CANCELLED: progress.cancelled,
    }
    if progress.pending or any(found.count(kind) != count for kind, count in counted.items()):
        yield f"progress is {progress}, and the tasks are {found}"
    is_cancelled = status.cancelled_at is not None and Status.CANCELLED in found
    wanted = Status.COMPLETED if set(found) == {Status.COMPLETED} else Status.FAILED
    wanted = Status.CANCELLED if is_cancelled or Status.CANCELLED in found else wanted
    if status.status is not wanted:
        yield f"it is {status.status}, and its tasks are {found}"
    for task in status.instances:
        if task.attempt > 1:
            yield f"{task.instance_id} took attempt {task.attempt}"
        if task.waiting_for or task.completed_at is None:
            yield f"{task.instance_id} has ended and waits for {task.waiting_for!r}"


async def _judge_history(fleet: Fleet, instance: str, operations: Sequence[str]) -> list[str]:
    """One entry for each task that was dispatched, and nothing that nobody did."""
    told = await fleet.read(lambda: fleet.client.get_version_history(instance, limit=1000))
    history = told.history
    entries = [entry.deploy_id for entry in history]
    wrong = [f"history holds {name} {n} times" for name in operations if (n := entries.count(name)) != 1]
    wrong += [f"history holds {entry}" for entry in history if entry.action in _UNPLANNED]
    return wrong
