"""The writer in a process of its own, so that decompressing and making files go on at the same time.

Threads would not do: they would take turns in the interpreter at every system call. Both processes are in
the sandbox before there are two, so neither can do more than the other. Contents lie in a ring of blocks of
memory that the two share; what to make of them goes through a pipe, a block at a time; what became of it
comes back through another.
"""

import marshal
import mmap
import os
import sys
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import BinaryIO, Final, NoReturn, Self

from agent.unpack import sandbox
from agent.unpack.entry import Kind
from agent.unpack.writer import Writer

_BLOCK_BYTES: Final = 1024 * 1024
_BLOCKS: Final = 4
_MOST_STEPS: Final = 2_000  # for one block: directories and empty files take no room in it
_LENGTH_BYTES: Final = 4
_DONE, _FAILED = b"\0", b"\1"

# A step is (kind, path, argument), or the length of a piece of content of the file that came last. marshal is
# quick, and trusting it costs nothing: the writer could do no more than the one who sends it something bad.
_FILE: Final = Kind.FILE.value
_DIRECTORY: Final = Kind.DIRECTORY.value
_HARDLINK: Final = Kind.HARDLINK.value
_SYMLINK: Final = Kind.SYMLINK.value
Step = tuple[int, str, "str | bool"]


class WriterProcess:
    """Like agent.unpack.writer.Writer, but an error may be raised by a later call, at the latest at the end
    of the `with` block; there the other process has ended in any case.

    Call it in the sandbox, before a thread is started. Raises OSError.
    """

    def __init__(self, root: int) -> None:
        self._ring = mmap.mmap(-1, _BLOCKS * _BLOCK_BYTES)
        self._view = memoryview(self._ring)
        self._block = self._used = self._busy = 0
        self._steps: list[Step | int] = []
        steps, self._to_writer = os.pipe()
        self._from_writer, answers = os.pipe()
        self._process = os.fork()
        if self._process == 0:
            os.close(self._to_writer)
            os.close(self._from_writer)
            _serve(root, self._view, steps, answers)
        os.close(steps)
        os.close(answers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if exc is None:
                self._send()
        finally:
            os.close(self._to_writer)  # what it takes for the end
            try:
                while exc is None and self._hear():
                    pass
            finally:
                _, status = os.waitpid(self._process, 0)
                os.close(self._from_writer)
        if exc is None and status:
            raise RuntimeError(f"the writing process ended with {status}")

    def make_directory(self, path: str) -> None:
        """See Writer."""
        self._add((_DIRECTORY, path, ""))

    def make_file(self, path: str, content: Iterable[memoryview], *, executable: bool) -> None:
        """See Writer."""
        self._add((_FILE, path, executable))
        for view in content:
            start, length = 0, len(view)
            while start < length:
                if self._used == _BLOCK_BYTES:
                    self._send()
                size = min(length - start, _BLOCK_BYTES - self._used)
                at = self._block * _BLOCK_BYTES + self._used
                self._view[at : at + size] = view[start : start + size]
                self._steps.append(size)
                self._used += size
                start += size

    def make_hardlink(self, path: str, target: str) -> None:
        """See Writer."""
        self._add((_HARDLINK, path, target))

    def make_symlink(self, path: str, target: str) -> None:
        """See Writer."""
        self._add((_SYMLINK, path, target))

    def _add(self, step: Step) -> None:
        if len(self._steps) >= _MOST_STEPS:
            self._send()
        self._steps.append(step)

    def _send(self) -> None:
        """Hand the block over, and wait until the next one is free."""
        order = marshal.dumps(self._steps)
        data = memoryview(len(order).to_bytes(_LENGTH_BYTES, "little") + order)
        try:
            while data:
                data = data[os.write(self._to_writer, data) :]
        except BrokenPipeError:
            while self._hear():
                pass
            raise RuntimeError("the writing process ended before its time") from None
        self._steps, self._used = [], 0
        self._block = (self._block + 1) % _BLOCKS
        self._busy += 1
        while self._busy == _BLOCKS and self._hear():
            pass

    def _hear(self) -> bool:
        """Wait until some blocks are done; False if the writer has ended. Raises the OSError it had."""
        heard = os.read(self._from_writer, 4096)
        done, failed, code = heard.partition(_FAILED)
        if failed:
            number = int.from_bytes(code, "little")
            raise OSError(number, os.strerror(number))
        self._busy -= len(done)
        return bool(heard)


def _serve(root: int, ring: memoryview, steps: int, answers: int) -> NoReturn:
    """Be the writer until there are no more steps."""
    code = 1
    try:
        sandbox.end_with_parent()
        sandbox.forbid_processes()
        writer = Writer(root)
        try:
            with open(steps, "rb") as orders:
                _carry_out(_read_steps(orders, ring, answers), writer)
        except OSError as exc:
            os.write(answers, _FAILED + (exc.errno or 0).to_bytes(4, "little"))
        finally:
            writer.close()
        code = 0
    except BaseException as exc:  # noqa: BLE001 — this process ends here, whatever it is
        sys.stderr.write(f"{type(exc).__name__}: {exc}\n")
        sys.stderr.flush()
    finally:
        os._exit(code)


def _read_steps(orders: BinaryIO, ring: memoryview, answers: int) -> Iterator[Step | memoryview]:
    """Yield the steps, contents in place of lengths. A view is good until the next step is asked for."""
    block = 0
    while len(head := orders.read(_LENGTH_BYTES)) == _LENGTH_BYTES:
        length = int.from_bytes(head, "little")
        order = orders.read(length)
        if len(order) < length:
            return  # the reader has died
        at = block * _BLOCK_BYTES
        for step in marshal.loads(order):  # noqa: S302 — see above
            if isinstance(step, int):
                yield ring[at : at + step]
                at += step
            else:
                yield step
        block = (block + 1) % _BLOCKS
        os.write(answers, _DONE)


def _carry_out(steps: Iterator[Step | memoryview], writer: Writer) -> None:
    following: list[Step] = []

    def content() -> Iterator[memoryview]:
        for step in steps:
            if not isinstance(step, memoryview):
                following.append(step)
                return
            yield step

    while True:
        step = following.pop() if following else next(steps, None)
        if step is None or isinstance(step, memoryview):
            return
        kind, path, argument = step
        if kind == _FILE:
            writer.make_file(path, content(), executable=bool(argument))
        elif kind == _DIRECTORY:
            writer.make_directory(path)
        elif kind == _HARDLINK:
            writer.make_hardlink(path, str(argument))
        else:
            writer.make_symlink(path, str(argument))
