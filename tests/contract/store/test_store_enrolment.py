"""Join tokens and certificates as they are recorded: used once, replaced, revoked, and all of it audited."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from controller.core.audit import Actor, AuditFilter
from controller.core.enrolment import Applicant, Certificate, EnrolmentCode, EnrolmentRefusedError, Term
from controller.core.lists import Page
from controller.core.refusals import UnknownAgentError, UnknownJoinTokenError
from controller.store.access_tables import CERTIFICATE, JOIN_TOKEN
from controller.store.tables import AGENT
from releasehand.model import ActorKind, AuditAction, JoinTokenParams, JoinTokenState
from tests.fakes.ledger import Ledger, open_ledger

THE = "secret"
ADMIN = Actor("admin", ActorKind.CALLER, "192.0.2.7", "r-1")
WHOLE = Page()


def term(ledger: Ledger, authority: str = "ca-1") -> Term:
    return Term(timedelta(days=30), ledger.clock.now() + timedelta(days=3_650), authority)


async def make_token(ledger: Ledger, secret: str = THE, **said: object) -> str:
    made = await ledger.store.create_join_token(JoinTokenParams.model_validate(said), secret, actor=ADMIN)
    return made.token_id


async def join(ledger: Ledger, agent_id: str = "web-1", key: str = "key-1", secret: str = THE) -> Certificate:
    return await ledger.store.join(secret, Applicant(agent_id, key), term(ledger), address="192.0.2.1")


async def refusal(ledger: Ledger, agent_id: str = "web-1", key: str = "key-1", secret: str = THE) -> str:
    with pytest.raises(EnrolmentRefusedError) as refused:
        await join(ledger, agent_id, key, secret)
    return refused.value.code


async def audited(ledger: Ledger, action: AuditAction) -> list[tuple[str, str, str]]:
    """Actor, outcome and code, oldest first."""
    found = (await ledger.store.list_audit(AuditFilter(action=action), WHOLE)).records
    return [(one.actor, one.outcome.value, one.code) for one in reversed(found)]


async def test_a_token_is_listed_without_its_secret_and_with_what_became_of_it(ledger: Ledger) -> None:
    await make_token(ledger, "one", host="web-1", ttl=60)
    ledger.clock.advance(1)
    await make_token(ledger, "two", max_uses=2, ttl=600)
    ledger.clock.advance(1)
    third = await make_token(ledger, "three")
    await join(ledger, secret="one")
    await ledger.store.revoke_join_token(third, actor=ADMIN)
    listed = await ledger.store.list_join_tokens(WHOLE)
    assert [(one.host, one.max_uses, one.uses, one.state.value) for one in listed.join_tokens] == [
        ("", 1, 0, "revoked"),
        ("", 2, 0, "open"),
        ("web-1", 1, 1, "used"),
    ]
    assert listed.total == 3
    ledger.clock.advance(600)
    states = [one.state for one in (await ledger.store.list_join_tokens(Page(1, 1))).join_tokens]
    assert states == [JoinTokenState.EXPIRED]


async def test_a_revoked_token_stays_revoked_since_the_first_time(ledger: Ledger) -> None:
    token_id = await make_token(ledger)
    first = await ledger.store.revoke_join_token(token_id, actor=ADMIN)
    ledger.clock.advance(5)
    assert await ledger.store.revoke_join_token(token_id, actor=ADMIN) == first
    assert await refusal(ledger) == EnrolmentCode.TOKEN_REVOKED
    with pytest.raises(UnknownJoinTokenError):
        await ledger.store.revoke_join_token("join-0", actor=ADMIN)


async def test_a_lost_answer_is_given_again_and_counts_once(ledger: Ledger) -> None:
    await make_token(ledger, host="web-1")
    first = await join(ledger)
    ledger.clock.advance(5)
    assert await join(ledger, "") == first
    [row] = await ledger.rows(CERTIFICATE)
    assert (row["serial"], row["agent_id"], row["revoked_at"]) == (first.serial, "web-1", None)
    assert [row["uses"] for row in await ledger.rows(JOIN_TOKEN)] == [1]


async def test_each_refused_join_changes_nothing_and_is_audited(ledger: Ledger) -> None:
    await make_token(ledger, "web", host="web-1", ttl=60)
    await make_token(ledger, "late", host="web-2", ttl=5)
    await join(ledger, secret="web")
    ledger.clock.advance(10)
    codes = [
        await refusal(ledger, key="key-2", secret="web"),
        await refusal(ledger, "db-1", secret="web"),
        await refusal(ledger, "web-2", secret="late"),
        await refusal(ledger, secret="guessed"),
    ]
    assert codes == ["token_used", "other_host", "token_expired", "unknown_token"]
    assert len(await ledger.rows(CERTIFICATE)) == 1
    assert await audited(ledger, AuditAction.JOIN) == [
        ("web-1", "accepted", ""),
        *[("", "refused", code) for code in codes],
    ]


async def test_an_agent_that_joins_again_loses_what_it_had(ledger: Ledger) -> None:
    await make_token(ledger, "one", host="web-1")
    first = await join(ledger, secret="one")
    await make_token(ledger, "two", host="web-1")
    second = await join(ledger, key="key-2", secret="two")
    assert await ledger.store.revoked_serials() == {first.serial}
    assert second.serial != first.serial
    assert await refusal(ledger, secret="one") == EnrolmentCode.TOKEN_USED


async def test_a_token_for_any_host_gives_each_name_once(ledger: Ledger) -> None:
    await make_token(ledger, max_uses=3)
    await join(ledger, "web-1", "key-1")
    assert await refusal(ledger, "web-1", "key-2") == EnrolmentCode.NAME_TAKEN
    await ledger.store.revoke_agent("web-1", "", actor=ADMIN)
    assert await refusal(ledger, "web-1", "key-2") == EnrolmentCode.NAME_TAKEN
    await join(ledger, "web-2", "key-2")
    await join(ledger, "web-3", "key-3")
    assert await refusal(ledger, "web-4", "key-4") == EnrolmentCode.TOKEN_USED


async def test_of_many_that_use_one_token_at_once_one_wins(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        ledgers = [await stack.enter_async_context(open_ledger(database_url)) for _ in range(3)]
        await make_token(ledgers[0], host="web-1")

        async def race(ledger: Ledger, key: str) -> str:
            try:
                await join(ledger, key=key)
            except EnrolmentRefusedError as exc:
                return exc.code
            return ""

        async with asyncio.TaskGroup() as group:
            tries = [group.create_task(race(one, f"key-{i}")) for i, one in enumerate(ledgers * 3)]
        assert sorted(one.result() for one in tries) == ["", *[EnrolmentCode.TOKEN_USED] * 8]
        assert len(await ledgers[0].rows(CERTIFICATE)) == 1


async def test_a_renewed_certificate_is_another_one_and_the_old_one_stays(ledger: Ledger) -> None:
    await make_token(ledger, host="web-1")
    old = await join(ledger)
    ledger.clock.advance(15 * 86_400)
    new = await ledger.store.renew_certificate(
        old.serial, "web-1", Applicant("", "key-1"), term(ledger), address=""
    )
    assert new.serial != old.serial
    assert new.not_after == ledger.clock.now().replace(microsecond=0) + timedelta(days=30)
    assert await ledger.store.revoked_serials() == frozenset()
    assert await audited(ledger, AuditAction.RENEW_CERTIFICATE) == [("web-1", "accepted", "")]


async def test_a_refused_renewal_is_audited(ledger: Ledger) -> None:
    await make_token(ledger, host="web-1")
    old = await join(ledger)
    for serial, agent_id, key in (
        ("0", "web-1", "key-1"),
        (old.serial, "db-1", "key-1"),
        (old.serial, "web-1", "key-2"),
    ):
        with pytest.raises(EnrolmentRefusedError):
            await ledger.store.renew_certificate(
                serial, agent_id, Applicant("", key), term(ledger), address=""
            )
    refused = [code for _, _, code in await audited(ledger, AuditAction.RENEW_CERTIFICATE)]
    assert refused == ["unknown_certificate", "unknown_certificate", "other_key"]
    assert len(await ledger.rows(CERTIFICATE)) == 1


async def test_a_revoked_agent_has_no_certificate_left_and_renews_none(ledger: Ledger) -> None:
    await make_token(ledger, host="web-1")
    old = await join(ledger)
    new = await ledger.store.renew_certificate(
        old.serial, "web-1", Applicant("", "key-1"), term(ledger), address=""
    )
    result = await ledger.store.revoke_agent("web-1", "stolen", actor=ADMIN)
    assert (result.revoked_certificates, result.revoked_at) == (2, ledger.clock.now())
    assert await ledger.store.revoked_serials() == {old.serial, new.serial}
    ledger.clock.advance(5)
    again = await ledger.store.revoke_agent("web-1", "", actor=ADMIN)
    assert (again.revoked_certificates, again.revoked_at) == (0, result.revoked_at)
    with pytest.raises(EnrolmentRefusedError) as refused:
        await ledger.store.renew_certificate(
            new.serial, "web-1", Applicant("", "key-1"), term(ledger), address=""
        )
    assert refused.value.code is EnrolmentCode.CERTIFICATE_REVOKED
    assert await audited(ledger, AuditAction.REVOKE_AGENT) == [("admin", "accepted", "")] * 2
    ledger.clock.advance(40 * 86_400)
    assert await ledger.store.revoked_serials() == frozenset()  # TLS refuses them by now


async def test_who_never_was_an_agent_cannot_be_revoked(ledger: Ledger) -> None:
    with pytest.raises(UnknownAgentError):
        await ledger.store.revoke_agent("nobody", "", actor=ADMIN)


async def test_no_session_is_opened_by_a_certificate_that_does_not_count(ledger: Ledger) -> None:
    one, two = await ledger.host("host-1", ["a"]), await ledger.host("host-2", ["b"])
    before = await ledger.rows(AGENT)
    await ledger.store.revoke_agent("host-1", "stolen", actor=ADMIN)
    for host, serial, code in (
        (one, one.serial, EnrolmentCode.CERTIFICATE_REVOKED),
        (two, one.serial, EnrolmentCode.UNKNOWN_CERTIFICATE),
        (two, "a1b2c3", EnrolmentCode.UNKNOWN_CERTIFICATE),
    ):
        host.serial = serial
        with pytest.raises(EnrolmentRefusedError) as refused:
            await host.greet()
        assert refused.value.code is code
    assert await ledger.rows(AGENT) == before


async def test_agents_without_a_certificate_of_the_new_authority_are_told_whenever_they_renewed(
    ledger: Ledger,
) -> None:
    async def renew(name: str, authority: str) -> None:
        await ledger.store.renew_certificate(
            given[name].serial, name, Applicant("", name), term(ledger, authority), address=""
        )

    given = {}
    for name in ("web-1", "web-2", "web-3", "web-4"):
        await make_token(ledger, name, host=name)
        given[name] = await join(ledger, name, key=name, secret=name)
    ledger.clock.advance(60)
    await ledger.store.revoke_agent("web-2", "", actor=ADMIN)
    await renew("web-3", "ca-2")
    await renew("web-4", "ca-1")  # of a controller that was not started again yet
    assert await ledger.store.find_agents_without("ca-2") == ["web-1", "web-4"]
    ledger.clock.advance(31 * 86_400)
    assert await ledger.store.find_agents_without("ca-2") == []


async def test_a_join_that_is_answered_again_counts_for_the_authority_that_signs_then(ledger: Ledger) -> None:
    await make_token(ledger, host="web-1")
    first = await join(ledger)
    again = await ledger.store.join(THE, Applicant("web-1", "key-1"), term(ledger, "ca-2"), address="")
    assert (again.serial, again.authority) == (first.serial, "ca-2")
    assert await ledger.store.find_agents_without("ca-2") == []
