"""Where a rollback goes and where it finds its package."""

from typing import Any

import pytest

from controller.core.acceptance import WHOLE
from controller.core.task import Task
from controller.store import history
from controller.store.history import LOOKED_BACK
from controller.store.tables import EVENT, SOURCE
from releasehand.model import FailureCode, HistoryAction, RollbackType, Status, WaitingFor
from shared.attempt import Outcome
from tests.fakes.clock import START
from tests.fakes.ledger import (
    ACTOR,
    Host,
    Ledger,
    digest_of,
    ended,
    listed,
    live,
    statements,
    url_of,
)

O = Outcome
PREVIOUS = "previous"


async def target(ledger: Ledger, instance_id: str, version: str, **said: object) -> Task:
    """The task of a rollback that is cancelled again at once."""
    accepted = await ledger.roll_back(instance_id, version, **said)  # type: ignore[arg-type]
    [task] = await ledger.tasks(accepted.task_ids)
    await ledger.store.cancel(task.kind, task.operation_id, actor=ACTOR)
    return task


async def test_a_deployment_that_came_true_is_remembered_with_its_digest(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    await ledger.install(host, "v2", "a")
    [row] = await ledger.rows(SOURCE)
    assert (row["service"], row["version"]) == ("user", "v2")
    assert (row["package_url"], row["sha256"]) == (url_of("v2"), digest_of("v2"))


async def test_a_deployment_that_failed_is_not_remembered(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    task = await ledger.start("v2", "a")
    await host.work(task, [O.OK, O.FAILED], ended("v1", FailureCode.ARCHIVE_REFUSED))
    assert await ledger.rows(SOURCE) == []


async def test_the_newest_deployment_of_a_version_wins(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    await ledger.install(host, "v2", "a")
    task = await ledger.start("v2", "a", deploy_id="again", package_url="https://other.example/v2.zip")
    await host.work(task, end=ended("v2", sha256="b" * 64))
    [row] = await ledger.rows(SOURCE)
    assert (row["package_url"], row["sha256"]) == ("https://other.example/v2.zip", "b" * 64)


async def test_a_rollback_uses_what_was_recorded_at_the_deployment(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a", "b"], "v1")
    await ledger.install(host, "v2", "a")
    task = await target(ledger, "b", "v2")
    assert (task.package_url, task.package_sha256, task.source_sha256) == (url_of("v2"), "", digest_of("v2"))


async def test_a_url_in_the_call_goes_before_what_is_recorded(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    await ledger.install(host, "v2", "a")
    task = await target(ledger, "a", "v2", package_url="https://other.example/v2.tar.gz")
    assert (task.package_url, task.source_sha256) == ("https://other.example/v2.tar.gz", "")


async def test_a_digest_that_is_not_the_recorded_one_has_no_url(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    await ledger.install(host, "v2", "a")
    task = await target(ledger, "a", "v2", package_sha256="c" * 64)
    assert (task.package_url, task.package_sha256) == ("", "c" * 64)


async def test_what_one_service_deployed_is_no_source_for_another(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    await ledger.install(host, "v2", "a")
    await ledger.host("host-2", ["o"], "v1", service="other")
    assert (await target(ledger, "o", "v2")).package_url == ""


# previous


async def test_previous_is_the_release_before_with_its_digest(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    await ledger.install(host, "v2", "a")
    await ledger.install(host, "v3", "a")
    task = await target(ledger, "a", PREVIOUS)
    assert (task.target_version, task.package_url, task.package_sha256) == (
        "v2",
        url_of("v2"),
        digest_of("v2"),
    )


async def test_going_back_twice_goes_back_two_steps(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    await ledger.install(host, "v2", "a")
    await ledger.install(host, "v3", "a")
    for wanted in ("v2", "v1"):
        accepted = await ledger.roll_back("a", PREVIOUS)
        [task] = await ledger.dispatch(accepted.task_ids)
        assert task.target_version == wanted
        await host.work(task)
    assert (await ledger.history("a"))[-2:] == [("v2", "rollback", "success"), ("v1", "rollback", "success")]


async def test_a_failed_or_reverted_version_is_never_the_previous_one(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    await ledger.install(host, "v2", "a")
    task = await ledger.start("v3", "a")
    path = [O.OK, O.OK, O.OK, O.OK, O.OK, O.FAILED, O.OK]
    await host.work(task, path, ended("v2", FailureCode.CHECK_FAILED))
    assert (await target(ledger, "a", PREVIOUS)).target_version == "v1"


async def test_each_of_a_batch_goes_to_its_own_previous_and_one_without_fails_alone(ledger: Ledger) -> None:
    host = Host(ledger.store, ledger.clock, "host-1")
    await host.greet(listed("a", "v1"), listed("b", "v7"), listed("c", "v1"))
    await ledger.install(host, "v8", "b")
    task = await ledger.start("v2", "a", deploy_id="d-a")
    await host.work(task)
    accepted = await ledger.roll_back_batch(PREVIOUS, ["a", "b", "c"])
    status = (await ledger.store.rollback_status(accepted.result.rollback_id, WHOLE)).read()
    targets = {one.instance_id: (one.target_version, one.status, one.error_code) for one in status.instances}
    assert targets == {
        "a": ("v1", Status.PENDING, ""),
        "b": ("v7", Status.PENDING, ""),
        "c": (PREVIOUS, Status.FAILED, FailureCode.NO_SOURCE),
    }
    assert {one.waiting_for for one in status.instances} == {WaitingFor.AGENT_WORKING, ""}
    assert (status.rollback_type, status.target_version) == (RollbackType.BATCH, PREVIOUS)
    for task in await ledger.dispatch(accepted.task_ids):
        await host.work(task)
    status = (await ledger.store.rollback_status(accepted.result.rollback_id, WHOLE)).read()
    assert (status.status, status.progress.completed, status.progress.failed) == (Status.FAILED, 2, 1)


async def test_a_rollback_that_leads_nowhere_has_failed_when_it_is_answered(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a"], "v1")
    accepted = await ledger.roll_back("a", PREVIOUS)
    assert (accepted.result.status, accepted.task_ids) == (Status.FAILED, [])
    status = (await ledger.store.rollback_status(accepted.result.rollback_id, WHOLE)).read()
    assert (status.status, status.completed_at) == (Status.FAILED, ledger.clock.now())
    assert status.instances[0].error_code == FailureCode.NO_SOURCE
    assert "no previous good version" in status.instances[0].error_message
    ends = [row for row in await ledger.rows(EVENT) if row["event"] == "ended"]
    assert [(row["task"] is None, row["outcome"]) for row in ends] == [(False, "failed"), (True, "failed")]
    await ledger.deploy("v2", ["a"])  # it holds nothing


async def test_what_an_instance_ran_for_another_service_is_not_its_previous(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    await ledger.install(host, "v2", "a")
    await host.greet(listed("a", "v2", service="other"))
    accepted = await ledger.roll_back("a", PREVIOUS)
    status = (await ledger.store.rollback_status(accepted.result.rollback_id, WHOLE)).read()
    assert status.instances[0].error_code == FailureCode.NO_SOURCE


@pytest.mark.parametrize("installed", ["", "v1"])
async def test_an_instance_without_a_past_has_no_previous(ledger: Ledger, installed: str) -> None:
    host = Host(ledger.store, ledger.clock, "host-1")
    await host.greet(listed("a", active=live(installed)))
    assert (await ledger.roll_back("a", PREVIOUS)).result.status is Status.FAILED


async def test_a_long_history_is_not_read_to_its_beginning(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a", "b"], "v1")
    async with ledger.connection() as conn:
        await history.append(conn, [past("a", f"v{n}") for n in range(2 * LOOKED_BACK)])
        await history.append(conn, [past("b", "v7"), past("b", "v8")])
        with statements() as seen:
            found = await history.previous_of(conn, "user", ["a", "b"])
        assert {name: release.version for name, release in found.items()} == {
            "a": f"v{2 * LOOKED_BACK - 2}",
            "b": "v7",
        }
        assert len(seen) == 1


async def test_where_the_newest_entries_do_not_tell_all_are_read(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a"], "v1")
    async with ledger.connection() as conn:
        turns = [past("a", f"v{2 + n % 2}", HistoryAction.ROLLBACK) for n in range(2 * LOOKED_BACK)]
        await history.append(
            conn, [past("a", "v2"), past("a", "v3"), *turns, past("a", "v2", HistoryAction.ROLLBACK)]
        )
        [release] = (await history.previous_of(conn, "user", ["a"])).values()
        assert release.version == "v1"


def past(instance_id: str, version: str, action: HistoryAction = HistoryAction.DEPLOY) -> dict[str, Any]:
    return history.of_change(instance_id, "user", version, digest_of(version), action, START)
