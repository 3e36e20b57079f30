"""Why an attempt cannot go on, as the agent's effects meet it: one class per code that a caller can meet.

The tree is shallow on purpose: `shared.errors.AttemptError` carries the code, the attributes carry the facts,
and the text says what a person should know or do. No text holds the query string of a URL.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from releasehand.model.codes import FailureCode
from shared.errors import AttemptError

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class UrlRefusedError(AttemptError):
    """The package URL, or a redirect of it, is none that this host may fetch."""

    code = FailureCode.URL_REFUSED

    def __init__(self, url: str, reason: str) -> None:
        """`url` must be redacted already (shared.urls.redact_url)."""
        self.url, self.reason = url, reason
        super().__init__(f"cannot fetch {url}: {reason}")


class DownloadError(AttemptError):
    """The origin did not hand over the package. Raised only as one of its subclasses."""

    def __init__(self, url: str, reason: str) -> None:
        """`url` must be redacted already (shared.urls.redact_url)."""
        self.url, self.reason = url, reason
        super().__init__(f"cannot download {url}: {reason}")


class DownloadFailedError(DownloadError):
    """The network or the origin let go: no connection, a cut, a short body."""

    code = FailureCode.DOWNLOAD_FAILED


class OriginServerError(DownloadError):
    """The origin answered 5xx, 408 or 429."""

    code = FailureCode.DOWNLOAD_SERVER_ERROR


class OriginRefusedError(DownloadError):
    """The origin answered something that a repeat will not change."""

    code = FailureCode.DOWNLOAD_REFUSED


class DownloadTooSlowError(DownloadError):
    """The origin stayed below the minimum rate, or sent nothing at all."""

    code = FailureCode.DOWNLOAD_TOO_SLOW


class DownloadTooLargeError(DownloadError):
    """The package is larger than this host accepts."""

    code = FailureCode.DOWNLOAD_TOO_LARGE


class UntrustedCertificateError(DownloadError):
    """The origin's certificate does not verify."""

    code = FailureCode.TLS_UNTRUSTED


class NoSpaceError(AttemptError):
    """The file system is full, or would be. `needed_bytes` is None when a write failed unforeseen."""

    code = FailureCode.NO_SPACE

    def __init__(self, path: Path, *, needed_bytes: int | None = None, free_bytes: int | None = None) -> None:
        self.path, self.needed_bytes, self.free_bytes = path, needed_bytes, free_bytes
        facts = [f"{needed_bytes} bytes are needed"] if needed_bytes is not None else []
        facts += [f"{free_bytes} bytes are free"] if free_bytes is not None else []
        why = ", ".join(facts) or "the file system is full"
        super().__init__(f"cannot write below {path}: {why}; free some space there")


class DigestMismatchError(AttemptError):
    """The package is not the one that was asked for."""

    code = FailureCode.DIGEST_MISMATCH

    def __init__(self, expected: str, actual: str) -> None:
        self.expected, self.actual = expected, actual
        super().__init__(f"cannot accept the package: its sha256 is {actual}, expected {expected}")


