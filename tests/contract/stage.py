"""A real controller on real ports with simulated agents, run beside the test by a thread of its own."""

import asyncio
import sqlite3
import threading
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp
from pydantic import SecretStr
from websockets.exceptions import ConnectionClosedOK

from controller.app import Addresses, run_controller
from controller.config import ApiSection, ControllerConfig, HubSection, PkiSection
from shared.clock import SystemClock
from tests.contract.simulated import Copy, RefusedError, SimulatedAgent
from tests.fakes.certificates import context_of, enrol

TOKEN: Final = "a-token-of-the-scheduler"
BEARER: Final = {"Authorization": f"Bearer {TOKEN}"}
PATIENCE_S: Final = 30.0
LIVELY: Final = {("agent", "last_heartbeat_at"), ("instance", "updated_at")}
"""Columns that heartbeats move while nobody calls."""
RECORDED: Final = "audit"
"""The table that tells of refused calls too."""

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that was read to its end; `json` is None where there is none."""

    status: int
    headers: Mapping[str, str]
    text: str
    json: Any

    @property
    def data(self) -> Any:
        assert self.status == 200, self.text
        return self.json["data"]

    @property
    def error(self) -> Any:
        return self.json["error"]


@dataclass
class Stage:
    """`agents` by id; each is on its way in or out by `link` and `unlink`. All coroutines are for the stage's
    own loop: from a test, `run` them."""

    folder: Path
    agents: Mapping[str, SimulatedAgent]
    loop: asyncio.AbstractEventLoop
    addresses: Addresses
    http: aiohttp.ClientSession
    _links: dict[str, tuple[asyncio.Event, asyncio.Task[None]]] = field(default_factory=dict)
    _columns: dict[str, str] = field(default_factory=dict)

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Do `work` on the stage's loop and wait for it, from the test's thread."""
        future: Future[ResultT] = asyncio.run_coroutine_threadsafe(work, self.loop)
        return future.result(PATIENCE_S)

    def call(self, method: str, path: str, body: Any = None, **more: Any) -> Reply:
        """A call with the scheduler's token; `body` is sent as JSON unless None."""
        return self.run(self.request(method, path, body, **more))

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Reply:
        sent = {} if body is None else {"json": body}
        url = self.addresses.api + path
        async with self.http.request(
            method, url, headers={**BEARER, **(headers or {})}, **sent, **more
        ) as got:
            text = await got.text()
            tree = await got.json() if text and got.content_type == "application/json" else None
            return Reply(got.status, got.headers, text, tree)

    async def link(self, agent_id: str) -> None:
        """Connect an agent and return when the controller knows its instances."""
        gone, ready = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            tls = context_of(self.folder / "agents" / agent_id)
            while not gone.is_set():
                try:
                    async with self.agents[agent_id].linked(self.addresses.hub, tls):
                        ready.set()
                        await gone.wait()
                except* ConnectionClosedOK:
                    pass  # it is to say hello again: an instance was moved
                except* RefusedError:
                    if not ready.is_set():
                        raise
                    gone.set()  # a test shut it out

        task = self.loop.create_task(hold())
        self._links[agent_id] = (gone, task)
        await asyncio.wait([task, self.loop.create_task(ready.wait())], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()

    async def unlink(self, agent_id: str) -> None:
        gone, task = self._links.pop(agent_id)
        gone.set()
        await task

    async def unlink_all(self) -> None:
        for agent_id in list(self._links):
            await self.unlink(agent_id)

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table, without what heartbeats move and what refused calls leave."""
        with closing(self._open()) as database:
            if not self._columns:
                self._columns = _find_columns(database)
            return {
                table: database.execute(f"SELECT {columns} FROM {table} ORDER BY 1").fetchall()  # noqa: S608
                for table, columns in self._columns.items()
            }

    def query(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        """Look into the database by a connection of our own."""
        with closing(self._open()) as database:
            return database.execute(statement, values).fetchall()

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.folder}/controller.db?mode=ro", uri=True)


def _find_columns(database: sqlite3.Connection) -> dict[str, str]:
    """By table, the columns that only a call or a report changes."""
    found: dict[str, str] = {}
    for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        if table == RECORDED:
            continue
        columns = database.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall()
        found[table] = ", ".join(f'"{name}"' for (name,) in columns if (table, name) not in LIVELY)
    return found


async def at_once(calls: Iterable[Coroutine[Any, Any, Reply]]) -> list[Reply]:
    """Make all the calls together; the answers stand in the order of the calls."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call) for call in calls]
    return [task.result() for task in tasks]


@contextmanager
def run_stage(folder: Path, agents: Mapping[str, Mapping[str, Copy]]) -> Iterator[Stage]:
    """A controller and its agents, all connected, until the block ends."""
    made: Future[Stage] = Future()
    over: Future[asyncio.Event] = Future()

    async def play() -> None:
        async with AsyncExitStack() as stack:
            config = _config(folder)
            addresses = await stack.enter_async_context(run_controller(config, SystemClock()))
            identities = {name: folder / "agents" / name for name in agents}
            await enrol(config.database, config.pki.directory, identities, addresses.hub)
            http = await stack.enter_async_context(aiohttp.ClientSession())
            simulated = {name: SimulatedAgent(name, copies) for name, copies in agents.items()}
            stage = Stage(folder, simulated, asyncio.get_running_loop(), addresses, http)
            stack.push_async_callback(stage.unlink_all)
            for agent_id in simulated:
                await stage.link(agent_id)
            stop = asyncio.Event()
            over.set_result(stop)
            made.set_result(stage)
            await stop.wait()

    def serve() -> None:
        try:
            asyncio.run(play())
        except BaseException as exc:
            if made.done():
                raise
            made.set_exception(exc)

    thread = threading.Thread(target=serve, name="stage")
    thread.start()
    stage = made.result(PATIENCE_S)
    try:
        yield stage
    finally:
        stage.loop.call_soon_threadsafe(over.result().set)
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "the controller does not stop"


def _config(folder: Path) -> ControllerConfig:
    return ControllerConfig(
        database=f"sqlite:///{folder}/controller.db",
        api=ApiSection(
            port=0, tokens={"scheduler": SecretStr(TOKEN)}, failures_per_second=1_000, failure_burst=10_000
        ),
        hub=HubSection(host="127.0.0.1", port=0),
        pki=PkiSection(directory=folder / "pki"),
    )
