"""The tree that an archive would make, held in memory: decides whether an entry may exist before it does."""

from typing import Final

from agent.unpack.entry import Entry, Kind
from agent.unpack.limits import Limits
from agent.unpack.links import LinkText
from agent.unpack.names import fold
from agent.unpack.places import Place, Places
from agent.unpack.refusal import RefusedError, show

_MAX_HOPS: Final = 30  # symlinks met while resolving one; Linux stops at 40
_MAX_STEPS: Final = 5_000_000  # parts looked at for all links together: some ten seconds


class Tree:
    """Grows by `add`; `check_whole` must pass before any symlink is made.

    Paths are not kept, only what stands at them (agent.unpack.places). A path that is taken for another one
    is refused, or is a directory, which is made all the same. Symlinks are kept, and resolved by their paths.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._places = Places()
        self._places.put("", Place.DIRECTORY)
        self._written_links = LinkText()
        self._known_directory = ""
        self._has_file = False
        self._steps = 0
        self.links: dict[bytes, bytes] = {}
        """The symlinks in archive order, known once `check_whole` has passed: where, and the target. In
        UTF-8: in a str, one odd character makes all others take four bytes too."""
        self.entries = 0
        self.total_bytes = 0

    def add(self, entry: Entry) -> None:
        """Take `entry` in. A directory may be there already.

        Raises RefusedError for a duplicate, a file used as a directory, a hard link to anything but an
        earlier file, and for whatever passes a limit, before a byte of it is written.
        """
        path = entry.path
        directory, _, _ = path.rpartition("/")
        if directory != self._known_directory:
            self._imply(directory)
            self._known_directory = directory
        place = self._judge(entry, path)
        present = self._places.put(path, place)
        if present is None:
            self._count(path)
        elif not (place is Place.DIRECTORY and present is Place.DIRECTORY):
            if not path:
                raise RefusedError("an entry that is no directory would replace the destination itself")
            raise RefusedError(f"the entry {show(path)} is there twice")

    def _judge(self, entry: Entry, path: str) -> Place:
        match entry.kind:
            case Kind.FILE:
                self._has_file = True
                self.total_bytes += entry.size_bytes
                if self.total_bytes > self._limits.total_bytes:
                    raise RefusedError(
                        f"with {show(path)} it would hold more than {self._limits.total_bytes} bytes"
                    )
                return Place.FILE
            case Kind.DIRECTORY:
                return Place.DIRECTORY
            case Kind.HARDLINK:
                if self._places.get(entry.target) is not Place.FILE:
                    which = f"{show(path)} names {show(entry.target)}"
                    raise RefusedError(f"the hard link {which}, which is no earlier file")
                return Place.FILE
            case Kind.SYMLINK:
                self._written_links.add(path, entry.target)
                if self._written_links.size_bytes > self._limits.link_bytes:
                    raise RefusedError(f"its symlinks alone are more than {self._limits.link_bytes} bytes")
                return Place.SYMLINK

    def _imply(self, directory: str) -> None:
        """Take in `directory` and all above it."""
        end = 0
        while end < len(directory):
            end = directory.find("/", end + 1)
            above = directory if end < 0 else directory[:end]
            present = self._places.put(above, Place.DIRECTORY)
            if present is None:
                self._count(above)
            elif present is not Place.DIRECTORY:
                raise RefusedError(f"{show(above)} is no directory but something is to be put into it")
            if end < 0:
                return

    def _count(self, path: str) -> None:
        """Take note of something new at `path`."""
        self.entries += 1
        if self.entries > self._limits.entries:
            raise RefusedError(f"it holds more than {self._limits.entries} entries")
        # The newline keeps it apart from paths, which hold none.
        if not path.isascii() and self._places.put("\n" + fold(path), Place.LOOK):
            raise RefusedError(f"the name {path!a} looks the same as another one")

    def check_whole(self) -> None:
        """Resolve every symlink against the finished tree. Raises RefusedError for one that leads out or in
        a circle, and for a tree of nothing but directories: a release of it would put nothing in the place of
        a service, which nobody means.

        A link to a name that does not exist is fine as long as the name is inside: it leads nowhere.
        """
        self.links = dict(self._written_links.take_all())  # room enough: the decompressor's window is free
        for path, target in self.links.items():
            self._resolve(path, target)
        if not self.links and not self._has_file:
            raise RefusedError("it holds no file")

    def _resolve(self, path: bytes, target: bytes) -> None:
        if target.startswith(b"/"):
            raise RefusedError(f"the link {show(path)} leads to the absolute path {show(target)}")
        place = path.split(b"/")[:-1]  # where we are, part by part
        ahead = target.split(b"/")[::-1]
        hops = 0
        while ahead:
            part = ahead.pop()
            self._steps += 1
            if part in (b"", b"."):
                continue
            if part == b"..":
                if not place:
                    raise RefusedError(
                        f"the link {show(path)} leads out of the destination, to {show(target)}"
                    )
                place.pop()
                continue
            place.append(part)
            node = self.links.get(b"/".join(place))
            if node is None:
                continue
            place.pop()
            hops += 1
            if hops > _MAX_HOPS or self._steps > _MAX_STEPS:
                raise RefusedError(f"the link {show(path)} leads through too many others")
            if node.startswith(b"/"):
                raise RefusedError(f"the link {show(path)} leads through the absolute path {show(node)}")
            ahead += node.split(b"/")[::-1]
