"""The whole engine and real agents under anything that can happen, on counted time: a small sample, the same
each time. `make faults` runs the long one; tests/simulation says what is real and what must hold."""

import pytest
from hypothesis import HealthCheck, settings

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
