"""Telling what a call would do: one look, nothing is written."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.acceptance import Order
from controller.core.forecast import Candidate, Situation, foresee, foresee_repeat
from releasehand.model import DryRunResult, Presence
from shared.frames import Active, Kept
from shared.source import DOWN, Holding

from . import acceptance
from .tables import AGENT, INSTANCE

_FORESEEN: Final = (
    INSTANCE.c.instance_id,
    INSTANCE.c.service,
    INSTANCE.c.active_release,
    INSTANCE.c.active_version,
    INSTANCE.c.active_sha256,
    INSTANCE.c.releases,
    INSTANCE.c.state,
    INSTANCE.c.broken,
    INSTANCE.c.unknown_task,
    AGENT.c.presence,
)


async def read_forecast(
    conn: AsyncConnection, order: Order, *, caller: str, idempotency_key: str | None, now: datetime
) -> DryRunResult:
    """What accepting `order` would do to each instance.

    Raises what acceptance raises, but for instances that it would be refused for: those are told."""
    if repeated := await acceptance.find_repeated(conn, order, caller, idempotency_key, now):
        return foresee_repeat(order, repeated.operation.service, repeated.operation.operation_id)
    found = await acceptance.find_instances(conn, order, _FORESEEN, lock=False)
    service = order.service or next((row.service for row in found.values()), "")
    held = await acceptance.find_holders(conn, list(found))
    situation = Situation(
        service=service,
        candidates={name: _candidate(row) for name, row in found.items()},
        holders={task.instance_id: acceptance.holder_of(task) for task in held},
        behind={task.instance_id for task in held if task.is_on_host or task.behind is not None},
        targets=await acceptance.find_targets(conn, order, service, list(found)),
    )
    return foresee(order, situation)


def _candidate(row: Row[*tuple[Any, ...]]) -> Candidate:
    active = Active(release=row.active_release, version=row.active_version, sha256=row.active_sha256)
    kept = [Kept.model_validate(one) for one in row.releases]
    holding = Holding(active, kept, broken=row.broken, down=row.state in DOWN)
    return Candidate(holding, Presence(row.presence), outcome_unknown=row.unknown_task is not None)
