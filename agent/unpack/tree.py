"""The tree that an archive would make, held in memory: decides whether an entry may exist before it does."""

from typing import Final

from agent.unpack.entry import Entry, Kind
from agent.unpack.limits import Limits
from agent.unpack.names import fold
from agent.unpack.refusal import RefusedError, show

_MAX_HOPS: Final = 30  # symlinks met while resolving one; Linux stops at 40
_MAX_STEPS: Final = 5_000_000  # parts looked at for all links together: some ten seconds


class Tree:
    """Grows by `add`; `check_whole` must pass before any symlink is made.

    One flat table from path to what is there: 200,000 entries must fit into a few tens of MiB.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._nodes: dict[str, Kind | str] = {"": Kind.DIRECTORY}  # a string is a symlink's target
        self._spelled: dict[str, str] = {}  # paths beyond ASCII by what they look like
        self._known_directory = ""
        self._has_file = False
        self._name_bytes = self._steps = 0
        self.links: dict[str, str] = {}
        """The symlinks in archive order: where, and the text of the target."""
        self.entries = 0
        self.total_bytes = 0

    def add(self, entry: Entry) -> bool:
        """Take `entry` in. False means that it is a directory which is there already: nothing to make.

        Raises RefusedError for a duplicate, a file used as a directory, a hard link to anything but an
        earlier file, and for whatever passes a limit, before a byte of it is written.
        """
        path = entry.path
        directory, _, _ = path.rpartition("/")
        if directory != self._known_directory:
            self._imply(directory)
            self._known_directory = directory
        present = self._nodes.get(path)
        if present is not None:
            if entry.kind is Kind.DIRECTORY and present is Kind.DIRECTORY:
                return False
            if not path:
                raise RefusedError("an entry that is no directory would replace the destination itself")
            raise RefusedError(f"the entry {show(path)} is there twice")
        self._nodes[path] = self._node(entry, path)
        self._count(path)
        return True

    def _node(self, entry: Entry, path: str) -> Kind | str:
        match entry.kind:
            case Kind.FILE:
                self._has_file = True
                self.total_bytes += entry.size_bytes
                if self.total_bytes > self._limits.total_bytes:
                    raise RefusedError(
                        f"with {show(path)} it would hold more than {self._limits.total_bytes} bytes"
                    )
                return Kind.FILE
            case Kind.DIRECTORY:
                return Kind.DIRECTORY
            case Kind.HARDLINK:
                if self._nodes.get(entry.target) is not Kind.FILE:
                    which = f"{show(path)} names {show(entry.target)}"
                    raise RefusedError(f"the hard link {which}, which is no earlier file")
                return Kind.FILE
            case Kind.SYMLINK:
                self._count_bytes(entry.target)
                self.links[path] = entry.target
                return entry.target

    def _imply(self, directory: str) -> None:
        """Take in `directory` and all above it."""
        end = 0
        while end < len(directory):
            end = directory.find("/", end + 1)
            above = directory if end < 0 else directory[:end]
            node = self._nodes.get(above)
            if node is None:
                self._count(above)
                self._nodes[above] = Kind.DIRECTORY
            elif node is not Kind.DIRECTORY:
                raise RefusedError(f"{show(above)} is no directory but something is to be put into it")
            if end < 0:
                return

    def _count(self, path: str) -> None:
        self.entries += 1
        if self.entries > self._limits.entries:
            raise RefusedError(f"it holds more than {self._limits.entries} entries")
        self._count_bytes(path)
        if not path.isascii() and (other := self._spelled.setdefault(fold(path), path)) != path:
            raise RefusedError(f"the names {other!a} and {path!a} look the same")

    def _count_bytes(self, text: str) -> None:
        self._name_bytes += len(text) if text.isascii() else 4 * len(text)  # what Python may need for it
        if self._name_bytes > self._limits.name_bytes:
            raise RefusedError(f"its names alone are more than {self._limits.name_bytes} bytes")

    def check_whole(self) -> None:
        """Resolve every symlink against the finished tree. Raises RefusedError for one that leads out or in
        a circle, and for a tree of nothing but directories: a release of it would put nothing in the place of
        a service, which nobody means.

        A link to a name that does not exist is fine as long as the name is inside: it leads nowhere.
        """
        for path, target in self.links.items():
            self._resolve(path, target)
        if not self.links and not self._has_file:
            raise RefusedError("it holds no file")

    def _resolve(self, path: str, target: str) -> None:
        if target.startswith("/"):
            raise RefusedError(f"the link {show(path)} leads to the absolute path {show(target)}")
        place = path.rpartition("/")[0].split("/")  # where we are, part by part
        place = [] if place == [""] else place
        ahead = target.split("/")[::-1]
        hops = 0
        while ahead:
            part = ahead.pop()
            self._steps += 1
            if part in ("", "."):
                continue
            if part == "..":
                if not place:
                    raise RefusedError(
                        f"the link {show(path)} leads out of the destination, to {show(target)}"
                    )
                place.pop()
                continue
            place.append(part)
            node = self._nodes.get("/".join(place))
            if not isinstance(node, str):
                continue
            place.pop()
            hops += 1
            if hops > _MAX_HOPS or self._steps > _MAX_STEPS:
                raise RefusedError(f"the link {show(path)} leads through too many others")
            if node.startswith("/"):
                raise RefusedError(f"the link {show(path)} leads through the absolute path {show(node)}")
            ahead += node.split("/")[::-1]
