"""The tree that an archive would make, held in memory: decides whether an entry may exist before it does."""

from typing import Final

from agent.unpack.entry import Entry, Kind, Parts
from agent.unpack.limits import Limits
from agent.unpack.refusal import RefusedError, show

_MAX_HOPS: Final = 30  # symlinks met while resolving one; Linux stops at 40
_MAX_STEPS: Final = 20_000_000  # parts looked at for all links together: some ten seconds


class _Directory(dict[str, "_Node"]):
    """Names to nodes."""

    __slots__ = ()


class _File:
    __slots__ = ()


_Node = _Directory | _File | str  # str: a symlink's target
_FILE: Final = _File()


class Tree:
    """Grows by `add`; `check_links` must pass before any symlink is made."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._root = _Directory()
        self._links: list[tuple[Parts, str]] = []
        self._last: tuple[Parts, _Directory] = ((), self._root)
        self._name_bytes = self._steps = 0
        self.entries = 0
        self.total_bytes = 0

    @property
    def links(self) -> list[tuple[Parts, str]]:
        """The symlinks in archive order: where, and the text of the target."""
        return self._links

    def add(self, entry: Entry) -> bool:
        """Take `entry` in. False means that it is a directory which is there already: nothing to make.

        Raises RefusedError for a duplicate, a file used as a directory, a hard link to anything but an
        earlier file, and for whatever passes a limit, before a byte of it is written.
        """
        if not entry.parts:
            if entry.kind is Kind.DIRECTORY:
                return False
            raise RefusedError("an entry that is no directory would replace the destination itself")
        directory = self._directory(entry.parts[:-1])
        name = entry.parts[-1]
        present = directory.get(name)
        if present is not None:
            if entry.kind is Kind.DIRECTORY and isinstance(present, _Directory):
                return False
            raise RefusedError(f"the entry {_shown(entry.parts)} is there twice")
        self._count(name)
        directory[name] = self._node(entry)
        return True

    def _node(self, entry: Entry) -> _Node:
        match entry.kind:
            case Kind.DIRECTORY:
                return _Directory()
            case Kind.FILE:
                self.total_bytes += entry.size_bytes
                if self.total_bytes > self._limits.total_bytes:
                    raise RefusedError(
                        f"with {_shown(entry.parts)} it would hold more than {self._limits.total_bytes} bytes"
                    )
                return _FILE
            case Kind.HARDLINK:
                if not isinstance(self._find(entry.target), _File):
                    which = f"{_shown(entry.parts)} names {show(entry.target)}"
                    raise RefusedError(f"the hard link {which}, which is no earlier file")
                return _FILE
            case Kind.SYMLINK:
                self._count_bytes(entry.target)
                self._links.append((entry.parts, entry.target))
                return entry.target

    def _directory(self, parts: Parts) -> _Directory:
        last_parts, last = self._last
        if parts == last_parts:
            return last
        directory = self._root
        for at, part in enumerate(parts):
            node = directory.get(part)
            if node is None:
                self._count(part)
                node = directory[part] = _Directory()
            elif not isinstance(node, _Directory):
                raise RefusedError(
                    f"{_shown(parts[: at + 1])} is no directory but something is to be put into it"
                )
            directory = node
        self._last = (parts, directory)
        return directory

    def _find(self, path: str) -> _Node | None:
        node: _Node | None = self._root
        for part in path.split("/"):
            node = _child(node, part)
        return node

    def _count(self, name: str) -> None:
        self.entries += 1
        if self.entries > self._limits.entries:
            raise RefusedError(f"it holds more than {self._limits.entries} entries")
        self._count_bytes(name)

    def _count_bytes(self, name: str) -> None:
        self._name_bytes += len(name)
        if self._name_bytes > self._limits.name_bytes:
            raise RefusedError(f"its names alone are more than {self._limits.name_bytes} bytes")

    def check_links(self) -> None:
        """Resolve every symlink against the finished tree. Raises RefusedError for one that leads out or in
        a circle.

        A link to a name that does not exist is fine as long as the name is inside: it leads nowhere.
        """
        for parts, target in self._links:
            self._resolve(parts, target)

    def _resolve(self, parts: Parts, target: str) -> None:
        if target.startswith("/"):
            raise RefusedError(f"the link {_shown(parts)} leads to the absolute path {show(target)}")
        place: list[_Node | None] = [self._root]  # where we are and all above it; None does not exist
        for part in parts[:-1]:
            place.append(_child(place[-1], part))
        ahead = target.split("/")[::-1]
        hops = 0
        while ahead:
            part = ahead.pop()
            self._steps += 1
            if part in ("", "."):
                continue
            if part == "..":
                if len(place) == 1:
                    raise RefusedError(
                        f"the link {_shown(parts)} leads out of the destination, to {show(target)}"
                    )
                place.pop()
                continue
            node = _child(place[-1], part)
            if not isinstance(node, str):
                place.append(node)
                continue
            hops += 1
            if hops > _MAX_HOPS or self._steps > _MAX_STEPS:
                raise RefusedError(f"the link {_shown(parts)} leads through too many others")
            if node.startswith("/"):
                raise RefusedError(f"the link {_shown(parts)} leads through the absolute path {show(node)}")
            ahead += node.split("/")[::-1]


def _child(node: _Node | None, name: str) -> _Node | None:
    return node.get(name) if isinstance(node, _Directory) else None


def _shown(parts: Parts) -> str:
    return show("/".join(parts))
