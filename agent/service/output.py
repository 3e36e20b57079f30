"""What a service prints, around an activation: for the release log, so that nobody has to log in to read it.

Reading it never fails and takes a bounded time: what stands in the way is told in its place."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from agent.finish import finish
from agent.tool import SYSTEMD_ENVIRONMENT, Output, printable, run_tool
from shared.clock import Clock
from shared.files import open_file

OUTPUT_BYTES: Final = 64 * 1024
READ_S: Final = 3.0


class ServiceOutput(Protocol):
    """What one instance's service prints."""

    @property
    def name(self) -> str:
        """What it is, for people; "" where nothing can be read."""
        ...

    async def mark(self) -> str:
        """Where it stands now, for `since`, by this agent or the next one; "" if that cannot be told."""
        ...

    async def since(self, mark: str, *, flush: bool) -> str:
        """The last OUTPUT_BYTES that came after `mark`, safe to show; or in parentheses why they cannot be
        read. "" if there are none. With `flush` the last words of a process that has just died are waited
        for, where they may still be on their way."""
        ...


class JournalOutput:
    """A unit's entries in systemd's journal, and what systemd says of it there. A ServiceOutput."""

    def __init__(
        self,
        unit: str,
        *,
        clock: Clock,
        journalctl: Sequence[str] = ("journalctl",),
        read_s: float = READ_S,
    ) -> None:
        """`journalctl` is the argv of the tool, `read_s` how long it may take."""
        self._unit, self._clock, self._journalctl, self._read_s = unit, clock, tuple(journalctl), read_s

    @property
    def name(self) -> str:
        """See ServiceOutput."""
        return f"the journal of {self._unit}"

    async def mark(self) -> str:
        """See ServiceOutput. Seconds since 1970: the journal finds its entries by time."""
        return f"{self._clock.now().timestamp():.6f}"

    async def since(self, mark: str, *, flush: bool) -> str:
        """See ServiceOutput. All runs of the unit since then: one that ends at once may have had several."""
        if not mark:
            return ""
        output = Output(OUTPUT_BYTES)
        try:
            async with asyncio.timeout(self._read_s):
                if flush and os.geteuid() == 0:  # others may not ask for it
                    await run_tool([*self._journalctl, "--quiet", "--sync"], environment=SYSTEMD_ENVIRONMENT)
                ran = await run_tool(
                    [
                        *self._journalctl,
                        *("--quiet", "--all", "--output=short-iso-precise", "--no-hostname"),
                        f"--since=@{mark}",
                        f"--unit={self._unit}",
                    ],
                    environment=SYSTEMD_ENVIRONMENT,
                    output=output,
                )
        except TimeoutError:
            return f"{output.text}\n(it could not be read to its end within {self._read_s:g} s)".lstrip()
        except OSError as exc:
            return f"(it cannot be read: {self._journalctl[0]} does not start: {exc.strerror or exc})"
        if ran.code != 0:
            return f"(it cannot be read: journalctl ended with {ran.code}: {output.text})"
        return output.text


class FileOutput:
    """The file that a service of the driver `command` prints into. A ServiceOutput."""

    def __init__(self, path: Path) -> None:
        """It may be put aside as `<path>.1` when the service starts."""
        self._path = path

    @property
    def name(self) -> str:
        """See ServiceOutput."""
        return self._path.name

    async def mark(self) -> str:
        """See ServiceOutput. Which file it is, and its length."""
        return await finish(asyncio.to_thread(self._mark))

    async def since(self, mark: str, *, flush: bool) -> str:
        """See ServiceOutput."""
        return await finish(asyncio.to_thread(self._since, mark))

    def _mark(self) -> str:
        with suppress(OSError), open_file(self._path) as file:
            found = os.fstat(file.fileno())
            return f"{found.st_ino}:{found.st_size}"
        return ""

    def _since(self, mark: str) -> str:
        aside = self._path.with_name(f"{self._path.name}.1")
        inode, _, length = mark.partition(":")
        tail = b""
        try:
            with open_file(self._path) as file:
                is_same = str(os.fstat(file.fileno()).st_ino) == inode
                tail = _read_end(file, int(length) if is_same else 0)
            if inode and not is_same:
                with open_file(aside) as file:
                    if str(os.fstat(file.fileno()).st_ino) == inode:
                        tail = _read_end(file, int(length)) + tail
        except FileNotFoundError:
            pass
        except OSError as exc:
            return f"(it cannot be read: {exc.strerror or exc})"
        return printable(tail[-OUTPUT_BYTES:])


class NoOutput:
    """Of a service that somebody else runs. A ServiceOutput."""

    name: Final = ""

    async def mark(self) -> str:
        """See ServiceOutput."""
        return ""

    async def since(self, mark: str, *, flush: bool) -> str:
        """See ServiceOutput."""
        return ""


def _read_end(file: BinaryIO, start: int) -> bytes:
    """The last OUTPUT_BYTES of what stands behind `start`; all of a file that was made shorter."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(start if start <= end else 0, end - OUTPUT_BYTES))
    return file.read(OUTPUT_BYTES)
