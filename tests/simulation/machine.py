"""Anything that can happen to a fleet, in any order: a hypothesis state machine over the simulation."""

from collections import Counter
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack
from typing import Any, ClassVar, Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from controller.core.acceptance import WHOLE
from controller.core.refusals import (
    AlreadyEndedError,
    DeployIdConflictError,
    InstanceBusyError,
    UnknownInstanceError,
    UnknownServiceError,
)
from releasehand.model import (
    NO_RETRIES,
    BatchRollbackParams,
    DeployParams,
    InstanceRollbackParams,
    OperationKind,
)
from tests.simulation.bugs import noticed_bugs
from tests.simulation.fleet import ACTOR, simulated_fleet
from tests.simulation.host import BOUND_S, KINDS, SERVICE, digest_of, url_of
from tests.simulation.invariants import Memory, Promise, find_differences, find_gaps_in_log, find_violations

T = TypeVar("T")

HOSTS: Final = {
    "a": tuple(f"a{number}" for number in range(9)),
    "b": tuple(f"b{number}" for number in range(6)),
    "c": ("c0",),
}
INSTANCES: Final = tuple(name for names in HOSTS.values() for name in names)
TIMEOUTS_S: Final = (5, 20, 60)
ALL_BOUNDS_S: Final = max(TIMEOUTS_S) + 2 * BOUND_S + 30.0
LIES: Final = (
    "another's task",
    "an older generation",
    "a later attempt",
    "no task",
    "no such move",
    "a closed session",
)
HOST_TROUBLES: Final = (
    "agent killed",
    "agent killed in the middle",
    "agent killed in the middle",
    "host lost its power",
    "journal lost",
    "release changed by hand",
    "instance claimed by another agent",
    "agent id stolen",
    "report forged",
    "report forged",
)
CONTROLLER_TROUBLES: Final = (
    "controller stopped",
    "controller killed",
    "killed before a commit",
    "killed after a commit",
    "database away",
    "database slow",
    "answers of commits lost",
)
LINK_TROUBLES: Final = (
    "frames dropped",
    "frames duplicated",
    "frames delayed",
    "good weather",
    "host cut off, half-open",
    "link cut",
    "agent's end lost",
    "controller's end lost",
)
REFUSED: Final = (InstanceBusyError, UnknownInstanceError, UnknownServiceError)

hosts = st.sampled_from(tuple(HOSTS))
some_instances = st.lists(st.sampled_from(INSTANCES), min_size=1, max_size=8, unique=True)
kinds = st.sampled_from(("good",) * 6 + KINDS)
durations = st.sampled_from([0.5, 2.0, 8.0, 8.0, 50.0])
timeouts = st.sampled_from(TIMEOUTS_S)


def _hold(violations: list[str]) -> None:
    if violations:
        raise AssertionError("\n".join(violations))


