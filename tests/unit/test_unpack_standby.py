"""The child that is started while the package still comes: used once, and never left behind."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from agent.errors import UnpackFailedError
from agent.unpack import UnpackResult, unpack
from agent.unpack.process import Standby
from releasehand.model.status import Phase
from tests.fakes.archives import file, tgz
from tests.fakes.host import Host, deploy, ref_of
from tests.fakes.waiting import until

WAIT = """
import asyncio
from agent.unpack.process import Standby
async def wait():
    child = await Standby().take()
    print(child.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(wait())
"""


def children() -> set[psutil.Process]:
    return set(psutil.Process().children())


async def unpack_one_file(folder: Path, standby: Standby | None) -> UnpackResult:
    (folder / "package").write_bytes(tgz(file("VERSION", b"v1")))
    (folder / "dest").mkdir()
    with (folder / "package").open("rb") as package:
        return await unpack(package, folder / "dest", standby=standby)


async def test_a_child_that_waited_unpacks(tmp_path: Path) -> None:
    before, standby = children(), Standby()
    standby.begin()
    standby.begin()  # no second one
    await until(lambda: len(children() - before) == 1)
    [waiting] = children() - before
    assert (await unpack_one_file(tmp_path, standby)).entries == 1
    assert (tmp_path / "dest/VERSION").read_bytes() == b"v1"
    assert not waiting.is_running()
    await standby.end()
    assert children() == before


async def test_a_child_that_was_killed_while_it_waited_is_replaced(tmp_path: Path) -> None:
    before, standby = children(), Standby()
    standby.begin()
    await until(lambda: len(children() - before) == 1)
    [waiting] = children() - before
    waiting.kill()
    await until(lambda: not waiting.is_running())
    assert (await unpack_one_file(tmp_path, standby)).entries == 1


async def test_a_child_killed_with_its_order_in_hand_is_told_as_such() -> None:
    child = await Standby().take()
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(UnpackFailedError, match="ended by signal 9"):
        await child.carry_out(b"{}", (), within_s=30)
    await child.end()


async def test_a_cancel_leaves_the_child_that_was_begun_to_the_one_who_ends_it() -> None:
    before, standby = children(), Standby()
    standby.begin()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await standby.take()
    await standby.end()
    assert children() == before


@pytest.mark.slow
def test_a_child_that_waits_ends_with_its_parent() -> None:
    agent = subprocess.Popen([sys.executable, "-c", WAIT], stdout=subprocess.PIPE, text=True)
    with agent:
        assert agent.stdout is not None
        child = psutil.Process(int(agent.stdout.readline()))
        agent.kill()
    child.wait(timeout=5)  # psutil polls, as it is no child of ours
    assert not child.is_running()


async def test_a_cancelled_download_leaves_no_child(tmp_path: Path) -> None:
    before, host = children(), Host(tmp_path)
    host.fetcher.gate.clear()  # half of it came
    async with host.boot():
        await host.executor.execute(deploy("v1", 1))
        await until(lambda: len(children() - before) == 1)
        await host.executor.cancel(ref_of(1))
        assert (await host.wait_for_end(ref_of(1))).entered is Phase.CANCELLED
        assert children() == before
