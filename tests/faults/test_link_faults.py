"""Links that break: cut at any byte, half-open, again and again. Work goes on, and is told once."""

import asyncio
import random
from pathlib import Path
from typing import Final

import pytest
from aiohttp import web

from releasehand.model import (
    DeployStatus,
    HistoryAction,
    HistoryStatus,
    Phase,
    Status,
    TaskStatus,
)
from tests.fakes.origin import Behaviour, content, gated
from tests.fakes.processes import free_ports
from tests.fakes.proxy import Proxy, run_proxy
from tests.fakes.waiting import until, until_told
from tests.faults.crossings import SEED
from tests.faults.tally import Tally
from tests.faults.verdict import Story, judge
from tests.faults.world import Host, World, run_world

CUTS: Final = 3
_HELLO_BYTES: Final = 3_000  # TLS and hello; what comes after it is heartbeats and reports


def _deployed(status: DeployStatus, task: TaskStatus, *, attempt: int = 1) -> Story:
    history = ((HistoryAction.DEPLOY, HistoryStatus.SUCCESS, status.version),)
    return Story(
        status.deploy_id, task, Status.COMPLETED, status.version, Phase.DONE, history, attempt=attempt
    )


async def _end_well(world: World, host: Host, deploy_id: str, *, attempt: int = 1) -> list[str]:
    status = await world.client.wait_for_deployment(deploy_id, timeout_s=45)
    wrong = await judge(world, host, _deployed(status, status.instances[0], attempt=attempt))
    if (count := host.count_starts(status.version)) != 1:
        wrong.append(f"{status.version} was started {count} times")
    return wrong


