"""Commands that the host's owner puts around each activation: drain before it, warm up and bring back after
it.

They come from the host's configuration alone; nothing of a controller's becomes one or an argument of one.
What they are told stands in their environment."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from agent.errors import HookFailedError
from agent.tool import MINIMAL_PATH, Output

OUTPUT_BYTES: Final = 64 * 1024
_SHOWN_CHARS: Final = 500  # of a failing hook's output, in the failure's message


class Action(StrEnum):
    """What the hooks stand around."""

    ACTIVATE = "activate"  # the release that a command asked for
    REVERT = "revert"  # back to the one before


@dataclass(frozen=True)
class Hook:
    """One command. No shell is involved."""

    command: tuple[str, ...]
    timeout_s: float = 30.0


@dataclass(frozen=True)
class Occasion:
    """What the hooks are told. `version` and `release_dir` are those that are (to be) active; the previous
    version is "" where there was none."""

    instance: str
    service: str
    port: int
    version: str
    release_dir: Path
    previous_version: str
    action: Action

    def environment(self) -> dict[str, str]:
        """All that a hook finds in its environment."""
        return {
            "PATH": MINIMAL_PATH,
            "RELEASEHAND_INSTANCE": self.instance,
            "RELEASEHAND_SERVICE": self.service,
            "RELEASEHAND_PORT": str(self.port),
            "RELEASEHAND_VERSION": self.version,
            "RELEASEHAND_RELEASE_DIR": str(self.release_dir),
            "RELEASEHAND_PREVIOUS_VERSION": self.previous_version,
            "RELEASEHAND_ACTION": self.action,
        }


class HookNotRunError(Exception):
    """The place could not run a hook, or could not end one; the text says why."""


class HookPlace(Protocol):
    """Where the hooks of one instance run, one at a time: agent.hooks.unit, or agent.hooks.child."""

    async def run(
        self, command: Sequence[str], *, environment: Mapping[str, str], timeout_s: float, output: Output
    ) -> int:
        """Run it to its end, in `/`; return its exit code, or minus the signal that ended it. `output` fills
        meanwhile.

        Nothing of it is left on return or after a cancel, by which the caller ends it after `timeout_s`.
        Call `clear` before. Raises OSError where its program does not start, HookNotRunError."""
        ...

    async def clear(self) -> None:
        """End what an agent that was killed left running here, and wait until it is gone. Safe to repeat.
        Raises HookNotRunError."""
        ...


class Account:
    """What was printed in one attempt, hook by hook; the newest OUTPUT_BYTES of it."""

    def __init__(self) -> None:
        self._text = ""

    def add(self, title: str, output: str) -> None:
        self._text = f"{self._text}{title}\n{output}\n"[-OUTPUT_BYTES:]

    @property
    def text(self) -> str:
        return self._text.rstrip("\n")


async def run_hooks(
    kind: str, hooks: Sequence[Hook], occasion: Occasion, account: Account, place: HookPlace
) -> None:
    """Run them in their order, each to its end, until one fails. `kind` names them for people.

    Nothing of them is left when this returns or is cancelled. Hooks that were begun may run again after a
    crash, so they must be safe to repeat. Raises HookFailedError."""
    for number, hook in enumerate(hooks, start=1):
        await end_leftover(place)
        name = f"{kind} {number} ({hook.command[0]})"
        output = Output(OUTPUT_BYTES)
        how = "was cancelled"
        try:
            async with asyncio.timeout(hook.timeout_s):
                code = await place.run(
                    hook.command, environment=occasion.environment(), timeout_s=hook.timeout_s, output=output
                )
            how = f"ended with {code}" if code >= 0 else f"was ended by signal {-code}"
        except TimeoutError as exc:
            how = f"did not end within {hook.timeout_s:g} s"
            raise HookFailedError(name, f"it {how}", output.text[-_SHOWN_CHARS:]) from exc
        except OSError as exc:
            how = f"does not start: {exc.strerror or exc}"
            raise HookFailedError(name, f"it {how}") from exc
        except HookNotRunError as exc:
            how = f"was not run: {exc}"
            raise HookFailedError(name, f"it {how}", output.text[-_SHOWN_CHARS:]) from exc
        finally:
            account.add(f"{name}, {occasion.action} {occasion.version}: {how}", output.text)
        if code != 0:
            raise HookFailedError(name, f"it {how}", output.text[-_SHOWN_CHARS:])


async def end_leftover(place: HookPlace) -> None:
    """See HookPlace.clear. Raises HookFailedError."""
    try:
        await place.clear()
    except HookNotRunError as exc:
        raise HookFailedError("what an earlier hook left", str(exc)) from exc
