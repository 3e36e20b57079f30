"""A controller's API in memory: it answers by the models, remembers its calls, and misbehaves if told."""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ValidationError

from releasehand.model import (
    BatchRollbackParams,
    BatchRollbackResult,
    CancelResult,
    ComponentStatus,
    DeployParams,
    DeployResult,
    DeployStatus,
    HealthStatus,
    HistoryAction,
    HistoryEntry,
    HistoryStatus,
    Instance,
    InstanceCounts,
    InstanceRollbackParams,
    InstanceStatus,
    InstanceVersion,
    OperationCounts,
    Period,
    Progress,
    RollbackResult,
    RollbackStatus,
    RollbackType,
    ServiceInstances,
    ServiceVersions,
    Status,
    SystemHealth,
    SystemStats,
    TaskStatus,
    VersionHistory,
)

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
TOKEN = "token-of-a-test"


def task(instance_id: str, status: Status = Status.COMPLETED, **facts: Any) -> TaskStatus:
    """One instance's share; whatever is not given is that of a task to v2 on an instance that ran v1."""
    live = "v2" if status is Status.COMPLETED else "v1"
    defaults = {
        "instance_id": instance_id,
        "status": status,
        "version": live,
        "current_version": live,
        "target_version": "v2",
        "started_at": START,
        "completed_at": None,
        "updated_at": START,
        "error_message": "",
        "attempt": 1,
    }
    return TaskStatus.model_validate({**defaults, **facts})


def failed(name: str, message: str = "no answer on /health") -> TaskStatus:
    return task(name, Status.FAILED, error_code="check_failed", error_message=message)


def progress(tasks: Sequence[TaskStatus]) -> Progress:
    counts = {status: sum(one.status is status for one in tasks) for status in Status}
    return Progress(
        total=len(tasks),
        completed=counts[Status.COMPLETED],
        failed=counts[Status.FAILED],
        cancelled=counts[Status.CANCELLED],
        in_progress=counts[Status.IN_PROGRESS],
        pending=counts[Status.PENDING] + counts[Status.IN_PROGRESS],
    )


def deployment(status: Status, tasks: Sequence[TaskStatus], deploy_id: str = "d-1") -> DeployStatus:
    ended = status in {Status.COMPLETED, Status.FAILED, Status.CANCELLED}
    return DeployStatus(
        deploy_id=deploy_id,
        service="shop",
        version="v2",
        status=status,
        progress=progress(tasks),
        instances=list(tasks),
        started_at=START,
        updated_at=START + timedelta(seconds=8.4),
        completed_at=START + timedelta(seconds=8.4) if ended else None,
    )


def rollback(status: Status, tasks: Sequence[TaskStatus], rollback_id: str = "rb-1") -> RollbackStatus:
    ended = status in {Status.COMPLETED, Status.FAILED, Status.CANCELLED}
    return RollbackStatus(
        rollback_id=rollback_id,
        service="shop",
        target_version="v2",
        rollback_type=RollbackType.BATCH,
        status=status,
        progress=progress(tasks),
        instances=list(tasks),
        started_at=START,
        updated_at=START + timedelta(seconds=8.4),
        completed_at=START + timedelta(seconds=8.4) if ended else None,
    )


def refusal(status: int, kind: str, detail: str, **more: Any) -> web.Response:
    """An error as the controller answers it."""
    error = {"type": kind, "detail": detail, "errors": [], "request_id": "r-1", "retryable": False, **more}
    body = {"code": status, "message": "refused", "data": None, "error": error}
    return web.json_response(body, status=status)


def success(data: BaseModel, status: int = 200, **extra: Any) -> web.Response:
    """An answer as the controller gives it; `extra` are fields of the future inside `data`."""
    content = {**data.model_dump(mode="json"), **extra}
    return web.json_response({"code": status, "message": "success", "data": content}, status=status)


@dataclass
class StepClock:
    """Time that passes only by sleeping; sleeping takes no time."""

    at: float = 0.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds


@dataclass(frozen=True)
class Call:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: Any