@pytest.mark.timeout(120)
async def test_a_download_that_is_cut_goes_on_in_the_same_attempt(tmp_path: Path, tally: Tally) -> None:
    async with run_world(tmp_path, hosts=1) as world:
        [host] = world.hosts
        await world.start_agents()
        package = world.publish("v1", weight_bytes=2 << 20)
        origin_port = int(world.origin.base_url.rpartition(":")[2])
        async with run_proxy(origin_port) as proxy:
            proxy.cut_after(len(package.content) // 2, way="down")
            url = package.url.replace(f":{origin_port}/", f":{proxy.port}/")
            through = type(package)(package.version, url, package.sha256, package.content)
            params = await world.deploy(through, [host])
            wrong = await _end_well(world, host, params.deploy_id)
            if proxy.cuts != 1:
                wrong.append(f"{proxy.cuts} downloads were cut")
    tally.add("download cut", 1, wrong)


@pytest.mark.timeout(180)
async def test_a_link_that_is_cut_at_any_byte_of_a_report_costs_no_attempt(
    tmp_path: Path, tally: Tally, *, all_faults: bool
) -> None:
    """The cuts follow each other while one deployment runs: the agent's work waits for the origin's gate."""
    dice = random.Random(SEED)
    hub_port = next(free_ports())
    async with run_proxy(0, port=hub_port) as proxy, run_world(tmp_path, hosts=1, hub_via=hub_port) as world:
        proxy.target_port = world.hub_port
        [host] = world.hosts
        await world.start_agents()
        wrong: list[str] = []
        cuts = 8 * CUTS if all_faults else CUTS
        for number in range(1, cuts + 1):
            package = world.publish(f"v{number}")
            # The first is sure to fall among the reports of its deployment, the others anywhere near.
            way, spread = ("up", 500) if number == 1 else (dice.choice(("up", "down")), 3_000)
            proxy.cut_after(_HELLO_BYTES + dice.randrange(spread), way=way)
            proxy.cut()  # the next link has that many bytes to live
            params = await world.deploy(package, [host])
            wrong += await _end_well(world, host, params.deploy_id)
        # How many bytes a link carries depends on how reports fall together: not each one reaches its byte.
        if not proxy.cuts:
            wrong.append("no link lived long enough to be cut at its byte")
    tally.add("link cut", cuts + proxy.cuts, wrong)


@pytest.mark.timeout(120)
async def test_work_behind_a_half_open_link_is_told_by_the_next_link(tmp_path: Path, tally: Tally) -> None:
    """Nothing comes through any more and neither side is told. The work goes on; the report waits."""
    hub_port = next(free_ports())
    async with run_proxy(0, port=hub_port) as proxy, run_world(tmp_path, hosts=1, hub_via=hub_port) as world:
        proxy.target_port = world.hub_port
        [host] = world.hosts
        await world.start_agents()
        gate = asyncio.Event()
        deploy_id = await _freeze_while_downloading(world, host, proxy, gate, "v1")
        gate.set()
        await until(lambda: host.live == "v1" and not host.attempts()[-1].live)
        task = await world.task(deploy_id, host)
        wrong = [] if task.status is Status.IN_PROGRESS else [f"nothing was heard, yet it is {task.status}"]
        proxy.cut()  # a box on the way forgets the link at last
        wrong += await _end_well(world, host, deploy_id)
    tally.add("half-open link", 1, wrong)


@pytest.mark.timeout(120)
async def test_a_new_link_wins_over_a_half_open_one(tmp_path: Path, tally: Tally) -> None:
    """The controller still holds the dead link when the agent, killed and started, is back on another."""
    hub_port = next(free_ports())
    async with run_proxy(0, port=hub_port) as proxy, run_world(tmp_path, hosts=1, hub_via=hub_port) as world:
        proxy.target_port = world.hub_port
        [host] = world.hosts
        await world.start_agents()
        gate = asyncio.Event()
        deploy_id = await _freeze_while_downloading(world, host, proxy, gate, "v1")
        world.publish("v1")  # no gate for whoever asks again
        await host.agent.kill()
        host.agent.start()
        wrong = await _end_well(world, host, deploy_id)
        if "a newer link of the same agent is here" not in world.controller.log():
            wrong.append("the dead link was not displaced")
        gate.set()
    tally.add("half-open link", 1, wrong)


@pytest.mark.timeout(120)
async def test_a_download_over_a_half_open_connection_can_be_cancelled(tmp_path: Path, tally: Tally) -> None:
    async with run_world(tmp_path, hosts=1) as world:
        [host] = world.hosts
        await world.start_agents()
        package = world.publish("v1", weight_bytes=1 << 20)
        origin_port = int(world.origin.base_url.rpartition(":")[2])
        gate = asyncio.Event()
        world.origin.serve("/v1.tar.gz", gated(package.content[:100_000], gate, stated=len(package.content)))
        async with run_proxy(origin_port) as proxy:
            url = package.url.replace(f":{origin_port}/", f":{proxy.port}/")
            params = await world.deploy(type(package)("v1", url, package.sha256, package.content), [host])
            await until(lambda: any(path.stat().st_size >= 0 for path in host.packages.glob("*.partial")))
            proxy.freeze()
            gate.set()
            await world.client.cancel_deployment(params.deploy_id)
            status = await world.client.wait_for_deployment(params.deploy_id, timeout_s=5)
        wrong = [] if status.status is Status.CANCELLED else [f"it is {status.status}"]
        wrong += [f"left behind: {host.leftovers}"] if host.leftovers else []
        wrong += [f"{host.live} is live"] if host.live else []
    tally.add("half-open download", 1, wrong)


async def _freeze_while_downloading(
    world: World, host: Host, proxy: Proxy, gate: asyncio.Event, version: str
) -> str:
    """Begin a deployment that waits at the origin for `gate`, and lose the link without a word."""
    package = world.publish(version)
    world.origin.serve(f"/{version}.tar.gz", _after(gate, package.content))
    params = await world.deploy(package, [host])
    await until_told(lambda: world.task(params.deploy_id, host), lambda task: task.phase == Phase.DOWNLOADING)
    proxy.freeze()
    return params.deploy_id


def _after(gate: asyncio.Event, data: bytes) -> Behaviour:
    """All of it, once `gate` is open."""
    whole = content(data)

    async def answer(request: web.Request) -> web.StreamResponse:
        await gate.wait()
        return await whole(request)

    return answer
