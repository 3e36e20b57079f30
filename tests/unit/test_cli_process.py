"""The command line as a process: what it loads, what Ctrl-C does, and what a terminal shows."""

import asyncio
import contextlib
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from releasehand.model import Status
from tests.fakes.api import deployment, failed, task
from tests.fakes.shell import HOSTILE, PACKAGE, Shell, open_shell

pytestmark = pytest.mark.slow


@pytest.fixture
async def shell() -> AsyncIterator[Shell]:
    async with open_shell() as shell:
        yield shell


def test_help_loads_neither_the_client_nor_the_models() -> None:
    """Typer itself loads pydantic to convert arguments; that is its own 40 ms and no models of ours."""
    code = (
        "import sys\n"
        "from releasehand.cli.__main__ import main\n"
        "heavy = {'aiohttp', 'releasehand.client', 'releasehand.model', 'releasehand.cli.watch'}\n"
        "for words in [], ['deploy'], ['rollback'], ['versions'], ['status'], ['cancel']:\n"
        "    sys.argv[1:] = [*words, '--help']\n"
        "    try:\n        main()\n"
        "    except SystemExit:\n        pass\n"
        "    print('loaded by', *words, 'is', *sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50
    )
    assert done.stdout.count("Usage:") == 6
    told = [line for line in done.stdout.splitlines() if line.startswith("loaded by")]
    assert told == [
        "loaded by is",
        *(f"loaded by {word} is" for word in ("deploy", "rollback", "versions", "status", "cancel")),
    ]


def test_the_models_load_no_http_library_and_the_package_offers_the_client() -> None:
    code = (
        "import sys, releasehand.model\n"
        "assert 'aiohttp' not in sys.modules\n"
        "from releasehand import ApiError\n"
        "assert 'aiohttp' not in sys.modules\n"
        "from releasehand import Client\n"
        "assert 'aiohttp' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)


async def test_ctrl_c_leaves_the_deployment_running_and_says_how_to_come_back(shell: Shell) -> None:
    shell.api.deployments.append(deployment(Status.IN_PROGRESS, [task("web-1", Status.IN_PROGRESS)]))
    process = await shell.start("deploy", "shop", "v2", *PACKAGE, "-i", "web-1", "--id", "d-1")
    assert process.stdout
    await process.stdout.readline()  # the first status has been shown
    process.send_signal(signal.SIGINT)
    _, stderr = await process.communicate()
    assert process.returncode == 130
    assert stderr.decode().splitlines() == [
        "The deployment d-1 goes on without you.",
        "  watch it:   releasehand status d-1 --wait",
        "  cancel it:  releasehand cancel d-1",
    ]


async def test_a_terminal_sees_live_progress_and_keeps_the_outcome_alone(shell: Shell) -> None:
    working = task(
        "web-1", Status.IN_PROGRESS, phase="downloading", bytes_done=5_000_000, bytes_total=10_000_000
    )
    shell.api.deployments.append(deployment(Status.IN_PROGRESS, [working, failed("web-2", HOSTILE)]))
    shell.api.deployments.append(deployment(Status.COMPLETED, [task("web-1"), task("web-2")]))
    ours, theirs = pty.openpty()
    try:
        process = await shell.start("deploy", "shop", "v2", *PACKAGE, "--all-instances", stdout=theirs)
        reading = asyncio.create_task(asyncio.to_thread(_read_to_end, ours))
        _, stderr = await process.communicate()
        os.close(theirs)
        screen = (await reading).decode()
    finally:
        os.close(ours)
    assert (process.returncode, stderr) == (0, b"")
    assert "Deploying shop" in screen
    assert "50 %  5.0 of 10.0 MB" in screen
    assert "\x1b]0;title" not in screen
    assert screen.rstrip().splitlines()[-1].count("Deployed shop") == 1
    assert "\x1b[?25h" in screen  # the cursor is back


def _read_to_end(terminal: int) -> bytes:
    """All that was written until the last writer is gone, which Linux tells by EIO."""
    content = b""
    with contextlib.suppress(OSError):
        while block := os.read(terminal, 65_536):
            content += block
    return content
