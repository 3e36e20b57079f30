"""Minisign's files and signatures: read, and verified in their prehashed form alone.

The format is that of https://jedisct1.github.io/minisign/ («Signature format», «Public key format»): Ed25519
over the package's BLAKE2b-512, and a second signature over the first one and the trusted comment. Whether a
key is to be trusted is not asked here (agent.trust)."""

import asyncio
import base64
import binascii
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from agent.errors import (
    SignatureCommentInvalidError,
    SignatureInvalidError,
    SignatureLegacyError,
    SignatureMalformedError,
    disk_errors,
)
from agent.finish import finish

_UNTRUSTED: Final = "untrusted comment: "
_TRUSTED: Final = "trusted comment: "
_KEY_ALGORITHM: Final = b"Ed"
_PREHASHED: Final = b"ED"
_LEGACY: Final = b"Ed"
_ALGORITHM_BYTES: Final = 2
_KEY_ID_BYTES: Final = 8
_ED25519_KEY_BYTES: Final = 32
_ED25519_SIGNATURE_BYTES: Final = 64
_READ_BYTES: Final = 1024 * 1024
_SLICE_BYTES: Final = 64 * _READ_BYTES  # about 0.15 s of hashing: a cancel waits no longer than that


@dataclass(frozen=True)
class PublicKey:
    """A key that may be trusted. `key_id` is as minisign prints it: 16 capital hex digits."""

    key_id: str
    ed25519: bytes
    comment: str


@dataclass(frozen=True)
class Signature:
    """What a .minisig file claims; nothing of it may be relied on before it was verified."""

    key_id: str
    over_package: bytes
    trusted_comment: bytes
    over_comment: bytes


def parse_public_key(text: bytes) -> PublicKey:
    """Read a .pub file: a line of comment and a line of base64. Raises ValueError, which says what is
    wrong."""
    comment, encoded = _lines(text, 2)
    if not comment.startswith(_UNTRUSTED.encode()):
        raise ValueError(f"the first line does not begin with '{_UNTRUSTED}'")
    size = _ALGORITHM_BYTES + _KEY_ID_BYTES + _ED25519_KEY_BYTES
    algorithm, key_id, key = _split(_decode(encoded, size))
    if algorithm != _KEY_ALGORITHM:
        raise ValueError("the key is of a kind that is not known here")
    return PublicKey(key_id, key, comment[len(_UNTRUSTED) :].decode("utf-8", "replace"))


def parse_signature(text: bytes) -> Signature:
    """Read a .minisig file. Raises SignatureMalformedError, SignatureLegacyError."""
    try:
        untrusted, encoded, trusted, encoded_global = _lines(text, 4)
        if not untrusted.startswith(_UNTRUSTED.encode()):
            raise ValueError(f"the first line does not begin with '{_UNTRUSTED}'")
        if not trusted.startswith(_TRUSTED.encode()):
            raise ValueError(f"the third line does not begin with '{_TRUSTED}'")
        size = _ALGORITHM_BYTES + _KEY_ID_BYTES + _ED25519_SIGNATURE_BYTES
        algorithm, key_id, over_package = _split(_decode(encoded, size))
        if algorithm not in {_PREHASHED, _LEGACY}:
            raise ValueError("it is of a kind that is not known here")
        over_comment = _decode(encoded_global, _ED25519_SIGNATURE_BYTES)
    except ValueError as exc:
        raise SignatureMalformedError(f"its signature cannot be read: {exc}") from exc
    if algorithm == _LEGACY:
        raise SignatureLegacyError(
            "its signature is of minisign's legacy kind; sign it again without -l, or with -H where "
            "minisign is older than 0.11"
        )
    return Signature(key_id, over_package, trusted[len(_TRUSTED) :], over_comment)


def verify_comment(key: PublicKey, signature: Signature) -> str:
    """Return the comment that the owner of `key` signed together with the signature over the package.

    Raises SignatureCommentInvalidError. That the package is the signed one is `verify_prehash`'s question."""
    if not _signed(key, signature.over_comment, signature.over_package + signature.trusted_comment):
        raise SignatureCommentInvalidError(
            "the comment of its signature was changed, or is not from the key it names"
        )
    try:
        return signature.trusted_comment.decode()
    except UnicodeDecodeError:
        raise SignatureCommentInvalidError("the comment of its signature is not UTF-8") from None


def verify_prehash(key: PublicKey, signature: Signature, blake2b: bytes) -> None:
    """Return if the owner of `key` signed a package with this BLAKE2b-512 (64 bytes). Raises
    SignatureInvalidError."""
    if not _signed(key, signature.over_package, blake2b):
        raise SignatureInvalidError("it is not the one that was signed")


def _signed(key: PublicKey, signature: bytes, message: bytes) -> bool:
    # Imported here: it takes 7 MB, which an agent that verifies no signatures need not hold.
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    try:
        Ed25519PublicKey.from_public_bytes(key.ed25519).verify(signature, message)
    except InvalidSignature:
        return False
    return True


async def prehash(file: BinaryIO, path: Path) -> bytes:
    """The BLAKE2b-512 of all of `file`, read through its descriptor; its position stays where it is.

    `path` is for the text of an error alone. Safe to cancel. Raises HostError."""
    digest = hashlib.blake2b()
    at, last = 0, -1
    while last != at:
        last = at
        at += await finish(asyncio.to_thread(_hash_slice, digest, file, at, path))
    return digest.digest()


def _hash_slice(digest: hashlib.blake2b, file: BinaryIO, start: int, path: Path) -> int:
    """Hash up to _SLICE_BYTES from `start`; returns how many there were."""
    done = 0
    with disk_errors(path):
        while done < _SLICE_BYTES and (block := os.pread(file.fileno(), _READ_BYTES, start + done)):
            digest.update(block)
            done += len(block)
    return done


def _lines(text: bytes, count: int) -> list[bytes]:
    """Exactly `count` lines, ended by LF or CRLF; blank ones may follow."""
    lines = [line.removesuffix(b"\r") for line in text.split(b"\n")]
    if any(lines[count:]):
        raise ValueError(f"it has more than {count} lines")
    if len(lines) < count or not all(lines[:count]):
        raise ValueError(f"it has fewer than {count} lines")
    return lines[:count]


def _decode(encoded: bytes, size: int) -> bytes:
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise ValueError("a line that should be base64 is not") from None
    if len(decoded) != size:
        raise ValueError(f"a line holds {len(decoded)} bytes in base64 instead of {size}")
    return decoded


def _split(decoded: bytes) -> tuple[bytes, str, bytes]:
    """Algorithm, key id, and what follows them. Minisign prints an id as a little-endian number."""
    key_id = decoded[_ALGORITHM_BYTES : _ALGORITHM_BYTES + _KEY_ID_BYTES]
    shown = f"{int.from_bytes(key_id, 'little'):016X}"
    return decoded[:_ALGORITHM_BYTES], shown, decoded[_ALGORITHM_BYTES + _KEY_ID_BYTES :]
