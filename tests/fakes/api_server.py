"""The real API on a real port, over a store in memory: what the API's tests talk to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from controller.api import ApiDeps, Leases, RateLimits, Uses, make_api
from controller.api.deps import stream_places
from controller.api.places import Places
from controller.bulletin import Bulletin
from controller.install import Installer, PackageFolder
from controller.invitation import Invitations
from controller.store import Changed
from releasehand.model import ComponentStatus, HealthStatus, SystemHealth
from shared.clock import Clock, SystemClock
from tests.fakes.api_operation import NOON
from tests.fakes.api_store import FakeStore

TOKEN = "a-token-of-the-scheduler"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
DEPLOYMENT: dict[str, Any] = {
    "service": "user-service",
    "version": "v1.2.3",
    "instances": ["instance-1", "instance-2"],
    "package_url": "https://packages.example.com/user-service/v1.2.3.tar.gz",
    "deploy_id": "deploy-1",
}
INSTANCE_ROLLBACK: dict[str, Any] = {"instance_id": "instance-1", "target_version": "v1.0.0"}
BATCH_ROLLBACK: dict[str, Any] = {
    "service": "user-service",
    "target_version": "v1.0.0",
    "instances": ["instance-1", "instance-2"],
}


def health(status: HealthStatus = HealthStatus.HEALTHY, *causes: str) -> SystemHealth:
    down = status is HealthStatus.UNHEALTHY
    return SystemHealth(
        status=status,
        version="0.1.0",
        uptime="76h5m12s",
        database=ComponentStatus.DOWN if down else ComponentStatus.OK,
        cache=ComponentStatus.OK,
        timestamp=NOON,
        causes=list(causes),
    )


@dataclass
class ApiServer:
    """`woken` is what the dispatcher was told; `health` is what the controller says of itself."""

    store: FakeStore = field(default_factory=FakeStore)
    bulletin: Bulletin = field(default_factory=Bulletin)
    clock: Clock = field(default_factory=SystemClock)
    health: SystemHealth = field(default_factory=health)
    max_waiters: int = 10
    streams: Places = field(default_factory=lambda: stream_places(3, 2))
    installer: Installer = field(
        default_factory=lambda: Installer(None, "wss://hub.example:8443", PackageFolder(Path("/nowhere")))
    )
    downloads: Places = field(default_factory=lambda: Places(3, 2, what="downloads", instead="come back"))
    keep_alive_s: float = 30.0
    slow_reader_s: float = 30.0
    download_s: float = 30.0
    history_kept: timedelta | None = None
    rates: RateLimits = field(default_factory=RateLimits)
    body_deadline_s: float = 30.0
    woken: list[list[int]] = field(default_factory=list)
    told: list[Changed] = field(default_factory=list)
    renewed: list[str] = field(default_factory=list)
    closed: int = 0

    def __post_init__(self) -> None:
        self.leases = Leases(self.store, self.clock)
        self.uses = Uses(self.store, self.clock)

    def wake(self, task_ids: Sequence[int]) -> None:
        self.woken.append(list(task_ids))

    async def close_revoked(self) -> None:
        self.closed += 1

    async def tell_health(self) -> SystemHealth:
        return self.health

    def deps(self) -> ApiDeps:
        return ApiDeps(
            store=self.store,
            wake=self.wake,
            tell=self.told.append,
            renew=self.renewed.append,
            close_revoked=self.close_revoked,
            invitations=Invitations(self.store, key_hash="A" * 43, url="wss://hub.example:8443"),
            installer=self.installer,
            bulletin=self.bulletin,
            health=self.tell_health,
            tokens={"scheduler": TOKEN, "operator": "a-token-of-the-operator"},
            leases=self.leases,
            uses=self.uses,
            clock=self.clock,
            version="0.1.0",
            max_waiters=self.max_waiters,
            streams=self.streams,
            downloads=self.downloads,
            keep_alive_s=self.keep_alive_s,
            slow_reader_s=self.slow_reader_s,
            download_s=self.download_s,
            history_kept=self.history_kept,
            rates=self.rates,
            body_deadline_s=self.body_deadline_s,
        )

    async def start(self) -> "ApiClient":
        """To be closed by the caller."""
        client = ApiClient(self, TestClient(TestServer(make_api(self.deps()))))
        await client.http.start_server()
        return client


@dataclass
class Reply:
    """An answer that was read to its end."""

    status: int
    headers: Mapping[str, str]
    text: str
    json: Any


@dataclass
class ApiClient:
    """Calls with the scheduler's token, unless headers say otherwise."""

    server: ApiServer
    http: "TestClient[Any, Any]"

    async def get(self, path: str, **more: Any) -> Reply:
        return await self.call("GET", path, **more)

    async def post(self, path: str, body: Any = None, **more: Any) -> Reply:
        return await self.call("POST", path, **({} if body is None else {"json": body}), **more)

    async def call(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **more: Any
    ) -> Reply:
        async with self.http.request(method, path, headers={**BEARER, **(headers or {})}, **more) as response:
            return await _read(response)

    async def call_without_token(self, method: str, path: str, **more: Any) -> Reply:
        async with self.http.request(method, path, **more) as response:
            return await _read(response)


async def _read(response: ClientResponse) -> Reply:
    text = await response.text()
    is_json = response.content_type == "application/json"
    return Reply(response.status, response.headers, text, await response.json() if is_json and text else None)
