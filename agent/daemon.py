"""The agent as a whole: what is made in which order, and how it stops."""

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from random import random
from typing import Final

from agent.assembly import make_instance
from agent.capabilities import log_sandbox, with_sandbox
from agent.config import AgentConfig
from agent.core.link_state import LinkCondition, LinkState
from agent.download import Downloader
from agent.executor import Executor
from agent.identity import read_membership
from agent.journal import JOURNAL_NAME, Journal
from agent.link_file import LinkFile
from agent.pulse import Pulse
from agent.renewal import Renewals
from agent.runner import Tools
from agent.state_dir import hold_state_dir
from agent.unpack import sandbox
from agent.uplink import HostFacts, Uplink
from shared.clock import Clock, SystemClock
from shared.errors import AttemptError
from shared.logs import get_log
from shared.supervisor import UNSUPERVISED, Supervisor
from shared.tasks import TaskGroup

PACKAGES_NAME: Final = "packages"
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

log = get_log(__name__)


def agent_version() -> str:
    return version("releasehand-daemons")


async def run_agent(
    config: AgentConfig,
    *,
    clock: Clock | None = None,
    jitter: Callable[[], float] = random,
    checkpoint: Callable[[str], None] = lambda _: None,
    supervisor: Supervisor = UNSUPERVISED,
    link_dir: Path | None = None,
) -> None:
    """Run until SIGTERM or SIGINT. Attempts at work are left for the next start; services stay up.

    `jitter` gives numbers in [0, 1), by which pauses vary. `checkpoint` is told each move and effect right
    after it happened; it is for tests that kill the agent there. `supervisor` hears when recovery is done.
    How the link is stands in `link_dir`, without one in the state directory (agent.link_file).
    Raises StateDirBusyError, JournalError, OSError, AttemptError when it cannot start."""
    clock = clock or SystemClock()
    config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with hold_state_dir(config.state_dir), _stop_signals() as stopped:
        show = _shower(supervisor, LinkFile(link_dir or config.state_dir))
        await show(LinkState(LinkCondition.CONNECTING, clock.now()))  # what stands there is of the one before
        news = asyncio.Event()
        journal = await Journal.open(config.state_dir / JOURNAL_NAME, report=news.set)
        policy = config.packages.policy()
        downloader = Downloader(config.state_dir / PACKAGES_NAME, policy=policy, clock=clock)
        boot_id = await asyncio.to_thread(_read_boot_id)
        confinement = await asyncio.to_thread(sandbox.describe)
        log_sandbox(confinement)
        try:
            tools = Tools(
                fetcher=downloader,
                clock=clock,
                boot_id=boot_id,
                limits=config.unpack.limits(),
                checkpoint=checkpoint,
            )
            instances = [make_instance(section, config, journal, clock) for section in config.instance]
            executor = Executor(instances, tools)
            await _clear(downloader)
            await executor.recover()
            pulse = Pulse(executor, disk=config.state_dir, position=lambda: journal.last_n, clock=clock)
            await pulse.look()
            facts = HostFacts(
                agent_version(),
                socket.gethostname(),
                boot_id,
                with_sandbox(config.metadata, confinement),
            )
            uplink = Uplink(
                partial(read_membership, config.state_dir, config.expected_identity()),
                facts,
                executor=executor,
                journal=journal,
                pulse=pulse,
                clock=clock,
                news=news,
                jitter=jitter,
                show=show,
                renewals=Renewals(config.state_dir, clock, jitter),
            )
            log.info(
                "agent is ready",
                version=facts.version,
                instances=len(instances),
                unfinished=len(executor.unfinished),
                incarnation=journal.incarnation,
                pid=os.getpid(),
            )
            supervisor.ready()
            async with TaskGroup() as group:
                work = [
                    group.create_task(executor.run(), name="executor"),
                    group.create_task(pulse.run(), name="pulse"),
                    group.create_task(uplink.run(), name="uplink"),
                ]
                for task in work:
                    task.add_done_callback(lambda _: stopped.set())
                await stopped.wait()
                if ended := [task.get_name() for task in work if task.done()]:
                    # An agent that only seems to work is worse than one that is started again.
                    raise RuntimeError(f"nobody asked it to end: {', '.join(ended)}")
                supervisor.stopping()
                log.info("agent was asked to stop", unfinished=len(executor.unfinished))
                downloader.suspend()
                for task in work:
                    task.cancel()
        finally:
            await downloader.close()
            await journal.close()
        log.info("agent stopped")


def _shower(supervisor: Supervisor, file: LinkFile) -> Callable[[LinkState], Awaitable[None]]:
    async def show(state: LinkState) -> None:
        supervisor.show(state.describe())
        await file.write(state)

    return show


async def _clear(downloader: Downloader) -> None:
    """A directory that cannot be used is no reason not to start: the next download will say what is wrong."""
    try:
        await downloader.clear()
    except AttemptError as exc:
        log.warning("left-over downloads could not be removed", reason=str(exc))


@contextmanager
def _stop_signals() -> Iterator[asyncio.Event]:
    """Set the event at the first stop signal."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    try:
        yield stopped
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)


def _read_boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
