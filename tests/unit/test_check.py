import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from agent.check import CommandProbe, HttpProbe, Probe, ServiceCheck, TcpProbe
from agent.errors import CheckFailedError
from agent.observation import Observation, ProcessMark
from releasehand.model.status import ServiceState

MARK = ProcessMark("4711:99")
RUNNING = Observation(ServiceState.RUNNING, MARK, "process 4711 runs")
DEAD = Observation(ServiceState.FAILED, None, "process 4711 ended with exit code 3")
REPLACED = Observation(ServiceState.RUNNING, ProcessMark("4712:100"), "process 4712 runs")
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SkippingClock:
    """A clock on which waiting takes no time."""

    def __init__(self) -> None:
        self.at = 0.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.at)

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds


class Service:
    """What the driver would observe: each of `seen` once, the last one for ever."""

    def __init__(self, *seen: Observation) -> None:
        self._seen = list(seen)
        self.looks = 0

    async def observe(self) -> Observation:
        self.looks += 1
        return self._seen.pop(0) if len(self._seen) > 1 else self._seen[0]


@asynccontextmanager
async def serve(*answers: Answer) -> AsyncIterator[str]:
    """A real HTTP server that gives each of `answers` once, the last one for ever."""
    waiting = list(answers)

    async def handle(request: web.Request) -> web.StreamResponse:
        return await (waiting.pop(0) if len(waiting) > 1 else waiting[0])(request)

    app = web.Application()
    app.router.add_get("/health", handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/health"
    finally:
        await runner.cleanup()


def text(body: str, status: int = 200) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=body)

    return answer


async def silence(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets that event")


def up(probe: Probe | None, *, clock: SkippingClock | None = None, settle_s: float = 0.0) -> ServiceCheck:
    return ServiceCheck(probe, clock=clock or SkippingClock(), settle_s=settle_s)


async def test_a_service_that_answers_is_up() -> None:
    service, clock = Service(RUNNING), SkippingClock()
    async with serve(text("fine")) as url:
        check = up(HttpProbe(url), clock=clock)
        await check.wait(expected_version="v1", alive=service.observe, mark=MARK)
    assert check.last_answer == "200 fine"
    assert service.looks == 3
    assert clock.slept == []


async def test_a_service_may_take_its_time_and_is_asked_soon_again() -> None:
    clock = SkippingClock()
    answers = [text("starting", 503), text("old v1"), silence, *[text("starting", 503)] * 3, text("new v2")]
    async with serve(*answers) as url:
        check = up(HttpProbe(url, timeout_s=0.2, expect_body_contains="new {version}"), clock=clock)
        await check.wait(expected_version="v2", alive=Service(RUNNING).observe, mark=MARK)
    assert clock.slept == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]


async def test_the_wrong_version_is_not_up_and_the_answer_is_told() -> None:
    async with serve(text("v1\x1b[31m")) as url:
        check = up(HttpProbe(url, expect_body_contains="{version}"))
        alive = Service(*[RUNNING] * 4, DEAD).observe
        with pytest.raises(CheckFailedError, match=r"gone.*last answer: 200 v1\\x1b\[31m"):
            await check.wait(expected_version="v2", alive=alive, mark=MARK)


async def test_a_deadline_of_the_caller_passes_and_the_answer_is_kept() -> None:
    async with serve(text("starting", 503), silence) as url:
        check = up(HttpProbe(url, timeout_s=60))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await check.wait(expected_version="v2", alive=Service(RUNNING).observe, mark=MARK)
    assert check.last_answer == "503 starting"


@pytest.mark.parametrize(("seen", "why"), [(DEAD, "gone: .*exit code 3"), (REPLACED, "replaced")])
async def test_a_process_that_went_is_noticed_at_once(seen: Observation, why: str) -> None:
    async with serve(text("starting", 503)) as url:
        alive = Service(RUNNING, RUNNING, seen).observe
        with pytest.raises(CheckFailedError, match=f"{why}.*last answer: 503 starting"):
            await up(HttpProbe(url)).wait(expected_version="v2", alive=alive, mark=MARK)


async def test_a_good_answer_of_a_process_that_went_does_not_count() -> None:
    async with serve(text("fine")) as url:
        alive = Service(RUNNING, RUNNING, REPLACED).observe
        with pytest.raises(CheckFailedError, match="replaced"):
            await up(HttpProbe(url)).wait(expected_version="v2", alive=alive, mark=MARK)


