"""Whatever ends a write before its commit leaves nothing of it; after the commit all of it is there.

The points are those at which tests/faults kills the real controller."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controller.core.task import fail
from controller.store import Batch, Store
from controller.store.access_tables import AUDIT
from controller.store.tables import AGENT, EVENT, HISTORY, INSTANCE, OPERATION, SOURCE, TASK
from releasehand.model import FailureCode, RetryFailedParams
from shared.attempt import Outcome
from tests.fakes.databases import Kept
from tests.fakes.keys import KEYRING
from tests.fakes.ledger import ACTOR, FULL, Ledger, ended, listed

TABLES = (AGENT, INSTANCE, OPERATION, TASK, EVENT, HISTORY, SOURCE, AUDIT)


class EndedError(Exception):
    """Raised where the process would be killed."""


async def accept(ledger: Ledger) -> None:
    await ledger.deploy("v3", ["a", "b"], "new")


async def force(ledger: Ledger) -> None:
    await ledger.roll_back("held", "v0", force=True, package_url="https://p.example/v0")


async def cancel(ledger: Ledger) -> None:
    await ledger.cancel("held")


async def retry(ledger: Ledger) -> None:
    await ledger.store.accept_retry("failed", RetryFailedParams(deploy_id="again"), actor=ACTOR)


async def move(ledger: Ledger) -> None:
    [held] = [task for task in await ledger.tasks(range(1, 20)) if task.operation_id == "held"]
    await ledger.store.move([fail(held, FailureCode.AGENT_OFFLINE, "late", ledger.clock.now())])


async def record(ledger: Ledger) -> None:
    [held] = [task for task in await ledger.tasks(range(1, 20)) if task.operation_id == "held"]
    [agent] = [row for row in await ledger.rows(AGENT) if row["agent_id"] == "host-1"]
    moves = _HOSTS[ledger.url].moves(held, FULL)
    _HOSTS[ledger.url].n -= len(moves)
    batch = Batch("host-1", agent["session_epoch"], agent["incarnation"], moves)
    await ledger.store.record([batch], lambda: 0.5)


async def greet(ledger: Ledger) -> None:
    host = _HOSTS[ledger.url]
    host.store = ledger.store
    await host.greet(listed("a", "v9"), listed("b", "v1"), listed("fresh", "v1"))


async def expire(ledger: Ledger) -> None:
    ledger.clock.advance(100_000)
    try:
        await ledger.store.expire()
    finally:
        ledger.clock.advance(-100_000)


async def retire(ledger: Ledger) -> None:
    await ledger.store.retire_instance("held", actor=ACTOR)


async def hand_over(ledger: Ledger) -> None:
    await ledger.store.move_instance("b", "host-2", actor=ACTOR)


async def prune(ledger: Ledger) -> None:
    await ledger.store.prune_events(ledger.clock.now() + timedelta(days=1), 0)


WRITES: dict[str, tuple[str, Callable[[Ledger], Awaitable[None]]]] = {
    "accept": ("accept", accept),
    "force": ("accept", force),
    "cancel": ("cancel", cancel),
    "retry": ("retry", retry),
    "move": ("move", move),
    "record": ("record", record),
    "greet": ("greet", greet),
    "expire": ("expire", expire),
    "retire": ("retire", retire),
    "hand-over": ("hand-over", hand_over),
    "prune": ("prune", prune),
}
_HOSTS: dict[str, Any] = {}


async def prepare(ledger: Ledger) -> None:
    """a and b are free; held is at work; one deployment to b has failed."""
    host = _HOSTS[ledger.url] = await ledger.host("host-1", ["a", "b", "held"], "v1")
    await ledger.host("host-2", ["c"], "v1")
    await ledger.install(host, "v2", "a")
    task = await ledger.start("v2", "b", deploy_id="failed")
    await host.work(task, [Outcome.OK, Outcome.FAILED], ended("v1", FailureCode.SIGNATURE_INVALID))
    await ledger.start("v2", "held", deploy_id="held")


async def snapshot(ledger: Ledger) -> dict[str, list[dict[str, Any]]]:
    rows = {table.name: await ledger.rows(table) for table in TABLES}
    return {name: sorted(table, key=repr) for name, table in rows.items()}


@pytest.mark.parametrize("write", WRITES)
async def test_a_write_that_is_ended_leaves_nothing_or_all(ledger: Ledger, kept: Kept, write: str) -> None:
    name, do = WRITES[write]
    await prepare(ledger)
    armed: list[str] = []

    def checkpoint(point: str) -> None:
        if armed and point == armed[0]:
            armed.clear()
            raise EndedError

    mortal = replace(ledger, store=Store(kept.database, ledger.clock, KEYRING, checkpoint))
    started = await snapshot(ledger)
    try:
        for side in ("begun", "written"):
            armed.append(f"{name}:{side}")
            with pytest.raises(EndedError):
                await do(mortal)
            assert await snapshot(ledger) == started, f"{side}: something is left"
        armed.append(f"{name}:committed")
        with pytest.raises(EndedError):
            await do(mortal)
        assert await snapshot(ledger) != started
    finally:
        del _HOSTS[ledger.url]
