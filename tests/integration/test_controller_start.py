"""A controller that cannot start says why in one line; what it keeps is not for everybody on the machine."""

import socket
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from controller.__main__ import app
from controller.app import run_controller
from controller.config import ApiSection, ControllerConfig, HubSection
from controller.core.refusals import StoreUnavailableError
from shared.clock import SystemClock

UNIT = Path(__file__).parents[2] / "systemd/releasehand-controller.service"
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


def test_tables_of_a_newer_release_end_it_for_good_and_it_says_what_to_do(tmp_path: Path) -> None:
    """The code is one that its unit does not start it again after."""
    with closing(sqlite3.connect(tmp_path / "controller.db")) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        database.execute("INSERT INTO alembic_version VALUES ('9999')")
    config = tmp_path / "controller.toml"
    config.write_text(
        f'database = "sqlite:///{tmp_path}/controller.db"\n[pki]\ndirectory = "{tmp_path}/pki"\n'
    )
    ended = CliRunner().invoke(app, ["serve", "--config", str(config)])
    assert ended.exit_code == 2, ended.output
    assert f"RestartPreventExitStatus={ended.exit_code}\n" in UNIT.read_text()
    assert "it has schema 9999 of a newer release; install that release, or " in ended.output
    assert "the copy from before the upgrade" in ended.output


def modes_in(folder: Path) -> dict[str, int]:
    files = [*folder.glob("controller.db*"), *folder.glob("secrets.key")]
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in files}


async def test_only_its_owner_reads_the_database_and_its_key(tmp_path: Path) -> None:
    async with run_controller(make_config(tmp_path / "controller.db"), SystemClock()):
        modes = modes_in(tmp_path)
    assert {"controller.db-wal", "secrets.key"} <= set(modes)
    assert set(modes.values()) == {0o600}