class VerificationError(AttemptError):
    """The package is not known to be the right one. Raised only as one of its subclasses."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"cannot accept the package: {reason}")


class DigestMissingError(VerificationError):
    """This host wants a digest, and neither the request nor a file that it accepts gave one."""

    code = FailureCode.DIGEST_MISSING


class DigestMalformedError(VerificationError):
    """URL.sha256 is there and holds no digest."""

    code = FailureCode.DIGEST_MALFORMED


class SignatureMissingError(VerificationError):
    """This host wants a signature, and there is none beside the package."""

    code = FailureCode.SIGNATURE_MISSING


class SignatureMalformedError(VerificationError):
    """URL.minisig is there and is no minisign signature."""

    code = FailureCode.SIGNATURE_MALFORMED


class SignatureLegacyError(VerificationError):
    """The signature covers the package itself, not its hash; only prehashed ones are accepted."""

    code = FailureCode.SIGNATURE_LEGACY


class SignatureUntrustedKeyError(VerificationError):
    """No key on this host made the signature."""

    code = FailureCode.SIGNATURE_UNTRUSTED_KEY


class SignatureKeyOutOfScopeError(VerificationError):
    """The key is trusted on this host, but not for this service."""

    code = FailureCode.SIGNATURE_KEY_OUT_OF_SCOPE


class SignatureRevokedKeyError(VerificationError):
    """The key is revoked on this host."""

    code = FailureCode.SIGNATURE_REVOKED_KEY


class SignatureInvalidError(VerificationError):
    """The package is not the one that was signed."""

    code = FailureCode.SIGNATURE_INVALID


class SignatureCommentInvalidError(VerificationError):
    """The signed comment is not the one that was signed."""

    code = FailureCode.SIGNATURE_COMMENT_INVALID


class SignatureCommentMalformedError(VerificationError):
    """The comment was signed, but does not say what it must say."""

    code = FailureCode.SIGNATURE_COMMENT_MALFORMED


class SignatureWrongServiceError(VerificationError):
    """The package was signed for another service."""

    code = FailureCode.SIGNATURE_WRONG_SERVICE


class SignatureWrongVersionError(VerificationError):
    """The package was signed as another version."""

    code = FailureCode.SIGNATURE_WRONG_VERSION


class SignatureTooOldError(VerificationError):
    """The package was signed before the time that this host sets."""

    code = FailureCode.SIGNATURE_TOO_OLD


class TrustUnreadableError(AttemptError):
    """Whom this host trusts cannot be told, so nothing is accepted until a person mended `path`."""

    code = FailureCode.TRUST_UNREADABLE

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"cannot tell whose packages to accept: {path} {reason}")


class ArchiveRefusedError(AttemptError):
    """The archive is damaged, hostile or of a refused kind. `reason` names the entry, escaped."""

    code = FailureCode.ARCHIVE_REFUSED

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"cannot accept the archive: {reason}")


class UnpackFailedError(AttemptError):
    """Unpacking ended for a reason that says nothing about the archive: the child died or ran out of time."""

    code = FailureCode.UNPACK_FAILED

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"cannot unpack the package: {reason}")


class HostError(AttemptError):
    """A file operation failed for a reason of the host's."""

    code = FailureCode.HOST_ERROR

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"cannot use {path}: {reason}")


class BrokenLinkError(HostError):
    """`current` is there but names no release of this root; somebody else changed it. A person must look."""


class ActivationError(AttemptError):
    """The service could not be restarted or stopped. `output` is the tool's last words, "" if it had none."""

    code = FailureCode.ACTIVATION_FAILED

    def __init__(self, what: str, reason: str, output: str = "") -> None:
        self.what, self.reason, self.output = what, reason, output
        tail = f"; last output: {output}" if output else ""
        super().__init__(f"cannot {what}: {reason}{tail}")


class NotAllowedError(ActivationError):
    """This host does not let the agent do that with the service. Nothing was done to it."""


class HookFailedError(AttemptError):
    """A command that the host's owner put around each activation did not do its work."""

    code = FailureCode.HOOK_FAILED

    def __init__(self, hook: str, reason: str, output: str = "") -> None:
        """`hook` names it for people; `output` is the last that it printed."""
        self.hook, self.reason, self.output = hook, reason, output
        tail = f"; last output: {output}" if output else ""
        super().__init__(f"cannot pass {hook}: {reason}{tail}")


class CheckFailedError(AttemptError):
    """The new version did not come up. `last_answer` is what the check saw last, "" if nothing."""

    code = FailureCode.CHECK_FAILED

    def __init__(self, reason: str, last_answer: str = "") -> None:
        self.reason, self.last_answer = reason, last_answer
        tail = f"; last answer: {last_answer}" if last_answer else ""
        super().__init__(f"cannot call the service up: {reason}{tail}")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError inside into NoSpaceError (full disk or quota) or HostError about `path`."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _FULL:
            raise NoSpaceError(path) from exc
        reason = f"{exc.strerror or exc} ({errno.errorcode.get(exc.errno or 0, 'unknown error')})"
        raise HostError(Path(exc.filename) if isinstance(exc.filename, str) else path, reason) from exc
