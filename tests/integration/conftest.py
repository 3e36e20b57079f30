"""The controller that most of these tests begin with."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from releasehand.client import Client
from tests.fakes.clock import FakeClock
from tests.fakes.controller import RunningController, running_controller


@pytest.fixture
def clock() -> FakeClock:
    """It stands still: what happens without its being moved needs no timer."""
    return FakeClock()


@pytest.fixture
async def controller(tmp_path: Path, clock: FakeClock) -> AsyncIterator[RunningController]:
    async with running_controller(tmp_path, clock) as controller:
        yield controller


@pytest.fixture
async def client(controller: RunningController) -> AsyncIterator[Client]:
    async with controller.client() as client:
        yield client
