"""What the signer of a package says about it, and whether that is what the command asks for.

The text is minisign's trusted comment: `releasehand1 service=S version=V size=N sha256=H time=T`, in this
order, with one space between. Without it a good signature of one package could be shown for another: an old
version, or another service's. Whether the text is the signer's is not asked here (agent.minisign)."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from releasehand.model.codes import FailureCode

_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}"
_COMMENT: Final = re.compile(
    rf"releasehand1 service=(?P<service>{_NAME}) version=(?P<version>{_NAME}) "
    r"size=(?P<size>0|[1-9][0-9]{0,15}) sha256=(?P<sha256>[0-9a-f]{64}) "
    r"time=(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)"
)
FORM: Final = "releasehand1 service=S version=V size=N sha256=H time=YYYY-MM-DDTHH:MM:SSZ"


@dataclass(frozen=True)
class Statement:
    """One package, as its signer describes it. `sha256` is in lower case, `signed_at` is UTC."""

    service: str
    version: str
    size_bytes: int
    sha256: str
    signed_at: datetime

    def __str__(self) -> str:
        """The comment that says it."""
        return (
            f"releasehand1 service={self.service} version={self.version} size={self.size_bytes} "
            f"sha256={self.sha256} time={self.signed_at:%Y-%m-%dT%H:%M:%SZ}"
        )


@dataclass(frozen=True)
class Wanted:
    """What the command asks for, and what came. `sha256` and `size_bytes` are the package's as it is here."""

    service: str
    version: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Refusal:
    """Why a statement is not about the wanted package; `reason` is for people."""

    code: FailureCode
    reason: str


def parse_statement(comment: str) -> Statement:
    """Read the comment. Raises ValueError, which says what is wrong and never quotes the comment."""
    found = _COMMENT.fullmatch(comment)
    if found is None:
        raise ValueError(f"it is not of the form '{FORM}'")
    try:
        signed_at = datetime.strptime(found["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise ValueError("its time does not exist") from None
    return Statement(found["service"], found["version"], int(found["size"]), found["sha256"], signed_at)


def find_refusal(statement: Statement, wanted: Wanted, *, min_signed_time: datetime | None) -> Refusal | None:
    """Say why `statement` is not about what is wanted, or None if it is.

    `min_signed_time`, aware, is the oldest time of signing that the host accepts; None accepts every one."""
    if statement.service != wanted.service:
        return Refusal(
            FailureCode.SIGNATURE_WRONG_SERVICE,
            f"it was signed for the service {statement.service}, not for {wanted.service}",
        )
    if statement.version != wanted.version:
        return Refusal(
            FailureCode.SIGNATURE_WRONG_VERSION,
            f"it was signed as version {statement.version}, not as {wanted.version}",
        )
    if statement.size_bytes != wanted.size_bytes:
        return Refusal(
            FailureCode.SIGNATURE_INVALID,
            f"it has {wanted.size_bytes} bytes; the one that was signed has {statement.size_bytes}",
        )
    if statement.sha256 != wanted.sha256.lower():
        return Refusal(
            FailureCode.SIGNATURE_INVALID,
            f"its sha256 is {wanted.sha256}; the one that was signed has {statement.sha256}",
        )
    if min_signed_time is not None and statement.signed_at < min_signed_time:
        return Refusal(
            FailureCode.SIGNATURE_TOO_OLD,
            f"it was signed at {statement.signed_at:%Y-%m-%dT%H:%M:%SZ}, "
            f"before this host's min_signed_time {min_signed_time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        )
    return None
