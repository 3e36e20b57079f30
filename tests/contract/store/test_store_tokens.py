"""Tokens of callers in the database: found by digest alone, gone when they are revoked."""

from datetime import timedelta

import pytest

from controller.core.audit import Actor, AuditFilter
from controller.core.lists import Page
from controller.core.token import TokenExistsError, UnknownTokenError, digest_of
from controller.store.access_tables import API_TOKEN, AUDIT
from releasehand.model import ActorKind, AuditAction, CreateTokenParams, NewToken, Scope, TokenStatus
from tests.fakes.ledger import Ledger

ALL = Page()
ROOT = Actor("root", ActorKind.LOCAL)


async def create(ledger: Ledger, name: str = "scheduler", *scopes: Scope, **said: object) -> NewToken:
    given = {"name": name, "scopes": list(scopes or [Scope.DEPLOY_READ])} | said
    return await ledger.store.create_token(CreateTokenParams.model_validate(given), actor=ROOT)


async def status(ledger: Ledger, token: str) -> TokenStatus | None:
    known = await ledger.store.find_token(digest_of(token))
    return None if known is None else known.status(ledger.clock.now())


async def test_a_token_is_found_by_its_digest_with_what_it_may_do(ledger: Ledger) -> None:
    made = await create(ledger, "ci", Scope.DEPLOY_READ, Scope.DEPLOY_WRITE, services=["b", "a"], ttl=60)
    known = await ledger.store.find_token(digest_of(made.token))
    assert known is not None
    assert known.name == "ci"
    assert known.grant.services == {"a", "b"}
    assert known.grant.scopes == {Scope.DEPLOY_READ, Scope.DEPLOY_WRITE}
    assert (made.created_by, made.status) == ("root", TokenStatus.IN_FORCE)
    assert made.expires_at == ledger.clock.now() + timedelta(seconds=60)
    assert await ledger.store.find_token(digest_of("rht_something")) is None
    assert await ledger.store.find_token(made.token) is None


async def test_a_token_is_out_of_force_the_moment_it_expires(ledger: Ledger) -> None:
    made = await create(ledger, ttl=60)
    ledger.clock.advance(59.999)
    assert await status(ledger, made.token) is TokenStatus.IN_FORCE
    ledger.clock.advance(0.001)
    assert await status(ledger, made.token) is TokenStatus.EXPIRED
    assert not await ledger.store.has_tokens()


async def test_a_revoked_token_is_out_of_force_and_revoking_again_answers_the_first(ledger: Ledger) -> None:
    made = await create(ledger)
    first = await ledger.store.revoke_token("scheduler", actor=ROOT)
    assert await status(ledger, made.token) is TokenStatus.REVOKED
    ledger.clock.advance(10)
    assert await ledger.store.revoke_token("scheduler", actor=ROOT) == first
    with pytest.raises(UnknownTokenError, match="nobody"):
        await ledger.store.revoke_token("nobody", actor=ROOT)


async def test_two_tokens_in_force_never_have_one_name(ledger: Ledger) -> None:
    first = await create(ledger)
    with pytest.raises(TokenExistsError, match="in force"):
        await create(ledger)
    assert await status(ledger, first.token) is TokenStatus.IN_FORCE
    await ledger.store.revoke_token("scheduler", actor=ROOT)
    second = await create(ledger, ttl=10)
    ledger.clock.advance(10)
    third = await create(ledger)
    found = [await status(ledger, one.token) for one in (first, second, third)]
    assert found == [TokenStatus.REVOKED, TokenStatus.REVOKED, TokenStatus.IN_FORCE]
    assert len({one.token for one in (first, second, third)}) == 3


async def test_no_row_holds_anything_that_could_be_used(ledger: Ledger) -> None:
    made = await create(ledger)
    rows = repr([await ledger.rows(table) for table in (API_TOKEN, AUDIT)])
    assert digest_of(made.token) in rows
    assert made.token not in rows
    assert made.token[4:24] not in rows


async def test_making_and_revoking_are_audited_once_each(ledger: Ledger) -> None:
    await create(ledger, "ci", Scope.DEPLOY_READ, services=["a"], ttl=60)
    for _ in range(2):
        await ledger.store.revoke_token("ci", actor=ROOT)
    with pytest.raises(UnknownTokenError):
        await ledger.store.revoke_token("nobody", actor=ROOT)
    records = (await ledger.store.list_audit(AuditFilter(), Page())).records
    assert [(one.action, one.actor, one.actor_kind) for one in reversed(records)] == [
        (AuditAction.CREATE_TOKEN, "root", ActorKind.LOCAL),
        (AuditAction.REVOKE_TOKEN, "root", ActorKind.LOCAL),
    ]
    assert records[1].objects == {"name": "ci", "scopes": ["deploy:read"], "services": ["a"], "ttl": 60}


async def test_the_list_tells_newest_first_and_by_status(ledger: Ledger) -> None:
    for name, ttl in (("old", 10), ("gone", 0), ("good", 0)):
        await create(ledger, name, ttl=ttl)
        ledger.clock.advance(5)
    await ledger.store.revoke_token("gone", actor=ROOT)

    async def names(status: TokenStatus | None = None, page: Page = ALL) -> list[str]:
        return [one.name for one in (await ledger.store.list_tokens(status, page)).tokens]

    assert await names() == ["good", "gone", "old"]
    assert await names(page=Page(limit=1, offset=1)) == ["gone"]
    assert await names(TokenStatus.IN_FORCE) == ["good"]
    assert await names(TokenStatus.EXPIRED) == ["old"]
    assert await names(TokenStatus.REVOKED) == ["gone"]


async def test_the_last_use_is_written_at_most_once_a_minute(ledger: Ledger) -> None:
    made = await create(ledger)
    known = await ledger.store.find_token(digest_of(made.token))
    assert known is not None
    told = []
    for _ in range(4):
        await ledger.store.note_access({known.token_id: (ledger.clock.now(), "192.0.2.7")}, [])
        [one] = (await ledger.store.list_tokens(None, Page())).tokens
        told.append(one.last_used_at)
        assert one.last_used_from == "192.0.2.7"
        ledger.clock.advance(30)
    assert told[0] == told[1] != told[2] == told[3]


async def test_which_of_many_are_in_force_is_one_question(ledger: Ledger) -> None:
    ids = {}
    for name, ttl in (("late", 10), ("gone", 0), ("good", 0)):
        known = await ledger.store.find_token(digest_of((await create(ledger, name, ttl=ttl)).token))
        assert known is not None
        ids[name] = known.token_id
    await ledger.store.revoke_token("gone", actor=ROOT)
    ledger.clock.advance(10)
    assert await ledger.store.find_tokens_in_force([*ids.values(), "unknown"]) == {ids["good"]}
