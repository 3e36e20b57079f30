"""Ten thousand frames of nonsense and malice from either side, or a sample: the other one stays up and does
none of it."""

import asyncio
import random
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import WebSocketException

from releasehand.model import HistoryAction, HistoryStatus, Phase, Status
from shared.clock import SystemClock
from shared.errors import ProtocolError
from shared.frames import MAX_FRAME_BYTES, Welcome, decode_from_controller, encode
from shared.tls import server_context
from tests.fakes.certificates import context_of
from tests.fakes.processes import HERE, free_ports
from tests.fakes.waiting import until
from tests.faults.crossings import SEED
from tests.faults.nonsense import Text, Victim, hello_of, to_agent, to_controller
from tests.faults.tally import Tally
from tests.faults.verdict import Story, judge
from tests.faults.world import STRANGER, World, run_world

ALL_FRAMES: Final = 10_000
SAMPLE_OF_AGENT: Final = 400
SAMPLE_OF_CONTROLLER: Final = 200
PER_LINK: Final = 10
LINKS: Final = 4  # at a time
MAX_GROWTH_BYTES: Final = 64 << 20
_LISTEN_S: Final = 0.02
_WATCHED_S: Final = 2
_SERVED_WITHIN_S: Final = 1_500


@pytest.mark.timeout(1_800)
async def test_a_hostile_agent_harms_nobody_but_itself(
    tmp_path: Path, tally: Tally, *, all_faults: bool
) -> None:
    frames = ALL_FRAMES if all_faults else SAMPLE_OF_AGENT
    async with run_world(tmp_path, hosts=1) as world:
        [host] = world.hosts
        await world.start_agents()
        v1, v2 = world.publish("v1"), world.publish("v2")
        assert (await world.deploy_to_the_end(v1, [host])).status is Status.COMPLETED
        [first] = host.attempts()
        memory = world.controller.process.memory_info().rss
        victim = Victim(host.instance, first.ref)
        async with asyncio.TaskGroup() as group:
            for number in range(LINKS):
                dice = random.Random(SEED + number)
                texts = (to_controller(dice, victim) for _ in range(frames // LINKS))
                group.create_task(_attack(world, texts, dice))
            params = await world.deploy(v2, [host])
        status = await world.client.wait_for_deployment(params.deploy_id, timeout_s=30)
        history = ((HistoryAction.DEPLOY, HistoryStatus.SUCCESS, "v2"),)
        [task] = status.instances
        wrong = await judge(
            world, host, Story(params.deploy_id, task, Status.COMPLETED, "v2", Phase.DONE, history)
        )
        if not world.controller.runs:
            wrong.append(f"the controller ended with {world.controller.exit_code}")
        elif (grown := world.controller.process.memory_info().rss - memory) > MAX_GROWTH_BYTES:
            wrong.append(f"the controller grew by {grown >> 20} MiB")
        if "Traceback" in world.controller.log():
            wrong.append(f"the controller met a bug:\n{world.controller.log()[-4_000:]}")
        if host.count_starts("v2") != 1 or host.count_starts("v1") != 1:
            wrong.append(f"services were started for {host.starts}")
    tally.add("frames from a hostile agent", frames, wrong)


async def _attack(world: World, texts: Iterator[Text], dice: random.Random) -> None:
    """One link after the other, each until the controller has had enough of it or PER_LINK were sent."""
    tls = context_of(world.folder / STRANGER)
    text = next(texts, None)
    while text is not None and world.controller.runs:
        sent = 0
        with suppress(OSError, WebSocketException, TimeoutError):
            async with (
                asyncio.timeout(10),
                connect(
                    f"wss://{HERE}:{world.hub_port}",
                    ssl=tls,
                    compression=None,
                    proxy=None,
                    close_timeout=1,
                ) as socket,
            ):
                await socket.send(hello_of(STRANGER, dice))
                answer = await socket.recv()
                while text is not None and sent < PER_LINK and '"refuse"' not in str(answer):
                    await socket.send(text)
                    text, sent = next(texts, None), sent + 1
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_LISTEN_S):
                            answer = await socket.recv()


@pytest.mark.timeout(1_800)
async def test_a_hostile_controller_makes_an_agent_run_fetch_and_write_nothing(
    tmp_path: Path, tally: Tally, *, all_faults: bool
) -> None:
    frames = ALL_FRAMES if all_faults else SAMPLE_OF_CONTROLLER
    hub_port = next(free_ports())
    async with run_world(tmp_path, hosts=1, hub_via=hub_port) as world:
        [host] = world.hosts
        dice = random.Random(SEED)
        origin = world.publish("v1")
        texts = (to_agent(dice, host.instance, origin) for _ in range(frames))
        served = asyncio.Event()

        async def be_hostile(socket: ServerConnection) -> None:
            await socket.recv()
            await socket.send(_welcome())
            for text in texts:
                await socket.send(text)
                if not _is_frame(text):  # it ends the link
                    await socket.wait_closed()
                    return
            served.set()

        async with serve(be_hostile, HERE, hub_port, ssl=_hub_of(world), compression=None, close_timeout=1):
            host.armed.start("--eager")
            await host.armed.ready()
            memory = host.armed.process.memory_info().rss
            before = await asyncio.to_thread(_look_around, tmp_path)
            async with asyncio.timeout(_SERVED_WITHIN_S):
                await served.wait()
            wrong = [] if host.armed.runs else [f"the agent ended with {host.armed.exit_code}"]
            if (
                host.armed.runs
                and (grown := host.armed.process.memory_info().rss - memory) > MAX_GROWTH_BYTES
            ):
                wrong.append(f"the agent grew by {grown >> 20} MiB")
        after = await asyncio.to_thread(_look_around, tmp_path)
        wrong += [f"changed on disk: {path}" for path in before ^ after]
        wrong += [f"started: {host.starts}"] if host.starts else []
        wrong += [f"fetched: {world.origin.requests}"] if world.origin.requests else []
        wrong += (
            [f"the agent met a bug:\n{host.armed.log()[-4_000:]}"] if "Traceback" in host.armed.log() else []
        )
        wrong += [f"left behind: {host.leftovers}"] if host.leftovers else []
    tally.add("frames from a hostile controller", frames, wrong)


@pytest.mark.timeout(60)
async def test_a_welcome_cannot_make_the_agent_beat_without_a_pause(tmp_path: Path, tally: Tally) -> None:
    hub_port = next(free_ports())
    async with run_world(tmp_path, hosts=1, hub_via=hub_port) as world:
        [host] = world.hosts
        heard = 0

        async def be_hasty(socket: ServerConnection) -> None:
            nonlocal heard
            await socket.recv()
            await socket.send(_welcome(heartbeat_interval_s=1e-9))
            async for _ in socket:
                heard += 1

        async with serve(be_hasty, HERE, hub_port, ssl=_hub_of(world), compression=None, close_timeout=1):
            host.agent.start()
            await host.agent.ready()
            clock = SystemClock()
            began, heard = clock.monotonic(), 0
            await until(lambda: clock.monotonic() - began > _WATCHED_S)
        wrong = [f"{heard} heartbeats came in {_WATCHED_S} s"] if heard > 2 * _WATCHED_S else []
    tally.add("hasty welcome", 1, wrong)


def _hub_of(world: World) -> ssl.SSLContext:
    """What the controller of this world listens with."""
    pki = world.folder / "pki"
    return server_context(pki / "hub.pem", pki / "hub.key")


def _is_frame(text: str | bytes) -> bool:
    try:
        decode_from_controller(text)
    except ProtocolError:
        return False
    return len(text) <= MAX_FRAME_BYTES


def _look_around(folder: Path) -> set[Path]:
    """Everything but what an agent keeps for itself and the logs."""
    return {path for path in folder.rglob("*") if "state" not in path.parts}


def _welcome(*, heartbeat_interval_s: float = 10) -> str:
    return encode(
        Welcome(
            server_time=SystemClock().now(),
            heartbeat_interval_s=heartbeat_interval_s,
            session_epoch=1,
            reconnect_window_s=0,
            acked=0,
        )
    )
