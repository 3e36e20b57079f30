"""Is this the package that was asked for? Asked before any byte of it is decompressed.

The host's owner chooses what it takes (VerificationPolicy); nothing that a controller sends makes it less.
Everything is checked over the descriptor that is unpacked afterwards: the file's name plays no part."""

import asyncio
import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from agent.core.signed import Wanted, find_refusal, parse_statement
from agent.errors import (
    DigestMalformedError,
    DigestMismatchError,
    DigestMissingError,
    DownloadTooLargeError,
    OriginRefusedError,
    SignatureCommentMalformedError,
    SignatureInvalidError,
    SignatureMalformedError,
    SignatureMissingError,
    SignatureTooOldError,
    SignatureWrongServiceError,
    SignatureWrongVersionError,
    VerificationError,
)
from agent.finish import finish
from agent.minisign import parse_signature, prehash, verify_comment, verify_prehash
from agent.trust import REVOKED_DIR, TRUSTED_DIR, Trust, load_trust
from releasehand.model.codes import FailureCode

SIGNATURE_SUFFIX: Final = ".minisig"
DIGEST_SUFFIX: Final = ".sha256"

FetchSidecar = Callable[[str, str], Awaitable[bytes]]
"""Gets a package's URL and a suffix; see agent.download.sidecar for what it returns and raises."""

_REFUSALS: Final[Mapping[FailureCode, type[VerificationError]]] = {
    one.code: one
    for one in (
        SignatureInvalidError,
        SignatureTooOldError,
        SignatureWrongServiceError,
        SignatureWrongVersionError,
    )
}
# As sha256sum writes it, or with what BSD's sha256, `sha256sum --tag` and openssl put in front.
_DIGEST_LINE: Final = re.compile(
    rb"(SHA256 ?\([^\r\n]*\) ?= )?(?P<sha256>[0-9A-Fa-f]{64})([ \t]+\*?[^\r\n]*)?[\r\n]*"
)


class Verification(StrEnum):
    """What a package must show. Each asks for what stands below it too."""

    SIGNATURE = "signature"  # a signature by a key on this host
    DIGEST = "digest"  # a digest that did not come with the bytes alone
    TLS = "tls"  # that it came over verified HTTPS


@dataclass(frozen=True)
class VerificationPolicy:
    """What the host's owner asks of the packages of one service."""

    trusted_dir: Path = TRUSTED_DIR
    revoked_dir: Path = REVOKED_DIR
    verification: Verification | None = None
    """None: `signature` as soon as a key is pinned on this host, else `tls`."""
    accept_sha256_file: bool = False
    """Under `digest`: take URL.sha256 where the request names no digest."""
    min_signed_time: datetime | None = None
    """Under `signature`: packages signed before this time are refused. Aware."""


@dataclass(frozen=True)
class Request:
    """What the package is to be. `sha256` is "" when the request names no digest."""

    service: str
    version: str
    url: str
    sha256: str = ""


class Package(Protocol):
    """A downloaded package: agent.download.Download. `sha256` and `size_bytes` are those of `file`."""

    @property
    def file(self) -> BinaryIO: ...
    @property
    def path(self) -> Path: ...
    @property
    def sha256(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...


async def verify_package(
    package: Package, request: Request, policy: VerificationPolicy, fetch_sidecar: FetchSidecar
) -> None:
    """Return if `package` may be unpacked as `request`; there is no other way to learn that it may.

    A digest that the request names is compared whatever the policy is. Cheap questions come first: BLAKE2b
    is computed only for a package whose signed comment fits. Keys are read anew. Safe to cancel and repeat.

    Raises VerificationError (its subclasses), DigestMismatchError, TrustUnreadableError, and what fetching a
    sidecar raises."""
    verify_digest(package.sha256, request.sha256)
    trust = Trust()
    if policy.verification in {None, Verification.SIGNATURE}:
        trust = await finish(asyncio.to_thread(load_trust, policy.trusted_dir, policy.revoked_dir))
    match policy.verification or (Verification.SIGNATURE if trust.pinned else Verification.TLS):
        case Verification.SIGNATURE:
            await _verify_signature(package, request, policy, trust, fetch_sidecar)
        case Verification.DIGEST:
            await _require_digest(package, request, policy, fetch_sidecar)
        case Verification.TLS:
            return


def verify_digest(download_sha256: str, expected_sha256: str) -> None:
    """Compare two SHA-256 digests in hex, whatever their case; "" expects nothing and passes.

    Raises DigestMismatchError. Whether a missing digest is acceptable is the policy's question, not asked
    here.
    """
    if not expected_sha256:
        return
    actual, expected = download_sha256.lower(), expected_sha256.lower()
    if not hmac.compare_digest(actual.encode(), expected.encode()):
        raise DigestMismatchError(expected, actual)


async def _verify_signature(
    package: Package,
    request: Request,
    policy: VerificationPolicy,
    trust: Trust,
    fetch_sidecar: FetchSidecar,
) -> None:
    try:
        sidecar = await fetch_sidecar(request.url, SIGNATURE_SUFFIX)
    except OriginRefusedError as exc:
        raise SignatureMissingError(f"this host wants a signature; for {exc.url} {exc.reason}") from exc
    except DownloadTooLargeError as exc:
        raise SignatureMalformedError(f"{exc.url} is no signature: {exc.reason}") from exc
    signature = parse_signature(sidecar)
    key = trust.key_for(signature.key_id, request.service)
    comment = verify_comment(key, signature)
    try:
        statement = parse_statement(comment)
    except ValueError as exc:
        raise SignatureCommentMalformedError(f"the signed comment says too little: {exc}") from exc
    wanted = Wanted(request.service, request.version, package.size_bytes, package.sha256)
    refusal = find_refusal(statement, wanted, min_signed_time=policy.min_signed_time)
    if refusal is not None:
        raise _REFUSALS[refusal.code](refusal.reason)
    verify_prehash(key, signature, await prehash(package.file, package.path))


async def _require_digest(
    package: Package, request: Request, policy: VerificationPolicy, fetch_sidecar: FetchSidecar
) -> None:
    if request.sha256:
        return  # compared already
    if not policy.accept_sha256_file:
        raise DigestMissingError("this host wants its sha256, and the request names none (package_sha256)")
    try:
        sidecar = await fetch_sidecar(request.url, DIGEST_SUFFIX)
    except OriginRefusedError as exc:
        raise DigestMissingError(
            f"this host wants its sha256; the request names none, and for {exc.url} {exc.reason}"
        ) from exc
    except DownloadTooLargeError as exc:
        raise DigestMalformedError(f"{exc.url} holds no digest: {exc.reason}") from exc
    found = _DIGEST_LINE.fullmatch(sidecar)
    if found is None:
        raise DigestMalformedError(
            f"the file {DIGEST_SUFFIX} beside it is not one line as sha256sum writes it for one file"
        )
    verify_digest(package.sha256, found["sha256"].decode())
