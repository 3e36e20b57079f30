"""The process that meets the archive: `python -I -m agent.unpack.child`, started by agent.unpack.parent only.

Reads one JSON object from stdin (descriptors and limits), answers with one JSON line on stdout: {"done":
…}, {"refused": reason}, {"no_space": true} or {"host": reason}. Anything else, and any other end, is a
failure of ours. Imports as little as it can: it starts for each package.
"""

import errno
import json
import os
import resource
import sys
from typing import Any, Final

from agent.unpack.entry import Entry, Kind
from agent.unpack.formats import open_archive
from agent.unpack.limits import Limits
from agent.unpack.refusal import RefusedError
from agent.unpack.stream import Stream
from agent.unpack.tree import Tree
from agent.unpack.writer import Writer

_OPEN_FILES: Final = 256  # a path may be 64 deep, twice for a hard link


def main() -> None:
    """Carry out the one order on stdin."""
    order = json.loads(sys.stdin.buffer.readline())
    limits = Limits(**order["limits"])
    restrict(limits)
    json.dump(answer(order["package_fd"], order["destination_fd"], limits), sys.stdout)
    sys.stdout.write("\n")


def restrict(limits: Limits) -> None:
    """Give up what unpacking does not need. Holds for this process until it ends."""
    os.umask(0)  # modes are given exactly; nobody else can reach the destination yet
    cpu_s = int(limits.seconds) + 1
    for what, most in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, limits.total_bytes),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (allowed, allowed))


def answer(package_fd: int, destination_fd: int, limits: Limits) -> dict[str, Any]:
    """Unpack and say how it went."""
    try:
        if os.listdir(destination_fd):
            return {"host": "the destination is not empty"}
        tree = unpack(package_fd, destination_fd, limits)
    except RefusedError as exc:
        return {"refused": str(exc)}
    except MemoryError:
        return {"refused": f"reading it needs more than {limits.memory_bytes} bytes of memory"}
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            return {"no_space": True}
        return {"host": f"{exc.strerror} ({errno.errorcode.get(exc.errno or 0, 'unknown error')})"}
    return {"done": {"entries": tree.entries, "total_bytes": tree.total_bytes}}


def unpack(package_fd: int, destination_fd: int, limits: Limits) -> Tree:
    """Make what the archive holds below `destination_fd`; the symlinks last, once all of them are known.

    Raises RefusedError or OSError, and leaves behind what was made until then.
    """
    tree, writer = Tree(limits), Writer(destination_fd)
    try:
        with open(package_fd, "rb", buffering=0, closefd=False) as package:
            stream, reader = open_archive(package, limits)
            for entry in reader:
                if tree.add(entry):
                    _make(entry, stream, writer)
        tree.check_links()
        for parts, target in tree.links:
            writer.make_symlink(parts, target)
    finally:
        writer.close()
    return tree


def _make(entry: Entry, stream: Stream, writer: Writer) -> None:
    match entry.kind:
        case Kind.FILE:
            content = stream.chunks(entry.size_bytes, "a file's content")
            writer.make_file(entry.parts, content, executable=entry.executable)
        case Kind.DIRECTORY:
            writer.make_directory(entry.parts)
        case Kind.HARDLINK:
            writer.make_hardlink(entry.parts, tuple(entry.target.split("/")))
        case Kind.SYMLINK:
            pass  # made at the end


if __name__ == "__main__":
    main()