async def test_where_no_process_is_seen_the_answers_alone_count() -> None:
    service = Service(Observation(ServiceState.UNKNOWN, None, ""))
    async with serve(text("starting", 503), text("fine")) as url:
        await up(HttpProbe(url), settle_s=1).wait(expected_version="v2", alive=service.observe, mark=None)
    assert service.looks == 0


async def test_nobody_listening_is_told(unused_tcp_port: int) -> None:
    probe = HttpProbe(f"http://127.0.0.1:{unused_tcp_port}/")
    assert await probe.ask("v2") == (False, "no connection: Connection refused")


async def test_a_certificate_that_does_not_verify_is_named_as_the_cause() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        good, answer = await HttpProbe(f"https://localhost:{port}/").ask("v2")
    assert not good
    assert "certificate verify failed" in answer


async def test_a_redirect_is_no_good_answer_and_is_not_followed() -> None:
    async def away(_: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"})

    async with serve(away) as url:
        assert await HttpProbe(url).ask("v2") == (False, "302")
        assert (await HttpProbe(url, expect_status=range(200, 400)).ask("v2"))[0]


async def test_an_endless_answer_is_read_only_so_far() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"v2 " * 20_000)

    async with serve(endless) as url:
        good, answer = await HttpProbe(url, timeout_s=20, expect_body_contains="{version}").ask("v2")
    assert good
    assert len(answer) < 1_000


async def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with serve(text("fine")) as url:
        assert await HttpProbe(url).ask("v1") == (True, "200 fine")


async def test_a_port_that_accepts_is_up(unused_tcp_port: int) -> None:
    probe = TcpProbe("127.0.0.1", unused_tcp_port)
    good, answer = await probe.ask("v1")
    assert (good, answer.startswith(f"no connection to 127.0.0.1:{unused_tcp_port}: ")) == (False, True)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", unused_tcp_port)
    async with server:
        assert await probe.ask("v1") == (True, f"127.0.0.1:{unused_tcp_port} accepts connections")


async def test_a_name_that_resolves_to_nothing_is_told() -> None:
    good, answer = await TcpProbe("no-such-host.invalid", 80).ask("v1")
    assert not good
    assert answer.startswith("no connection to no-such-host.invalid:80: ")


@pytest.mark.parametrize(
    ("script", "good", "answer"),
    [
        ('test "$RELEASEHAND_VERSION" = v2', True, "/bin/sh ended with 0: "),
        ('test "$COLOUR" = blue && test -z "$HOME" && pwd', True, "/bin/sh ended with 0: {cwd}"),
        ("echo tables are missing; exit 4", False, "/bin/sh ended with 4: tables are missing"),
        ("sleep 600", False, "/bin/sh did not end within 0.3 s"),
    ],
)
async def test_a_command_tells_by_its_end(script: str, good: bool, answer: str, tmp_path: Path) -> None:
    probe = CommandProbe(
        ["/bin/sh", "-c", script],
        cwd=tmp_path,
        environment={"COLOUR": "blue"},
        timeout_s=0.3 if not good else 20,
    )
    assert await probe.ask("v2") == (good, answer.replace("{cwd}", str(tmp_path)))


async def test_a_command_that_is_not_there_is_told(tmp_path: Path) -> None:
    probe = CommandProbe(["/no/such/thing"], cwd=tmp_path, environment={})
    assert await probe.ask("v2") == (False, "/no/such/thing does not start: No such file or directory")


@pytest.mark.parametrize("probe", [None, "http"])
async def test_the_process_must_settle_before_it_is_asked(probe: str | None) -> None:
    clock = SkippingClock()
    async with serve(text("fine")) as url:
        check = up(HttpProbe(url) if probe else None, clock=clock, settle_s=1.0)
        await check.wait(expected_version="v1", alive=Service(RUNNING).observe, mark=MARK)
    assert clock.at == pytest.approx(1.0)


@pytest.mark.parametrize(("seen", "why"), [(DEAD, "gone"), (REPLACED, "replaced")])
async def test_a_process_that_went_while_it_settles_is_noticed(seen: Observation, why: str) -> None:
    with pytest.raises(CheckFailedError, match=why):
        await up(None, settle_s=1.0).wait(
            expected_version="v1", alive=Service(RUNNING, RUNNING, seen).observe, mark=MARK
        )
