"""The Python client of the controller's HTTP API: one coroutine for each function of the interface."""

import asyncio
import math
import random
import ssl
import uuid
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, Protocol, Self, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import yarl
from pydantic import ValidationError

from .errors import (
    BadAnswerError,
    ConnectionFailedError,
    UnavailableError,
    WaitTimeoutError,
    excerpt,
    parse_json,
    read_refusal,
    reason_of,
)
from .model import (
    ENDED,
    Answer,
    BatchRollbackParams,
    BatchRollbackResult,
    CancelParams,
    CancelResult,
    DeployParams,
    DeployResult,
    DeployStatus,
    Envelope,
    InstanceRollbackParams,
    InstanceStatus,
    Period,
    Request,
    RollbackResult,
    RollbackStatus,
    ServiceInstances,
    ServiceVersions,
    SystemHealth,
    SystemStats,
    VersionHistory,
)

DEFAULT_TIMEOUT_S: Final = 30.0
MAX_TRIES: Final = 5
FIRST_BACKOFF_S: Final = 0.2
MAX_BACKOFF_S: Final = 5.0
MAX_RETRY_AFTER_S: Final = 30.0
CONNECT_TIMEOUT_S: Final = 10.0
LONG_POLL_S: Final = 30.0
MAX_LONG_POLL_S: Final = 60.0
WATCHED_PER_SECOND: Final = 500
"""A watcher of n instances asks every n/500 s, between 1 s and 30 s: a fleet's status is megabytes long."""
PATIENCE_S: Final = 300.0
"""How long a wait outlives a controller that does not answer, for example while it is upgraded."""
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024

AnswerT = TypeVar("AnswerT", bound=Answer)
StatusT = TypeVar("StatusT", DeployStatus, RollbackStatus)
Trouble = ConnectionFailedError | UnavailableError


