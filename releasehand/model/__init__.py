"""The words of the interface: models of requests and answers, statuses, phases and error codes.

Everything that schedulers, the client, both daemons and the OpenAPI document say is declared here once. The
names of `.names` are loaded when one of them is asked for: an agent takes the few that it needs from the
modules beside it, and is spared the memory of the rest."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .names import *  # noqa: F403 - the type checker knows each of them, and no other
else:

    def __getattr__(name: str) -> object:
        if name == "__all__" or not name.startswith("__"):
            names = import_module(".names", __name__)
            if name == "__all__" or name in names.__all__:
                return getattr(names, name)
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

    def __dir__() -> list[str]:
        return sorted({*globals(), *import_module(".names", __name__).__all__})
