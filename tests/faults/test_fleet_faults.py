"""Ten thousand operations over a simulated fleet to which everything happens at once."""

import pytest

from tests.faults.tally import Tally
from tests.simulation.campaign import run_campaign

OPERATIONS = 10_000
SAMPLE = 30
FIRST_SEED = 1_000


@pytest.mark.timeout(5_400)
def test_whatever_happens_every_operation_ends_in_time_and_tells_the_truth(
    tally: Tally, all_faults: bool
) -> None:
    violations: list[str] = []
    try:
        done = run_campaign(OPERATIONS if all_faults else SAMPLE, first_seed=FIRST_SEED)
    except AssertionError as exc:
        violations = [str(exc), *getattr(exc, "__notes__", ())]
        tally.add("fleet simulated", 1, violations)
        return
    operations, steps = done.pop("operations"), done.pop("steps")
    tally.note(f"simulated fleet: {operations} operations in {steps} steps, {len(violations)} violations")
    for kind, count in done.items():
        tally.count(f"simulated: {kind}", count, [])
    assert operations >= SAMPLE
