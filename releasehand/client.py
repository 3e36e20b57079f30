"""The Python client of the controller's HTTP API: one coroutine for each function of the interface."""

from .connection import Clock, LoopClock, Trouble
from .fleet_calls import FleetCalls
from .operation_calls import OperationCalls

__all__ = ["Client", "Clock", "LoopClock", "Trouble"]


class Client(OperationCalls, FleetCalls):
    """A connection to one controller; use it as `async with Client(url, token) as client`.

    `timeout_s` bounds one HTTP exchange and the time spent on repeating it. `ca_file` (PEM) replaces the
    system's certificate authorities. Proxies of the environment are not used, redirects not followed.

    Every call is safe to repeat, so each is repeated after a lost connection and after 429, 502, 503 and 504:
    at most 5 tries, full jitter, never sooner than `Retry-After`. A deployment carries its `deploy_id`; a
    rollback carries an idempotency key, made here if the caller gives none. Safe to cancel; whether a request
    that was under way was carried out is then unknown. Calls may run side by side. Every call raises
    ConnectionFailedError, BadAnswerError or a class of ApiError (`releasehand.errors`)."""
