"""The queries of package URLs: sealed, one row for an operation, kept while something needs them."""

from dataclasses import replace
from datetime import timedelta

import pytest

from controller.core.task import Task
from controller.sealing import open_url
from controller.store.queries import KEPT_FOR_RETRIES
from controller.store.tables import EVENT, OPERATION, SOURCE, TASK, URL_QUERY
from releasehand.model import FailureCode, RetryFailedParams
from shared.attempt import Outcome
from shared.sealing import KEY_BYTES, Keyring, tell_key_id
from tests.fakes.keys import KEYRING
from tests.fakes.ledger import (
    ACTOR,
    Host,
    Ledger,
    ended,
    open_ledger,
    url_of,
)

O = Outcome
SECRET = "X-Signature=hush-hush"
OTHER_KEY = b"o" * KEY_BYTES


def presigned(version: str) -> str:
    return f"{url_of(version)}?{SECRET}-{version}"


async def install(ledger: Ledger, host: Host, version: str, instance: str) -> Task:
    task = await ledger.start(version, instance, package_url=presigned(version))
    await host.work(task)
    return await ledger.task(task.id)


async def fail(ledger: Ledger, host: Host, version: str, instance: str) -> Task:
    task = await ledger.start(version, instance, package_url=presigned(version))
    await host.work(task, [O.OK, O.FAILED], ended("v1", FailureCode.ARCHIVE_REFUSED))
    return task


async def url_told(ledger: Ledger, task_id: int, keyring: Keyring = KEYRING) -> tuple[str, str]:
    [standing] = await ledger.store.load_tasks([task_id])
    return open_url(standing, keyring)


async def count_kept(ledger: Ledger) -> int:
    await ledger.store.forget_queries()
    return len(await ledger.rows(URL_QUERY))


async def test_one_sealed_row_serves_all_instances_of_an_operation(ledger: Ledger) -> None:
    names = [f"i-{number}" for number in range(50)]
    await ledger.host("host-1", names, "v1")
    accepted = await ledger.deploy("v2", names, package_url=presigned("v2"))
    [row] = await ledger.rows(URL_QUERY)
    assert {task["url_query"] for task in await ledger.rows(TASK)} == {row["id"]}
    assert {await url_told(ledger, task) for task in accepted.task_ids[:3]} == {(presigned("v2"), "")}


