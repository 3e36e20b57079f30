"""A real controller on a real PostgreSQL: deployments, a rollback, and both of them killed in between."""

import signal
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from releasehand.model import Phase, Status
from tests.fakes.agent import Script
from tests.fakes.postgres import NoPostgresError, Postgres, run_postgres
from tests.fakes.waiting import until, until_told
from tests.faults.fleet import SERVICE, TOKEN, Fleet, make_agent, new_key, run_fleet
from tests.faults.rounds import Stage
from tests.faults.tally import Tally
from tests.faults.test_controller_points import TIMES, cross

NAMES = [f"i-{number}" for number in range(6)]
_ENDS_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    try:
        with run_postgres() as server:
            yield server
    except NoPostgresError as exc:
        pytest.skip(str(exc))


@pytest.mark.timeout(180)
async def test_a_deployment_and_a_rollback_survive_the_end_of_controller_and_server(
    postgres: Postgres, tmp_path: Path, tally: Tally
) -> None:
    first, second = make_agent("first-host", NAMES[:3]), make_agent("second-host", NAMES[3:])
    async with run_fleet(tmp_path, [first, second], database=postgres.create("fleet")) as fleet:
        second.scripts = [Script(hold=Phase.CHECKING)] * 3
        await _deploy(fleet, "v1")
        await second.until_in(Phase.CHECKING, NAMES[3:])
        fleet.controller.send(signal.SIGKILL)
        await until(lambda: fleet.kills == 1)
        second.go_on()
        await _expect(fleet, "v1", "v1")

        fleet.arm("record:written", 1)
        await _deploy(fleet, "v2")
        await _expect(fleet, "v2", "v2")
        assert fleet.kills == 2

        postgres.crash()
        async with aiohttp.ClientSession() as session:
            assert await _status_of(session, fleet, "/v1/deployment/v2") == 503
            postgres.start()
            await fleet.is_back()
            assert await _status_of(session, fleet, "/v1/service/a%00b/versions") == 400

        fleet.arm("accept:committed", 1)
        body = {"service": SERVICE, "target_version": "previous", "instances": NAMES}
        rollback = await fleet.ask("/v1/rollback/batch", body, new_key())
        await until_told(
            lambda: fleet.rollback(rollback["rollback_id"]),
            lambda status: status.status is Status.COMPLETED,
            within_s=_ENDS_WITHIN_S,
        )
        assert fleet.kills == 3
        assert await fleet.live() == dict.fromkeys(NAMES, "v1")
        assert set(fleet.activations().values()) == {1}
        assert len(fleet.activations()) == 3 * len(NAMES)
    tally.add("controller killed on PostgreSQL", fleet.kills, [])


@pytest.mark.timeout(600)
async def test_a_whole_round_of_work_goes_the_same_way_on_postgresql(
    postgres: Postgres, tmp_path: Path, tally: Tally, all_faults: bool
) -> None:
    """With --all-faults killed at each commit; else once."""
    points = [f"{write}:written" for write in TIMES] if all_faults else ["move:written"]
    stage, wrong = Stage(), []
    url = postgres.create("rounds")
    async with run_fleet(tmp_path, stage.present, away=[stage.away], database=url) as fleet:
        for number, point in enumerate(points):
            wrong += [f"{point}: {line}" for line in await cross(fleet, stage, point, 1, number)]
        assert fleet.kills >= len(points)
        kills = fleet.kills
    tally.add("controller killed on PostgreSQL", kills, wrong)


async def _deploy(fleet: Fleet, version: str) -> None:
    body = {"service": SERVICE, "version": version, "deploy_id": version, "instances": NAMES}
    await fleet.ask("/v1/deployment", body | {"package_url": f"https://packages.test/{version}"})


async def _expect(fleet: Fleet, deploy_id: str, live: str) -> None:
    await until_told(
        lambda: fleet.deployment(deploy_id),
        lambda status: status.status is Status.COMPLETED,
        within_s=_ENDS_WITHIN_S,
    )
    assert await fleet.live() == dict.fromkeys(NAMES, live)


async def _status_of(session: aiohttp.ClientSession, fleet: Fleet, path: str) -> int:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with session.get(f"{fleet.address.api}{path}", headers=headers) as answer:
        return answer.status
