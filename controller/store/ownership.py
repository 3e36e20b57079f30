"""Whose an instance is, as people and leaving agents say: retired by hand, given to another agent, or let
go."""

from datetime import datetime
from typing import Any

from sqlalchemy import Update, select, update
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.audit import Actor, AuditEntry
from controller.core.refusals import InstanceBusyError, UnknownAgentError, UnknownInstanceError
from releasehand.model import AuditAction, MoveResult, RetireResult

from . import acceptance, audit, claims, events, moves, tasks
from .tables import AGENT, INSTANCE, TASK


async def retire_by_hand(
    conn: AsyncConnection, instance_id: str, actor: Actor, now: datetime
) -> tuple[RetireResult, moves.Changed]:
    """Retire an instance; of one that is retired, nothing changes but that any agent may have it.

    Raises UnknownInstanceError."""
    row = await _find(conn, instance_id)
    changed = moves.Changed()
    if row.retired_at is None or row.moved_at is not None:
        objects = {"instance_id": instance_id, "service": row.service, "agent_id": row.agent_id}
        await audit.record(conn, AuditEntry(now, actor, AuditAction.RETIRE_INSTANCE, objects=objects))
    if row.retired_at is None:
        changed = await claims.retire(conn, [instance_id], now, why="the instance was retired by hand")
        said = events.of_agent(
            row.agent_id, "instance_retired", now, instance_id=instance_id, message="by hand"
        )
        await events.append(conn, [said])
    elif row.moved_at is not None:
        await conn.execute(_of(instance_id).values(moved_at=None, updated_at=now))
    result = RetireResult(
        instance_id=instance_id,
        service=row.service,
        agent_id=row.agent_id,
        retired_at=row.retired_at or now,
    )
    return result, changed


async def move(
    conn: AsyncConnection, instance_id: str, agent_id: str, actor: Actor, now: datetime
) -> tuple[MoveResult, str]:
    """Make an instance another agent's, and retire it until that one lists it; the agent whose it was.

    Nothing changes for an agent whose it is already. Raises UnknownInstanceError, UnknownAgentError,
    InstanceBusyError."""
    row = await _find(conn, instance_id)
    known = await conn.execute(select(AGENT.c.agent_id).where(AGENT.c.agent_id == agent_id))
    if known.first() is None:
        raise UnknownAgentError(agent_id)
    moved_at = row.moved_at
    if row.agent_id != agent_id:
        of_instance = tasks.select_tasks().where(TASK.c.instance_id == instance_id, tasks.IS_OPEN)
        if held := await tasks.fetch(conn, of_instance.order_by(TASK.c.id.desc())):
            raise InstanceBusyError([acceptance.holder_of(task) for task in held])
        moved_at = now
        values = {
            "agent_id": agent_id,
            "moved_at": now,
            "retired_at": row.retired_at or now,
            "unknown_task": None,
            "updated_at": now,
        }
        await conn.execute(_of(instance_id).values(values))
        said = events.of_agent(
            agent_id, "instance_moved", now, instance_id=instance_id, message=f"from agent '{row.agent_id}'"
        )
        await events.append(conn, [said])
        objects = {"instance_id": instance_id, "service": row.service, "agent_id": agent_id}
        objects |= {"from": row.agent_id}
        await audit.record(conn, AuditEntry(now, actor, AuditAction.MOVE_INSTANCE, objects=objects))
    result = MoveResult(instance_id=instance_id, service=row.service, agent_id=agent_id, moved_at=moved_at)
    return result, row.agent_id


async def release_all(conn: AsyncConnection, agent_id: str, now: datetime) -> tuple[int, moves.Changed]:
    """Retire what the agent has, as it leaves: any agent may have it. How many instances those were."""
    mine = INSTANCE.c.agent_id == agent_id
    listed = select(INSTANCE.c.instance_id).where(mine, INSTANCE.c.retired_at.is_(None))
    names = list((await conn.execute(listed.order_by(INSTANCE.c.instance_id).with_for_update())).scalars())
    changed = await claims.retire(conn, names, now, why="its agent left the controller")
    moved_here = (mine, INSTANCE.c.moved_at.is_not(None))
    await conn.execute(update(INSTANCE).where(*moved_here).values(moved_at=None, updated_at=now))
    said = [
        events.of_agent(agent_id, "instance_retired", now, instance_id=name, message="its agent left")
        for name in names
    ]
    await events.append(conn, said)
    return len(names), changed


async def _find(conn: AsyncConnection, instance_id: str) -> Row[*tuple[Any, ...]]:
    columns = (INSTANCE.c.agent_id, INSTANCE.c.service, INSTANCE.c.retired_at, INSTANCE.c.moved_at)
    statement = select(*columns).where(INSTANCE.c.instance_id == instance_id).with_for_update()
    row = (await conn.execute(statement)).one_or_none()
    if row is None:
        raise UnknownInstanceError([instance_id])
    return row


def _of(instance_id: str) -> Update:
    return update(INSTANCE).where(INSTANCE.c.instance_id == instance_id)
