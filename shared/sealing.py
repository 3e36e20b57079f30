"""Sealing short secrets, so that whoever holds a database or a journal alone cannot read them.

AES-256-GCM (NIST SP 800-38D) with a random nonce of 96 bits: one key is good for 2**32 seals. What is sealed
names its key, so that a key can be replaced while what older ones sealed is still about."""

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shared.errors import ReleasehandError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
_FORM: Final = "s1"
_NONCE_BYTES: Final = 12
_KEY_ID_CHARS: Final = 12


class SealError(ReleasehandError):
    """What is sealed cannot be read. No text of it holds a secret."""


class UnknownKeyError(SealError):
    """It was sealed with a key that is not at hand."""

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        super().__init__(f"cannot read what was sealed: key {key_id} is not at hand")


class BrokenSealError(SealError):
    """It was changed, or it belongs to something else."""

    def __init__(self) -> None:
        super().__init__("cannot read what was sealed: it was changed, or it belongs to something else")


class KeyFileError(ReleasehandError):
    """A file that should hold a key cannot be used."""


class Keyring:
    """The key that seals, and older ones that still open. Its text shows no key."""

    def __init__(self, key: bytes, older: Sequence[bytes] = ()) -> None:
        """Keys have KEY_BYTES bytes, or ValueError is raised."""
        if any(len(one) != KEY_BYTES for one in (key, *older)):
            raise ValueError(f"cannot seal: a key has {KEY_BYTES} bytes")
        self.key_id = tell_key_id(key)
        self._keys = {tell_key_id(one): one for one in (*older, key)}

    def seal(self, secret: str, about: str) -> str:
        """A text that only `unseal` with the same `about` reads. It hides no length."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + _cipher(self._keys[self.key_id]).encrypt(nonce, secret.encode(), about.encode())
        return f"{_FORM}.{self.key_id}.{base64.urlsafe_b64encode(sealed).decode()}"

    def unseal(self, sealed: str, about: str) -> str:
        """What was sealed. Raises UnknownKeyError, BrokenSealError."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as in _cipher

        key_id = find_key_id(sealed)
        if (key := self._keys.get(key_id)) is None:
            raise UnknownKeyError(key_id)
        try:
            content = base64.b64decode(sealed.rpartition(".")[2], altchars=b"-_", validate=True)
            nonce, hidden = content[:_NONCE_BYTES], content[_NONCE_BYTES:]
            return _cipher(key).decrypt(nonce, hidden, about.encode()).decode()
        except (InvalidTag, ValueError, binascii.Error):
            raise BrokenSealError from None


def tell_key_id(key: bytes) -> str:
    """A name by which people tell keys apart; nothing of the key can be found from it."""
    return hashlib.sha256(b"releasehand key id\0" + key).hexdigest()[:_KEY_ID_CHARS]


def find_key_id(sealed: str) -> str:
    """Which key it was sealed with. Raises BrokenSealError."""
    form, _, rest = sealed.partition(".")
    key_id, dot, _ = rest.partition(".")
    if form != _FORM or not dot:
        raise BrokenSealError
    return key_id


def _cipher(key: bytes) -> "AESGCM":
    # Loaded with the first secret: an agent that meets none saves 8 MB.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    return AESGCM(key)


def read_key(path: Path) -> bytes:
    """The key in a file of 64 hexadecimal digits. Blocks; raises KeyFileError."""
    try:
        text = path.read_bytes()[: 4 * KEY_BYTES].strip()
    except OSError as exc:
        raise KeyFileError(f"{path} cannot be read: {exc.strerror or exc}") from exc
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyFileError(
            f"{path} holds no key: {2 * KEY_BYTES} hexadecimal digits are wanted, as `openssl rand -hex 32`"
            " prints them"
        )
    return key


def obtain_key(path: Path) -> bytes:
    """The key in `path`, which is made, durably and for its owner alone, if it is missing. Of several that
    make it at once all return the same. Blocks; raises KeyFileError."""
    try:
        if not path.exists():
            _make_key(path)
    except OSError as exc:
        raise KeyFileError(f"{path} cannot be made: {exc.strerror or exc}") from exc
    return read_key(path)


def _make_key(path: Path) -> None:
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(os.urandom(KEY_BYTES).hex().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # unlike a rename it replaces nothing
        except FileExistsError:
            return  # somebody else was first
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        draft.unlink(missing_ok=True)
