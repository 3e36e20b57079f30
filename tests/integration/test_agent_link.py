"""The whole agent in this process: hub over TLS, package origin, service process and disks are all real."""

import asyncio
import hashlib
import logging
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

import pytest
from websockets.frames import CloseCode

from agent.config import (
    AgentConfig,
    CommandDriver,
    HttpCheck,
    InstanceSection,
    PackagesSection,
)
from agent.daemon import run_agent
from agent.service import CommandService
from releasehand.model.codes import FailureCode
from releasehand.model.status import OperationKind, Phase, ServiceState, TaskResult
from shared.frames import Cancel, Execute, Hello, Ref, RefusedInstance, Wanted
from tests.fakes import origin as serving
from tests.fakes.archives import file, tgz
from tests.fakes.hub import FakeHub, run_hub
from tests.fakes.origin import Origin, run_origin

SERVER = b"""
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = open("VERSION", "rb").read()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["RELEASEHAND_PORT"])), Handler).serve_forever()
"""
WEB = "web-1"


def package_of(version: str) -> bytes:
    return tgz(file("server.py", SERVER), file("VERSION", version.encode()))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@dataclass
class Site:
    """A hub, an origin and the configuration of one agent between them."""

    hub: FakeHub
    origin: Origin
    config: AgentConfig
    directory: Path
    generation: int = 0
    ports: list[int] = field(default_factory=list)

    def execute(self, version: str, *, seconds_left: float = 60, url: str | None = None) -> Execute:
        self.generation += 1
        ref = Ref(instance_id=WEB, generation=self.generation, task=self.generation, attempt=1)
        return Execute(
            ref=ref,
            kind=OperationKind.DEPLOYMENT,
            operation_id=f"deploy-{self.generation}",
            service="web",
            version=version,
            url=self.origin.url(f"/{version}.tar.gz") if url is None else url,
            sha256=hashlib.sha256(package_of(version)).hexdigest(),
            seconds_left=seconds_left,
        )

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[None]:
        """The agent, linked up; it ends as if it was killed."""
        links = len(self.hub.hellos)
        async with asyncio.TaskGroup() as group:
            agent = group.create_task(run_agent(self.config))
            await self.hub.wait_for_link(links + 1)
            yield
            agent.cancel()

    async def answer(self) -> str:
        """What the service says of itself, "" when nothing listens."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.ports[0])
        except ConnectionRefusedError:
            return ""
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
        return text.rpartition("\r\n")[2]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    port = free_port()
    async with run_hub() as hub, run_origin(tmp_path) as origin:
        instance = InstanceSection(
            id=WEB,
            service="web",
            port=port,
            root=tmp_path / "srv",
            driver=CommandDriver(type="command", start=(sys.executable, "server.py"), stop_timeout_s=5),
            check=HttpCheck(type="http", url=f"http://127.0.0.1:{port}/", contains="{version}"),
            activate_timeout_s=20,
            metadata={"zone": "a"},
        )
        config = AgentConfig(
            state_dir=tmp_path / "state",
            packages=PackagesSection(
                ca_file=origin.ca_file, reserve_bytes=0, allowed_networks=(ip_network("127.0.0.0/8"),)
            ),
            instance=(instance,),
        )
        for version in ("v1", "v2"):
            origin.serve(f"/{version}.tar.gz", serving.content(package_of(version)))
        hub.take_in(config.state_dir)
        site = Site(hub, origin, config, tmp_path, ports=[port])
        yield site
        await stop_service(site)


async def stop_service(site: Site) -> None:
    section = site.config.instance[0]
    assert isinstance(section.driver, CommandDriver)
    service = CommandService(
        section.root,
        start=section.driver.start,
        service="web",
        instance=WEB,
        port=section.port,
        version=lambda: "",
    )
    await service.stop()


async def test_a_deployment_is_carried_out_and_told(site: Site) -> None:
    async with site.agent():
        [hello] = site.hub.hellos
        [before] = hello.instances
        assert (before.instance_id, before.service, before.port, before.metadata) == (
            WEB,
            "web",
            site.ports[0],
            {"zone": "a"},
        )
        assert before.active.version == ""
        assert before.state is ServiceState.STOPPED
        command = site.execute("v1")
        await site.hub.send(command)
        end = await site.hub.wait_for_end(command.ref)
        assert end.entered is Phase.DONE
        assert end.end is not None
        assert end.end.result is TaskResult.DOWNLOADED
        assert await site.answer() == "v1"
        assert [move.n for move in site.hub.moves] == list(range(1, 9))
    async with site.agent():
        [instance] = site.hub.hellos[-1].instances
        assert instance.generation == 1
        assert instance.active.version == "v1"
        assert instance.state is ServiceState.RUNNING  # it outlived its agent
        assert [(one.version, one.good) for one in instance.releases] == [("v1", True)]
        assert site.hub.hellos[-1].last_n == 8
        assert site.hub.hellos[-1].incarnation == hello.incarnation


async def test_a_command_that_comes_twice_is_carried_out_once(site: Site) -> None:
    async with site.agent():
        command = site.execute("v1")
        await site.hub.send(command)
        await site.hub.send(command)
        await site.hub.wait_for_end(command.ref)
        await site.hub.send(command)
        second = site.execute("v2")
        await site.hub.send(second)
        await site.hub.wait_for_end(second.ref)
        ends = [move for move in site.hub.moves if move.generation == 1 and move.end]
        assert {(move.entered, move.outcome) for move in ends} == {(ends[0].entered, ends[0].outcome)}
        assert len(site.origin.requests) == 2


async def test_a_cancel_closes_a_slow_download_and_leaves_nothing(site: Site) -> None:
    gate = asyncio.Event()
    site.origin.serve("/v1.tar.gz", serving.gated(b"x" * 1000, gate, stated=10_000_000))
    async with site.agent():
        command = site.execute("v1")
        await site.hub.send(command)
        await site.hub.until(lambda: [one for one in site.hub.progress if one.bytes_done == 1000])
        await site.hub.send(Cancel(ref=command.ref))
        end = await site.hub.wait_for_end(command.ref)
        assert end.entered is Phase.CANCELLED
        await asyncio.wait_for(site.origin.gone.wait(), 5)
        assert list((site.directory / "state" / "packages").iterdir()) == []
        assert list((site.directory / "srv" / "releases").iterdir()) == []
        assert list((site.directory / "srv" / ".staging").iterdir()) == []


async def test_an_agent_that_ends_in_a_download_goes_on_when_it_is_back(site: Site) -> None:
    gate = asyncio.Event()
    site.origin.serve(
        "/v1.tar.gz",
        serving.in_turn(serving.gated(b"x", gate, stated=1000), serving.content(package_of("v1"))),
    )
    command = site.execute("v1")
    async with site.agent():
        await site.hub.send(command)
        await site.hub.until(lambda: [m for m in site.hub.moves if m.entered is Phase.DOWNLOADING])
    async with site.agent():
        [attempt] = site.hub.hellos[-1].open_attempts
        assert attempt.generation == command.ref.generation
        end = await site.hub.wait_for_end(command.ref)
        assert end.entered is Phase.DONE
        assert await site.answer() == "v1"


async def test_an_agent_that_stops_says_goodbye(site: Site) -> None:
    async with site.agent():
        await site.hub.wait_for_link(1)
    assert site.hub.goodbyes == [CloseCode.GOING_AWAY]


async def test_a_lost_link_loses_no_report_and_stops_no_work(site: Site) -> None:
    site.hub.acknowledges = False  # nothing is recorded on the first link
    async with site.agent():
        command = site.execute("v1")
        await site.hub.send(command)
        await site.hub.wait_for_end(command.ref)
        await site.hub.cut()
        site.hub.acknowledges = True
        site.hub.moves.clear()
        await site.hub.wait_for_link(2)
        end = await site.hub.wait_for_end(command.ref)
        assert end.entered is Phase.DONE
        assert [move.n for move in site.hub.moves] == list(range(1, 9))


@pytest.mark.parametrize("asked", [True, False])
async def test_what_is_not_wanted_any_more_is_given_up_at_the_next_link(site: Site, asked: bool) -> None:
    gate = asyncio.Event()
    site.origin.serve("/v1.tar.gz", serving.gated(b"x", gate, stated=1000))
    command = site.execute("v1")

    def wanted(hello: Hello) -> list[Wanted]:
        return (
            [Wanted(**one.model_dump(exclude={"phase"}), cancel=True) for one in hello.open_attempts]
            if asked
            else []
        )

    async with site.agent():
        await site.hub.send(command)
        await site.hub.until(lambda: [m for m in site.hub.moves if m.entered is Phase.DOWNLOADING])
        site.hub.wanted = wanted
        await site.hub.cut()
        end = await site.hub.wait_for_end(command.ref)
        assert end.entered is Phase.CANCELLED


async def test_nothing_is_run_for_a_refused_instance(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.hub.refused = [RefusedInstance(instance_id=WEB, reason="host-0 owns it")]
    async with site.agent():
        await site.hub.send(site.execute("v1"))
        await site.hub.cut()
        site.hub.refused = []
        await site.hub.wait_for_link(2)
        command = site.execute("v2")
        await site.hub.send(command)
        await site.hub.wait_for_end(command.ref)
        assert {move.generation for move in site.hub.moves} == {2}
    assert any("refused" in one.message for one in caplog.records if one.levelno >= logging.ERROR)


async def test_a_release_that_does_not_come_up_is_taken_back(site: Site) -> None:
    sick = tgz(file("server.py", b"raise SystemExit('I am sick')"), file("VERSION", b"v3"))
    site.origin.serve("/v3.tar.gz", serving.content(sick))
    async with site.agent():
        good = site.execute("v1")
        await site.hub.send(good)
        await site.hub.wait_for_end(good.ref)
        bad = site.execute("v3").model_copy(update={"sha256": ""})
        await site.hub.send(bad)
        end = await site.hub.wait_for_end(bad.ref)
        assert end.entered is Phase.REVERTED
        assert end.end is not None
        assert end.end.code in {FailureCode.CHECK_FAILED, FailureCode.ACTIVATION_FAILED}
        assert "I am sick" in end.end.log_tail
        assert await site.answer() == "v1"


async def test_an_old_copy_of_the_journal_begins_a_new_incarnation(site: Site) -> None:
    async with site.agent():
        incarnation = site.hub.hellos[0].incarnation
    site.hub.recorded[incarnation] = 7
    async with site.agent():
        await site.hub.wait_for_link(3)
        assert site.hub.hellos[2].incarnation != incarnation
        command = site.execute("v1")
        await site.hub.send(command)
        await site.hub.wait_for_end(command.ref)
        assert site.hub.moves[0].n == 1


async def test_a_controller_that_lost_its_database_gets_a_new_incarnation(site: Site) -> None:
    async with site.agent():
        first = site.execute("v1")
        await site.hub.send(first)
        await site.hub.wait_for_end(first.ref)
    incarnation = site.hub.hellos[-1].incarnation
    site.hub.recorded.clear()
    site.hub.moves.clear()
    async with site.agent():
        await site.hub.wait_for_link(3)
        assert site.hub.hellos[2].incarnation != incarnation
        second = site.execute("v2")
        await site.hub.send(second)
        await site.hub.wait_for_end(second.ref)
        assert site.hub.moves[0].n == 1


async def test_an_agent_does_not_live_on_without_its_uplink(site: Site) -> None:
    agent = asyncio.create_task(run_agent(site.config))
    await site.hub.wait_for_link(1)
    [uplink] = [task for task in asyncio.all_tasks() if task.get_name() == "uplink"]
    uplink.cancel()
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="nobody asked it to end: uplink")):
        await agent
