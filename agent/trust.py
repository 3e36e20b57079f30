"""Whose signatures this host accepts: the keys in trusted.d, less those in revoked.d.

Both folders belong to the host's owner. They are read at each verification, so a key that is added or
revoked counts from the next package on, without a restart. What cannot be read refuses everything: a key
that was to be revoked must not stay trusted because its file has a typing error."""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from agent.errors import (
    SignatureKeyOutOfScopeError,
    SignatureRevokedKeyError,
    SignatureUntrustedKeyError,
    TrustUnreadableError,
)
from agent.minisign import PublicKey, parse_public_key
from releasehand.model.fields import Name

TRUSTED_DIR: Final = Path("/etc/releasehand/trusted.d")
REVOKED_DIR: Final = Path("/etc/releasehand/revoked.d")
SUFFIX: Final = ".pub"
MAX_KEY_FILE_BYTES: Final = 8 * 1024
MAX_KEY_FILES: Final = 1_000

_SERVICE: Final[TypeAdapter[str]] = TypeAdapter(Name)
_SCOPE: Final = "services="
_LIKE_SCOPE: Final = re.compile(r"services?\s*[=:]", re.IGNORECASE)


@dataclass(frozen=True)
class TrustedKey:
    """A key and the services that it may sign for; None: all of them."""

    key: PublicKey
    services: frozenset[str] | None


@dataclass(frozen=True)
class Trust:
    """Both folders as they were read."""

    trusted: tuple[TrustedKey, ...] = ()
    revoked: tuple[PublicKey, ...] = ()

    @property
    def pinned(self) -> bool:
        """Whether this host's owner has ever said whom to trust. A revoked key says so too: revoking the
        last one must not open the host to unsigned packages."""
        return bool(self.trusted or self.revoked)

    def key_for(self, key_id: str, service: str) -> PublicKey:
        """The key of this id, if it may sign for `service`; revoked wins over trusted.

        Raises SignatureRevokedKeyError, SignatureUntrustedKeyError, SignatureKeyOutOfScopeError."""
        named = [one for one in self.trusted if one.key.key_id == key_id]
        gone = {one.ed25519 for one in self.revoked}
        if any(one.key_id == key_id for one in self.revoked) or any(one.key.ed25519 in gone for one in named):
            raise SignatureRevokedKeyError(f"the key {key_id} that signed it is revoked on this host")
        if not named:
            raise SignatureUntrustedKeyError(f"the key {key_id} that signed it is not trusted on this host")
        for one in named:
            if one.services is None or service in one.services:
                return one.key
        raise SignatureKeyOutOfScopeError(
            f"the key {key_id} that signed it is not trusted for the service {service} on this host"
        )


def load_trust(trusted_dir: Path, revoked_dir: Path) -> Trust:
    """Read `*.pub` in `trusted_dir` and every file in `revoked_dir`; names that begin with a dot are
    skipped. A folder that is missing is an empty one. Blocks. Raises TrustUnreadableError."""
    trusted: dict[str, tuple[PublicKey, Path]] = {}
    keys = []
    for path, key in _read_keys(trusted_dir, SUFFIX):
        first, seen_in = trusted.setdefault(key.key_id, (key, path))
        if first.ed25519 != key.ed25519:
            raise TrustUnreadableError(path, f"holds another key with the id of the one in {seen_in.name}")
        keys.append(TrustedKey(key, _read_scope(path, key.comment)))
    return Trust(tuple(keys), tuple(key for _, key in _read_keys(revoked_dir, "")))


def _read_keys(directory: Path, suffix: str) -> Iterator[tuple[Path, PublicKey]]:
    try:
        _refuse_open_to_all(directory, directory.stat().st_mode)
        names = sorted(
            name for name in os.listdir(directory) if name.endswith(suffix) and not name.startswith(".")
        )
    except FileNotFoundError:
        return
    except OSError as exc:
        raise TrustUnreadableError(directory, f"cannot be read: {exc.strerror or exc}") from exc
    if len(names) > MAX_KEY_FILES:
        raise TrustUnreadableError(directory, f"holds more than {MAX_KEY_FILES} keys")
    for name in names:
        path = directory / name
        try:
            yield path, parse_public_key(_read_file(path))
        except OSError as exc:
            raise TrustUnreadableError(path, f"cannot be read: {exc.strerror or exc}") from exc
        except ValueError as exc:
            raise TrustUnreadableError(path, f"holds no minisign public key: {exc}") from exc


def _read_file(path: Path) -> bytes:
    """All of a small file; O_NONBLOCK, so that a FIFO is refused rather than waited for."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise TrustUnreadableError(path, "is no regular file")
        _refuse_open_to_all(path, status.st_mode)
        content = file.read(MAX_KEY_FILE_BYTES + 1)
    if len(content) > MAX_KEY_FILE_BYTES:
        raise TrustUnreadableError(path, f"has more than {MAX_KEY_FILE_BYTES} bytes")
    return content


def _refuse_open_to_all(path: Path, mode: int) -> None:
    if mode & stat.S_IWOTH:
        raise TrustUnreadableError(path, "may be written by everybody; take that right away (chmod o-w)")


def _read_scope(path: Path, comment: str) -> frozenset[str] | None:
    """The services named in the comment as one word `services=A,B`; None when it names none.

    A misspelt scope would leave the key trusted for everything, so what looks like one is refused."""
    words = [word for word in comment.split() if word.startswith(_SCOPE)]
    if len(words) != len(_LIKE_SCOPE.findall(comment)) or len(words) > 1:
        raise TrustUnreadableError(path, "has a scope that cannot be read: write one word services=NAME,NAME")
    if not words:
        return None
    names = words[0].removeprefix(_SCOPE).split(",")
    try:
        return frozenset(_SERVICE.validate_python(name) for name in names)
    except ValidationError:
        raise TrustUnreadableError(path, "has a scope that names no service: services=NAME,NAME") from None
