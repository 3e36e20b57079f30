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
    find_package()
    with Lab(["ctl", "h1", "h2", "h3"]) as lab:
        world = World(lab)
        world.set_up()
        yield world
