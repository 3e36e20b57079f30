"""Recording what agents report: many agents' reports in one transaction."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.report import Applied, Late, Rejected, apply
from controller.core.task import Task
from releasehand.model import FailureCode
from shared.frames import Move

from . import events, moves, tasks
from .tables import AGENT, INSTANCE

CLOSED_SESSION: Final = "closed_session"
OUT_OF_ORDER: Final = "out_of_order"


@dataclass(frozen=True, slots=True)
class Batch:
    """What one session has received and nobody has recorded yet, in order."""

    agent_id: str
    epoch: int
    incarnation: str
    reports: Sequence[Move]


@dataclass(slots=True)
class Recorded:
    """By agent and epoch, the number up to which reports are now recorded; what others have to be told; and
    how many reports were dropped, by why: of a closed session, or out of their order."""

    acks: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    rejected: list[tuple[str, str]] = field(default_factory=list)  # agent and reason
    changed: moves.Changed = field(default_factory=moves.Changed)
    dropped: Counter[str] = field(default_factory=Counter)


async def record(
    conn: AsyncConnection,
    batches: Iterable[Batch],
    *,
    now: datetime,
    chance: Callable[[], float],
    refusal: str = "",
) -> Recorded:
    """Apply reports in order. One that parses but cannot apply is logged as rejected and never blocks its
    batch; one of a session that is not its agent's newest is dropped without an answer, for the newest will
    get it again. With a `refusal`, everything is rejected for that reason."""
    batches = list(batches)
    recorded = Recorded()
    positions = await _positions(conn, [batch.agent_id for batch in batches])
    rows = await tasks.load(conn, {report.task for batch in batches for report in batch.reports})
    strayed = await _strayed(conn, rows.values())
    changes: list[moves.Change] = []
    for batch in batches:
        epoch, incarnation, last_n = positions.get(batch.agent_id, (0, "", 0))
        if (batch.epoch, batch.incarnation) != (epoch, incarnation):
            recorded.dropped[CLOSED_SESSION] += len(batch.reports)
            continue
        for report in batch.reports:
            if report.n != last_n + 1:
                recorded.dropped[OUT_OF_ORDER] += 1
                continue  # a copy, or behind a gap: it is sent again
            last_n = report.n
            if refusal:
                recorded.rejected.append((batch.agent_id, refusal))
                continue
            if report.task in strayed:
                recorded.rejected.append((batch.agent_id, f"the instance of task {report.task} was moved"))
                continue
            _apply_one(batch.agent_id, report, rows, changes, recorded, now, chance())
        positions[batch.agent_id] = (epoch, incarnation, last_n)
        recorded.acks[batch.agent_id, epoch] = (incarnation, last_n)
    recorded.changed = await moves.apply(conn, changes, now)
    await _store_positions(conn, recorded, now)
    return recorded


def _apply_one(
    agent_id: str,
    report: Move,
    rows: dict[int, Task],
    changes: list[moves.Change],
    recorded: Recorded,
    now: datetime,
    chance: float,
) -> None:
    match apply(rows.get(report.task), report, agent_id=agent_id, now=now, chance=chance):
        case Applied(move=move):
            changes.append(moves.Change(move, report))
            rows[report.task] = move.after
        case Late(move=move):
            changes.append(moves.Change(move, report, late=True))
            rows[report.task] = move.after
        case Rejected(reason=reason):
            recorded.rejected.append((agent_id, reason))


async def _strayed(conn: AsyncConnection, rows: Iterable[Task]) -> set[int]:
    """Tasks whose truth came too late: their instances have other owners by now, and no longer are what these
    hosts have."""
    unknown = [task for task in rows if task.error_code is FailureCode.OUTCOME_UNKNOWN]
    owners: dict[str, str] = {}
    for piece in tasks.chunks([task.instance_id for task in unknown]):
        statement = select(INSTANCE.c.instance_id, INSTANCE.c.agent_id)
        for row in await conn.execute(statement.where(INSTANCE.c.instance_id.in_(piece))):
            owners[row.instance_id] = row.agent_id
    return {task.id for task in unknown if owners[task.instance_id] != task.agent_id}


async def _positions(conn: AsyncConnection, agent_ids: Sequence[str]) -> dict[str, tuple[int, str, int]]:
    found: dict[str, tuple[int, str, int]] = {}
    for piece in tasks.chunks(sorted(set(agent_ids))):
        columns = (AGENT.c.agent_id, AGENT.c.session_epoch, AGENT.c.incarnation, AGENT.c.last_n)
        statement = select(*columns).where(AGENT.c.agent_id.in_(piece)).with_for_update()
        for agent_id, epoch, incarnation, last_n in await conn.execute(statement):
            found[agent_id] = (epoch, incarnation, last_n)
    return found


async def _store_positions(conn: AsyncConnection, recorded: Recorded, now: datetime) -> None:
    if recorded.acks:
        statement = (
            update(AGENT).where(AGENT.c.agent_id == bindparam("name")).values(last_n=bindparam("upto"))
        )
        await conn.execute(
            statement, [{"name": agent, "upto": upto} for (agent, _), (_, upto) in recorded.acks.items()]
        )
    if recorded.rejected:
        counts: dict[str, int] = {}
        for agent_id, _ in recorded.rejected:
            counts[agent_id] = counts.get(agent_id, 0) + 1
        more = AGENT.c.rejected_reports + bindparam("more")
        statement = update(AGENT).where(AGENT.c.agent_id == bindparam("name")).values(rejected_reports=more)
        await conn.execute(statement, [{"name": name, "more": count} for name, count in counts.items()])
        log = [
            events.of_agent(agent_id, "report_rejected", now, message=why)
            for agent_id, why in recorded.rejected
        ]
        await events.append(conn, log)
