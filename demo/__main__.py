"""`python -m demo`: tell the story in a folder that goes away with it. KEEP=1 leaves everything running.

Exit code 0: all went as told. 1: a difference was found, or something did not start; then the logs stay.
128 + n: ended early by signal n. No process is left in any case."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

from demo.errors import DemoError
from demo.performance import perform
from demo.screen import Screen
from releasehand import ReleasehandError
from shared.clock import SystemClock

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_OFF: Final = frozenset({"", "0", "no", "false"})


async def run(*, keep: bool) -> int:
    """Perform once; returns the exit code."""
    clock = SystemClock()
    screen = Screen(clock)
    performer, caught = asyncio.current_task(), list[signal.Signals]()
    assert performer is not None, "this is a coroutine"

    def interrupt(number: signal.Signals) -> None:
        if not caught:  # a second one must not disturb the tidying up
            caught.append(number)
            performer.cancel()

    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, interrupt, number)
    folder = Path(tempfile.mkdtemp(prefix="releasehand-demo-"))
    try:
        await perform(folder, screen, clock, keep=keep)
    except asyncio.CancelledError:
        if not caught:
            raise
        _remove(folder)
        screen.say("Stopped. No process is left, and no file.")
        return 0 if keep else 128 + caught[0]
    except (DemoError, ReleasehandError, OSError, ExceptionGroup) as exc:
        reasons = _reasons(exc)
        if reasons is None:
            raise
        screen.say()
        for reason in reasons:
            screen.tell(reason, "red")
        screen.say()
        screen.say("The demo failed; no process is left. The logs tell more:")
        screen.say(f"  daemons    {folder}/logs/")
        screen.say(f"  services   {folder}/host-*/srv/*/service.log")
        return 1
    _remove(folder)
    screen.say("No process is left, and no file.")
    return 0


def _reasons(exc: BaseException) -> list[str] | None:
    """What to tell; None if there is a bug among it, whose traceback tells more."""
    if isinstance(exc, BaseExceptionGroup):
        found = [_reasons(one) for one in exc.exceptions]
        return None if None in found else [reason for one in found if one for reason in one]
    return [str(exc)] if isinstance(exc, DemoError | ReleasehandError | OSError) else None


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(run(keep=os.environ.get("KEEP", "").lower() not in _OFF)))
