"""The HTTP API that schedulers call: one file per resource, one table of routes, one OpenAPI document."""

from .application import make_api
from .deps import ApiDeps, ApiStore
from .rates import RateLimits
from .server import serve_api

__all__ = ["ApiDeps", "ApiStore", "RateLimits", "make_api", "serve_api"]
