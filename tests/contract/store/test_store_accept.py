"""Accepting work: all of it or none of it, once for each id, in a handful of statements."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from controller.core.acceptance import WHOLE, Accepted
from controller.core.refusals import (
    DeployIdConflictError,
    IdempotencyKeyConflictError,
    InstanceBusyError,
    NotEndedError,
    NothingFailedError,
    RefusalError,
    UnknownInstanceError,
    UnknownServiceError,
)
from controller.store.tables import AGENT, EVENT, HISTORY, INSTANCE, OPERATION, SOURCE, TASK
from releasehand.model import FailureCode, Presence, RetryFailedParams, Status, WaitingFor
from shared.attempt import Outcome
from tests.fakes.ledger import (
    ACTOR,
    Host,
    Ledger,
    deployment,
    ended,
    listed,
    statements,
    url_of,
)

TABLES = (AGENT, INSTANCE, OPERATION, TASK, EVENT, HISTORY, SOURCE)


async def snapshot(ledger: Ledger) -> dict[str, list[dict[str, Any]]]:
    return {table.name: await ledger.rows(table) for table in TABLES}


async def prepare(ledger: Ledger) -> None:
    """u-1 and u-2 are free, u-held is busy, u-gone is retired, o-1 is another service's."""
    host = await ledger.host("host-1", ["u-1", "u-2", "u-held", "u-gone"], "v1")
    await ledger.deploy("v1", ["u-held"], "holder")
    await host.greet(*(listed(name, "v1") for name in ("u-1", "u-2", "u-held")))
    await ledger.host("host-2", ["o-1"], "v1", service="other")


