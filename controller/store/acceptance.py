"""Accepting an operation: one transaction that takes all of it or none of it, in a handful of statements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, bindparam, insert, select, update
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.acceptance import KEY_KEPT, Order, first_difference
from controller.core.destination import (
    Source,
    Target,
    asks_for_previous,
    asks_for_sources,
    choose_releases,
    choose_targets,
    describe_dead_end,
    first_wait,
)
from controller.core.refusals import (
    DeployIdConflictError,
    Holder,
    IdempotencyKeyConflictError,
    InstanceBusyError,
    UnknownInstanceError,
    UnknownServiceError,
)
from controller.core.task import Event, Task, TaskMove, cancel
from releasehand.model import ENDED, EventKind, FailureCode, OperationKind, Presence, Status
from shared.sealing import Keyring

from . import events, history, moves, operations, queries, sources, tasks
from .operations import OperationName
from .tables import AGENT, INSTANCE, OPERATION, TASK

_NEW: Final = select(TASK.c.id, TASK.c.instance_id, TASK.c.status, TASK.c.behind)
_PLACE_TAKEN = 0
"""What `superseded_by` holds until the task that supersedes has its id."""


@dataclass(frozen=True, slots=True)
class AcceptedRow:
    """The operation as it stands, new or repeated; `changed` names what `force` moved beside it."""

    operation: Row[*tuple[Any, ...]]
    task_ids: list[int]
    repeated: bool
    changed: Sequence[OperationName] = ()


async def find_repeated(
    conn: AsyncConnection, order: Order, caller: str, idempotency_key: str | None, now: datetime
) -> AcceptedRow | None:
    """The operation that the same call has made before; None if there is none, or none within KEY_KEPT.

    Raises DeployIdConflictError or IdempotencyKeyConflictError if that call was another one."""
    if order.kind is OperationKind.DEPLOYMENT:
        same = (OPERATION.c.kind == order.kind) & (OPERATION.c.operation_id == order.operation_id)
    elif idempotency_key is not None:
        same = _of_key(caller, idempotency_key) & (OPERATION.c.accepted_at > now - KEY_KEPT)
    else:
        return None
    row = (await conn.execute(select(OPERATION).where(same))).one_or_none()
    if row is None:
        return None
    if row.rollback_type != order.rollback_type:
        raise IdempotencyKeyConflictError("", row.rollback_type)
    field = first_difference(row.fingerprint, order.fingerprint)
    if field is None:
        return AcceptedRow(row, [], repeated=True)
    if order.kind is OperationKind.DEPLOYMENT:
        raise DeployIdConflictError(order.operation_id, field)
    raise IdempotencyKeyConflictError(field)


def _of_key(caller: str, idempotency_key: str) -> ColumnElement[bool]:
    return (OPERATION.c.caller == caller) & (OPERATION.c.idempotency_key == idempotency_key)


async def accept(
    conn: AsyncConnection,
    order: Order,
    *,
    caller: str,
    idempotency_key: str | None,
    now: datetime,
    keyring: Keyring,
) -> AcceptedRow:
    """Insert the operation and its tasks and raise each instance's generation, or raise a RefusalError.

    With `force`, open tasks of the instances are superseded and asked to cancel in the same transaction."""
    if repeated := await find_repeated(conn, order, caller, idempotency_key, now):
        return repeated
    instances = await _find_all(conn, order)
    held = await find_holders(conn, order.instances)
    if held and not order.force:
        raise InstanceBusyError([holder_of(task) for task in held])
    service = order.service or next(iter(instances.values())).service
    if idempotency_key is not None:  # what is still found by it was accepted too long ago
        await conn.execute(
            update(OPERATION).where(_of_key(caller, idempotency_key)).values(idempotency_key=None)
        )
    operation = await _insert_operation(conn, order, service, caller, idempotency_key, now)
    behind, changed = await _supersede(conn, held, now)
    await _raise_generations(conn, order.instances)
    if order.query:
        order = replace(order, query_row=await queries.keep(conn, order.package_url, order.query, keyring))
    targets = await find_targets(conn, order, service, order.instances)
    rows = [
        _task_row(order, service, operation, instances[name], targets.get(name), behind.get(name), now)
        for name in order.instances
    ]
    await conn.execute(insert(TASK), rows)
    new = list(await conn.execute(_NEW.where(TASK.c.operation == operation).order_by(TASK.c.id)))
    await _name_successors(conn, held, new)
    accepted = events.of_operation(
        operation, EventKind.ACCEPTED, now, message=f"{order.kind} of {service} {order.version}"
    )
    await events.append(conn, [accepted])
    await events.append_of_operation(conn, operation, EventKind.ACCEPTED, now)
    if any(task.status in ENDED for task in new):
        await _settle_stillborn(conn, operation, now)
    row = (await conn.execute(select(OPERATION).where(OPERATION.c.id == operation))).one()
    superseded = [task.id for task in held]
    started = [task.id for task in new if task.status not in ENDED]
    return AcceptedRow(row, started + superseded, repeated=False, changed=changed)


_ACCEPTED: Final = (
    INSTANCE.c.instance_id,
    INSTANCE.c.agent_id,
    INSTANCE.c.service,
    INSTANCE.c.generation,
    (INSTANCE.c.activate_timeout_s + INSTANCE.c.revert_timeout_s).label("activation_bound_s"),
    AGENT.c.presence,
)


async def find_instances(
    conn: AsyncConnection, order: Order, columns: Sequence[Any] = _ACCEPTED, *, lock: bool = True
) -> dict[str, Row[*tuple[Any, ...]]]:
    """The rows of the instances that an order names, by name; unknown, foreign and retired ones are left
    out. Raises UnknownServiceError."""
    listed = select(*columns).join(AGENT, AGENT.c.agent_id == INSTANCE.c.agent_id)
    found: dict[str, Row[*tuple[Any, ...]]] = {}
    for piece in tasks.chunks(order.instances):
        statement = listed.where(INSTANCE.c.instance_id.in_(piece), INSTANCE.c.retired_at.is_(None))
        for row in await conn.execute(statement.with_for_update(of=INSTANCE) if lock else statement):
            if order.service in ("", row.service):
                found[row.instance_id] = row
    if order.service and not found and not await service_exists(conn, order.service):
        raise UnknownServiceError(order.service)
    return found


async def _find_all(conn: AsyncConnection, order: Order) -> dict[str, Row[*tuple[Any, ...]]]:
    """Raises UnknownServiceError, or UnknownInstanceError naming every missing one."""
    found = await find_instances(conn, order)
    if missing := [name for name in order.instances if name not in found]:
        raise UnknownInstanceError(missing, order.service)
    return found


async def service_exists(conn: AsyncConnection, service: str) -> bool:
    """Whether any agent lists an instance of `service`."""
    of_service = select(INSTANCE.c.instance_id).where(
        INSTANCE.c.service == service, INSTANCE.c.retired_at.is_(None)
    )
    return (await conn.execute(of_service.limit(1))).first() is not None


def holder_of(task: Task) -> Holder:
    return Holder(task.instance_id, task.kind, task.operation_id)


async def find_holders(conn: AsyncConnection, instance_ids: Sequence[str]) -> list[Task]:
    """The open tasks that hold any of these instances, one for each."""
    held: list[Task] = []
    for piece in tasks.chunks(instance_ids):
        holding = (TASK.c.instance_id.in_(piece), tasks.IS_OPEN, TASK.c.superseded_by.is_(None))
        held += await tasks.fetch(conn, tasks.select_tasks().where(*holding).order_by(TASK.c.instance_id))
    return held


async def _insert_operation(
    conn: AsyncConnection, order: Order, service: str, caller: str, idempotency_key: str | None, now: datetime
) -> int:
    values = {
        "kind": order.kind,
        "operation_id": order.operation_id,
        "caller": caller,
        "idempotency_key": idempotency_key,
        "fingerprint": order.fingerprint,
        "service": service,
        "version": order.version,
        "rollback_type": order.rollback_type,
        "instance_count": len(order.instances),
        "status": Status.PENDING,
        "accepted_at": now,
        "updated_at": now,
    }
    key: int = (await conn.execute(insert(OPERATION).values(values).returning(OPERATION.c.id))).scalar_one()
    return key


async def _raise_generations(conn: AsyncConnection, instance_ids: Sequence[str]) -> None:
    for piece in tasks.chunks(instance_ids):
        await conn.execute(
            update(INSTANCE)
            .where(INSTANCE.c.instance_id.in_(piece))
            .values(generation=INSTANCE.c.generation + 1)
        )


async def _supersede(
    conn: AsyncConnection, held: Sequence[Task], now: datetime
) -> tuple[dict[str, int], list[OperationName]]:
    """Ask the holders for their end. By instance: the task whose end the new one has to wait for; and the
    operations that moved."""
    changes = []
    behind: dict[str, int] = {}
    for task in held:
        asked = cancel(task, now) or TaskMove(task, task, Event.ADVANCED)
        after = replace(asked.after, superseded_by=_PLACE_TAKEN)
        changes.append(moves.Change(replace(asked, after=after)))
        if after.is_open:
            behind[task.instance_id] = task.id
        elif task.behind is not None:
            behind[task.instance_id] = task.behind  # it never ran: what it waited for may still run
    return behind, (await moves.apply(conn, changes, now)).operations


async def _settle_stillborn(conn: AsyncConnection, operation: int, now: datetime) -> None:
    """Tasks that failed as they were accepted move no more: if there are no others, the operation has
    ended."""
    failed = (TASK.c.operation == operation, TASK.c.status == Status.FAILED)
    stillborn = await tasks.fetch(conn, tasks.select_tasks().where(*failed))
    ends = [TaskMove(task, task, Event.FAILED, task.error_message) for task in stillborn]
    await events.append(conn, [row for end in ends for row in events.of_move(end, None, now, {})])
    await operations.settle(conn, [operation], now)


async def _name_successors(
    conn: AsyncConnection, held: Sequence[Task], new: Sequence[Row[*tuple[Any, ...]]]
) -> None:
    """Also on what the held ones waited for in their turn: its end now sets the new task going."""
    if held:
        successor = {task.instance_id: task.id for task in new}
        statement = update(TASK).where(TASK.c.id == bindparam("old")).values(superseded_by=bindparam("new"))
        rows = [{"old": task.id, "new": successor[task.instance_id]} for task in held]
        rows += [{"old": task.behind, "new": task.id} for task in new if task.behind is not None]
        await conn.execute(statement, rows)


async def find_targets(
    conn: AsyncConnection, order: Order, service: str, names: Sequence[str]
) -> dict[str, Target]:
    """Where each instance finds its release. One that `previous` leads nowhere is left out."""
    previous = await history.previous_of(conn, service, names) if asks_for_previous(order) else {}
    releases = choose_releases(order, previous)
    recorded: Mapping[str, Source] = {}
    if asks_for_sources(order):
        recorded = await sources.recorded(conn, service, {release.version for release in releases.values()})
    return choose_targets(order, releases, recorded)


def _task_row(
    order: Order,
    service: str,
    operation: int,
    instance: Row[*tuple[Any, ...]],
    target: Target | None,
    behind: int | None,
    now: datetime,
) -> dict[str, Any]:
    deadline_at = now + timedelta(seconds=order.timeout_s)
    row = {
        "operation": operation,
        "kind": order.kind,
        "operation_id": order.operation_id,
        "service": service,
        "instance_id": instance.instance_id,
        "agent_id": instance.agent_id,
        "generation": instance.generation + 1,
        "target_version": target.version if target else order.version,
        "package_url": target.package_url if target else "",
        "url_query": target.query_row if target else None,
        "package_sha256": target.package_sha256 if target else "",
        "source_sha256": target.source_sha256 if target else "",
        "force": order.force,
        "accepted_at": now,
        "deadline_at": deadline_at,
        "activation_bound_s": instance.activation_bound_s,
        "status": Status.PENDING,
        "attempt": 0,
        "waiting_for": first_wait(Presence(instance.presence), behind=behind is not None),
        "error_code": None,
        "error_message": "",
        "retries_left": order.retries,
        "bytes_done": 0,
        "bytes_total": 0,
        "completed_at": None,
        "updated_at": now,
        "closes_at": deadline_at,
        "behind": behind,
    }
    if target is None:
        row |= {
            "status": Status.FAILED,
            "waiting_for": None,
            "error_code": FailureCode.NO_SOURCE,
            "error_message": describe_dead_end(instance.instance_id),
            "completed_at": now,
        }
    return row