@dataclass
class FakeApi:
    """Serve with `aiohttp.test_utils.TestServer(api.app())`.

    `instead` answers the next requests in place of the handlers; a `None` in it cuts the connection,
    `cut_after` cuts that many answers after the work was done. Each status call takes the next of
    `deployments` or `rollbacks` and stays at the last; `on_status` is called before each."""

    instances: list[str] = field(default_factory=lambda: ["web-1", "web-2", "web-3"])
    calls: list[Call] = field(default_factory=list)
    instead: deque[web.Response | None] = field(default_factory=deque)
    cut_after: int = 0
    deployments: deque[DeployStatus] = field(default_factory=deque)
    rollbacks: deque[RollbackStatus] = field(default_factory=deque)
    health: HealthStatus = HealthStatus.HEALTHY
    started: dict[str, Any] = field(default_factory=dict)
    asked_status: asyncio.Event = field(default_factory=asyncio.Event)
    on_status: Callable[[], None] = lambda: None

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._border])
        app.add_routes(
            [
                web.post("/v1/deployment", self._deploy),
                web.get("/v1/deployment/{id}", self._deployment),
                web.post("/v1/deployment/{id}/cancel", self._cancel),
                web.get("/v1/service/{service}/versions", self._versions),
                web.get("/v1/service/{service}/instances", self._instances),
                web.get("/v1/instance/{id}/version-history", self._history),
                web.post("/v1/rollback/instance", self._roll_one),
                web.post("/v1/rollback/batch", self._roll_batch),
                web.get("/v1/rollback/{id}", self._rollback),
                web.post("/v1/rollback/{id}/cancel", self._cancel),
                web.get("/v1/system/health", self._health),
                web.get("/v1/system/stats", self._stats),
            ]
        )
        return app

    @web.middleware
    async def _border(
        self, request: web.Request, handler: Callable[[web.Request], Any]
    ) -> web.StreamResponse:
        text = await request.text()
        body = json.loads(text) if text else None
        self.calls.append(
            Call(request.method, request.path, dict(request.query), request.headers.copy(), body)
        )
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return refusal(401, "unauthenticated", "the token is not known")
        if self.instead:
            answer = self.instead.popleft()
            if answer is None:
                return _cut(request)
            return answer
        try:
            response: web.StreamResponse = await handler(request)
        except ValidationError as exc:
            faults = [
                {"pointer": "/" + "/".join(map(str, one["loc"])), "detail": one["msg"]}
                for one in exc.errors()
            ]
            response = refusal(400, "invalid_request", "the request is not valid", errors=faults)
        except web.HTTPNotFound:
            response = refusal(404, "not_found", f"there is no {request.path}")
        if self.cut_after > 0:
            self.cut_after -= 1
            return _cut(request)
        return response

    async def _deploy(self, request: web.Request) -> web.Response:
        params = DeployParams.model_validate_json(await request.text())
        held = self.started.setdefault(params.deploy_id, params)
        if held != params:
            return refusal(409, "deploy_id_conflict", f"{params.deploy_id} was used with another version")
        if not self.deployments:
            done = [task(name) for name in params.instances]
            self.deployments.append(deployment(Status.COMPLETED, done, params.deploy_id))
        return success(
            DeployResult(
                deploy_id=params.deploy_id,
                service=params.service,
                version=params.version,
                status=Status.PENDING,
                total_instances=len(params.instances),
                started_at=START,
            )
        )

    async def _deployment(self, request: web.Request) -> web.Response:
        return self._next_status(self.deployments, "unknown_deployment", request.match_info["id"])

    async def _rollback(self, request: web.Request) -> web.Response:
        return self._next_status(self.rollbacks, "unknown_rollback", request.match_info["id"])

    def _next_status(self, steps: deque[Any], unknown: str, operation_id: str) -> web.Response:
        self.asked_status.set()
        self.on_status()
        if not steps:
            return refusal(404, unknown, f"there is no {operation_id}")
        return success(steps.popleft() if len(steps) > 1 else steps[0])

    async def _cancel(self, request: web.Request) -> web.Response:
        ids = {"rollback_id" if "/rollback/" in request.path else "deploy_id": request.match_info["id"]}
        return success(CancelResult(status=Status.IN_PROGRESS, cancelled_at=START, **ids))

    async def _versions(self, request: web.Request) -> web.Response:
        service = request.match_info["service"]
        if service != "shop":
            return refusal(404, "unknown_service", f"there is no service {service}")
        listed = [
            InstanceVersion(instance_id=name, version="v1", status=InstanceStatus.RUNNING, last_updated=START)
            for name in self.instances
        ]
        if request.query.get("include_stopped") == "true":
            stopped = InstanceStatus.STOPPED
            listed.append(
                InstanceVersion(instance_id="web-x", version="", status=stopped, last_updated=START)
            )
        summary = {"v1": len(self.instances)}
        return success(
            ServiceVersions(
                service=service,
                instances=listed,
                version_summary=summary,
                total_instances=len(listed),
                updated_at=START,
            )
        )

    async def _instances(self, request: web.Request) -> web.Response:
        limit, offset = int(request.query.get("limit", "100")), int(request.query.get("offset", "0"))
        listed = [
            Instance(
                instance_id=name,
                host="10.0.0.1",
                port=8080,
                status=InstanceStatus.RUNNING,
                version="v1",
                last_heartbeat=START,
                metadata={},
            )
            for name in self.instances[offset : offset + limit]
        ]
        service = request.match_info["service"]
        total = len(self.instances)
        return success(
            ServiceInstances(service=service, instances=listed, total=total, limit=limit, offset=offset)
        )

    async def _history(self, request: web.Request) -> web.Response:
        entry = HistoryEntry(
            version="v1",
            action=HistoryAction.DEPLOY,
            deploy_id="d-0",
            timestamp=START,
            status=HistoryStatus.SUCCESS,
        )
        name = request.match_info["id"]
        return success(VersionHistory(instance_id=name, service="shop", history=[entry], total=1))

    async def _roll_one(self, request: web.Request) -> web.Response:
        params = InstanceRollbackParams.model_validate_json(await request.text())
        rollback_id = self._start_rollback(request, [params.instance_id])
        return success(
            RollbackResult(
                rollback_id=rollback_id,
                instance_id=params.instance_id,
                target_version=params.target_version,
                status=Status.PENDING,
                started_at=START,
            )
        )

    async def _roll_batch(self, request: web.Request) -> web.Response:
        params = BatchRollbackParams.model_validate_json(await request.text())
        rollback_id = self._start_rollback(request, params.instances)
        return success(
            BatchRollbackResult(
                rollback_id=rollback_id,
                service=params.service,
                target_version=params.target_version,
                status=Status.PENDING,
                instances=params.instances,
                total_instances=len(params.instances),
                started_at=START,
            )
        )

    def _start_rollback(self, request: web.Request, names: list[str]) -> str:
        """One rollback for each idempotency key, and a new one for each request without."""
        key = request.headers.get("Idempotency-Key", f"none-{len(self.started)}")
        rollback_id: str = self.started.setdefault(key, f"rb-{len(self.started) + 1}")
        if not self.rollbacks:
            self.rollbacks.append(rollback(Status.COMPLETED, [task(name) for name in names], rollback_id))
        return rollback_id

    async def _health(self, request: web.Request) -> web.Response:
        ok = ComponentStatus.OK
        report = SystemHealth(
            status=self.health,
            version="1",
            uptime="1h2m3s",
            database=ok if self.health is HealthStatus.HEALTHY else ComponentStatus.DOWN,
            cache=ok,
            timestamp=START,
        )
        return success(report, 503 if self.health is HealthStatus.UNHEALTHY else 200)

    async def _stats(self, request: web.Request) -> web.Response:
        counts = OperationCounts(total=2, success=1, failed=1, success_rate=0.5)
        return success(
            SystemStats(
                period=Period(request.query["period"]),
                deployments=counts,
                rollbacks=counts,
                instances=InstanceCounts(total=3, healthy=3, unhealthy=0),
                timestamp=START,
            )
        )


def _cut(request: web.Request) -> web.Response:
    if request.transport:
        request.transport.abort()
    return web.Response()