class FleetMachine(RuleBasedStateMachine):
    """`tally` counts operations, steps and faults by kind, over all runs."""

    tally: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.bugs = self.stack.enter_context(noticed_bugs())
        self.memory = Memory()
        self.number = 0
        self.asked: list[DeployParams] = []
        self.operations: list[tuple[OperationKind, str]] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize(seed=st.integers(0, 2**16))
    def begin(self, seed: int) -> None:
        simulated = simulated_fleet(HOSTS, seed=seed, tally=self.tally)
        self.fleet, self.runner = self.stack.enter_context(simulated)

    # what schedulers ask for

    @rule(
        instances=some_instances,
        kind=kinds,
        timeout_s=timeouts,
        retries=st.sampled_from([NO_RETRIES, 1, 3]),
        digest=st.booleans(),
        together=st.sampled_from([True, False, False]),
    )
    def deploy(
        self, instances: list[str], kind: str, timeout_s: int, retries: int, digest: bool, together: bool
    ) -> None:
        """One deployment of all, or one of each."""
        self._deploy_to(
            [instances] if together else [[name] for name in instances], kind, timeout_s, retries, digest
        )

    @rule(kind=kinds, timeout_s=timeouts, digest=st.booleans(), seconds=st.sampled_from([0.3, 1.0, 2.0, 4.0]))
    def deploy_everywhere(self, kind: str, timeout_s: int, digest: bool, seconds: float) -> None:
        """One deployment of each instance there is, and some time for them."""
        self._deploy_to([[name] for name in INSTANCES], kind, timeout_s, 1, digest)
        self.run(self.fleet.pass_time(seconds))

    @rule(back=st.integers(0, 20), force=st.booleans(), seconds=st.sampled_from([0.3, 2.0, 4.0]))
    def roll_back_everywhere(self, back: int, force: bool, seconds: float) -> None:
        """The same for rollbacks, one half of the instances after the other."""
        for instance in INSTANCES[:: 1 + back % 2]:
            self.roll_back(instance, force, TIMEOUTS_S[1], back)
        self.run(self.fleet.pass_time(seconds))

    def _deploy_to(
        self, targets: list[list[str]], kind: str, timeout_s: int, retries: int, digest: bool
    ) -> None:
        for names in targets:
            self.number += 1
            version = f"v{self.number}-{kind}"
            params = DeployParams(
                service=SERVICE,
                version=version,
                instances=names,
                package_url=url_of(version),
                package_sha256=digest_of(version) if digest else "",
                deploy_id=f"d{self.number}",
                timeout=timeout_s,
                retry_count=retries,
            )
            self.asked.append(params)
            self.run(self._deploy(params))

    @precondition(lambda self: self.asked)
    @rule(pick=st.integers(0, 3), otherwise=st.booleans())
    def deploy_again(self, pick: int, otherwise: bool) -> None:
        """The same call once more: what was accepted is not started twice; what got no answer may be. An id
        that was used, with another body, is refused."""
        params = self.asked[-1 - pick % len(self.asked)]
        if not otherwise:
            self.run(self._deploy(params))
        elif params.deploy_id in self.memory.promises:
            self.run(self._deploy_otherwise(params.model_copy(update={"version": "another"})))

    async def _deploy(self, params: DeployParams) -> None:
        known = params.deploy_id in self.memory.promises
        try:
            accepted = await self.fleet.call(lambda store: store.accept_deployment(params, actor=ACTOR))
        except REFUSED:
            _hold([f"{params.deploy_id} was accepted and is now refused"] if known else [])
            return
        if accepted is not None:
            _hold([f"{params.deploy_id} was accepted twice"] if known and not accepted.repeated else [])
            self._promise(OperationKind.DEPLOYMENT, params.deploy_id, params.instances, accepted.task_ids)

    async def _deploy_otherwise(self, params: DeployParams) -> None:
        told = ""
        try:
            if await self.fleet.call(lambda store: store.accept_deployment(params, actor=ACTOR)) is None:
                return
        except DeployIdConflictError as refusal:
            told = refusal.field
        _hold([] if told == "version" else [f"{params.deploy_id} with another version was answered: {told}"])

    @rule(
        instance=st.sampled_from(INSTANCES), force=st.booleans(), timeout_s=timeouts, back=st.integers(0, 6)
    )
    def roll_back(self, instance: str, force: bool, timeout_s: int, back: int) -> None:
        params = InstanceRollbackParams(
            instance_id=instance, target_version=self._target(back), force=force, timeout=timeout_s
        )
        self.number += 1
        self.run(self._roll_back(params, f"key-{self.number}"))

    async def _roll_back(self, params: InstanceRollbackParams, key: str) -> None:
        """Asked for twice with one key: the second finds what the first has started."""
        found = set()
        for _ in range(2):
            try:
                accepted = await self.fleet.call(
                    lambda store: store.accept_instance_rollback(params, actor=ACTOR, idempotency_key=key)
                )
            except REFUSED:
                return
            if accepted is not None:
                name = accepted.result.rollback_id
                found.add(name)
                self._promise(OperationKind.ROLLBACK, name, [params.instance_id], accepted.task_ids)
        _hold([f"{key} has started {found}"] if len(found) > 1 else [])

    @rule(instances=some_instances, force=st.booleans(), timeout_s=timeouts, back=st.integers(0, 6))
    def roll_back_many(self, instances: list[str], force: bool, timeout_s: int, back: int) -> None:
        params = BatchRollbackParams(
            service=SERVICE,
            instances=instances,
            target_version=self._target(back),
            force=force,
            timeout=timeout_s,
        )
        self.run(self._roll_back_many(params))

    async def _roll_back_many(self, params: BatchRollbackParams) -> None:
        try:
            accepted = await self.fleet.call(
                lambda store: store.accept_batch_rollback(params, actor=ACTOR, idempotency_key=None)
            )
        except REFUSED:
            return
        if accepted is not None:
            name = accepted.result.rollback_id
            self._promise(OperationKind.ROLLBACK, name, params.instances, accepted.task_ids)

    @precondition(lambda self: self.operations)
    @rule(pick=st.integers(0, 5))
    def cancel(self, pick: int) -> None:
        self.run(self._cancel(*self.operations[-1 - pick % len(self.operations)]))

    async def _cancel(self, kind: OperationKind, name: str) -> None:
        try:
            cancelled = await self.fleet.call(lambda store: store.cancel(kind, name, actor=ACTOR))
        except AlreadyEndedError:
            return
        if cancelled is not None:
            self.tally["cancels"] += 1
            self.fleet.controller.wake(cancelled.task_ids)

    def _target(self, back: int) -> str:
        return self.asked[-min(back, len(self.asked))].version if back and self.asked else "previous"

    def _promise(
        self, kind: OperationKind, name: str, instances: Sequence[str], task_ids: Sequence[int]
    ) -> None:
        self.fleet.controller.wake(task_ids)
        if name not in self.memory.promises:
            self.tally["operations"] += 1
            self.memory.promises[name] = Promise(name, tuple(instances))
            self.operations.append((kind, name))

    # time

    @rule(seconds=st.sampled_from([0.3, 1.0, 3.0, 3.0, 8.0, 8.0, 31.0]))
    def pass_time(self, seconds: float) -> None:
        self.run(self.fleet.pass_time(seconds))

    # what goes wrong

    @rule(name=hosts, what=st.sampled_from(HOST_TROUBLES), for_s=durations, pick=st.integers(0, 25))
    def trouble_host(self, name: str, what: str, for_s: float, pick: int) -> None:
        self.run(self._trouble_host(name, what, for_s, pick))

    async def _trouble_host(self, name: str, what: str, for_s: float, pick: int) -> None:
        fleet, host = self.fleet, self.fleet.hosts[name]
        others = [other for other in HOSTS if other != name]
        other = others[pick % len(others)]
        match what:
            case "agent killed" | "host lost its power" | "journal lost" if host.runs:
                await fleet.kill_agent(name, silently="power" in what, down_s=for_s)
                if "journal" in what:
                    host.lose_journal()
                    self.memory.journals_lost.add(name)
            case "agent killed in the middle":
                host.kill_in = 1 + pick
                return  # counted when it happens
            case "release changed by hand":
                if not fleet.change_by_hand(name, HOSTS[name][pick % len(HOSTS[name])], pick):
                    return
            case "instance claimed by another agent":
                await fleet.configure_agent(name, claims=HOSTS[other][:1], goes_by=name, for_s=for_s)
            case "agent id stolen":
                await fleet.configure_agent(name, claims=(), goes_by=other, for_s=for_s)
            case "report forged":
                lie = LIES[pick % len(LIES)]
                if not await fleet.forge(name, lie):
                    return
                what = f"report forged: {lie}"
            case _:
                return
        self.tally[what] += 1

    @rule(what=st.sampled_from(CONTROLLER_TROUBLES), for_s=durations, count=st.integers(1, 12))
    def trouble_controller(self, what: str, for_s: float, count: int) -> None:
        faults, until_s = self.fleet.faults, self.fleet.clock.monotonic() + for_s
        match what:
            case "controller stopped" | "controller killed" if self.fleet.controller.runs:
                gracefully = what == "controller stopped"
                self.run(self.fleet.stop_controller(gracefully=gracefully, down_s=for_s))
            case "killed before a commit" | "killed after a commit":
                faults.die_in, faults.dies_committed = count, "after" in what
                return  # this and the next two are counted when they happen
            case "database away":
                faults.away_until_s = until_s
                return
            case "answers of commits lost":
                faults.lose_answers = count
                return
            case "database slow":
                faults.slow_until_s = until_s
            case _:
                return
        self.tally[what] += 1

    @rule(name=hosts, what=st.sampled_from(LINK_TROUBLES), for_s=durations, chance=st.sampled_from([10, 40]))
    def trouble_link(self, name: str, what: str, for_s: float, chance: int) -> None:
        weather, connection = self.fleet.weather[name], self.fleet.connections.get(name)
        match what:
            case "frames dropped":
                weather.drop = chance
            case "frames duplicated":
                weather.duplicate = chance
            case "frames delayed":
                weather.delay = chance
            case "good weather":
                weather.drop = weather.duplicate = weather.delay = 0
            case "host cut off, half-open" if not weather.away:
                self.fleet.part(name, for_s=for_s)
                self.tally[what] += 1
            case "link cut" | "agent's end lost" | "controller's end lost" if (
                connection and not connection.over
            ):
                self.tally[what] += 1
                if what != "controller's end lost":
                    connection.lose_at_agent()
                if what != "agent's end lost":
                    connection.lose_at_hub()

    # what must hold

    @invariant()
    def all_is_well(self) -> None:
        if hasattr(self, "fleet"):
            self.run(self.fleet.pass_time(0.05))
            self.tally["steps"] += 1
            self._look()

    def _look(self) -> None:
        _hold([*self.bugs, *find_violations(self.fleet, self.memory)])

    def teardown(self) -> None:
        """Once all runs and all links work, everything ends within its bounds and what is recorded is
        true."""
        try:
            if hasattr(self, "fleet"):
                self.run(self._settle())
        finally:
            self.stack.close()

    async def _settle(self) -> None:
        await self.fleet.heal()
        await self.fleet.pass_time(8)
        for connection in list(self.fleet.connections.values()):
            connection.cut()  # who was refused an instance that its owner has left since asks again
        for _ in range(int(ALL_BOUNDS_S / 5)):
            await self.fleet.pass_time(5)
            self._look()
            if not find_differences(self.fleet):
                break
        _hold([*find_differences(self.fleet), *find_gaps_in_log(self.fleet)])
        for kind, name in self.operations[-5:]:
            store = self.fleet.controller.store
            look = store.deploy_status if kind is OperationKind.DEPLOYMENT else store.rollback_status
            progress = (await look(name, WHOLE)).answer.progress
            ended = progress.completed + progress.failed + progress.cancelled
            _hold([] if progress.total == ended and not progress.pending else [f"{name} counts {progress}"])
