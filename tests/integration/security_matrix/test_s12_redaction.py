"""S12: a secret in the URL of a package is found nowhere again, however its deployment ends."""

import asyncio
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.canary import CANARY, Api, find_in, find_in_files, with_secret
from tests.fakes.origin import run_origin
from tests.fakes.postgres import NoPostgresError, Postgres, run_postgres
from tests.fakes.processes import HERE
from tests.faults.world import API_TOKEN, World, run_world
from tests.integration.security_matrix.presigned import (
    Stage,
    be_killed,
    fail_in_every_way,
    fail_where_keys_are_pinned,
    go_to_and_fro,
    outlive_the_controller,
    refuse,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),  # a shared machine may be slow; each wait inside has its own deadline
]


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    try:
        with run_postgres() as server:
            yield server
    except NoPostgresError as exc:
        pytest.skip(str(exc))


async def test_s12_a_secret_in_a_url_is_found_nowhere_however_the_deployment_ends(tmp_path: Path) -> None:
    folder = _made(tmp_path / "world")
    async with run_world(folder, hosts=4) as world, run_origin(_made(tmp_path / "elsewhere")) as elsewhere:
        stage = _stage(world)
        failing, killed, moved, pinned = world.hosts
        elsewhere_url = with_secret(elsewhere.url("/there.tar.gz"))
        async with asyncio.TaskGroup() as group:
            group.create_task(fail_in_every_way(stage, failing, elsewhere_url))
            group.create_task(fail_where_keys_are_pinned(stage, pinned))
            group.create_task(be_killed(stage, killed))
            group.create_task(go_to_and_fro(stage, moved))
        await outlive_the_controller(stage, killed)
        await refuse(stage, moved)
        await stage.read_everything()
        assert stage.find() == []
        asked = [path for path, _ in [*world.origin.requests, *elsewhere.requests]]
        assert sum(CANARY in path for path in asked) > len(stage.deployments), "the origins need the secret"
    assert find_in_files(folder) == [], "after all has ended"
    assert find_in_files(folder, "/v4.2.tar.gz"), "the rest of a URL is kept"


async def test_s12_a_secret_in_a_url_is_nowhere_in_postgresql(tmp_path: Path, postgres: Postgres) -> None:
    """Neither in its tables nor in its files, which hold what was deleted too, and the log of all changes."""
    async with run_world(tmp_path, hosts=2, database=postgres.create("canary")) as world:
        stage = _stage(world)
        killed, moved = world.hosts
        async with asyncio.TaskGroup() as group:
            group.create_task(be_killed(stage, killed))
            group.create_task(go_to_and_fro(stage, moved))
        await outlive_the_controller(stage, killed)
        await refuse(stage, moved)
        await stage.read_everything()
        assert stage.find() == []
    dump = postgres.dump("canary")
    assert list(find_in(dump)) == []
    assert find_in_files(postgres.folder) == []
    for found in (list(find_in(dump, "/v4.2.tar.gz")), find_in_files(postgres.folder, "/v4.2.tar.gz")):
        assert found, "the rest of a URL is kept"


def _stage(world: World) -> Stage:
    port = tomllib.loads((world.folder / "controller.toml").read_text())["api"]["port"]
    return Stage(world, Api(f"http://{HERE}:{port}", API_TOKEN))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
