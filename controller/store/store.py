"""The store as the rest of the controller sees it: each method is one look or one transaction."""

import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from sqlalchemy import Table, text
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.checkpoint import Checkpoint, pass_by
from controller.core.acceptance import (
    Accepted,
    Cancelled,
    InstancePage,
    Order,
    order_deployment,
    order_rollback,
    retry_failed,
)
from controller.core.plan import Standing
from controller.core.task import TaskMove, expire
from releasehand.model import (
    BatchRollbackParams,
    BatchRollbackResult,
    CancelResult,
    DeployParams,
    DeployResult,
    DeployStatus,
    DryRunResult,
    InstanceRollbackParams,
    InstanceStatus,
    MoveResult,
    OperationKind,
    Period,
    Presence,
    RetireResult,
    RetryFailedParams,
    RollbackResult,
    RollbackStatus,
    ServiceInstances,
    ServiceVersions,
    Status,
    SystemStats,
    VersionHistory,
)
from shared.clock import Clock
from shared.frames import Heartbeat, Hello

from . import (
    acceptance,
    agents,
    cancellation,
    claims,
    forecast,
    history,
    instances,
    moves,
    operations,
    ownership,
    pruning,
    queue,
    reports,
    stats,
    tasks,
)
from .engine import Database, StaleMoveError, carry_through, make_directory
from .schema import migrate
from .tables import EVENT, HISTORY
from .views import Views

TRIES: Final = 5
EXPIRE_BATCH: Final = 1_000

ResultT = TypeVar("ResultT")


async def open_store(url: str, clock: Clock, *, checkpoint: Checkpoint = pass_by) -> "Store":
    """Connect, bring the schema up to date and make sure that commits are durable. Raises
    StoreUnavailableError."""
    make_directory(url)
    database = Database(url)
    try:
        await migrate(database)
        await database.check()
        store = Store(database, clock, checkpoint)
        await store.forget_presence()
    except BaseException:
        await database.close()
        raise
    return store


