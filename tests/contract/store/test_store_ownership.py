"""Instances that people retire or move, and what their agents say of it afterwards."""

import pytest

from controller.core.refusals import InstanceBusyError, UnknownAgentError, UnknownInstanceError
from controller.store.tables import EVENT, INSTANCE
from releasehand.model import FailureCode, HistoryAction, OperationKind, Status
from shared.attempt import Outcome
from tests.fakes.ledger import (
    ACTOR,
    Host,
    Ledger,
    listed,
)

O = Outcome


async def listed_now(ledger: Ledger) -> dict[str, str]:
    """Instances in lists, with the agents that have them."""
    page = await ledger.store.service_instances("user", status=None, version="", limit=99, offset=0)
    return {one.instance_id: one.agent_id for one in page.instances}


async def two_hosts(ledger: Ledger) -> tuple[Host, Host]:
    return await ledger.host("host-1", ["a", "b"], "v1"), await ledger.host("host-2", ["c"], "v1")


# retired by hand


async def test_a_retired_instance_is_out_of_lists_and_figures_and_keeps_its_history(ledger: Ledger) -> None:
    await two_hosts(ledger)
    result, _ = await ledger.store.retire_instance("a", actor=ACTOR)
    assert (result.service, result.agent_id, result.retired_at) == ("user", "host-1", ledger.clock.now())
    assert set(await listed_now(ledger)) == {"b", "c"}
    assert await ledger.history("a") == [("v1", "adopt", "success")]
    with pytest.raises(UnknownInstanceError):
        await ledger.deploy("v2", ["a"])
    ledger.clock.advance(5)
    assert (await ledger.store.retire_instance("a", actor=ACTOR))[0] == result
    with pytest.raises(UnknownInstanceError):
        await ledger.store.retire_instance("nobody", actor=ACTOR)


async def test_open_tasks_of_a_retired_instance_fail_and_what_is_on_a_host_is_dropped(ledger: Ledger) -> None:
    await two_hosts(ledger)
    await ledger.deploy("v2", ["a"], "waits")
    on_host = await ledger.start("v2", "b", deploy_id="works")
    _, changed = await ledger.store.retire_instance("a", actor=ACTOR)
    assert changed.dropped == []
    _, changed = await ledger.store.retire_instance("b", actor=ACTOR)
    assert [task.id for task in changed.dropped] == [on_host.id]
    for deploy_id in ("waits", "works"):
        [task] = (await ledger.status(deploy_id)).instances
        assert (task.status, task.error_code) == (Status.FAILED, FailureCode.INSTANCE_RETIRED)
        assert "by hand" in task.error_message


async def test_an_agent_that_still_lists_a_retired_instance_brings_it_back(ledger: Ledger) -> None:
    one, _ = await two_hosts(ledger)
    await ledger.store.retire_instance("a", actor=ACTOR)
    await one.greet(listed("b", "v1"))
    assert "a" not in await listed_now(ledger)
    await one.greet(listed("a", "v1"), listed("b", "v1"))
    assert (await listed_now(ledger))["a"] == "host-1"


# moved


async def test_a_moved_instance_is_refused_to_its_old_owner_and_goes_to_its_new_one(ledger: Ledger) -> None:
    one, two = await two_hosts(ledger)
    result, before = await ledger.store.move_instance("a", "host-2", actor=ACTOR)
    assert (result.agent_id, result.moved_at, before) == ("host-2", ledger.clock.now(), "host-1")
    assert "a" not in await listed_now(ledger)
    greeting = await one.greet()
    assert [refused.instance_id for refused in greeting.refused] == ["a"]
    assert "host-2" in greeting.refused[0].reason
    ledger.clock.advance(5)
    assert await ledger.store.move_instance("a", "host-2", actor=ACTOR) == (result, "host-2")  # said again
    await two.greet(listed("c", "v1"), listed("a", "v7"))
    assert await listed_now(ledger) == {"a": "host-2", "b": "host-1", "c": "host-2"}
    assert await ledger.history("a") == [("v1", "adopt", "success"), ("v7", "adopt", "success")]
    assert (await ledger.store.move_instance("a", "host-2", actor=ACTOR))[0].moved_at is None
    assert [row["message"] for row in await ledger.rows(EVENT) if row["event"] == "instance_moved"] == [
        "from agent 'host-1'"
    ]
    accepted = await ledger.deploy("v2", ["a"])
    [task] = await ledger.dispatch(accepted.task_ids)
    await two.work(task)
    assert (await ledger.status("d-v2")).status is Status.COMPLETED


