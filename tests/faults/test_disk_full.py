"""Disks that are full: the old version serves, the failure has its name, and space alone mends it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from releasehand.model import FailureCode, HistoryAction, HistoryStatus, Phase, Status
from tests.fakes.waiting import until, until_told
from tests.faults.tally import Tally
from tests.faults.verdict import Story, judge
from tests.faults.world import Host, World, run_world

SIZE_BYTES: Final = 4 << 20
WEIGHT_BYTES: Final = 1 << 20  # of the package; it does not compress


@contextmanager
def small_disk(path: Path) -> Iterator[None]:
    """A file system of its own at `path`, with SIZE_BYTES of room and what was there. Skips the test where
    none can be made."""
    path.mkdir(parents=True, exist_ok=True)
    copy = shutil.copytree(path, path.with_name(f"{path.name}-before"))
    argv = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES},mode=755", "none", str(path)]
    made = subprocess.run(argv, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    shutil.copytree(copy, path, dirs_exist_ok=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(disk: Path) -> Path:
    """Leave no room; returns the file whose removal gives it back."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    return ballast


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("full", ["packages", "root"])
async def test_a_full_disk_is_told_and_space_is_all_it_takes(tmp_path: Path, tally: Tally, full: str) -> None:
    with ExitStack() as disks:
        async with run_world(tmp_path, hosts=1) as world:
            [host] = world.hosts
            disk = host.packages if full == "packages" else host.root
            disks.enter_context(small_disk(disk))
            await world.start_agents()
            assert (await world.deploy_to_the_end(world.publish("v1"), [host])).status is Status.COMPLETED
            ballast = fill(disk)
            package = world.publish("v2", weight_bytes=WEIGHT_BYTES)
            params = await world.deploy(package, [host])
            await until_told(
                lambda: world.task(params.deploy_id, host),
                lambda task: task.error_code == FailureCode.NO_SPACE or task.attempt > 1,
            )
            wrong = await _still_serves(host, "v1")
            wrong += [] if "no_space" in host.agent.log() else ["the agent did not say why"]
            ballast.unlink()
            wrong += await _recovers(world, host, params.deploy_id)
    tally.add(f"disk full: {full}", 1, wrong)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.timeout(120)
async def test_a_journal_that_cannot_be_written_holds_the_work_until_it_can(
    tmp_path: Path, tally: Tally
) -> None:
    """What is not written down is not done; nothing is lost and no attempt is used."""
    with ExitStack() as disks:
        async with run_world(tmp_path, hosts=1) as world:
            [host] = world.hosts
            disks.enter_context(small_disk(host.folder / "state"))
            await world.start_agents()
            assert (await world.deploy_to_the_end(world.publish("v1"), [host])).status is Status.COMPLETED
            ballast = fill(host.folder / "state")
            params = await world.deploy(world.publish("v2"), [host])
            await until(lambda: "frame could not be acted on" in host.agent.log())
            wrong = await _still_serves(host, "v1")
            ballast.unlink()
            wrong += await _recovers(world, host, params.deploy_id, attempts=(1,))
    tally.add("disk full: journal", 1, wrong)


async def _still_serves(host: Host, version: str) -> list[str]:
    answered, _ = await host.ask()
    wrong = [] if answered == version else [f"the service answers {answered} instead of {version}"]
    return wrong if host.live == version else [*wrong, f"current names {host.live}"]


async def _recovers(
    world: World, host: Host, deploy_id: str, *, attempts: tuple[int, ...] = (2, 3, 4)
) -> list[str]:
    status = await world.client.wait_for_deployment(deploy_id, timeout_s=45)
    [task] = status.instances
    if task.attempt not in attempts:
        return [f"it took attempt {task.attempt}"]
    history = ((HistoryAction.DEPLOY, HistoryStatus.SUCCESS, "v2"),)
    story = Story(deploy_id, task, Status.COMPLETED, "v2", Phase.DONE, history, attempt=task.attempt)
    wrong = await judge(world, host, story)
    if (count := host.count_starts("v2")) != 1:
        wrong.append(f"v2 was started {count} times")
    return wrong
