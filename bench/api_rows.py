"""The rows that the benchmark of the API asks about."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Table, insert

from controller.core.audit import Actor
from controller.core.enrolment import Term
from controller.sealing import load_keyring
from controller.store import Store, open_store
from controller.store.engine import Database
from controller.store.tables import EVENT, HISTORY, OPERATION, TASK
from releasehand.model import ActorKind
from shared.clock import SystemClock
from shared.frames import Active, Hello, InstanceState

SERVICE: Final = "user"
PER_AGENT: Final = 10
PAST: Final = 1_000_000
"""Entries of the history: half of them of one instance, the others of all."""
OPERATIONS: Final = 100_000
"""Ended within the last day, with one task each."""
_CHUNK: Final = 20_000
_TERM: Final = Term(timedelta(days=30), datetime.max.replace(tzinfo=UTC), "")
_ACTOR: Final = Actor("bench", ActorKind.LOCAL)


async def fill(database: str, instances: int) -> list[str]:
    """Make the rows; returns the names of the instances."""
    store = await open_store(database, SystemClock(), load_keyring(database, None, ()))
    try:
        names = await _list_instances(store, instances)
    finally:
        await store.close()
    await _write(database, HISTORY, _history(names))
    await _write(database, OPERATION, _operations())
    await _write(database, TASK, _tasks(names))
    await _write(database, EVENT, _events(names))
    return names


async def _list_instances(store: Store, count: int) -> list[str]:
    names = [f"i-{number:05}" for number in range(count)]
    live = Active(release="v1-x", version="v1", sha256="a" * 64)
    for at in range(0, count, PER_AGENT):
        instances = [
            InstanceState(instance_id=name, service=SERVICE, active=live)
            for name in names[at : at + PER_AGENT]
        ]
        hello = Hello(
            agent_id=f"host-{at}",
            agent_version="0",
            host=f"host-{at}.example",
            boot_id="b",
            incarnation="i",
            last_n=0,
            instances=instances,
        )
        given = await store.enrol(hello.agent_id, "", _TERM, actor=_ACTOR)
        await store.greet(hello, given.serial, given.key_sha256)
    return names


async def _write(url: str, table: Table, rows: Iterator[dict[str, Any]]) -> None:
    database = Database(url)
    chunk: list[dict[str, Any]] = []
    try:
        for row in rows:
            chunk.append(row)
            if len(chunk) == _CHUNK:
                await _insert(database, table, chunk)
                chunk = []
        await _insert(database, table, chunk)
    finally:
        await database.close()


async def _insert(database: Database, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        async with database.write() as conn:
            await conn.execute(insert(table), rows)


def _history(names: list[str]) -> Iterator[dict[str, Any]]:
    now = SystemClock().now()
    for number in range(PAST):
        yield {
            "instance_id": names[0] if number % 2 else names[number // 2 % len(names)],
            "service": SERVICE,
            "version": f"v{number % 50}",
            "sha256": "a" * 64,
            "action": "deploy",
            "status": "success",
            "operation_id": f"past-{number % OPERATIONS}",
            "at": now - timedelta(seconds=PAST - number),
        }


def _operations() -> Iterator[dict[str, Any]]:
    now = SystemClock().now()
    for number in range(OPERATIONS):
        ended_at = now - timedelta(seconds=80_000 * number / OPERATIONS)
        yield {
            "id": number + 1,
            "kind": "rollback" if number % 10 == 0 else "deployment",
            "operation_id": f"past-{number}",
            "caller": "bench",
            "fingerprint": {},
            "service": SERVICE,
            "version": f"v{number % 50}",
            "rollback_type": "instance" if number % 10 == 0 else None,
            "instance_count": 1,
            "status": "failed" if number % 20 == 0 else "completed",
            "accepted_at": ended_at - timedelta(seconds=5),
            "updated_at": ended_at,
            "ended_at": ended_at,
        }


def _tasks(names: list[str]) -> Iterator[dict[str, Any]]:
    for number, operation in enumerate(_operations()):
        failed = operation["status"] == "failed"
        yield {
            "id": number + 1,
            "operation": number + 1,
            "kind": operation["kind"],
            "operation_id": operation["operation_id"],
            "service": SERVICE,
            "instance_id": names[number % len(names)],
            "agent_id": f"host-{number % len(names) // PER_AGENT * PER_AGENT}",
            "generation": number // len(names) + 1,
            "target_version": operation["version"],
            "package_url": "https://p.example/p.tar.gz",
            "package_sha256": "",
            "source_sha256": "",
            "force": False,
            "accepted_at": operation["accepted_at"],
            "deadline_at": operation["accepted_at"] + timedelta(seconds=300),
            "activation_bound_s": 240.0,
            "status": operation["status"],
            "attempt": 1,
            "phase": "failed" if failed else "done",
            "error_code": "download_failed" if failed else None,
            "error_message": "",
            "retries_left": 3,
            "bytes_done": 0,
            "bytes_total": 0,
            "started_at": operation["accepted_at"],
            "completed_at": operation["ended_at"],
            "updated_at": operation["ended_at"],
            "closes_at": operation["ended_at"],
        }


def _events(names: list[str]) -> Iterator[dict[str, Any]]:
    """What a deployment leaves in the log: its phases and its end."""
    phases = ("queued", "downloading", "verifying", "unpacking", "staged", "activating", "checking")
    for number, operation in enumerate(_operations()):
        about = {
            "operation": number + 1,
            "task": number + 1,
            "instance_id": names[number % len(names)],
            "agent_id": f"host-{number % len(names) // PER_AGENT * PER_AGENT}",
            "generation": number // len(names) + 1,
            "attempt": 1,
            "at": operation["ended_at"],
            "code": "",
            "message": "",
        }
        for phase in phases:
            yield about | {"event": "phase_ended", "phase": phase, "outcome": "ok", "duration_s": 0.5}
        yield about | {"event": "ended", "phase": "", "outcome": operation["status"], "duration_s": 5.0}
