"""One instance's attempts over real disks and a real journal: what is done, left and reported."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.errors import DownloadFailedError
from releasehand.model.codes import FailureCode
from releasehand.model.status import Phase, TaskResult
from shared.frames import Move, Ref
from tests.fakes.host import Host, assert_lawful, deploy, digest_of, ref_of, rollback, url_of

pytestmark = pytest.mark.slow


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    async with Host(tmp_path).boot() as host:
        yield host


def phases(moves: list[Move], ref: Ref) -> list[Phase]:
    return [
        move.entered for move in moves if (move.generation, move.attempt) == (ref.generation, ref.attempt)
    ]


async def test_a_deployment_passes_every_phase_and_is_live(host: Host) -> None:
    end = await host.carry_out(deploy("v1", 1))
    moves = await host.moves()
    assert_lawful(moves)
    assert phases(moves, ref_of(1)) == [
        Phase.QUEUED,
        Phase.DOWNLOADING,
        Phase.VERIFYING,
        Phase.UNPACKING,
        Phase.STAGED,
        Phase.ACTIVATING,
        Phase.CHECKING,
        Phase.DONE,
    ]
    assert host.live_version == "v1"
    assert host.service.running == host.current
    assert end.end is not None
    assert end.end.result is TaskResult.DOWNLOADED
    assert end.end.active.version == "v1"
    assert end.end.sha256 == digest_of("v1")
    assert [(one.version, one.good) for one in end.end.releases] == [("v1", True)]
    assert host.left_over() == []


async def test_the_same_release_again_restarts_nothing(host: Host) -> None:
    await host.carry_out(deploy("v1", 1))
    restarts = list(host.service.restarts)
    with_digest = await host.carry_out(deploy("v1", 2, sha256=digest_of("v1")))
    without = await host.carry_out(deploy("v1", 3))
    assert [one.end.result for one in (with_digest, without) if one.end] == [TaskResult.ALREADY_ACTIVE] * 2
    assert without.left is Phase.VERIFYING
    assert len(host.fetcher.fetched) == 2  # the one without a digest had to look
    assert host.service.restarts == restarts
    assert host.left_over() == []


async def test_the_same_version_with_other_bytes_is_a_new_release(host: Host) -> None:
    await host.carry_out(deploy("v1", 1))
    first = host.current
    host.fetcher.packages[url_of("v1")] = host.fetcher.packages[url_of("v2")]
    end = await host.carry_out(deploy("v1", 2))
    assert end.entered is Phase.DONE
    assert host.current != first
    assert host.live_version == "v2"


async def test_a_rollback_takes_the_kept_release_and_no_network(host: Host) -> None:
    await host.carry_out(deploy("v1", 1))
    await host.carry_out(deploy("v2", 2))
    fetched = list(host.fetcher.fetched)
    end = await host.carry_out(rollback("v1", 3))
    assert end.end is not None
    assert end.end.result is TaskResult.KEPT
    assert host.live_version == "v1"
    assert host.fetcher.fetched == fetched


async def test_a_rollback_without_any_source_fails_and_leaves_the_host_alone(host: Host) -> None:
    await host.carry_out(deploy("v1", 1))
    end = await host.carry_out(rollback("v0", 2))
    assert end.end is not None
    assert end.end.code is FailureCode.NO_SOURCE
    assert end.end.message.endswith("v1 is still live")
    assert host.live_version == "v1"


async def test_a_forced_rollback_installs_the_active_version_again(host: Host) -> None:
    await host.carry_out(deploy("v1", 1))
    before = host.current
    end = await host.carry_out(rollback("v1", 2, url=url_of("v1"), force=True))
    assert end.entered is Phase.DONE
    assert host.current != before
    assert host.live_version == "v1"


async def test_a_release_that_does_not_come_up_is_taken_back_and_marked(host: Host) -> None:
    await host.carry_out(deploy("v1", 1))
    host.check.sick = lambda version: version == "v2"
    end = await host.carry_out(deploy("v2", 2))
    assert_lawful(await host.moves())
    assert end.entered is Phase.REVERTED
    assert end.end is not None
    assert end.end.code is FailureCode.CHECK_FAILED
    assert "v1 is live again" in end.end.message
    assert {one.version: one.good for one in end.end.releases} == {"v1": True, "v2": False}
    assert host.live_version == "v1"
    assert host.service.running == host.current
    again = await host.carry_out(rollback("v2", 3))
    assert again.end is not None
    assert again.end.code is FailureCode.NO_SOURCE  # a bad release is no source


async def test_a_first_release_that_does_not_come_up_leaves_nothing_running(host: Host) -> None:
    host.service.refuse = lambda _: True
    end = await host.carry_out(deploy("v1", 1))
    assert end.entered is Phase.REVERTED
    assert host.current == ""
    assert host.service.running is None


async def test_a_service_that_the_agent_may_not_touch_stays_and_no_release_is_blamed(host: Host) -> None:
    await host.carry_out(deploy("v1", 1))
    host.service.is_ours = False
    end = await host.carry_out(deploy("v2", 2))
    assert (end.entered, host.live_version, host.service.running) == (Phase.REVERTED, "v1", host.current)
    assert end.end is not None
    assert end.end.code is FailureCode.ACTIVATION_FAILED
    assert {one.version: one.good for one in end.end.releases} == {"v1": True, "v2": None}
    assert not end.end.broken
    assert len(host.service.restarts) == 1


async def test_a_first_release_of_a_service_that_the_agent_may_not_touch_leaves_nothing(host: Host) -> None:
    host.service.is_ours = False
    end = await host.carry_out(deploy("v1", 1))
    assert (end.entered, host.current, host.service.restarts) == (Phase.REVERTED, "", [])


async def test_an_instance_whose_revert_fails_is_broken_until_a_deployment_works(host: Host) -> None:
    await host.carry_out(deploy("v1", 1))
    host.check.sick = lambda _: True
    end = await host.carry_out(deploy("v2", 2))
    assert end.entered is Phase.BROKEN
    assert end.end is not None
    assert end.end.code is FailureCode.REVERT_FAILED
    [state] = await host.executor.states()
    assert state.broken
    assert "a person must look" in state.reason
    host.check.sick = lambda _: False
    mended = await host.carry_out(rollback("v1", 3))
    assert mended.end is not None
    assert mended.end.result is TaskResult.KEPT  # v1 is linked, but not to be relied on
    [state] = await host.executor.states()
    assert not state.broken
    assert state.reason == ""


async def test_a_failed_download_leaves_the_host_alone(host: Host) -> None:
    await host.carry_out(deploy("v1", 1))
    host.fetcher.packages[url_of("v2")] = DownloadFailedError("https://packages.example.com/v2.tar.gz", "cut")
    end = await host.carry_out(deploy("v2", 2))
    assert end.end is not None
    assert end.end.code is FailureCode.DOWNLOAD_FAILED
    assert "secret" not in end.model_dump_json()
    assert host.live_version == "v1"
    assert host.left_over() == []


async def test_a_wrong_digest_is_refused_before_unpacking(host: Host) -> None:
    end = await host.carry_out(deploy("v1", 1, sha256=digest_of("v2")))
    assert end.left is Phase.VERIFYING
    assert end.end is not None
    assert end.end.code is FailureCode.DIGEST_MISMATCH
    assert list((host.root / "releases").iterdir()) == []


async def test_a_budget_that_ends_in_the_download_ends_the_attempt(host: Host) -> None:
    host.fetcher.gate.clear()
    await host.executor.execute(deploy("v1", 1, seconds_left=10))
    await host.fetcher.entered.wait()
    host.clock.advance(10)
    end = await host.wait_for_end(ref_of(1))
    assert end.end is not None
    assert end.end.code is FailureCode.TIMEOUT
    assert host.left_over() == []


async def test_activation_is_not_entered_without_budget(host: Host) -> None:
    host.checkpoint = lambda name: host.clock.advance(11) if name == "committed" else None
    end = await host.carry_out(deploy("v1", 1, seconds_left=10))
    assert end.end is not None
    assert end.end.code is FailureCode.TIMEOUT
    assert end.entered is Phase.FAILED
    assert host.current == ""


async def test_an_activation_that_takes_too_long_is_taken_back(host: Host) -> None:
    await host.carry_out(deploy("v1", 1))
    host.check.gate.clear()
    host.check.entered.clear()
    await host.executor.execute(deploy("v2", 2))
    await host.check.entered.wait()
    host.check.entered.clear()
    host.clock.advance(120)
    await host.check.entered.wait()  # that of the revert
    host.check.gate.set()
    end = await host.wait_for_end(ref_of(2))
    assert end.entered is Phase.REVERTED
    assert end.end is not None
    assert end.end.code is FailureCode.CHECK_FAILED
    assert "within 120 s; last answer: asked for v2" in end.end.message
    assert host.live_version == "v1"


async def test_a_revert_that_takes_too_long_breaks_the_instance(host: Host) -> None:
    await host.carry_out(deploy("v1", 1))
    host.check.sick = lambda version: version == "v2"
    host.checkpoint = lambda name: host.check.gate.clear() if name == "reverting:entered" else None
    host.check.entered.clear()
    await host.executor.execute(deploy("v2", 2))
    while "v2" not in host.check.checked:
        await host.check.entered.wait()
        host.check.entered.clear()
        await asyncio.wait_for(_until_checked(host), 5)
    await host.check.entered.wait()
    host.clock.advance(120)
    end = await host.wait_for_end(ref_of(2))
    assert end.entered is Phase.BROKEN


async def _until_checked(host: Host) -> None:
    while "v2" not in host.check.checked:
        host.news.clear()
        await host.news.wait()


async def test_a_link_that_somebody_else_changed_stops_an_attempt_before_it_switches(host: Host) -> None:
    await host.carry_out(deploy("v1", 1))
    (host.root / "current").unlink()
    (host.root / "current").symlink_to("/somewhere/else")
    end = await host.carry_out(deploy("v2", 2))
    assert end.entered is Phase.FAILED
    assert end.end is not None
    assert end.end.code is FailureCode.HOST_ERROR
    assert (host.root / "current").readlink() == Path("/somewhere/else")


@pytest.mark.parametrize(
    "changes", [{"version": "../../etc"}, {"version": "current"}, {"sha256": "xyz"}, {"service": "other"}]
)
async def test_a_command_that_fits_no_instance_here_touches_nothing(
    host: Host, changes: dict[str, str]
) -> None:
    end = await host.carry_out(deploy("v1", 1).model_copy(update=changes))
    assert end.end is not None
    assert end.end.code is FailureCode.HOST_ERROR
    assert host.fetcher.fetched == []
    assert list((host.root / "releases").iterdir()) == []


async def test_a_root_that_cannot_be_used_keeps_no_agent_from_starting(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.root.write_text("somebody put a file here")
    async with host.boot():
        [state] = await host.executor.states()
        assert "cannot use" in state.reason
        end = await host.carry_out(deploy("v1", 1))
        assert end.end is not None
        assert end.end.code is FailureCode.HOST_ERROR
        assert "what is live cannot be told" in end.end.message
    host.root.unlink()
    async with host.boot():
        assert (await host.carry_out(deploy("v1", 2))).entered is Phase.DONE


async def test_a_root_that_was_removed_is_made_again(host: Host) -> None:
    await host.carry_out(deploy("v1", 1))
    shutil.rmtree(host.root)
    end = await host.carry_out(deploy("v1", 2))
    assert end.entered is Phase.DONE
    assert host.live_version == "v1"


async def test_releases_found_by_a_new_journal_are_adopted(tmp_path: Path) -> None:
    host = Host(tmp_path)
    async with host.boot():
        await host.carry_out(deploy("v1", 1))
        await host.carry_out(deploy("v2", 2))
    for name in ("agent.db", "agent.db-wal", "agent.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    async with host.boot():
        [state] = await host.executor.states()
        assert state.generation == 0
        assert state.active.version == "v2"
        assert {one.version: one.good for one in state.releases} == {"v1": None, "v2": True}
        end = await host.carry_out(deploy("v2", 3, sha256=digest_of("v2")))
        assert end.end is not None
        assert end.end.result is TaskResult.ALREADY_ACTIVE


async def test_a_step_that_meets_a_bug_fails_its_attempt_alone(host: Host) -> None:
    def stumble(name: str) -> None:
        if name == "unpacked":
            raise RuntimeError("a bug")

    host.checkpoint = stumble
    end = await host.carry_out(deploy("v1", 1))
    assert end.end is not None
    assert end.end.code is FailureCode.HOST_ERROR
    assert "bug (RuntimeError)" in end.end.message
    host.checkpoint = lambda _: None
    assert (await host.carry_out(deploy("v1", 2))).entered is Phase.DONE


async def test_a_journal_that_refuses_holds_the_attempt_where_it_is(host: Host) -> None:
    host.check.gate.clear()
    await host.executor.execute(deploy("v1", 1))
    await host.check.entered.wait()
    await host.journal._run(lambda: host.journal._tables.execute("PRAGMA query_only=ON"))
    host.check.gate.set()
    while not host.clock.sleeps_for(1.0):
        await asyncio.wait_for(host.clock.slept.wait(), 5)
        host.clock.slept.clear()
    assert host.executor.open_attempts()[0].phase is Phase.CHECKING
    await host.journal._run(lambda: host.journal._tables.execute("PRAGMA query_only=OFF"))
    host.clock.advance(1)
    assert (await host.wait_for_end(ref_of(1))).entered is Phase.DONE