class Store(Views):
    """Everything here may raise StoreUnavailableError; a write that raised is undone, or it was committed and
    the answer was lost: every write is safe to repeat, and every call to cancel (it ends first)."""

    def __init__(self, database: Database, clock: Clock, checkpoint: Checkpoint = pass_by) -> None:
        super().__init__(database)
        self._clock, self._checkpoint = clock, checkpoint

    async def close(self) -> None:
        """Let go of the database; running calls end first."""
        await self._database.close()

    async def _write(
        self, change: Callable[[AsyncConnection, datetime], Awaitable[ResultT]], point: str = "write"
    ) -> ResultT:
        """Run `change` in one transaction, again if rows moved under it. `point` names it for checkpoints."""
        for _ in range(TRIES - 1):
            try:
                return await self._write_once(change, point)
            except StaleMoveError:
                continue
        return await self._write_once(change, point)

    async def _write_once(
        self, change: Callable[[AsyncConnection, datetime], Awaitable[ResultT]], point: str
    ) -> ResultT:
        async def write() -> ResultT:
            async with self._database.write() as conn:
                self._checkpoint(f"{point}:begun")
                result = await change(conn, self._clock.now())
                self._checkpoint(f"{point}:written")
            self._checkpoint(f"{point}:committed")
            return result

        return await carry_through(write())

    # what schedulers ask for

    async def accept_deployment(self, params: DeployParams, *, caller: str) -> Accepted[DeployResult]:
        """All of it is recorded on return, or a RefusalError says why none of it is."""
        return _deploy_result(await self._accept(order_deployment(params), caller, None))

    async def accept_retry(
        self, deploy_id: str, params: RetryFailedParams, *, caller: str
    ) -> Accepted[DeployResult]:
        """Deploy again to the instances on which `deploy_id` failed; else as a deployment."""

        async def accept(conn: AsyncConnection, now: datetime) -> acceptance.AcceptedRow:
            wanted = retry_failed(await operations.read_past(conn, deploy_id), params)
            order = order_deployment(wanted)
            return await acceptance.accept(conn, order, caller=caller, idempotency_key=None, now=now)

        return _deploy_result(await self._write(accept, "retry"))

    async def accept_instance_rollback(
        self, params: InstanceRollbackParams, *, caller: str, idempotency_key: str | None
    ) -> Accepted[RollbackResult]:
        """All of it is recorded on return, or a RefusalError says why none of it is."""
        row = await self._accept(order_rollback(params, _new_rollback_id()), caller, idempotency_key)
        result = RollbackResult(instance_id=params.instance_id, **_rollback_fields(row.operation))
        return Accepted(result, row.task_ids, row.repeated, row.changed)

    async def accept_batch_rollback(
        self, params: BatchRollbackParams, *, caller: str, idempotency_key: str | None
    ) -> Accepted[BatchRollbackResult]:
        """All of it is recorded on return, or a RefusalError says why none of it is."""
        row = await self._accept(order_rollback(params, _new_rollback_id()), caller, idempotency_key)
        result = BatchRollbackResult(
            service=row.operation.service,
            instances=params.instances,
            total_instances=row.operation.instance_count,
            **_rollback_fields(row.operation),
        )
        return Accepted(result, row.task_ids, row.repeated, row.changed)

    async def foresee(
        self,
        params: DeployParams | InstanceRollbackParams | BatchRollbackParams,
        *,
        caller: str,
        idempotency_key: str | None = None,
    ) -> DryRunResult:
        """What the call would do; nothing is written. Raises RefusalError where no instance is to blame."""
        order = order_deployment(params) if isinstance(params, DeployParams) else order_rollback(params, "")
        return await self._read(
            lambda conn: forecast.read_forecast(
                conn, order, caller=caller, idempotency_key=idempotency_key, now=self._clock.now()
            )
        )

    async def _accept(self, order: Order, caller: str, idempotency_key: str | None) -> acceptance.AcceptedRow:
        return await self._write(
            lambda conn, now: acceptance.accept(
                conn, order, caller=caller, idempotency_key=idempotency_key, now=now
            ),
            "accept",
        )

    async def cancel(self, kind: OperationKind, operation_id: str, *, caller: str) -> Cancelled:
        """Recorded on return. Raises UnknownOperationError, AlreadyEndedError."""
        status, cancelled_at, task_ids = await self._write(
            lambda conn, now: cancellation.cancel_operation(conn, kind, operation_id, now), "cancel"
        )
        name = "deploy_id" if kind is OperationKind.DEPLOYMENT else "rollback_id"
        return Cancelled(
            CancelResult(**{name: operation_id}, status=status, cancelled_at=cancelled_at), task_ids
        )

    async def deploy_status(self, deploy_id: str, page: InstancePage) -> DeployStatus:
        """Raises UnknownOperationError."""
        return await self._read(lambda conn: operations.read_deployment(conn, deploy_id, page))

    async def rollback_status(self, rollback_id: str, page: InstancePage) -> RollbackStatus:
        """Raises UnknownOperationError."""
        return await self._read(lambda conn: operations.read_rollback(conn, rollback_id, page))

    async def service_versions(self, service: str, *, include_stopped: bool) -> ServiceVersions:
        """Raises UnknownServiceError."""
        return await self._read(
            lambda conn: instances.read_versions(
                conn, service, include_stopped=include_stopped, now=self._clock.now()
            )
        )

    async def service_instances(
        self, service: str, *, status: InstanceStatus | None, version: str, limit: int, offset: int
    ) -> ServiceInstances:
        """Raises UnknownServiceError."""
        return await self._read(
            lambda conn: instances.read_instances(
                conn, service, status=status, version=version, limit=limit, offset=offset
            )
        )

    async def version_history(self, instance_id: str, *, limit: int, offset: int) -> VersionHistory:
        """Raises UnknownInstanceError."""
        return await self._read(lambda conn: history.read(conn, instance_id, limit=limit, offset=offset))

    async def retire_instance(self, instance_id: str) -> tuple[RetireResult, moves.Changed]:
        """Out of lists and figures on return; a repeated call answers the first. Raises
        UnknownInstanceError."""
        return await self._write(lambda conn, now: ownership.retire_by_hand(conn, instance_id, now), "retire")

    async def move_instance(self, instance_id: str, agent_id: str) -> tuple[MoveResult, str]:
        """The new owner's on return; and the agent whose it was. Raises UnknownInstanceError,
        UnknownAgentError, InstanceBusyError."""
        return await self._write(
            lambda conn, now: ownership.move(conn, instance_id, agent_id, now), "hand-over"
        )

    async def system_stats(self, period: Period) -> SystemStats:
        """The figures as of now."""
        return await self._read(lambda conn: stats.read(conn, period, self._clock.now()))

    async def ping(self) -> None:
        """Raises StoreUnavailableError unless the database answers."""
        await self._read(lambda conn: conn.execute(text("SELECT 1")))

    async def skew(self) -> timedelta | None:
        """How far the database's clock is ahead of this store's; None where it has none of its own."""

        async def look(conn: AsyncConnection) -> timedelta | None:
            before = self._clock.now()
            told = await self._database.tell_time(conn)
            if told is None:
                return None
            return told - (before + (self._clock.now() - before) / 2)

        return await self._read(look)

    # what the engine needs

    async def forget_presence(self) -> None:
        """At a controller's start: nobody is connected to it yet."""
        await self._write(agents.forget_presence, "start")

    async def load_tasks(self, ids: Iterable[int]) -> list[Standing]:
        """Tasks with what their plans depend on; unknown ids are left out."""
        return await self._read(lambda conn: queue.load_standing(conn, ids))

    async def due_retries(self, since: datetime) -> list[int]:
        """Tasks whose backoff has ended since then."""
        return await self._read(lambda conn: queue.due_retries(conn, since, self._clock.now()))

    async def open_tasks(self, agent_ids: Sequence[str]) -> list[int]:
        """Every open task of these agents."""
        return await self._read(lambda conn: queue.open_tasks(conn, agent_ids))

    async def missed_tasks(self, agent_ids: Sequence[str]) -> list[int]:
        """Tasks of these agents for which something can be done now: what a lost wake-up or frame left
        behind."""
        return await self._read(lambda conn: queue.missed_tasks(conn, agent_ids, self._clock.now()))

    async def move(self, task_moves: Sequence[TaskMove]) -> moves.Changed:
        """Store all of them or raise StaleMoveError: somebody else moved one, look again. Durable on
        return."""
        changes = [moves.Change(move) for move in task_moves]
        return await self._write_once(lambda conn, now: moves.apply(conn, changes, now), "move")

    async def record(
        self, batches: Sequence[reports.Batch], chance: Callable[[], float], *, refusal: str = ""
    ) -> reports.Recorded:
        """Record reports of many agents together, or reject them all for the reason of a `refusal`.

        Durable on return: they may be acknowledged."""
        return await self._write(
            lambda conn, now: reports.record(conn, batches, now=now, chance=chance, refusal=refusal), "record"
        )

    async def greet(self, hello: Hello) -> agents.Greeting:
        """Open a session for an agent. Durable on return."""
        return await self._write(lambda conn, now: agents.greet(conn, hello, now), "greet")

    async def observe(self, agent_id: str, epoch: int, heartbeat: Heartbeat) -> bool:
        """Record what a heartbeat says of its instances; False if it has to be told again later."""
        return await self._write(
            lambda conn, now: claims.observe(conn, agent_id, epoch, heartbeat, now), "observe"
        )

    async def expire(self) -> moves.Changed:
        """End tasks whose time is over, at most EXPIRE_BATCH of them."""

        async def close(conn: AsyncConnection, now: datetime) -> moves.Changed:
            due = await tasks.fetch(conn, tasks.due_to_close(now, EXPIRE_BATCH).with_for_update())
            changes = [moves.Change(move) for task in due if (move := expire(task, now)) is not None]
            return await moves.apply(conn, changes, now)

        return await self._write(close, "expire")

    async def write_live_state(
        self,
        *,
        heartbeats: Mapping[str, datetime],
        presence: Mapping[str, tuple[int, Presence]],
        progress: Sequence[tuple[int, int, int, int]],
    ) -> None:
        """Write what the links have seen since the last time: who was heard, who fell silent, how many
        bytes."""

        async def write(conn: AsyncConnection, now: datetime) -> None:
            await agents.heard(conn, heartbeats, now)
            await agents.judge(conn, presence, now)
            await tasks.set_bytes(conn, progress)

        await self._write(write, "seen")

    async def find_silent(self, before: datetime) -> dict[str, tuple[int, Presence]]:
        """Agents that nobody has heard since `before` and that are not recorded as offline yet."""
        return await self._read(lambda conn: agents.silent_since(conn, before))

    async def prune_events(self, before: datetime, after: int) -> tuple[int, int | None]:
        """Remove some old events from a place on; how many, and where to go on."""
        found = await self._read(lambda conn: pruning.find_old_events(conn, before, after))
        await self._remove(EVENT, found.doomed)
        return len(found.doomed), found.following

    async def prune_history(self, before: datetime, after: str) -> tuple[int, str | None]:
        """Remove old entries that nothing needs of some instances; how many, and where to go on."""
        found = await self._read(lambda conn: pruning.find_old_history(conn, before, after))
        await self._remove(HISTORY, found.doomed)
        return len(found.doomed), found.following

    async def _remove(self, table: Table, ids: Sequence[int]) -> None:
        """In short transactions."""
        for start in range(0, len(ids), pruning.DELETED_TOGETHER):
            piece = ids[start : start + pruning.DELETED_TOGETHER]
            await self._write(lambda conn, _now, ids=piece: pruning.remove(conn, table, ids), "prune")  # type: ignore[misc]

    async def count_agents(self) -> dict[Presence, int]:
        """How many agents there are in each presence."""
        return await self._read(agents.count_by_presence)


def _new_rollback_id() -> str:
    """Sorts by nothing, guessed by nobody."""
    return f"rollback-{secrets.token_hex(12)}"


def _deploy_result(row: acceptance.AcceptedRow) -> Accepted[DeployResult]:
    result = DeployResult(
        deploy_id=row.operation.operation_id,
        service=row.operation.service,
        version=row.operation.version,
        status=Status(row.operation.status),
        total_instances=row.operation.instance_count,
        started_at=row.operation.accepted_at,
    )
    return Accepted(result, row.task_ids, row.repeated, row.changed)


def _rollback_fields(operation: Row[*tuple[Any, ...]]) -> dict[str, Any]:
    return {
        "rollback_id": operation.operation_id,
        "target_version": operation.version,
        "status": Status(operation.status),
        "started_at": operation.accepted_at,
    }
