import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from agent.check import HttpCheck, NoCheck
from agent.errors import CheckFailedError
from agent.observation import Observation, ProcessMark
from releasehand.model.status import ServiceState
from shared.clock import SystemClock

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


async def test_a_service_that_answers_is_up() -> None:
    service = Service(RUNNING)
    async with serve(text("fine")) as url:
        check = HttpCheck(url, clock=SkippingClock())
        await check.wait(expected_version="v1", alive=service.observe, mark=MARK)
    assert check.last_answer == "200 fine"
    assert service.looks == 2


async def test_a_service_may_take_its_time() -> None:
    clock = SkippingClock()
    async with serve(text("starting", 503), text("old v1"), silence, text("new v2")) as url:
        check = HttpCheck(url, clock=clock, timeout_s=0.2, expect_body_contains="new {version}")
        await check.wait(expected_version="v2", alive=Service(RUNNING).observe, mark=MARK)
    assert clock.slept == [0.2, 0.2, 0.2]


async def test_the_wrong_version_is_not_up_and_the_answer_is_told() -> None:
    async with serve(text("v1\x1b[31m")) as url:
        check = HttpCheck(url, clock=SystemClock(), interval_s=0.01, expect_body_contains="{version}")
        with pytest.raises(CheckFailedError, match=r"not up after 0.2 s.*last answer: 200 v1\\x1b\[31m"):
            await check.wait(expected_version="v2", alive=Service(RUNNING).observe, mark=MARK, deadline_s=0.2)


async def test_a_deadline_of_the_caller_passes_and_the_answer_is_kept() -> None:
    async with serve(text("starting", 503)) as url:
        check = HttpCheck(url, clock=SystemClock(), interval_s=0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await check.wait(expected_version="v2", alive=Service(RUNNING).observe, mark=MARK)
    assert check.last_answer == "503 starting"


@pytest.mark.parametrize(("seen", "why"), [(DEAD, "gone: .*exit code 3"), (REPLACED, "replaced")])
async def test_a_process_that_went_is_noticed_at_once(seen: Observation, why: str) -> None:
    async with serve(text("starting", 503)) as url:
        check = HttpCheck(url, clock=SkippingClock())
        with pytest.raises(CheckFailedError, match=f"{why}.*last answer: 503 starting"):
            await check.wait(expected_version="v2", alive=Service(RUNNING, RUNNING, seen).observe, mark=MARK)


async def test_a_good_answer_of_a_process_that_went_does_not_count() -> None:
    async with serve(text("fine")) as url:
        check = HttpCheck(url, clock=SkippingClock())
        with pytest.raises(CheckFailedError, match="replaced"):
            await check.wait(expected_version="v2", alive=Service(RUNNING, REPLACED).observe, mark=MARK)


async def test_nobody_listening_is_told(unused_tcp_port: int) -> None:
    check = HttpCheck(f"http://127.0.0.1:{unused_tcp_port}/", clock=SkippingClock())
    with pytest.raises(CheckFailedError, match=r"last answer: none: .*Connect"):
        await check.wait(expected_version="v2", alive=Service(RUNNING, RUNNING, DEAD).observe, mark=MARK)


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    async def away(_: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"})

    async with serve(away) as url:
        await HttpCheck(url, clock=SkippingClock()).wait(
            expected_version="v2", alive=Service(RUNNING).observe, mark=MARK
        )
        strict = HttpCheck(url, clock=SkippingClock(), expect_status=range(200, 300))
        with pytest.raises(CheckFailedError, match="302"):
            await strict.wait(expected_version="v2", alive=Service(RUNNING, DEAD).observe, mark=MARK)


async def test_an_endless_answer_is_read_only_so_far() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"v2 " * 20_000)

    async with serve(endless) as url:
        check = HttpCheck(url, clock=SkippingClock(), timeout_s=20, expect_body_contains="{version}")
        await check.wait(expected_version="v2", alive=Service(RUNNING).observe, mark=MARK)
    assert len(check.last_answer) < 1_000


async def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with serve(text("fine")) as url:
        check = HttpCheck(url, clock=SkippingClock())
        await check.wait(expected_version="v1", alive=Service(RUNNING).observe, mark=MARK)


async def test_without_a_check_the_process_must_settle() -> None:
    clock = SkippingClock()
    await NoCheck(clock=clock, settle_s=1.0, interval_s=0.3).wait(
        expected_version="v1", alive=Service(RUNNING).observe, mark=MARK
    )
    assert clock.at == pytest.approx(1.0)


@pytest.mark.parametrize(("seen", "why"), [(DEAD, "gone"), (REPLACED, "replaced")])
async def test_without_a_check_a_process_that_went_is_still_noticed(seen: Observation, why: str) -> None:
    check = NoCheck(clock=SkippingClock(), settle_s=1.0)
    with pytest.raises(CheckFailedError, match=why):
        await check.wait(expected_version="v1", alive=Service(RUNNING, RUNNING, seen).observe, mark=MARK)
