"""releasehand: carry out software releases, and tell the truth about them.

`from releasehand import Client` brings the client; the models are in `releasehand.model`. Names are loaded
when they are asked for: the daemons need the models alone and import no HTTP library from here."""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .client import Client
    from .errors import (
        ApiError,
        BadAnswerError,
        BusyError,
        ConflictError,
        ConnectionFailedError,
        Fault,
        InvalidRequestError,
        NotFoundError,
        ReleasehandError,
        UnauthenticatedError,
        UnavailableError,
        WaitTimeoutError,
    )

__all__ = [
    "ApiError",
    "BadAnswerError",
    "BusyError",
    "Client",
    "ConflictError",
    "ConnectionFailedError",
    "Fault",
    "InvalidRequestError",
    "NotFoundError",
    "ReleasehandError",
    "UnauthenticatedError",
    "UnavailableError",
    "WaitTimeoutError",
]

_HOMES: Final = {name: ".client" if name == "Client" else ".errors" for name in __all__}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
