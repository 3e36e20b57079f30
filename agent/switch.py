"""One instance's root on disk (docs/architecture.md, «On the host»):

    current -> releases/<name>     one symlink, replaced by rename(2)
    releases/<name>/               complete or absent
    releases/.<name>.json          what we know of it; written before the directory appears
    .staging/                      same file system; whatever is in it counts for nothing

Everything blocks: call it from a thread. One task at a time uses a root. Raises NoSpaceError and HostError;
after one of them what was asked for may or may not be durable, so repeat it or read back.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.disk import Witness, empty_directory, remove_directory
from agent.errors import BrokenLinkError, HostError, disk_errors
from shared.files import make_open_directory, replace_file, sync_directory

_DIGEST_CHARS: Final = 12
_OWN_NAME: Final = re.compile(rf"(?P<version>.+)-[0-9a-f]{{{_DIGEST_CHARS}}}(?:-[0-9]+)?")


@dataclass(frozen=True)
class ReleaseMeta:
    """What is written down about a release when it is committed."""

    name: str
    version: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class KeptRelease:
    """A complete release found on disk. `sha256` is "" and `size_bytes` 0 where nobody wrote them down."""

    name: str
    version: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class CurrentLink:
    """What `current` is. `name` is None if it is absent or not valid; `target` is its text, "" if absent."""

    name: str | None
    target: str
    valid: bool


@dataclass(frozen=True)
class Staging:
    """A directory for a tree that is to become a release, and who sees that all of it reaches the disk."""

    path: Path
    witness: Witness


class InstallRoot:
    """The releases of one instance and the link that says which of them is active."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._releases = root / "releases"
        self._staging = root / ".staging"
        self._link = root / "current"

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._root

    def release_path(self, name: str) -> Path:
        """Return the directory of the release `name`, there or not. Raises ValueError for no plain name."""
        if not name or name.startswith(".") or "/" in name or "\0" in name:
            raise ValueError(f"not the name of a release: {name!r}")
        return self._releases / name

    def prepare(self) -> None:
        """Make what is missing: the root, releases/ and .staging/. Safe to repeat.

        Services run as other accounts, which can read releases; what is there already keeps its mode."""
        with self._errors():
            make_open_directory(self._releases)
            self._staging.mkdir(mode=0o700, exist_ok=True)
            sync_directory(self._root)

    def current(self) -> str | None:
        """Read `current` back: the name of the active release, None if there is no link.

        Raises BrokenLinkError if it is there but names no complete release of this root.
        """
        link = self.current_link()
        if not link.valid:
            raise BrokenLinkError(self._link, f"it names {link.target!r}, which is no release here")
        return link.name

    def current_link(self) -> CurrentLink:
        """Read `current` back without judging it."""
        with self._errors():
            try:
                target = str(self._link.readlink())
            except FileNotFoundError:
                return CurrentLink(None, "", valid=True)
            except OSError:
                if self._link.is_symlink():
                    raise
                return CurrentLink(None, "(not a symlink)", valid=False)
        folder, _, name = target.rpartition("/")
        if folder != "releases" or name.startswith(".") or not name or not (self._releases / name).is_dir():
            return CurrentLink(None, target, valid=False)
        return CurrentLink(name, target, valid=True)

    def releases(self) -> list[KeptRelease]:
        """Return the complete releases, by name."""
        with self._errors():
            names = sorted(
                entry.name
                for entry in os.scandir(self._releases)
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
            )
            return [self._describe(name) for name in names]

    def release_name(self, version: str, sha256: str) -> str:
        """Return a name that is free: "<version>-<digest12>", with "-2", "-3", … when taken.

        It is taken when the same package is installed again, by force: the active release is never written
        over.
        """
        plain = f"{version}-{sha256[:_DIGEST_CHARS]}" if sha256 else version
        name, number = plain, 1
        while os.path.lexists(self.release_path(name)):
            number += 1
            name = f"{plain}-{number}"
        return name

    def make_staging(self) -> Staging:
        """Return a fresh, empty directory (0700) on the file system of releases/, with a witness to close."""
        with self._errors():
            witness = Witness(self._staging)  # before anything is written
            return Staging(self._make_directory(), witness)

    def _make_directory(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="release-", dir=self._staging))

    def commit(self, staging: Staging, release: ReleaseMeta) -> None:
        """Make the tree in `staging` the release `release.name`. Durable on return, with all its contents.

        A power cut leaves the whole release or none of it (one syncfs before the rename: security notes,
        finding 4). Raises HostError if a release of that name is there. The witness is closed in any case.
        """
        with closing(staging.witness):
            self.describe(staging, release)
            self.sync(staging)
            self.publish(staging, release.name)

    def describe(self, staging: Staging, release: ReleaseMeta) -> None:
        """The first third of `commit`: write down what the tree in `staging` is. Raises as `commit`."""
        note = {"version": release.version, "sha256": release.sha256, "size_bytes": release.size_bytes}
        with self._errors():
            if os.path.lexists(path := self.release_path(release.name)):
                raise HostError(path, "a release of that name is there already")
            replace_file(self._note(release.name), json.dumps(note).encode(), durable=False)
            staging.path.chmod(0o755)

    def sync(self, staging: Staging) -> None:
        """The second: make everything written since `make_staging` durable; an error is told once. It changes
        nothing, and on a busy disk it takes its time: one who need not wait for it may leave it to itself."""
        with self._errors():
            staging.witness.sync()

    def publish(self, staging: Staging, name: str) -> None:
        """The last: make the tree the release `name`. Only after `sync` returned."""
        with self._errors():
            staging.path.rename(self.release_path(name))
            sync_directory(self._releases)

    def point_current(self, name: str | None) -> None:
        """Make `current` name the release `name`, or remove it for None. Durable on return. Safe to repeat.

        A reader sees the old target or the new one, never neither (rename(2)).
        Raises HostError if there is no such release.
        """
        with self._errors():
            if name is None:
                self._link.unlink(missing_ok=True)
            else:
                if not self.release_path(name).is_dir():
                    raise HostError(self.release_path(name), "there is no such release")
                draft = self._root / ".current.new"
                draft.unlink(missing_ok=True)  # left by a crash
                draft.symlink_to(f"releases/{name}")
                draft.rename(self._link)
            sync_directory(self._root)

    def clear_staging(self) -> None:
        """Remove everything in .staging/, and what crashes left beside it. Safe to repeat."""
        with self._errors():
            empty_directory(self._staging)
            (self._root / ".current.new").unlink(missing_ok=True)
            for note in self._releases.glob(".*.json"):
                if not (self._releases / note.name[1:].removesuffix(".json")).is_dir():
                    note.unlink()  # its directory never appeared, or is gone
            for draft in self._releases.glob(".*.json.new"):
                draft.unlink()  # of a note that was never whole

    def remove_release(self, name: str) -> None:
        """Delete the release `name`; a missing one is fine. Safe to repeat.

        Raises HostError for the release that `current` names: a service runs from it.
        """
        if doomed := self.put_away(name):
            with self._errors():
                remove_directory(doomed)

    def put_away(self, name: str) -> Path | None:
        """Take the release `name` out of releases/ by one rename, so that it is complete or absent at every
        moment; return the directory below .staging/ that holds it, to be deleted, None if it is missing.
        Durable.

        Raises HostError for the release that `current` names."""
        path = self.release_path(name)
        if self.current_link().name == name:
            raise HostError(path, "it is the active release")
        with self._errors():
            doomed = self._make_directory() if path.is_dir() else None
            if doomed is not None:
                path.rename(doomed / "release")
                sync_directory(self._releases)
            self._note(name).unlink(missing_ok=True)
        return doomed

    def free_bytes(self) -> int:
        """Return what an ordinary user may still write to the root's file system."""
        with self._errors():
            return shutil.disk_usage(self._root).free

    def _note(self, name: str) -> Path:
        return self._releases / f".{name}.json"

    def _describe(self, name: str) -> KeptRelease:
        match self._read_note(name):
            case {"version": str(version), "sha256": str(sha256), "size_bytes": int(size_bytes)}:
                return KeptRelease(name, version, sha256, size_bytes)
            case _:
                own = _OWN_NAME.fullmatch(name)
                return KeptRelease(name, own["version"] if own else name, "", 0)

    def _read_note(self, name: str) -> object:
        try:
            return json.loads(self._note(name).read_bytes())
        except (FileNotFoundError, ValueError):
            return None  # not ours, or damaged: the directory still counts

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with disk_errors(self._root):
            yield
