"""Reading in a process of its own, so that decompressing and making files go on at the same time.

Threads would not do: they would take turns in the interpreter at every system call. Both processes are in
the sandbox before there are two, so neither can do more than the other. Contents lie in a ring of blocks of
memory that the two share; what to make of them goes through a pipe, a block at a time; which blocks are free
again comes back through another.
"""

import marshal
import mmap
import os
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, BinaryIO, Final, NoReturn

from agent.unpack import sandbox
from agent.unpack.entry import Kind
from agent.unpack.writer import Writer

_BLOCK_BYTES: Final = 512 * 1024
_BLOCKS: Final = 4
# For one block: directories and empty files take no room in it, but their names do in memory.
_MOST_STEPS: Final = 2_000
_MOST_NAME_CHARS: Final = 128 * 1024
_LENGTH_BYTES: Final = 4
_FAILED: Final = 1

# A step is (kind, path, argument), or the length of a piece of content of the file that came last. marshal is
# quick, and trusting it costs nothing: the writer could do no more than the one who sends it something bad.
_FILE: Final = Kind.FILE.value
_DIRECTORY: Final = Kind.DIRECTORY.value
_HARDLINK: Final = Kind.HARDLINK.value
_SYMLINK: Final = Kind.SYMLINK.value
Step = tuple[int, str, "str | bool"]
Verdict = dict[str, Any]


class Dictation:
    """What the reader has in the writer's place: tells the other process what to make.

    Ends this process when the other one has given up; that one knows why.
    """

    def __init__(self, ring: memoryview, orders: int, answers: int) -> None:
        """`ring` is shared memory; `orders` is the end of a pipe to write to, `answers` of one to read."""
        self._ring, self._orders, self._answers = ring, orders, answers
        self._block = self._used = self._busy = self._name_chars = 0
        self._steps: list[Step | int] = []

    def make_directory(self, path: str) -> None:
        """See Writer."""
        self._add((_DIRECTORY, path, ""), len(path))

    def make_file(self, path: str, content: Iterable[memoryview], *, executable: bool) -> None:
        """See Writer."""
        self._add((_FILE, path, executable), len(path))
        for view in content:
            used, size = self._used, len(view)
            if size <= _BLOCK_BYTES - used and len(self._steps) < _MOST_STEPS:  # nearly every small file
                at = self._block * _BLOCK_BYTES + used
                self._ring[at : at + size] = view
                self._steps.append(size)
                self._used = used + size
            else:
                self._add_parts(view)

    def _add_parts(self, view: memoryview) -> None:
        """Add content that does not fit into what is left of the block."""
        while view:
            if self._used == _BLOCK_BYTES or len(self._steps) >= _MOST_STEPS:
                self._hand_over()
            size = min(len(view), _BLOCK_BYTES - self._used)
            at = self._block * _BLOCK_BYTES + self._used
            self._ring[at : at + size] = view[:size]
            self._steps.append(size)
            self._used += size
            view = view[size:]

    def make_hardlink(self, path: str, target: str) -> None:
        """See Writer."""
        self._add((_HARDLINK, path, target), len(path) + len(target))

    def make_symlink(self, path: str, target: str) -> None:
        """See Writer."""
        self._add((_SYMLINK, path, target), len(path) + len(target))

    def end(self, verdict: Verdict) -> None:
        """The last word; nothing may follow."""
        self._hand_over()
        self._send(verdict)

    def _add(self, step: Step, name_chars: int) -> None:
        if len(self._steps) >= _MOST_STEPS or self._name_chars >= _MOST_NAME_CHARS:
            self._hand_over()
        self._steps.append(step)
        self._name_chars += name_chars

    def _hand_over(self) -> None:
        """Send the block, and wait until the next one is free."""
        self._send(self._steps)
        self._steps, self._used, self._name_chars = [], 0, 0
        self._block = (self._block + 1) % _BLOCKS
        self._busy += 1
        while self._busy == _BLOCKS:
            done = len(os.read(self._answers, _BLOCKS))
            if not done:
                os._exit(_FAILED)
            self._busy -= done

    def _send(self, what: list[Step | int] | Verdict) -> None:
        order = marshal.dumps(what)
        data = memoryview(len(order).to_bytes(_LENGTH_BYTES, "little") + order)
        try:
            while data:
                data = data[os.write(self._orders, data) :]
        except BrokenPipeError:
            os._exit(_FAILED)