REFUSED: dict[str, tuple[list[str], str, type[RefusalError], str]] = {
    "unknown": (["u-1", "nobody"], "user", UnknownInstanceError, "nobody"),
    "foreign": (["u-1", "o-1"], "user", UnknownInstanceError, "o-1"),
    "retired": (["u-1", "u-gone"], "user", UnknownInstanceError, "u-gone"),
    "busy": (["u-1", "u-held"], "user", InstanceBusyError, "holder"),
    "service": (["u-1"], "nothing", UnknownServiceError, "nothing"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_refused_deployment_names_the_reason_and_changes_nothing(ledger: Ledger, case: str) -> None:
    await prepare(ledger)
    before = await snapshot(ledger)
    instances, service, error, names = REFUSED[case]
    with pytest.raises(error, match=names):
        await ledger.deploy("v2", instances, "d1", service=service)
    assert await snapshot(ledger) == before


@pytest.mark.parametrize("case", [case for case in REFUSED if case != "service"])
async def test_a_refused_batch_rollback_changes_nothing(ledger: Ledger, case: str) -> None:
    await prepare(ledger)
    before = await snapshot(ledger)
    instances, service, error, names = REFUSED[case]
    with pytest.raises(error, match=names):
        await ledger.roll_back_batch("v0", instances, service=service)
    assert await snapshot(ledger) == before


async def test_a_busy_refusal_names_every_holder(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a", "b", "c"])
    await ledger.deploy("v2", ["a"], "d-a")
    await ledger.deploy("v2", ["b"], "d-b")
    with pytest.raises(InstanceBusyError) as refused:
        await ledger.deploy("v3", ["a", "b", "c"])
    assert [(one.instance_id, one.operation_id) for one in refused.value.holders] == [
        ("a", "d-a"),
        ("b", "d-b"),
    ]


async def test_an_accepted_deployment_raises_each_generation_once(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a", "b"])
    accepted = await ledger.deploy("v2", ["a", "b"])
    assert (accepted.result.status, accepted.result.total_instances) == (Status.PENDING, 2)
    assert {task.instance_id: task.generation for task in await ledger.tasks(accepted.task_ids)} == {
        "a": 1,
        "b": 1,
    }
    assert [row["generation"] for row in await ledger.rows(INSTANCE)] == [1, 1]


async def test_every_accepted_task_says_what_it_waits_for(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a"])
    away = await ledger.host("host-2", ["b"])
    presence = {"host-2": (away.epoch, Presence.OFFLINE)}
    await ledger.store.write_live_state(heartbeats={}, presence=presence, progress=[])
    accepted = await ledger.deploy("v2", ["a", "b"])
    waits = {task.instance_id: task.waiting_for for task in await ledger.tasks(accepted.task_ids)}
    assert waits == {"a": WaitingFor.AGENT_WORKING, "b": WaitingFor.AGENT_OFFLINE}


THOUSANDS = 3_000
"""Whose rows have more values than a statement of either engine has parameters (32,766). `make bench-api`
asks with ten thousand."""


async def count(call: Callable[[], Awaitable[Any]]) -> int:
    with statements() as seen:
        await call()
    return len(seen)


async def test_thousands_of_instances_take_hardly_more_statements_than_ten(ledger: Ledger) -> None:
    names = [f"i-{n:05}" for n in range(THOUSANDS)]
    await ledger.host("host-1", names)
    few = await count(lambda: ledger.deploy("v2", names[:10], "few"))
    await ledger.cancel("few")
    many = await count(lambda: ledger.deploy("v2", names, "many"))
    assert many <= few + 5
    assert many <= 20
    status = await count(lambda: ledger.status("many"))
    versions = await count(lambda: ledger.store.service_versions("user", include_stopped=True))
    assert (status, versions) <= (5, 3)
    cancelled = await count(lambda: ledger.cancel("many"))
    assert cancelled <= 20


async def test_a_hundred_equal_calls_at_once_start_one_execution(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a", "b"])
    answers = await _at_once(100, lambda: ledger.deploy("v2", ["a", "b"], "d1"))
    assert len({answer.result for answer in answers}) == 1
    assert sorted(answer.repeated for answer in answers) == [False] + [True] * 99
    assert len(await ledger.rows(TASK)) == 2
    assert [row["generation"] for row in await ledger.rows(INSTANCE)] == [1, 1]


DIFFERENT: dict[str, tuple[dict[str, Any], str | None]] = {
    "order of instances": ({"instances": ["b", "a"]}, None),
    "query of the url": ({"package_url": url_of("v2") + "?signature=2"}, None),
    "default said in full": ({"timeout": 300, "retry_count": 3}, None),
    "service": ({"service": "other"}, "service"),
    "version": ({"version": "v3"}, "version"),
    "instances": ({"instances": ["a"]}, "instances"),
    "path of the url": ({"package_url": url_of("v3")}, "package_url"),
    "timeout": ({"timeout": 301}, "timeout"),
    "retries": ({"retry_count": -1}, "retry_count"),
    "digest": ({"package_sha256": "a" * 64}, "package_sha256"),
    "two fields": ({"timeout": 9, "version": "v3"}, "version"),
}


@pytest.mark.parametrize("case", DIFFERENT)
async def test_a_reused_deploy_id_is_a_repetition_or_a_conflict_naming_the_field(
    ledger: Ledger, case: str
) -> None:
    await ledger.host("host-1", ["a", "b"])
    first = await ledger.deploy("v2", ["a", "b"], "d1")
    changes, field = DIFFERENT[case]
    body = deployment("v2", ["a", "b"], "d1").model_copy(update=changes)
    if field is None:
        again = await ledger.store.accept_deployment(body, actor=ACTOR)
        assert (again.result, again.task_ids, again.repeated) == (first.result, [], True)
    else:
        with pytest.raises(DeployIdConflictError) as conflict:
            await ledger.store.accept_deployment(body, actor=ACTOR)
        assert conflict.value.field == field


async def test_an_ended_deployment_is_still_repeated_and_not_run_again(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"])
    task = await ledger.start("v2", "a", deploy_id="d1")
    await host.work(task)
    again = await ledger.deploy("v2", ["a"], "d1")
    assert again.repeated
    assert again.task_ids == []


async def test_an_idempotency_key_starts_one_rollback_and_belongs_to_its_caller(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a", "b"])
    answers = await _at_once(20, lambda: ledger.roll_back("a", "v0", "key-1"))
    assert len({answer.result for answer in answers}) == 1
    with pytest.raises(IdempotencyKeyConflictError) as conflict:
        await ledger.roll_back("a", "v00", "key-1")
    assert conflict.value.field == "target_version"
    with pytest.raises(IdempotencyKeyConflictError):
        await ledger.roll_back_batch("v0", ["b"], "key-1")
    with pytest.raises(InstanceBusyError):
        await ledger.roll_back("a", "v0")


async def test_a_call_that_is_given_up_leaves_the_database_usable_and_whole(ledger: Ledger) -> None:
    names = [f"i-{n:04}" for n in range(3_000)]
    await ledger.host("host-1", names)
    for turns in range(1, 40, 3):
        call = asyncio.create_task(ledger.deploy("v2", names, f"d{turns}"))
        for _ in range(turns):
            await ledger.clock.sleep(0)
            await _turn()
        call.cancel()
        await asyncio.wait([call])
        held = await ledger.rows(TASK)
        assert len(held) in (0, len(names))
        if held:
            return
    await ledger.deploy("v2", names)


async def _turn() -> None:
    loop = asyncio.get_running_loop()
    turned = asyncio.Event()
    loop.call_later(0.002, turned.set)
    await turned.wait()


async def _at_once(times: int, call: Callable[[], Awaitable[Accepted[Any]]]) -> list[Accepted[Any]]:
    async def one() -> Accepted[Any]:
        return await call()

    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(one()) for _ in range(times)]
    return [call.result() for call in calls]


async def test_an_idempotency_key_is_free_again_after_a_day(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a", "b"], "v1")
    first = await ledger.roll_back("a", "v0", "key-1")
    ledger.clock.advance(24 * 3_600 - 1)
    assert (await ledger.roll_back("a", "v0", "key-1")).result == first.result
    ledger.clock.advance(1)
    second = await ledger.roll_back("b", "v0", "key-1")
    assert (second.result.rollback_id != first.result.rollback_id, second.repeated) == (True, False)
    assert (await ledger.roll_back("b", "v0", "key-1")).result == second.result
    assert (await ledger.store.rollback_status(first.result.rollback_id, WHOLE)).answer.rollback_id


# retries of what failed


async def fail_on(ledger: Ledger, host: Host, deploy_id: str, instances: list[str], failing: str) -> None:
    accepted = await ledger.deploy("v2", instances, deploy_id, timeout=77, retry_count=-1)
    for task in await ledger.dispatch(accepted.task_ids):
        if task.instance_id == failing:
            await host.work(task, [Outcome.OK, Outcome.FAILED], ended("v1", FailureCode.ARCHIVE_REFUSED))
        else:
            await host.work(task)


async def test_a_retry_deploys_the_same_package_with_the_same_budget_to_what_failed(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a", "b"], "v1")
    await fail_on(ledger, host, "d1", ["a", "b"], "b")
    params = RetryFailedParams(deploy_id="d2")
    accepted = await ledger.store.accept_retry("d1", params, actor=ACTOR)
    [task] = await ledger.tasks(accepted.task_ids)
    assert (task.instance_id, task.target_version, task.package_url) == ("b", "v2", url_of("v2"))
    assert (task.retries_left, (task.deadline_at - task.accepted_at).total_seconds()) == (0, 77)
    for _ in range(2):
        again = await ledger.store.accept_retry("d1", params, actor=ACTOR)
        assert (again.result, again.repeated) == (accepted.result, True)
    with pytest.raises(DeployIdConflictError, match="timeout"):
        await ledger.store.accept_retry("d1", params.model_copy(update={"timeout": 5}), actor=ACTOR)
    with pytest.raises(NotEndedError, match="pending"):
        await ledger.store.accept_retry("d2", RetryFailedParams(deploy_id="d3"), actor=ACTOR)


async def test_a_cancelled_instance_has_not_failed(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a"], "v1")
    await ledger.deploy("v2", ["a"], "d1")
    await ledger.cancel("d1")
    with pytest.raises(NothingFailedError, match="cancelled"):
        await ledger.store.accept_retry("d1", RetryFailedParams(deploy_id="d2"), actor=ACTOR)