async def test_an_instance_with_an_open_task_is_not_moved(ledger: Ledger) -> None:
    one, _ = await two_hosts(ledger)
    task = await ledger.start("v2", "a")
    with pytest.raises(InstanceBusyError, match="d-v2"):
        await ledger.store.move_instance("a", "host-2", actor=ACTOR)
    forced = await ledger.roll_back("a", "v1", force=True)
    await ledger.store.cancel(OperationKind.ROLLBACK, forced.result.rollback_id, actor=ACTOR)
    with pytest.raises(InstanceBusyError, match="d-v2"):  # superseded, and still on its host
        await ledger.store.move_instance("a", "host-2", actor=ACTOR)
    await one.work(task, [O.OK, O.CANCELLED])
    await ledger.store.move_instance("a", "host-2", actor=ACTOR)


async def test_a_move_needs_an_instance_and_an_agent_that_are_known(ledger: Ledger) -> None:
    await two_hosts(ledger)
    before = await ledger.rows(INSTANCE)
    with pytest.raises(UnknownInstanceError, match="nobody"):
        await ledger.store.move_instance("nobody", "host-2", actor=ACTOR)
    with pytest.raises(UnknownAgentError, match="host-9"):
        await ledger.store.move_instance("a", "host-9", actor=ACTOR)
    assert await ledger.rows(INSTANCE) == before


async def test_what_the_old_host_says_late_is_not_told_of_the_moved_instance(ledger: Ledger) -> None:
    one, two = await two_hosts(ledger)
    task = await ledger.start("v2", "a", timeout=1)
    await ledger.expire_after(60)
    assert (await ledger.task(task.id)).error_code is FailureCode.OUTCOME_UNKNOWN
    await ledger.store.move_instance("a", "host-2", actor=ACTOR)
    await two.greet(listed("c", "v1"), listed("a", "v1"))
    recorded = await one.work(task)
    assert [agent for agent, _ in recorded.rejected] == ["host-1"] * 8
    [row] = [row for row in await ledger.rows(INSTANCE) if row["instance_id"] == "a"]
    assert (row["active_version"], row["expected_version"]) == ("v1", "v1")
    assert [action for _, action, _ in await ledger.history("a")][-1] == HistoryAction.ADOPT


async def test_a_moved_instance_that_is_retired_is_free_for_everybody(ledger: Ledger) -> None:
    one, _ = await two_hosts(ledger)
    await ledger.store.move_instance("a", "host-2", actor=ACTOR)
    await ledger.store.retire_instance("a", actor=ACTOR)
    await one.greet()
    assert (await listed_now(ledger))["a"] == "host-1"


async def test_who_was_refused_an_instance_is_found_once_it_is_free_for_them(ledger: Ledger) -> None:
    one, _ = await two_hosts(ledger)
    refused = {"host-2": ["a", "b"], "host-3": ["a"], "host-4": ["nobody-has-this"]}
    assert await ledger.store.find_claimants(refused) == []
    await ledger.store.move_instance("a", "host-2", actor=ACTOR)
    assert await ledger.store.find_claimants(refused) == ["host-2"]
    await ledger.store.retire_instance("a", actor=ACTOR)
    assert await ledger.store.find_claimants(refused) == ["host-2", "host-3"]
    await one.greet(listed("a", "v1"), listed("b", "v1"))
    assert await ledger.store.find_claimants(refused) == []
    await one.greet(listed("a", "v1"))
    assert await ledger.store.find_claimants(refused) == ["host-2"]
    assert await ledger.store.find_claimants({}) == []