def write_by_dictation(read: Callable[[Dictation], Verdict], root: int) -> Verdict:
    """Have another process do `read`, make what it dictates below the descriptor `root`, and return its
    verdict. Neither can start a process afterwards.

    Call it in the sandbox, before a thread is started. The other process has ended on return. If it ends
    without a verdict, so does this one, in the same way. Raises OSError.
    """
    ring = memoryview(mmap.mmap(-1, _BLOCKS * _BLOCK_BYTES))
    orders, to_writer = os.pipe()
    from_writer, answers = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(orders)
        os.close(answers)
        _dictate(read, Dictation(ring, to_writer, from_writer))
    os.close(to_writer)
    os.close(from_writer)
    sandbox.forbid_processes()
    writer, verdict = Writer(root), None
    try:
        with open(orders, "rb") as pipe:
            scribe = _Scribe(pipe, ring, answers)
            scribe.write(writer)
            verdict = scribe.verdict
    finally:
        writer.close()
        os.close(answers)
        if verdict is None:
            os.kill(process, signal.SIGKILL)  # not reaped yet, so the number is still its own
        _, status = os.waitpid(process, 0)
    if verdict is None:
        _end_like(status)
    return verdict


def _dictate(read: Callable[[Dictation], Verdict], dictation: Dictation) -> NoReturn:
    """Be the reader."""
    code = _FAILED
    try:
        sandbox.end_with_parent()
        sandbox.forbid_processes()
        dictation.end(read(dictation))
        code = 0
    except BaseException:  # noqa: BLE001 — this process ends here, whatever it is
        sys.__excepthook__(*sys.exc_info())  # traceback would be one more import for each package
    finally:
        os._exit(code)


def _end_like(status: int) -> NoReturn:
    if os.WIFSIGNALED(status):
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(_FAILED)


class _Scribe:
    """Takes down what is dictated."""

    def __init__(self, orders: BinaryIO, ring: memoryview, answers: int) -> None:
        self.verdict: Verdict | None = None
        self._orders, self._ring, self._answers = orders, ring, answers

    def write(self, writer: Writer) -> None:
        """Make everything, until the verdict comes or the reader has ended. Raises OSError."""
        block = 0
        while (steps := self._receive()) is not None:
            self._carry_out(steps, block * _BLOCK_BYTES, writer)
            block = (block + 1) % _BLOCKS
            with suppress(BrokenPipeError):  # it has said everything
                os.write(self._answers, b"\0")

    def _carry_out(self, steps: list[Step | int], at: int, writer: Writer) -> None:
        """Do what one block asks for; its contents begin `at`. A file may go on in the next one."""
        for step in steps:
            if isinstance(step, int):
                writer.append(self._ring[at : at + step])
                at += step
                continue
            kind, path, argument = step
            if kind == _FILE:
                writer.begin_file(path, executable=bool(argument))
            elif kind == _DIRECTORY:
                writer.make_directory(path)
            elif kind == _HARDLINK:
                writer.make_hardlink(path, str(argument))
            else:
                writer.make_symlink(path, str(argument))

    def _receive(self) -> list[Step | int] | None:
        """Return the next steps; None at the end."""
        head = self._orders.read(_LENGTH_BYTES)
        length = int.from_bytes(head, "little")
        order = self._orders.read(length)
        if len(head) < _LENGTH_BYTES or len(order) < length:
            return None
        said: list[Step | int] | Verdict = marshal.loads(order)  # noqa: S302 — see above
        if isinstance(said, dict):
            self.verdict = said
            return None
        return said
