"""A controller that cannot start says why in one line; what it keeps is not for everybody on the machine."""

import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from controller.app import run_controller
from controller.config import ApiSection, ControllerConfig, HubSection
from controller.core.refusals import StoreUnavailableError
from shared.clock import SystemClock

TOKEN = SecretStr("a-token-of-the-scheduler")


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def make_config(database: Path, *, api_port: int = 0, hub_port: int = 0) -> ControllerConfig:
    return ControllerConfig(
        database=f"sqlite:///{database}",
        api=ApiSection(port=api_port, tokens={"scheduler": TOKEN}),
        hub=HubSection(host="127.0.0.1", port=hub_port),
    )


@pytest.mark.parametrize("which", ["api_port", "hub_port"])
async def test_a_taken_port_is_told_as_what_it_is(tmp_path: Path, taken_port: int, which: str) -> None:
    config = make_config(tmp_path / "controller.db", **{which: taken_port})
    with pytest.raises(OSError, match="address already in use"):
        async with run_controller(config, SystemClock()):
            pytest.fail("it started")


async def test_a_folder_that_cannot_be_made_is_told_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = make_config(tmp_path / "file" / "controller.db")
    with pytest.raises(StoreUnavailableError, match=str(tmp_path)):
        async with run_controller(config, SystemClock()):
            pytest.fail("it started")


def modes_in(folder: Path) -> dict[str, int]:
    files = [*folder.glob("controller.db*"), *folder.glob("secrets.key")]
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in files}


async def test_only_its_owner_reads_the_database_and_its_key(tmp_path: Path) -> None:
    async with run_controller(make_config(tmp_path / "controller.db"), SystemClock()):
        modes = modes_in(tmp_path)
    assert {"controller.db-wal", "secrets.key"} <= set(modes)
    assert set(modes.values()) == {0o600}
