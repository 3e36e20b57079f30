"""When another attempt is worth it (docs/architecture.md «Time»)."""

from datetime import datetime, timedelta
from typing import Final

from releasehand.model import TRANSIENT, FailureCode

BASE_S: Final = 1.0
CAP_S: Final = 30.0


def retry_at(
    *,
    code: FailureCode,
    last_code: FailureCode | None,
    attempt: int,
    retries_left: int,
    now: datetime,
    deadline_at: datetime,
    chance: float,
) -> datetime | None:
    """When to start the next attempt after attempt `attempt` failed with `code`; None if this was the last.

    `chance` in [0, 1) makes it full jitter: uniform between now and the capped exponential delay."""
    if code not in TRANSIENT or retries_left <= 0:
        return None
    if code is FailureCode.DIGEST_MISMATCH and last_code is FailureCode.DIGEST_MISMATCH:
        return None  # the same wrong bytes twice are no accident
    at = now + timedelta(seconds=chance * min(CAP_S, BASE_S * 2**attempt))
    return at if at < deadline_at else None