async def test_no_table_holds_a_query_as_it_came(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    await install(ledger, host, "v2", "a")
    await fail(ledger, host, "v3", "a")
    rows = [row for table in (TASK, OPERATION, SOURCE, EVENT, URL_QUERY) for row in await ledger.rows(table)]
    assert [row for row in rows if "hush-hush" in str(row)] == []
    assert all("?" not in row["package_url"] for row in rows if "package_url" in row)


async def test_a_url_without_a_query_takes_no_row(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a"], "v1")
    accepted = await ledger.deploy("v2", ["a"])
    assert await ledger.rows(URL_QUERY) == []
    assert await url_told(ledger, accepted.task_ids[0]) == (url_of("v2"), "")


async def test_a_refused_call_leaves_no_secret_behind(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a"], "v1")
    await ledger.deploy("v2", ["a"])
    with pytest.raises(Exception, match="held"):
        await ledger.deploy("v3", ["a"], package_url=presigned("v3"))
    assert await ledger.rows(URL_QUERY) == []


async def test_a_rollback_without_a_url_opens_what_the_deployment_sealed(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a", "b"], "v1")
    await install(ledger, host, "v2", "a")
    accepted = await ledger.roll_back("b", "v2")
    assert await url_told(ledger, accepted.task_ids[0]) == (presigned("v2"), "")
    assert len(await ledger.rows(URL_QUERY)) == 1


async def test_a_retry_of_what_failed_has_the_first_url(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    await fail(ledger, host, "v2", "a")
    again = await ledger.store.accept_retry("d-v2", RetryFailedParams(deploy_id="again"), actor=ACTOR)
    assert await url_told(ledger, again.task_ids[0]) == (presigned("v2"), "")
    assert len(await ledger.rows(URL_QUERY)) == 1


async def test_a_query_is_forgotten_when_no_open_task_no_retry_and_no_source_needs_it(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a", "b", "c", "d"], "v1")
    await install(ledger, host, "v2", "a")  # a source names it
    await fail(ledger, host, "v3", "b")  # a retry may want it
    await ledger.start("v4", "c", package_url=presigned("v4"))  # it is being worked on
    newest = await ledger.start("v5", "d", package_url=presigned("v5"))
    await host.work(newest, [O.CANCELLED], ended("v1"))
    assert await count_kept(ledger) == 4, "the newest stays: SQLite would give its id again"
    last = await ledger.start("v6", "d", package_url=presigned("v6"))
    await host.work(last, [O.CANCELLED], ended("v1"))
    assert await count_kept(ledger) == 4
    ledger.clock.advance(KEPT_FOR_RETRIES / timedelta(seconds=1) + 1)
    assert await count_kept(ledger) == 3


async def test_a_retry_after_its_query_was_forgotten_says_what_to_do(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a", "b"], "v1")
    await fail(ledger, host, "v2", "a")
    await install(ledger, host, "v3", "b")
    ledger.clock.advance(KEPT_FOR_RETRIES / timedelta(seconds=1) + 1)
    await ledger.store.forget_queries()
    again = await ledger.store.accept_retry("d-v2", RetryFailedParams(deploy_id="again"), actor=ACTOR)
    url, lost = await url_told(ledger, again.task_ids[0])
    assert url == ""
    assert "fresh URL" in lost


async def test_a_lost_key_hurts_only_what_needs_the_query(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a", "b"], "v1")
    bare = await ledger.deploy("v2", ["a"])
    hidden = await ledger.deploy("v3", ["b"], package_url=presigned("v3"))
    stranger = Keyring(OTHER_KEY)
    assert await url_told(ledger, bare.task_ids[0], stranger) == (url_of("v2"), "")
    url, lost = await url_told(ledger, hidden.task_ids[0], stranger)
    assert url == ""
    assert KEYRING.key_id in lost


async def test_a_start_with_a_new_key_seals_all_anew_and_the_old_one_may_go(database_url: str) -> None:
    rotated = Keyring(OTHER_KEY, [bytes(KEY_BYTES)])
    async with open_ledger(database_url) as ledger:
        host = await ledger.host("host-1", ["a", "b", "c"], "v1")
        await install(ledger, host, "v2", "a")
        await fail(ledger, host, "v3", "b")
        accepted = await ledger.deploy("v4", ["c"], package_url=presigned("v4"))
    async with open_ledger(database_url, keyring=rotated) as ledger:
        assert await ledger.store.reseal() == []
        only_new = Keyring(OTHER_KEY)
        assert await url_told(ledger, accepted.task_ids[0], only_new) == (presigned("v4"), "")
        keys = {row["sealed"].split(".")[1] for row in await ledger.rows(URL_QUERY)}
        assert keys == {tell_key_id(OTHER_KEY)}


async def test_a_start_without_the_key_names_it_and_changes_nothing(database_url: str) -> None:
    async with open_ledger(database_url) as ledger:
        await ledger.host("host-1", ["a"], "v1")
        accepted = await ledger.deploy("v2", ["a"], package_url=presigned("v2"))
    async with open_ledger(database_url, keyring=Keyring(OTHER_KEY)) as ledger:
        assert await ledger.store.reseal() == [KEYRING.key_id]
        assert await url_told(ledger, accepted.task_ids[0]) == (presigned("v2"), "")


async def test_a_query_moved_to_another_url_does_not_open(ledger: Ledger) -> None:
    """Who can write the database cannot have a secret sent to a host of his own."""
    await ledger.host("host-1", ["a", "b"], "v1")
    [first] = (await ledger.deploy("v2", ["a"], package_url=presigned("v2"))).task_ids
    [standing] = await ledger.store.load_tasks([first])
    [other] = await ledger.store.load_tasks((await ledger.deploy("v3", ["b"])).task_ids)
    task = replace(other.task, url_query=standing.task.url_query)
    moved = replace(other, task=task, sealed_query=standing.sealed_query)
    assert open_url(moved, KEYRING)[0] == ""
