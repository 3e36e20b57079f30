"""The whole engine and real agents under anything that can happen, on counted time: a small sample, the same
each time. `make faults` runs the long one; tests/simulation says what is real and what must hold."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

from controller.claimants import EVERY_S
from controller.hub.hub import MIN_RECONNECT_WINDOW_S
from tests.simulation.fleet import Fleet, simulated_fleet
from tests.simulation.invariants import find_differences
from tests.simulation.machine import FleetMachine

TestFleet = pytest.mark.timeout(300)(FleetMachine.TestCase)  # seconds; 10 on an idle machine
TestFleet.settings = settings(
    max_examples=5,
    stateful_step_count=50,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def test_a_refused_instance_is_its_claimant_s_within_seconds_of_its_owner_s_farewell() -> None:
    with simulated_fleet({"a": ("a0", "a1"), "b": ("b0",)}, seed=3, tally=Counter()) as (fleet, runner):
        runner.run(_change_hands_by_configuration_alone(fleet))


async def _change_hands_by_configuration_alone(fleet: Fleet) -> None:
    async def configure(name: str, *instances: str) -> None:
        await fleet.configure_agent(name, claims=(), goes_by=name, for_s=0)
        fleet.hosts[name].instances = instances

    def listed() -> dict[str, str]:
        rows = fleet.query("SELECT instance_id, agent_id FROM instance WHERE retired_at IS NULL")
        return {row["instance_id"]: row["agent_id"] for row in rows}

    await configure("b", "b0", "a1")
    await fleet.pass_time(12)
    assert listed() == {"a0": "a", "a1": "a", "b0": "b"}
    await configure("a", "a0")
    await fleet.pass_time(1 + EVERY_S + MIN_RECONNECT_WINDOW_S + 1)
    assert listed() == {"a0": "a", "a1": "b", "b0": "b"}
    assert find_differences(fleet) == []
