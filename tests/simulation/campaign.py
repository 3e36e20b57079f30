"""Many runs of the machine, until it has carried out enough operations."""

from collections import Counter
from typing import Final

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulation.machine import FleetMachine

RUNS_AT_ONCE: Final = 5
STEPS: Final = 80


def run_campaign(operations: int, *, first_seed: int) -> Counter[str]:
    """What was done, by kind, once at least so many operations were accepted and ended.

    Raises what the first run with a violation raises, with the steps that lead to it and its seed."""
    before, number = Counter(FleetMachine.tally), first_seed
    while FleetMachine.tally["operations"] - before["operations"] < operations:
        profile = settings(
            max_examples=RUNS_AT_ONCE,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        try:
            run_state_machine_as_test(seed(number)(FleetMachine), settings=profile)
        except BaseException as exc:
            exc.add_note(f"campaign with seed {number}")
            raise
        number += 1
    return FleetMachine.tally - before
