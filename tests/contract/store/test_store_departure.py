"""Agents that leave: what of theirs counts no more, what is anybody's, and what stays."""

import pytest

from controller.core.audit import AuditFilter
from controller.core.enrolment import EnrolmentCode, EnrolmentRefusedError
from controller.core.lists import Page
from controller.store.access_tables import CERTIFICATE
from releasehand.model import AuditAction, FailureCode, Status
from tests.fakes.ledger import ACTOR, Host, Ledger, listed


async def certificates_of(ledger: Ledger, agent_id: str) -> list[tuple[str, str, bool, str]]:
    """Serial, key, whether it is revoked and why."""
    return [
        (row["serial"], row["key_sha256"], row["revoked_at"] is not None, row["reason"])
        for row in await ledger.rows(CERTIFICATE)
        if row["agent_id"] == agent_id
    ]


async def leave(ledger: Ledger, agent_id: str, *, key: str = "") -> int:
    """By the certificate that it has; how many instances were released."""
    [(serial, own_key, *_)] = await certificates_of(ledger, agent_id)
    released, _ = await ledger.store.leave(serial, agent_id, key or own_key, address="192.0.2.1")
    return released


async def listed_now(ledger: Ledger) -> dict[str, str]:
    page = await ledger.store.service_instances("user", status=None, version="", limit=99, offset=0)
    return {one.instance_id: one.agent_id for one in page.instances}


async def audited(ledger: Ledger) -> list[tuple[str, str, str]]:
    found = (await ledger.store.list_audit(AuditFilter(action=AuditAction.LEAVE), Page())).records
    return [(one.actor, one.outcome.value, one.code) for one in reversed(found)]


async def two_hosts(ledger: Ledger) -> tuple[Host, Host]:
    return await ledger.host("host-1", ["a", "b"], "v1"), await ledger.host("host-2", ["c"], "v1")


async def test_instances_of_an_agent_that_left_are_anybodys(ledger: Ledger) -> None:
    _, other = await two_hosts(ledger)
    assert await leave(ledger, "host-1") == 2
    assert await listed_now(ledger) == {"c": "host-2"}
    assert await ledger.history("a") == [("v1", "adopt", "success")]
    assert await ledger.store.revoked_serials()
    await other.greet(listed("c", "v1"), listed("a", "v1"))
    assert await listed_now(ledger) == {"a": "host-2", "c": "host-2"}
    assert await audited(ledger) == [("host-1", "accepted", "")]


async def test_an_instance_that_was_moved_to_it_is_released_too(ledger: Ledger) -> None:
    _, other = await two_hosts(ledger)
    await ledger.host("host-3", [], "v1")
    await ledger.store.move_instance("a", "host-1", actor=ACTOR)
    await ledger.store.move_instance("c", "host-1", actor=ACTOR)
    assert await leave(ledger, "host-1") == 2, "the moved one was in no list"
    await other.greet(listed("c", "v1"))
    assert await listed_now(ledger) == {"c": "host-2"}


async def test_open_tasks_of_an_agent_that_left_fail_and_say_so(ledger: Ledger) -> None:
    await two_hosts(ledger)
    await ledger.deploy("v2", ["a", "c"], "waits")
    on_host = await ledger.start("v2", "b", deploy_id="works")
    [(serial, key, *_)] = await certificates_of(ledger, "host-1")
    _, changed = await ledger.store.leave(serial, "host-1", key, address="192.0.2.1")
    assert [task.id for task in changed.dropped] == [on_host.id]
    [left, stays] = (await ledger.status("waits")).instances
    assert (left.status, left.error_code) == (Status.FAILED, FailureCode.INSTANCE_RETIRED)
    assert "its agent left" in left.error_message
    assert stays.status is Status.PENDING


async def test_leaving_again_by_the_same_certificate_changes_nothing(ledger: Ledger) -> None:
    await two_hosts(ledger)
    await leave(ledger, "host-1")
    before = await certificates_of(ledger, "host-1")
    ledger.clock.advance(60)
    assert await leave(ledger, "host-1") == 0
    assert await certificates_of(ledger, "host-1") == before
    assert len(await audited(ledger)) == 1


@pytest.mark.parametrize("left_before", [False, True])
async def test_a_certificate_for_another_key_lets_nobody_go(ledger: Ledger, left_before: bool) -> None:
    await two_hosts(ledger)
    if left_before:
        await leave(ledger, "host-1")
    before = await listed_now(ledger)
    with pytest.raises(EnrolmentRefusedError) as refused:
        await leave(ledger, "host-1", key="another")
    code = EnrolmentCode.CERTIFICATE_REVOKED if left_before else EnrolmentCode.OTHER_KEY
    assert refused.value.code == code
    assert await listed_now(ledger) == before
    assert (await audited(ledger))[-1] == ("host-1", "refused", code.value)


async def test_an_agent_that_was_shut_out_releases_nothing(ledger: Ledger) -> None:
    await two_hosts(ledger)
    await ledger.store.revoke_agent("host-1", "stolen", actor=ACTOR)
    with pytest.raises(EnrolmentRefusedError) as refused:
        await leave(ledger, "host-1")
    assert refused.value.code is EnrolmentCode.CERTIFICATE_REVOKED
    assert set(await listed_now(ledger)) == {"a", "b", "c"}
