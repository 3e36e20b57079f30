"""Anything that can happen to a fleet, in any order: a hypothesis state machine over the simulation."""

from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from controller.core.acceptance import WHOLE
from releasehand.model import OperationKind
from tests.simulation.forecasts import Forecasts
from tests.simulation.host import BOUND_S
from tests.simulation.invariants import find_differences, find_gaps_in_log, find_violations
from tests.simulation.orders import Orders
from tests.simulation.owners import Owners
from tests.simulation.run import HOSTS, TIMEOUTS_S, hold

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

hosts = st.sampled_from(tuple(HOSTS))
durations = st.sampled_from([0.5, 2.0, 8.0, 8.0, 50.0])


class FleetMachine(Orders, Forecasts, Owners):
    """Everything at once."""

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
                if not fleet.change_by_hand(name, host.instances[pick % len(host.instances)], pick):
                    return
                self.changed_by_hand.add(host.instances[pick % len(host.instances)])
            case "instance claimed by another agent":
                await fleet.configure_agent(
                    name, claims=fleet.hosts[other].instances[:1], goes_by=name, for_s=for_s
                )
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
        hold([*self.bugs, *find_violations(self.fleet, self.memory), *self.find_wrong_forecasts()])

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
        for name in self.retired_by_hand:  # who still lists it brings it back with its next hello
            self.fleet.cut_links_of_owner(name)
        for _ in range(int(ALL_BOUNDS_S / 5)):
            await self.fleet.pass_time(5)
            self._look()
            if not find_differences(self.fleet):
                break
        hold([*find_differences(self.fleet), *find_gaps_in_log(self.fleet)])
        for kind, name in self.operations[-5:]:
            store = self.fleet.controller.store
            look = store.deploy_status if kind is OperationKind.DEPLOYMENT else store.rollback_status
            progress = (await look(name, WHOLE)).answer.progress
            ended = progress.completed + progress.failed + progress.cancelled
            hold([] if progress.total == ended and not progress.pending else [f"{name} counts {progress}"])
