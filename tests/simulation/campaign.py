"""Many runs of the machine, until it has carried out enough operations:

    .venv/bin/python -m tests.simulation.campaign OPERATIONS FIRST_SEED

prints what was done, by kind, as JSON. With a violation it prints the steps that lead to it, and fails."""

import json
import logging
import sys
from collections import Counter
from typing import Final

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulation.machine import FleetMachine

RUNS_AT_ONCE: Final = 5
FEW_OPERATIONS: Final = 100
STEPS: Final = 80


def run_campaign(operations: int, *, first_seed: int) -> Counter[str]:
    """What was done, by kind, once at least so many operations were accepted and ended.

    Raises what the first run with a violation raises, with the steps that lead to it and its seed."""
    before, number = Counter(FleetMachine.tally), first_seed
    profile = settings(
        max_examples=RUNS_AT_ONCE if operations > FEW_OPERATIONS else 2,  # the first is the simplest there is
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    while FleetMachine.tally["operations"] - before["operations"] < operations:
        try:
            run_state_machine_as_test(seed(number)(FleetMachine), settings=profile)
        except BaseException as exc:
            exc.add_note(f"campaign with seed {number}")
            raise
        number += 1
    return FleetMachine.tally - before


def main() -> None:
    logging.getLogger().addHandler(logging.NullHandler())  # else warnings come out by the thousand
    operations, first_seed = (int(argument) for argument in sys.argv[1:3])
    sys.stdout.write(json.dumps(run_campaign(operations, first_seed=first_seed)))


if __name__ == "__main__":
    main()
