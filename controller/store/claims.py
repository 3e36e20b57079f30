"""The instances that agents list: who owns them, what their hosts say of them, and when they are retired."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import bindparam, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.presence import Claims, Known, is_drift, settle_claims, would_get
from controller.core.task import fail
from releasehand.model import FailureCode, HistoryAction, Status
from shared.frames import Active, Heartbeat, Hello, InstanceState, RefusedInstance

from . import events, history, moves, tasks
from .tables import AGENT, INSTANCE, TASK

_DESCRIBED: Final = (
    "agent_id",
    "service",
    "port",
    "active_release",
    "active_version",
    "active_sha256",
    "state",
    "reason",
    "broken",
    "releases",
    "activate_timeout_s",
    "revert_timeout_s",
    "facts",
    "unknown_task",
    "retired_at",
    "moved_at",
    "updated_at",
)
AT_WORK: Final = or_(
    INSTANCE.c.unknown_task.is_not(None),
    select(TASK.c.id)
    .where(TASK.c.instance_id == INSTANCE.c.instance_id, tasks.IS_OPEN, TASK.c.status == Status.IN_PROGRESS)
    .exists(),
)
"""A task of ours may be changing what is live on the instance."""
_KNOWN: Final = select(
    INSTANCE.c.instance_id,
    INSTANCE.c.agent_id,
    INSTANCE.c.service,
    INSTANCE.c.active_version,
    INSTANCE.c.active_sha256,
    INSTANCE.c.retired_at.is_not(None),
    AT_WORK,
    INSTANCE.c.moved_at.is_not(None),
)
"""The fields of Known."""
_OF_NAME: Final = INSTANCE.c.instance_id == bindparam("name")


async def take(
    conn: AsyncConnection, hello: Hello, *, reports_waiting: bool, now: datetime
) -> tuple[list[RefusedInstance], moves.Changed]:
    """Record what a host says of its instances; refuse those of other agents; retire those it lists no
    more."""
    known = await _known(conn, hello.agent_id, [state.instance_id for state in hello.instances])
    claims = settle_claims(hello.agent_id, hello.instances, known, reports_waiting=reports_waiting)
    fresh = [state for state in claims.new if state.instance_id not in known]
    returned = [state for state in claims.new if state.instance_id in known]
    await _insert(conn, hello.agent_id, fresh, now)
    await _describe(conn, hello.agent_id, [*returned, *claims.kept], now)
    await _expect_what_is_live(conn, returned)
    await _raise_generations(conn, [*returned, *claims.kept])
    drifted = [(state.instance_id, state.service, state.active) for state in claims.drifted]
    adopted = [
        (state.instance_id, state.service, state.active) for state in claims.new if state.active.version
    ]
    await _enter_history(conn, adopted, HistoryAction.ADOPT, now)
    await _enter_history(conn, drifted, HistoryAction.DRIFT, now)
    await events.append(conn, _log(hello.agent_id, claims, now))
    return claims.refused, await retire(conn, claims.gone, now)


async def observe(
    conn: AsyncConnection, agent_id: str, epoch: int, heartbeat: Heartbeat, now: datetime
) -> bool:
    """Record what a heartbeat says of the agent's instances. A live version that no task explains is drift.

    False, and nothing is recorded, unless it was written just where the recorded reports stand: before or
    after that, what is live is explained by a report that is not here yet or was recorded since."""
    position = select(AGENT.c.session_epoch, AGENT.c.last_n).where(AGENT.c.agent_id == agent_id)
    row = (await conn.execute(position.with_for_update())).one_or_none()
    if row is None or tuple(row) != (epoch, heartbeat.last_n):
        return False
    known = await _known(conn, agent_id, [])
    mine = [p for p in heartbeat.instances if (k := known.get(p.instance_id)) is not None and not k.retired]
    if not mine:
        return True
    columns = ("active_release", "active_version", "active_sha256", "state", "reason", "updated_at")
    rows = [
        {"name": p.instance_id, "to_state": p.state, "to_reason": p.reason, "to_updated_at": now}
        | _active(p.active)
        for p in mine
    ]
    values: dict[str, Any] = {column: bindparam(f"to_{column}") for column in columns}
    await conn.execute(update(INSTANCE).where(_OF_NAME).values(values), rows)
    kept = [
        {"name": p.instance_id, "to_releases": [one.model_dump(mode="json") for one in p.releases]}
        for p in mine
        if p.releases is not None
    ]
    if kept:
        await conn.execute(update(INSTANCE).where(_OF_NAME).values(releases=bindparam("to_releases")), kept)
    drifted = [
        (p.instance_id, known[p.instance_id].service, p.active)
        for p in mine
        if is_drift(known[p.instance_id], p.active)
    ]
    await _enter_history(conn, drifted, HistoryAction.DRIFT, now)
    found = [
        events.of_agent(agent_id, "drift_found", now, instance_id=name, message=active.version)
        for name, _, active in drifted
    ]
    await events.append(conn, found)
    return True


async def retire(
    conn: AsyncConnection,
    instance_ids: Sequence[str],
    now: datetime,
    why: str = "its agent no longer lists this instance",
) -> moves.Changed:
    """Take instances out of lists and figures; their history stays, their open tasks fail
    `instance_retired`, and what of them is on a host is named to be stopped there."""
    changed = moves.Changed()
    for piece in tasks.chunks(instance_ids):
        of_piece = INSTANCE.c.instance_id.in_(piece)
        await conn.execute(
            update(INSTANCE).where(of_piece).values(retired_at=now, updated_at=now, unknown_task=None)
        )
        held = tasks.select_tasks().where(TASK.c.instance_id.in_(piece), tasks.IS_OPEN)
        open_tasks = await tasks.fetch(conn, held.with_for_update())
        ended = [moves.Change(fail(task, FailureCode.INSTANCE_RETIRED, why, now)) for task in open_tasks]
        changed.add(await moves.apply(conn, ended, now))
        changed.dropped += [task for task in open_tasks if task.is_on_host]
    return changed


async def find_claimants(conn: AsyncConnection, refused: Mapping[str, Collection[str]]) -> list[str]:
    """Of agents, each with instances that it was refused, those that would be given one of them now."""
    known: dict[str, Known] = {}
    for piece in tasks.chunks(sorted({name for names in refused.values() for name in names})):
        for row in await conn.execute(_KNOWN.where(INSTANCE.c.instance_id.in_(piece))):
            known[row.instance_id] = Known(*row)
    return [
        agent_id
        for agent_id, names in refused.items()
        if any(would_get(known[name], agent_id) for name in names if name in known)
    ]


async def _known(conn: AsyncConnection, agent_id: str, listed: Sequence[str]) -> dict[str, Known]:
    """What is recorded of the listed ids, whoever owns them, and of the agent's own."""
    found: dict[str, Known] = {}
    for piece in list(tasks.chunks(listed)) or [[]]:
        mine = or_(INSTANCE.c.agent_id == agent_id, INSTANCE.c.instance_id.in_(piece))
        for row in await conn.execute(_KNOWN.where(mine).with_for_update(of=INSTANCE)):
            found[row.instance_id] = Known(*row)
    return found