class Clock(Protocol):
    """What the client needs of time."""

    def monotonic(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class LoopClock:
    """The time of the running event loop."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, over.set_result, None)
        try:
            await over
        finally:
            timer.cancel()


class Client:
    """A connection to one controller; use it as `async with Client(url, token) as client`.

    `timeout_s` bounds one HTTP exchange and the time spent on repeating it. `ca_file` (PEM) replaces the
    system's certificate authorities. Proxies of the environment are not used, redirects not followed.

    Every call is safe to repeat, so each is repeated after a lost connection and after 429, 502, 503 and 504:
    at most 5 tries, full jitter, never sooner than `Retry-After`. A deployment carries its `deploy_id`; a
    rollback carries an idempotency key, made here if the caller gives none. Safe to cancel; whether a request
    that was under way was carried out is then unknown. Calls may run side by side. Every call raises
    ConnectionFailedError, BadAnswerError or a class of ApiError (`releasehand.errors`)."""

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        ca_file: str | Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Raises ValueError for a URL or token of no use, OSError for a CA file that cannot be read."""
        self._base = _check_base_url(base_url)
        self._headers = {"Authorization": f"Bearer {_check_token(token)}", "Accept": "application/json"}
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
        self._clock: Clock = clock or LoopClock()
        self._dice = random.SystemRandom()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(trust_env=False, headers=self._headers)
        return self

    async def __aexit__(self, *failure: object) -> None:
        session, self._session = self._session, None
        if session:
            await session.close()

    # -------------------------------------------------------------------------------------------- deployments

    async def execute_deployment(self, params: DeployParams) -> DeployResult:
        """Start a deployment; the same `deploy_id` with the same body starts nothing new."""
        return await self._call("POST", "/v1/deployment", DeployResult, body=params)

    async def get_deployment_status(self, deploy_id: str, *, wait_s: float = 0) -> DeployStatus:
        """The status, at once, or when it has ended or `wait_s` (at most 60) seconds have passed."""
        path = f"/v1/deployment/{_segment(deploy_id)}"
        return await self._call("GET", path, DeployStatus, wait_s=wait_s)

    async def cancel_deployment(self, deploy_id: str) -> CancelResult:
        """Ask for a cancel; instances past the point of no return still finish or go back."""
        path = f"/v1/deployment/{_segment(deploy_id)}/cancel"
        return await self._call("POST", path, CancelResult, body=CancelParams())

    async def wait_for_deployment(
        self,
        deploy_id: str,
        *,
        timeout_s: float | None = None,
        on_change: Callable[[DeployStatus], None] | None = None,
        on_trouble: Callable[[Trouble], None] | None = None,
    ) -> DeployStatus:
        """The final status of a deployment. Raises WaitTimeoutError when it is still open after `timeout_s`.

        `on_change` sees the first status and each different one; giving it asks more often. A controller that
        does not answer is told to `on_trouble`, asked again for 5 minutes, then the last error is raised."""
        return await self._wait(self.get_deployment_status, deploy_id, timeout_s, on_change, on_trouble)

    # ------------------------------------------------------------------------ versions, instances and history

    async def get_service_instance_versions(
        self, service: str, include_stopped: bool = False
    ) -> ServiceVersions:
        """Which version each instance of a service runs."""
        query = {"include_stopped": "true" if include_stopped else "false"}
        path = f"/v1/service/{_segment(service)}/versions"
        return await self._call("GET", path, ServiceVersions, query=query)

    async def get_service_instances(
        self,
        service: str,
        *,
        status: InstanceStatus | None = None,
        version: str = "",
        limit: int = 100,
        offset: int = 0,
    ) -> ServiceInstances:
        """One page (`limit` at most 1,000) of a service's instances; `total` counts all that match."""
        query = {"limit": str(limit), "offset": str(offset)}
        query |= {"status": status.value} if status else {}
        query |= {"version": version} if version else {}
        path = f"/v1/service/{_segment(service)}/instances"
        return await self._call("GET", path, ServiceInstances, query=query)

    async def get_version_history(
        self, instance_id: str, *, limit: int = 50, offset: int = 0
    ) -> VersionHistory:
        """What was tried on an instance and what came of it, newest first."""
        query = {"limit": str(limit), "offset": str(offset)}
        path = f"/v1/instance/{_segment(instance_id)}/version-history"
        return await self._call("GET", path, VersionHistory, query=query)

    # ---------------------------------------------------------------------------------------------- rollbacks

    async def rollback_instance(
        self, params: InstanceRollbackParams, idempotency_key: str | None = None
    ) -> RollbackResult:
        """Take one instance back. The same key with the same body starts nothing new."""
        path, key = "/v1/rollback/instance", idempotency_key or uuid.uuid4().hex
        return await self._call("POST", path, RollbackResult, body=params, key=key)

    async def rollback_batch(
        self, params: BatchRollbackParams, idempotency_key: str | None = None
    ) -> BatchRollbackResult:
        """Take several instances of a service back. The same key with the same body starts nothing new."""
        path, key = "/v1/rollback/batch", idempotency_key or uuid.uuid4().hex
        return await self._call("POST", path, BatchRollbackResult, body=params, key=key)

    async def get_rollback_status(self, rollback_id: str, *, wait_s: float = 0) -> RollbackStatus:
        """The status, at once, or when it has ended or `wait_s` (at most 60) seconds have passed."""
        path = f"/v1/rollback/{_segment(rollback_id)}"
        return await self._call("GET", path, RollbackStatus, wait_s=wait_s)

    async def cancel_rollback(self, rollback_id: str) -> CancelResult:
        """Ask for a cancel; instances past the point of no return still finish or go back."""
        path = f"/v1/rollback/{_segment(rollback_id)}/cancel"
        return await self._call("POST", path, CancelResult, body=CancelParams())

    async def wait_for_rollback(
        self,
        rollback_id: str,
        *,
        timeout_s: float | None = None,
        on_change: Callable[[RollbackStatus], None] | None = None,
        on_trouble: Callable[[Trouble], None] | None = None,
    ) -> RollbackStatus:
        """The final status of a rollback; all else as `wait_for_deployment`."""
        return await self._wait(self.get_rollback_status, rollback_id, timeout_s, on_change, on_trouble)

    # ------------------------------------------------------------------------------------------------- system

    async def get_system_health(self) -> SystemHealth:
        """The health of the system; an unhealthy one (HTTP 503) is an answer too, not an error."""
        return await self._call("GET", "/v1/system/health", SystemHealth, also=503)

    async def get_system_stats(self, period: Period = Period.DAY) -> SystemStats:
        """What ended in the last period, and how the instances do now."""
        return await self._call("GET", "/v1/system/stats", SystemStats, query={"period": period.value})

    # ------------------------------------------------------------------------------------------------ the way

    async def _wait(
        self,
        poll: Callable[..., Awaitable[StatusT]],
        operation_id: str,
        timeout_s: float | None,
        on_change: Callable[[StatusT], None] | None,
        on_trouble: Callable[[Trouble], None] | None,
    ) -> StatusT:
        heard = self._clock.monotonic()
        deadline = math.inf if timeout_s is None else heard + timeout_s
        seen: StatusT | None = None
        wait_s = 0.0  # the first answer comes at once, so that a watcher has something to show
        while True:
            asked = self._clock.monotonic()
            try:
                status = await poll(operation_id, wait_s=wait_s)
            except (ConnectionFailedError, UnavailableError) as exc:
                failed_at = self._clock.monotonic()
                hopeless = seen is None and failed_at >= deadline
                if hopeless or not exc.retryable or failed_at - heard >= PATIENCE_S:
                    raise
                if on_trouble:
                    on_trouble(exc)
                wait_s, pause_s = 0.0, self._dice.uniform(0, MAX_BACKOFF_S)  # too many may hold long polls
            else:
                heard = self._clock.monotonic()
                if on_change and status != seen:
                    on_change(status)
                seen = status
                if status.status in ENDED:
                    return status
                # An answer that came sooner than asked for (no long polls here?) must not become a busy loop.
                pause_s = min(1.0, max(0.0, wait_s - (heard - asked)))
                wait_s = LONG_POLL_S
                if on_change:
                    wait_s = min(LONG_POLL_S, max(1.0, status.progress.total / WATCHED_PER_SECOND))
            left = deadline - self._clock.monotonic()
            if left <= 0:
                raise WaitTimeoutError(operation_id, timeout_s or 0.0, seen)
            wait_s = min(wait_s, left)
            if pause_s > 0:
                await self._clock.sleep(min(pause_s, left))

    async def _call(
        self,
        method: str,
        path: str,
        model: type[AnswerT],
        *,
        query: Mapping[str, str] | None = None,
        body: Request | None = None,
        key: str = "",
        wait_s: float = 0,
        also: int = 200,  # a further status that brings data
    ) -> AnswerT:
        wait_s = math.ceil(min(wait_s, MAX_LONG_POLL_S))
        query = {**(query or {}), **({"wait": f"{wait_s}s"} if wait_s > 0 else {})}
        url = yarl.URL(self._base + path, encoded=True).with_query(query or None)
        sent = body.model_dump_json().encode() if body else None
        headers = {"Content-Type": "application/json"} if body else {}
        headers |= {"Idempotency-Key": key} if key else {}
        limit_s = self._timeout_s + wait_s
        give_up_at = self._clock.monotonic() + limit_s
        for tried in range(1, MAX_TRIES + 1):
            after_s = 0.0
            try:
                status, after_s, content = await self._exchange(method, url, headers, sent, limit_s)
                if status == 200 or (status == also and _brings_data(content)):
                    return _read(model, status, content)
                raise read_refusal(status, content)
            except (ConnectionFailedError, UnavailableError) as exc:
                backoff_s = self._dice.uniform(0, min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2**tried))
                pause_s = after_s + backoff_s
                late = self._clock.monotonic() + pause_s >= give_up_at
                if not exc.retryable or tried == MAX_TRIES or late:
                    raise
            await self._clock.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    async def _exchange(
        self, method: str, url: yarl.URL, headers: Mapping[str, str], content: bytes | None, timeout_s: float
    ) -> tuple[int, float, bytes]:
        """Send once; returns status, seconds of Retry-After and body."""
        if self._session is None:
            raise RuntimeError("the client is not open: use `async with Client(...) as client`")
        try:
            async with self._session.request(
                method,
                url,
                data=content,
                headers=headers,
                ssl=self._tls,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S),
            ) as answer:
                received = bytearray()
                async for block in answer.content.iter_chunked(64 * 1024):
                    received += block
                    if len(received) > MAX_ANSWER_BYTES:
                        raise BadAnswerError(answer.status, f"it is longer than {MAX_ANSWER_BYTES} bytes")
                return answer.status, _retry_after_s(answer.headers.get("Retry-After", "")), bytes(received)
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as exc:
            untrusted = isinstance(exc, aiohttp.ClientConnectorCertificateError)
            cause = exc.certificate_error if untrusted else exc.os_error
            why = f"TLS failed: {reason_of(cause)}"
            raise ConnectionFailedError(self._base, why, retryable=False) from exc
        except TimeoutError as exc:
            raise ConnectionFailedError(self._base, f"no answer within {timeout_s:g} s") from exc
        except aiohttp.ClientConnectorError as exc:
            raise ConnectionFailedError(self._base, reason_of(exc.os_error)) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise ConnectionFailedError(self._base, str(exc) or type(exc).__name__) from exc


def _check_base_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("the controller's address has no user, query or fragment")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"the controller's address is like https://host:port, not {value!r}")
    return value.rstrip("/")


def _check_token(value: str) -> str:
    """The text of the error never shows the token."""
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("a token is printable ASCII without spaces and not empty")
    return value


def _segment(value: str) -> str:
    """A name as one path segment; dots alone would be taken for a step in the path."""
    if value in {"", ".", ".."}:
        raise ValueError(f"{value!r} is no name")
    return quote(value, safe="")


def _retry_after_s(value: str) -> float:
    return min(float(value), MAX_RETRY_AFTER_S) if value.isascii() and value.isdigit() else 0.0


def _brings_data(content: bytes) -> bool:
    answer = parse_json(content)
    return isinstance(answer, dict) and isinstance(answer.get("data"), dict)


def _read(model: type[AnswerT], status: int, content: bytes) -> AnswerT:
    try:
        return Envelope[model].model_validate_json(content).data  # type: ignore[valid-type]
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        where = "/".join(str(part) for part in first["loc"]) or "the body"
        raise BadAnswerError(status, f"{where}: {first['msg']}", excerpt(content)) from exc
