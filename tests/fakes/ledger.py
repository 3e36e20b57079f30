"""A real store on a clock that a test moves, with short ways to play a scheduler, a dispatcher and hosts."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Engine, Select, Table, event, select
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.acceptance import WHOLE, Accepted
from controller.core.audit import Actor
from controller.core.enrolment import Term
from controller.core.plan import SendAgain, SendCancel, Start, Surroundings, Wait, plan
from controller.core.task import Task
from controller.store import Batch, Changed, Greeting, Recorded, Store, open_store
from controller.store.engine import Database
from releasehand.model import (
    ActorKind,
    BatchRollbackParams,
    BatchRollbackResult,
    DeployParams,
    DeployResult,
    DeployStatus,
    FailureCode,
    InstanceRollbackParams,
    OperationKind,
    RollbackResult,
    ServiceState,
    TaskResult,
    TaskStatus,
)
from shared.attempt import TERMINAL, TRANSITIONS, Outcome
from shared.frames import Active, AttemptEnd, Hello, InstanceState, Kept, Move
from shared.sealing import Keyring
from tests.fakes.clock import FakeClock
from tests.fakes.keys import KEYRING

CALLER = "scheduler"
ACTOR = Actor(CALLER, ActorKind.CALLER, "192.0.2.7", "request-1")
FULL = [Outcome.OK] * 7
"""Every phase of an attempt that downloads, to its good end."""


def url_of(version: str) -> str:
    return f"https://packages.example.com/user/{version}.tar.gz"


def digest_of(version: str) -> str:
    """Sixty-four digits that differ from version to version."""
    return version.encode().hex().ljust(64, "0")[:64] if version else ""


def live(version: str) -> Active:
    return Active(release=f"{version}-x", version=version, sha256=digest_of(version)) if version else Active()


def listed(instance_id: str, version: str = "", *, service: str = "user", **said: Any) -> InstanceState:
    """An instance as its host lists it in `hello`."""
    values: dict[str, Any] = {"port": 8080, "active": live(version), "state": ServiceState.RUNNING} | said
    return InstanceState(instance_id=instance_id, service=service, **values)


NO_KEY: Final = ""


async def enrol(store: Store, agent_id: str, key_sha256: str = NO_KEY) -> str:
    """The serial of a certificate that an agent was given for this key."""
    term = Term(timedelta(days=30), datetime.max.replace(tzinfo=UTC), "")
    return (await store.enrol(agent_id, key_sha256, term, actor=Actor("tests", ActorKind.LOCAL))).serial


@dataclass
class Host:
    """An agent as the store sees it: one numbered outbox over many sessions."""

    store: Store
    clock: FakeClock
    agent_id: str
    incarnation: str = "inc-1"
    epoch: int = 0
    n: int = 0
    instances: list[InstanceState] = field(default_factory=list)
    serial: str = ""

    async def greet(self, *instances: InstanceState, last_n: int | None = None) -> Greeting:
        """Say hello; the instances of the last time are listed again if none are given."""
        self.instances = list(instances) or self.instances
        self.serial = self.serial or await enrol(self.store, self.agent_id)
        greeting = await self.store.greet(
            Hello(
                agent_id=self.agent_id,
                agent_version="0.1.0",
                host=f"{self.agent_id}.example",
                boot_id="boot-1",
                incarnation=self.incarnation,
                last_n=self.n if last_n is None else last_n,
                instances=self.instances,
            ),
            self.serial,
            NO_KEY,
        )
        self.epoch = greeting.epoch
        return greeting

    def moves(
        self, task: Task, outcomes: Sequence[Outcome], end: AttemptEnd | None = None, **said: Any
    ) -> list[Move]:
        """The reports of an attempt that was accepted and then left its phases by `outcomes`."""
        path: list[tuple[Any, Outcome, Any]] = [(None, Outcome.OK, "queued")]
        for outcome in outcomes:
            phase = path[-1][2]
            path.append((phase, outcome, TRANSITIONS[phase, outcome]))
        moves = []
        for left, outcome, entered in path:
            self.n += 1
            moves.append(
                Move(
                    n=self.n,
                    instance_id=task.instance_id,
                    generation=task.generation,
                    task=task.id,
                    attempt=task.attempt,
                    at=self.clock.now(),
                    left=left,
                    outcome=outcome,
                    entered=entered,
                    duration_s=1.5,
                    end=(end or ended(task.target_version)) if entered in TERMINAL else None,
                ).model_copy(update=said)
            )
        return moves

    async def tell(self, moves: Sequence[Move], **said: Any) -> Recorded:
        """Send reports on the present session."""
        batch = Batch(self.agent_id, self.epoch, self.incarnation, moves)
        return await self.store.record([replace(batch, **said)], lambda: 0.5)

    async def work(
        self, task: Task, outcomes: Sequence[Outcome] = FULL, end: AttemptEnd | None = None
    ) -> Recorded:
        """Report an attempt from its acceptance on."""
        return await self.tell(self.moves(task, outcomes, end))


def ended(
    version: str, code: FailureCode | None = None, result: TaskResult = TaskResult.DOWNLOADED, **said: Any
) -> AttemptEnd:
    """`version` is live after the attempt."""
    values: dict[str, Any] = {
        "code": code,
        "message": "because" if code else "",
        "result": None if code else result,
        "active": live(version),
        "releases": [Kept(release=f"{version}-x", version=version, sha256=digest_of(version), good=True)],
        "sha256": "" if code else digest_of(version),
    }
    return AttemptEnd(**(values | said))


@dataclass
class Ledger:
    """The store under test. `beside` is the same database, for what a test looks up or changes by itself."""

    store: Store
    clock: FakeClock
    url: str
    beside: Database

    async def host(
        self, agent_id: str, instances: Iterable[str], version: str = "", *, service: str = "user"
    ) -> Host:
        """A connected host whose instances all run `version`."""
        host = Host(self.store, self.clock, agent_id)
        await host.greet(*(listed(name, version, service=service) for name in instances))
        return host

    async def deploy(
        self, version: str, instances: Sequence[str], deploy_id: str = "", **said: Any
    ) -> Accepted[DeployResult]:
        return await self.store.accept_deployment(
            deployment(version, instances, deploy_id, **said), actor=ACTOR
        )

    async def roll_back(
        self, instance_id: str, version: str, key: str | None = None, **said: Any
    ) -> Accepted[RollbackResult]:
        params = InstanceRollbackParams(instance_id=instance_id, target_version=version, **said)
        return await self.store.accept_instance_rollback(params, actor=ACTOR, idempotency_key=key)

    async def roll_back_batch(
        self, version: str, instances: Sequence[str], key: str | None = None, **said: Any
    ) -> Accepted[BatchRollbackResult]:
        values = {"service": "user"} | said
        params = BatchRollbackParams(target_version=version, instances=list(instances), **values)
        return await self.store.accept_batch_rollback(params, actor=ACTOR, idempotency_key=key)

    async def dispatch(self, task_ids: Iterable[int], *, connected: bool = True) -> list[Task]:
        """What the dispatcher would do; the tasks afterwards."""
        ids = list(task_ids)
        moves = []
        for standing in await self.store.load_tasks(ids):
            around = Surroundings(connected, standing.predecessor_open, standing.outcome_unknown)
            match plan(standing.task, around, self.clock.now()):
                case Start(move=move):
                    moves.append(move)
                case Wait(move=noted) | SendAgain(move=noted):
                    moves += [noted] if noted else []
                case SendCancel():
                    pass
        await self.store.move(moves)
        return await self.tasks(ids)

    async def start(self, version: str, instance_id: str, **said: Any) -> Task:
        """A deployment to one instance whose attempt is on its host."""
        accepted = await self.deploy(version, [instance_id], **said)
        [task] = await self.dispatch(accepted.task_ids)
        return task

    async def install(self, host: Host, version: str, instance_id: str) -> Task:
        """Deploy and have it come true."""
        task = await self.start(version, instance_id)
        await host.work(task)
        return await self.task(task.id)

    async def tasks(self, task_ids: Iterable[int]) -> list[Task]:
        return [standing.task for standing in await self.store.load_tasks(task_ids)]

    async def task(self, task_id: int) -> Task:
        [task] = await self.tasks([task_id])
        return task

    async def status(self, deploy_id: str) -> DeployStatus:
        return (await self.store.deploy_status(deploy_id, WHOLE)).read()

    async def instance(self, deploy_id: str, instance_id: str) -> TaskStatus:
        status = await self.status(deploy_id)
        return next(one for one in status.instances if one.instance_id == instance_id)

    async def cancel(self, deploy_id: str) -> Any:
        return await self.store.cancel(OperationKind.DEPLOYMENT, deploy_id, actor=ACTOR)

    async def expire_after(self, seconds: float) -> Changed:
        self.clock.advance(seconds)
        return await self.store.expire()

    async def history(self, instance_id: str) -> list[tuple[str, str, str]]:
        """Version, action and status, oldest first."""
        entries = (await self.store.version_history(instance_id, limit=1000, offset=0)).history
        return [(entry.version, entry.action.value, entry.status.value) for entry in reversed(entries)]

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """A transaction of a test's own, committed at the end."""
        async with self.beside.write() as conn:
            yield conn

    async def rows(self, what: Table | Select[Any]) -> list[dict[str, Any]]:
        """Rows as they stand, read over a connection of their own; those of a table by its primary key, for
        PostgreSQL puts new rows where old ones were removed."""
        async with self.beside.read() as conn:
            statement = select(what).order_by(*what.primary_key) if isinstance(what, Table) else what
            return [dict(row) for row in (await conn.execute(statement)).mappings()]


def deployment(version: str, instances: Sequence[str], deploy_id: str = "", **said: Any) -> DeployParams:
    values = {
        "service": "user",
        "package_url": url_of(version),
        "deploy_id": deploy_id or f"d-{version}",
    } | said
    return DeployParams(version=version, instances=list(instances), **values)


@asynccontextmanager
async def open_ledger(
    url: str, clock: FakeClock | None = None, *, keyring: Keyring = KEYRING
) -> AsyncIterator[Ledger]:
    """A ledger on the database at `url`, which is kept."""
    clock = clock or FakeClock()
    store, beside = await open_store(url, clock, keyring), Database(url)
    try:
        yield Ledger(store, clock, url, beside)
    finally:
        await beside.close()
        await store.close()


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    """Every statement that is sent to any database meanwhile, with its parameters; one for an executemany."""
    seen: list[tuple[str, Any]] = []

    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        seen.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)