def _active(active: Active) -> dict[str, Any]:
    return {
        "to_active_release": active.release,
        "to_active_version": active.version,
        "to_active_sha256": active.sha256,
    }


def _described(agent_id: str, state: InstanceState, now: datetime) -> dict[str, Any]:
    return {
        "agent_id": agent_id,
        "service": state.service,
        "port": state.port,
        "active_release": state.active.release,
        "active_version": state.active.version,
        "active_sha256": state.active.sha256,
        "state": state.state,
        "reason": state.reason,
        "broken": state.broken,
        "releases": [kept.model_dump(mode="json") for kept in state.releases],
        "activate_timeout_s": state.activate_timeout_s,
        "revert_timeout_s": state.revert_timeout_s,
        "facts": state.metadata,
        "unknown_task": None,
        "retired_at": None,
        "moved_at": None,
        "updated_at": now,
    }


async def _insert(
    conn: AsyncConnection, agent_id: str, states: Sequence[InstanceState], now: datetime
) -> None:
    if states:
        rows = [
            _described(agent_id, state, now)
            | {
                "instance_id": state.instance_id,
                "generation": state.generation,
                "expected_version": state.active.version,
                "expected_sha256": state.active.sha256,
            }
            for state in states
        ]
        await conn.execute(insert(INSTANCE), rows)


async def _describe(
    conn: AsyncConnection, agent_id: str, states: Sequence[InstanceState], now: datetime
) -> None:
    if states:
        values: dict[str, Any] = {column: bindparam(f"to_{column}") for column in _DESCRIBED}
        rows = [
            {"name": state.instance_id}
            | {f"to_{key}": value for key, value in _described(agent_id, state, now).items()}
            for state in states
        ]
        await conn.execute(update(INSTANCE).where(_OF_NAME).values(values), rows)


async def _expect_what_is_live(conn: AsyncConnection, states: Sequence[InstanceState]) -> None:
    if states:
        values: dict[str, Any] = {
            "expected_version": bindparam("version"),
            "expected_sha256": bindparam("sha256"),
        }
        rows = [
            {"name": s.instance_id, "version": s.active.version, "sha256": s.active.sha256} for s in states
        ]
        await conn.execute(update(INSTANCE).where(_OF_NAME).values(values), rows)


async def _raise_generations(conn: AsyncConnection, states: Iterable[InstanceState]) -> None:
    """A controller that came back with an older database must not number below what its hosts have
    accepted."""
    rows = [{"name": state.instance_id, "at_least": state.generation} for state in states if state.generation]
    if rows:
        behind = INSTANCE.c.generation < bindparam("at_least")
        await conn.execute(
            update(INSTANCE).where(_OF_NAME, behind).values(generation=bindparam("at_least")), rows
        )


async def _enter_history(
    conn: AsyncConnection, live: Sequence[tuple[str, str, Active]], action: HistoryAction, now: datetime
) -> None:
    entries = [
        history.of_change(name, service, active.version, active.sha256, action, now)
        for name, service, active in live
    ]
    await history.append(conn, entries)


def _log(agent_id: str, claims: Claims, now: datetime) -> list[dict[str, Any]]:
    def each(event: str, told: Mapping[str, str]) -> list[dict[str, Any]]:
        return [
            events.of_agent(agent_id, event, now, instance_id=name, message=text)
            for name, text in told.items()
        ]

    return [
        *each("instance_adopted", {state.instance_id: state.active.version for state in claims.new}),
        *each("drift_found", {state.instance_id: state.active.version for state in claims.drifted}),
        *each("claim_refused", {refused.instance_id: refused.reason for refused in claims.refused}),
        *each("instance_retired", dict.fromkeys(claims.gone, "its agent no longer lists it")),
    ]
