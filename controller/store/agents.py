"""Agents: their sessions and their presence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, bindparam, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from releasehand.model import Presence, WaitingFor
from shared.frames import Hello, RefusedInstance, Wanted

from . import claims, events, moves, tasks
from .tables import AGENT, TASK


@dataclass(frozen=True, slots=True)
class Greeting:
    """What the hub answers a `hello` with, and what others have to be told."""

    epoch: int
    acked: int
    wanted: list[Wanted]
    refused: list[RefusedInstance]
    changed: moves.Changed


async def greet(conn: AsyncConnection, hello: Hello, now: datetime) -> Greeting:
    """Open a session: raise its epoch, so that an older one's reports count no more, and take the
    instances."""
    row = (
        await conn.execute(select(AGENT).where(AGENT.c.agent_id == hello.agent_id).with_for_update())
    ).one_or_none()
    epoch = (row.session_epoch if row else 0) + 1
    acked = row.last_n if row and row.incarnation == hello.incarnation else 0
    values = {
        "host": hello.host,
        "version": hello.agent_version,
        "boot_id": hello.boot_id,
        "presence": Presence.ONLINE,
        "session_epoch": epoch,
        "incarnation": hello.incarnation,
        "last_n": acked,
        "facts": hello.metadata,
        "presence_changed_at": now,
        "last_heartbeat_at": now,
    }
    if row is None:
        await conn.execute(
            insert(AGENT).values(agent_id=hello.agent_id, first_seen_at=now, rejected_reports=0, **values)
        )
    else:
        await conn.execute(update(AGENT).where(AGENT.c.agent_id == hello.agent_id).values(values))
    await events.append(
        conn, [events.of_agent(hello.agent_id, "agent_connected", now, message=hello.agent_version)]
    )
    refused, changed = await claims.take(conn, hello, reports_waiting=hello.last_n > acked, now=now)
    open_here = await tasks.fetch(conn, open_of_agents([hello.agent_id]))
    changed.woken += [task.id for task in open_here]
    wanted = [
        Wanted(
            instance_id=task.instance_id,
            generation=task.generation,
            task=task.id,
            attempt=task.attempt,
            cancel=task.cancel_asked_at is not None,
        )
        for task in open_here
        if task.is_on_host
    ]
    return Greeting(epoch, acked, wanted, refused, changed)


def open_of_agents(agent_ids: Sequence[str]) -> Select[Any]:
    """Every open task of these agents."""
    return tasks.select_tasks().where(TASK.c.agent_id.in_(agent_ids), tasks.IS_OPEN).order_by(TASK.c.id)


async def heard(conn: AsyncConnection, heartbeats: Mapping[str, datetime], now: datetime) -> None:
    """Write when each agent was last heard; one that was given up as offline meanwhile is back."""
    if heartbeats:
        statement = (
            update(AGENT)
            .where(AGENT.c.agent_id == bindparam("name"))
            .values(last_heartbeat_at=bindparam("heard_at"))
        )
        await conn.execute(statement, [{"name": name, "heard_at": at} for name, at in heartbeats.items()])
    for piece in tasks.chunks(list(heartbeats)):
        given_up = (AGENT.c.agent_id.in_(piece), AGENT.c.presence == Presence.OFFLINE)
        rows = await conn.execute(select(AGENT.c.agent_id, AGENT.c.session_epoch).where(*given_up))
        await judge(conn, {agent_id: (epoch, Presence.ONLINE) for agent_id, epoch in rows.all()}, now)


async def judge(conn: AsyncConnection, presence: Mapping[str, tuple[int, Presence]], now: datetime) -> None:
    """Record a change of presence, seen by the session with that epoch; an older session's view does not
    count."""
    for agent_id, (epoch, state) in presence.items():
        statement = (
            update(AGENT)
            .where(AGENT.c.agent_id == agent_id, AGENT.c.session_epoch == epoch, AGENT.c.presence != state)
            .values(presence=state, presence_changed_at=now)
        )
        if (await conn.execute(statement)).rowcount:
            await events.append(conn, [events.of_agent(agent_id, f"agent_{state}", now)])


async def forget_presence(conn: AsyncConnection, now: datetime) -> None:
    """At a controller's start nobody is connected: whoever does not come back is found missing by its
    silence. Nor does any task wait for an agent at work until that agent is back."""
    statement = update(AGENT).where(AGENT.c.presence == Presence.ONLINE)
    await conn.execute(statement.values(presence=Presence.SUSPECT, presence_changed_at=now))
    with_agent = update(TASK).where(tasks.IS_OPEN, TASK.c.waiting_for == WaitingFor.AGENT_WORKING)
    await conn.execute(with_agent.values(waiting_for=WaitingFor.AGENT_OFFLINE, updated_at=now))


async def silent_since(conn: AsyncConnection, before: datetime) -> dict[str, tuple[int, Presence]]:
    """Agents not yet recorded as offline that nobody has heard since `before`, as `judge` takes them."""
    silent = (AGENT.c.presence != Presence.OFFLINE, AGENT.c.last_heartbeat_at < before)
    rows = await conn.execute(select(AGENT.c.agent_id, AGENT.c.session_epoch).where(*silent))
    return {agent_id: (epoch, Presence.OFFLINE) for agent_id, epoch in rows}


async def count_by_presence(conn: AsyncConnection) -> dict[Presence, int]:
    rows = await conn.execute(select(AGENT.c.presence, func.count()).group_by(AGENT.c.presence))
    return {Presence(presence): count for presence, count in rows}
