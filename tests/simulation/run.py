"""One run of the simulation, as all its rules share it."""

from collections import Counter
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack
from typing import Any, ClassVar, Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize

from controller.core.refusals import InstanceBusyError, UnknownInstanceError, UnknownServiceError
from releasehand.model import DeployParams, OperationKind
from tests.simulation.bugs import noticed_bugs
from tests.simulation.fleet import simulated_fleet
from tests.simulation.host import KINDS
from tests.simulation.invariants import Memory, Promise

T = TypeVar("T")

HOSTS: Final = {
    "a": tuple(f"a{number}" for number in range(9)),
    "b": tuple(f"b{number}" for number in range(6)),
    "c": ("c0",),
}
"""What each has at first: instances may change hands."""
INSTANCES: Final = tuple(name for names in HOSTS.values() for name in names)
TIMEOUTS_S: Final = (5, 20, 60)
REFUSED: Final = (InstanceBusyError, UnknownInstanceError, UnknownServiceError)

some_instances = st.lists(st.sampled_from(INSTANCES), min_size=1, max_size=8, unique=True)
kinds = st.sampled_from(("good",) * 6 + KINDS)
timeouts = st.sampled_from(TIMEOUTS_S)


def hold(violations: list[str]) -> None:
    """Fail with all of them, if there are any."""
    if violations:
        raise AssertionError("\n".join(violations))


class FleetRun(RuleBasedStateMachine):
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

    def promise(
        self, kind: OperationKind, name: str, instances: Sequence[str], task_ids: Sequence[int]
    ) -> None:
        """It was answered: it must end, and be for these instances."""
        self.fleet.controller.wake(task_ids)
        if name not in self.memory.promises:
            self.tally["operations"] += 1
            self.memory.promises[name] = Promise(name, tuple(instances))
            self.operations.append((kind, name))
