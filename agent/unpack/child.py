"""The process that meets the archive; started by agent.unpack.process only.

Waits for one message on stdin, which is a socket: a JSON object (limits, user), and with it the descriptors
of the package and of the destination. Answers with one JSON line on stdout: {"done": …}, {"refused": reason},
{"no_space": true} or {"host": reason}. Anything else, and any other end, is a failure of ours. Imports as
little as it can: it starts for each package.
"""

import _socket  # not socket, which takes longer to import than all else here
import ctypes
import errno
import json
import os
import sys
from collections.abc import Callable
from typing import Any, Final

from agent.unpack import sandbox
from agent.unpack.dictation import Dictation, write_by_dictation
from agent.unpack.entry import Entry, Kind, Reader
from agent.unpack.formats import choose_reader
from agent.unpack.limits import Limits
from agent.unpack.refusal import RefusedError, show
from agent.unpack.tree import Tree
from agent.unpack.writer import Writer

_MOST_ORDER_BYTES: Final = 16 * 1024
_DESCRIPTORS_BYTES: Final = 8  # two C ints
_M_TRIM_THRESHOLD: Final = -1  # malloc.h
_M_MMAP_THRESHOLD: Final = -3
_MIB: Final = 1024 * 1024


def main() -> None:
    """Carry out the one order that comes; end when none is to come any more, as the parent has ended."""
    parent = _socket.socket(fileno=sys.stdin.fileno())
    message, ancillary, _, _ = parent.recvmsg(_MOST_ORDER_BYTES, _socket.CMSG_SPACE(_DESCRIPTORS_BYTES))
    if not message:
        return
    order = json.loads(message)
    [(_, _, passed)] = ancillary
    package, destination = memoryview(passed).cast("i")
    said = answer(package, destination, Limits(**order["limits"]), order["user"])
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
    os._exit(0)  # nothing here is worth the time of taking it down


def answer(package_fd: int, destination_fd: int, limits: Limits, user: int | None) -> dict[str, Any]:
    """Go into the sandbox, unpack, and say how it went."""
    _keep_memory()
    show("\a")  # loads the codec that escapes, which could not be read any more later

    def prepare_and_write() -> dict[str, Any]:
        with open(package_fd, "rb", buffering=0, closefd=False) as package:
            package.seek(0)
            start_reading = choose_reader(package, limits)
            sandbox.confine(destination_fd, limits, user)
            if os.listdir(destination_fd):
                return {"host": "the destination is not empty"}

            def read(writer: Dictation) -> dict[str, Any]:
                return _outcome(lambda: _count(unpack(start_reading(), writer, limits)), limits)

            return write_by_dictation(read, destination_fd)

    return _outcome(prepare_and_write, limits)


def _keep_memory() -> None:
    """Have the C library use the memory of the last block for the next one. It would give it back to the
    kernel at first, and get each page anew: 24,000 page faults for 200 MB."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc has it (mallopt(3))
        libc.mallopt(_M_MMAP_THRESHOLD, 2 * _MIB)
        libc.mallopt(_M_TRIM_THRESHOLD, 4 * _MIB)


def _outcome(work: Callable[[], dict[str, Any]], limits: Limits) -> dict[str, Any]:
    """What `work` says, or why it could not."""
    try:
        return work()
    except RefusedError as exc:
        return {"refused": str(exc)}
    except MemoryError:
        return _needs_memory(limits)
    except OSError as exc:
        if exc.errno == errno.ENOMEM:
            return _needs_memory(limits)
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            return {"no_space": True}
        if exc.errno == errno.EMLINK:
            return {"refused": "it gives one file more names than this file system can"}
        return {"host": f"{exc.strerror} ({errno.errorcode.get(exc.errno or 0, 'unknown error')})"}


def _needs_memory(limits: Limits) -> dict[str, Any]:
    return {"refused": f"reading it needs more than {limits.memory_bytes} bytes of memory"}


def _count(tree: Tree) -> dict[str, Any]:
    return {"done": {"entries": tree.entries, "total_bytes": tree.total_bytes}}


def unpack(reader: Reader, writer: Writer | Dictation, limits: Limits) -> Tree:
    """Have `writer` make what the archive holds; the symlinks last, once all of them are known.

    Raises RefusedError or OSError, and leaves behind what was made until then.
    """
    tree = Tree(limits)
    for entry in reader:
        tree.add(entry)
        _make(entry, reader, writer)
    tree.check_whole()
    for path, target in tree.links.items():
        writer.make_symlink(path.decode(), target.decode())
    return tree


def _make(entry: Entry, reader: Reader, writer: Writer | Dictation) -> None:
    match entry.kind:
        case Kind.FILE:
            writer.make_file(entry.path, reader.content(entry), executable=entry.executable)
        case Kind.DIRECTORY:
            writer.make_directory(entry.path)
        case Kind.HARDLINK:
            writer.make_hardlink(entry.path, entry.target)
        case Kind.SYMLINK:
            pass  # made at the end


if __name__ == "__main__":
    main()
