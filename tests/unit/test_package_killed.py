"""What is left of an unpacking whose agent was killed: no process that goes on writing."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.fakes.archives import Member, compress
from tests.fakes.waiting import until

pytestmark = pytest.mark.slow

UNPACK = """
import asyncio, sys
from pathlib import Path
from agent.unpack import unpack
with open(sys.argv[1], "rb") as package:
    asyncio.run(unpack(package, Path(sys.argv[2])))
"""


def many_files(path: Path) -> None:
    """Many small files: the child is still at work when the first of them are seen."""
    with path.open("wb") as package:
        for number in range(30):
            members = (Member(b"%d/%d" % (number, at), b"x" * 600) for at in range(400))
            package.write(compress(b"".join(member.encode() for member in members)))


async def test_the_children_of_a_killed_agent_end_with_it(tmp_path: Path) -> None:
    package, dest = tmp_path / "package", tmp_path / "dest"
    await asyncio.to_thread(many_files, package)
    dest.mkdir()
    agent = subprocess.Popen([sys.executable, "-c", UNPACK, package, dest])  # noqa: ASYNC220
    children: list[psutil.Process] = []
    try:
        await until(lambda: any(dest.iterdir()))
        children = psutil.Process(agent.pid).children(recursive=True)
        assert children
        for child in children:
            child.suspend()  # so that none ends by itself
        agent.kill()
        await asyncio.to_thread(agent.wait)
        await until(lambda: not any(_lives(child) for child in children), within_s=5)
    finally:
        agent.kill()
        for child in children:
            if _lives(child):
                os.kill(child.pid, signal.SIGKILL)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
