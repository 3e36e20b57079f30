"""The HTTP API that schedulers call: one file per resource, one table of routes, one OpenAPI document."""

from .application import make_api
from .deps import ApiDeps, ApiStore
from .leases import Leases
from .rates import RateLimits
from .server import serve_api
from .uses import Uses

__all__ = ["ApiDeps", "ApiStore", "Leases", "RateLimits", "Uses", "make_api", "serve_api"]
