"""Work that is done again and again, whatever becomes of one round."""

from collections.abc import Awaitable, Callable
from typing import NoReturn

from controller.core.refusals import StoreUnavailableError
from shared.clock import Clock
from shared.logs import get_log

log = get_log(__name__)


async def repeat(
    name: str, work: Callable[[], Awaitable[None]], clock: Clock, *, every_s: float, first_after_s: float = 0
) -> NoReturn:
    """Do `work` until cancelled. A database that does not answer, or a bug of ours, costs that round alone;
    `name` stands in the log."""
    if first_after_s:
        await clock.sleep(first_after_s)
    while True:
        try:
            await work()
        except StoreUnavailableError as exc:
            log.warning("round was put off", work=name, reason=str(exc))
        except Exception:  # noqa: BLE001 - a bug of ours must not end the controller: it is told, and tried again
            log.crash("round met a bug", work=name)
        await clock.sleep(every_s)
