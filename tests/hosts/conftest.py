"""One lab for all tests here: booting and installing takes longest."""

from collections.abc import Iterator

import pytest

from .lab import Lab, find_lacks
from .world import World, find_package


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """A controller and three hosts, installed and joined."""
    if lacks := find_lacks():
        pytest.skip(f"this machine cannot boot hosts: it lacks {', '.join(lacks)}")
    package = find_package().read_bytes()
    with Lab(["ctl", "h1", "h2", "h3"]) as lab:
        world = World(lab, package)
        world.set_up()
        yield world


@pytest.fixture(autouse=True)
def _mended(world: World) -> Iterator[None]:
    """A test that failed in the middle of a fault is not to take the next ones with it."""
    yield
    world.mend()


@pytest.fixture(scope="session")
def bad_cable() -> None:
    """For tests whose packets are late, lost, or go one way only."""
    if lacks := find_lacks("cable"):
        pytest.skip(f"this machine has no bad cables: it lacks {', '.join(lacks)}")
