"""The audit: added with the change that it tells of, and never changed again."""

from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from controller.core.audit import Actor, AuditEntry, AuditFilter, Objects
from controller.core.lists import Page
from controller.store import audit
from releasehand.model import ActorKind, AuditAction, AuditOutcome
from tests.fakes.ledger import Ledger

A = AuditAction
SCHEDULER = Actor("scheduler", ActorKind.CALLER, "192.0.2.7", "request-1")
STRANGER = Actor("", ActorKind.STRANGER, "192.0.2.9")


async def note(ledger: Ledger, action: A = A.START_DEPLOYMENT, actor: Actor = SCHEDULER, **said: str) -> None:
    outcome = AuditOutcome.REFUSED if said else AuditOutcome.ACCEPTED
    entry = AuditEntry(ledger.clock.now(), actor, action, outcome, {"deploy_id": "d-1"}, **said)
    await ledger.store.audit(entry)


async def test_an_entry_comes_back_as_it_was_recorded(ledger: Ledger) -> None:
    names = ("a", "b")
    objects: Objects = {"service": "user", "instances": names, "instance_count": 2}
    entry = AuditEntry(
        ledger.clock.now(),
        SCHEDULER,
        A.START_DEPLOYMENT,
        AuditOutcome.REFUSED,
        objects,
        code="instance_busy",
        message="cannot start",
    )
    await ledger.store.audit(entry)
    [told] = (await ledger.store.list_audit(AuditFilter(), Page())).records
    assert (told.actor, told.actor_kind) == ("scheduler", ActorKind.CALLER)
    assert (told.address, told.request_id) == ("192.0.2.7", "request-1")
    assert (told.action, told.outcome) == (A.START_DEPLOYMENT, AuditOutcome.REFUSED)
    assert (told.code, told.message) == ("instance_busy", "cannot start")
    assert told.objects == {"service": "user", "instances": ["a", "b"], "instance_count": 2}
    assert told.at == ledger.clock.now()


async def test_an_entry_is_undone_with_the_transaction_that_it_is_in(ledger: Ledger) -> None:
    entry = AuditEntry(ledger.clock.now(), SCHEDULER, A.CANCEL_DEPLOYMENT)

    async def fail() -> None:
        async with ledger.connection() as conn:
            await audit.record(conn, entry)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert (await ledger.store.list_audit(AuditFilter(), Page())).total == 0
    async with ledger.connection() as conn:
        await audit.record(conn, entry)
    assert (await ledger.store.list_audit(AuditFilter(), Page())).total == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'somebody'",
        "UPDATE audit SET outcome = 'accepted' WHERE id = 1",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE id = 1",
    ],
)
async def test_what_was_recorded_cannot_be_changed_or_removed(ledger: Ledger, statement: str) -> None:
    await note(ledger)
    await note(ledger, A.CANCEL_DEPLOYMENT)
    before = await ledger.store.list_audit(AuditFilter(), Page())
    with pytest.raises(IntegrityError, match="append-only"):
        async with ledger.connection() as conn:
            await conn.execute(text(statement))
    assert await ledger.store.list_audit(AuditFilter(), Page()) == before


async def test_no_other_way_round_the_triggers_is_open(ledger: Ledger) -> None:
    """SQLite replaces a row without asking its trigger for deletes; PostgreSQL empties whole tables."""
    await note(ledger)
    before = await ledger.store.list_audit(AuditFilter(), Page())
    is_sqlite = ledger.url.startswith("sqlite")
    replace = "INSERT OR REPLACE INTO audit SELECT * FROM audit"
    with pytest.raises(IntegrityError, match="append-only"):
        async with ledger.connection() as conn:
            await conn.execute(text(replace if is_sqlite else "TRUNCATE audit"))
    assert await ledger.store.list_audit(AuditFilter(), Page()) == before


async def test_the_newest_entries_come_first_and_page_by_page(ledger: Ledger) -> None:
    for number in range(5):
        await note(ledger, message=f"{number}")
        ledger.clock.advance(number % 2)  # some at one moment
    first = await ledger.store.list_audit(AuditFilter(), Page(limit=2))
    second = await ledger.store.list_audit(AuditFilter(), Page(limit=2, offset=2))
    assert [record.message for record in first.records + second.records] == ["4", "3", "2", "1"]
    assert (first.total, first.limit, second.offset) == (5, 2, 2)


async def test_filters_let_through_what_they_name(ledger: Ledger) -> None:
    start = ledger.clock.now()
    await note(ledger)
    ledger.clock.advance(10)
    await note(ledger, A.CANCEL_DEPLOYMENT, message="2")
    ledger.clock.advance(10)
    await note(ledger, A.AUTHENTICATE, STRANGER, message="3")

    async def found(wanted: AuditFilter) -> list[str]:
        page = await ledger.store.list_audit(wanted, Page())
        assert page.total == len(page.records)
        return [record.message for record in page.records]

    assert await found(AuditFilter(actor="scheduler")) == ["2", ""]
    assert await found(AuditFilter(action=A.AUTHENTICATE)) == ["3"]
    assert await found(AuditFilter(outcome=AuditOutcome.ACCEPTED)) == [""]
    assert await found(AuditFilter(since=start + timedelta(seconds=10))) == ["3", "2"]
    assert await found(AuditFilter(until=start + timedelta(seconds=10))) == [""]
    assert await found(AuditFilter(actor="scheduler", outcome=AuditOutcome.REFUSED)) == ["2"]


async def test_what_strangers_wrote_is_cut_and_safe_to_show(ledger: Ledger) -> None:
    stranger = Actor("a\nb", ActorKind.STRANGER, "192.0.2.9\x1b[31m")
    objects = {"agent_id": "x" * 9_999, "names": [f"\u202e{n}" for n in range(999)]}
    entry = AuditEntry(
        ledger.clock.now(), stranger, A.JOIN, AuditOutcome.REFUSED, objects, message="\x9b" * 9_999
    )
    await ledger.store.audit(entry)
    [told] = (await ledger.store.list_audit(AuditFilter(), Page())).records
    assert (told.actor, told.address) == (r"a\nb", r"192.0.2.9\x1b[31m")
    assert len(told.objects["agent_id"]) == 256  # type: ignore[arg-type]
    names = told.objects["names"]
    assert isinstance(names, list)
    assert (len(names), names[0]) == (100, r"\u202e0")
    assert told.message == r"\x9b" * 1_000


async def test_no_page_of_the_audit_is_sorted_or_scanned(ledger: Ledger) -> None:
    """Indices hold the order that is asked for; SQLite tells its plans best."""
    if not ledger.url.startswith("sqlite"):
        return
    plan = "EXPLAIN QUERY PLAN SELECT * FROM audit {} ORDER BY at DESC, id DESC LIMIT 9"
    async with ledger.connection() as conn:
        for where in ("", "WHERE actor = 'x'", "WHERE action = 'x'", "WHERE at >= 'x' AND at < 'y'"):
            steps = [row[3] for row in await conn.execute(text(plan.format(where)))]
            assert [step for step in steps if "TEMP B-TREE" in step or "INDEX" not in step] == []
