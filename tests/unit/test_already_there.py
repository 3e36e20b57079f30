"""What «already active» needs beside the same release: a service that runs."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from releasehand.model.status import Phase, TaskResult
from tests.fakes.host import Host, deploy, digest_of, rollback


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    async with Host(tmp_path).boot() as host:
        yield host


async def test_a_service_that_died_is_started_again_from_the_release_it_has(host: Host) -> None:
    await host.carry_out(deploy("v1", 1))
    for again in (deploy("v1", 2), deploy("v1", 3, sha256=digest_of("v1")), rollback("v1", 4)):
        await host.service.stop()
        end = await host.carry_out(again)
        assert end.end is not None
        assert (end.entered, end.end.result) == (Phase.DONE, TaskResult.KEPT)
        assert host.service.running == host.current


async def test_a_service_that_died_and_does_not_come_up_is_no_success(host: Host) -> None:
    await host.carry_out(deploy("v1", 1))
    await host.service.stop()
    host.check.sick = lambda _: True
    end = await host.carry_out(deploy("v1", 2))
    assert end.entered is Phase.BROKEN
    assert end.end is not None
    assert end.end.active.version == "v1"
