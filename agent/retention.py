"""Removes the releases of an instance that need not be kept: decided by agent.core.retention, carried out
here, each with its reason in the log. The agent's own work and the command `releases prune` are the same."""

import asyncio
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from agent.core.retention import Removal, Stored, decide_removals
from agent.disk import remove_directory
from agent.errors import disk_errors
from agent.finish import finish
from agent.instance import Instance
from agent.instance_config import InstanceSection
from agent.journal import ReleaseRow, Shelf
from agent.switch import InstallRoot
from shared.errors import AttemptError
from shared.logs import get_log


def measure(root: InstallRoot, section: InstanceSection) -> dict[str, int]:
    """What each release takes on the disk, in bytes; empty where the configuration sets no budget. Blocks."""
    if section.keep_bytes is None:
        return {}
    return {one.name: tree_bytes(root.release_path(one.name)) for one in root.releases()}


def plan(root: InstallRoot, section: InstanceSection, shelf: Shelf, sizes: dict[str, int]) -> list[Removal]:
    """What would be removed now. Nothing where `current` is broken: a person must look first.

    Raises HostError, sqlite3.Error."""
    link = root.current_link()
    if not link.valid:
        return []
    unfinished = shelf.unfinished()
    in_use = {one.target for one in unfinished} | {one.previous or "" for one in unfinished}
    return decide_removals(
        list_stored([one.name for one in root.releases()], shelf.rows(), sizes),
        current=link.name or "",
        in_use=in_use,
        keep=section.keep_releases,
        keep_bytes=section.keep_bytes,
    )


def put_away(
    root: InstallRoot, section: InstanceSection, shelf: Shelf, sizes: dict[str, int]
) -> list[tuple[Removal, Path | None]]:
    """Take out of the way what is to be removed, inside the shelf's transaction; the directories are to be
    given to `delete` after it. One that cannot be moved is left for the next time. Raises sqlite3.Error,
    HostError."""
    log = get_log(__name__, instance_id=section.id)
    gone = []
    for removal in plan(root, section, shelf, sizes):
        try:
            doomed = root.put_away(removal.name)
        except AttemptError as exc:
            log.warning("release could not be removed", release=removal.name, reason=str(exc))
            continue
        shelf.forget(removal.name)
        log.info("release was removed", release=removal.name, reason=removal.reason)
        gone.append((removal, doomed))
    _forget_the_absent(root, shelf)
    return gone


def _forget_the_absent(root: InstallRoot, shelf: Shelf) -> None:
    """Releases that somebody else deleted would otherwise be remembered for ever."""
    if shelf.unfinished():
        return  # one may be on its way to the disk
    on_disk = {one.name for one in root.releases()}
    for row in shelf.rows():
        if row.name not in on_disk:
            shelf.forget(row.name)


def delete(directories: Iterable[Path | None]) -> None:
    """Delete what `put_away` returned. Takes its time and blocks. Raises HostError."""
    for directory in filter(None, directories):
        with disk_errors(directory):
            remove_directory(directory)


async def retain(instance: Instance) -> list[Removal]:
    """Remove what the instance need not keep. Safe to cancel: what was put away by then is deleted with the
    rest of .staging/, at the latest when the agent starts again. Raises AttemptError, JournalError."""
    root, section = instance.root, instance.section
    sizes = await asyncio.to_thread(measure, root, section)
    gone = await instance.journal.with_shelf(instance.id, lambda shelf: put_away(root, section, shelf, sizes))
    await finish(asyncio.to_thread(delete, [directory for _, directory in gone]))
    return [removal for removal, _ in gone]


def list_stored(on_disk: Sequence[str], rows: Sequence[ReleaseRow], sizes: dict[str, int]) -> list[Stored]:
    """What is on the disk, joined with what is written down about it."""
    known = {one.name: one for one in rows}
    found = []
    for name in on_disk:
        row, size = known.get(name), sizes.get(name, 0)
        if row is None:
            found.append(Stored(name, good=None, installed=0, size_bytes=size))
        else:
            found.append(Stored(name, row.good, row.installed, row.activated, row.pinned, size))
    return found


def tree_bytes(top: Path) -> int:
    """The blocks of a tree, a file with several names counted once; what vanishes meanwhile not at all."""
    total, seen = 0, set()
    for folder, _, files in os.walk(top):
        for name in [".", *files]:
            try:
                found = os.lstat(os.path.join(folder, name))
            except OSError:
                continue
            if (found.st_dev, found.st_ino) not in seen:
                seen.add((found.st_dev, found.st_ino))
                total += found.st_blocks * 512
    return total
