"""When an agent asks for its next certificate."""

from datetime import datetime
from typing import Final

from shared.identity import BACKDATED

EARLIEST: Final = 0.5  # of its life: 30 days leave two weeks for a controller that is away
LATEST: Final = 0.6
TRUST_SPREAD_S: Final = 300.0  # a fleet that learns of a new authority does not ask all at once
MIN_RETRY_S: Final = 5.0
MAX_RETRY_S: Final = 3_600.0


def renewal_due(begins_at: datetime, ends_at: datetime, chance: float) -> datetime:
    """Somewhere in the second half of its life, counted from when it was given; `chance` is in [0, 1)."""
    given_at = begins_at + BACKDATED
    return given_at + (ends_at - given_at) * (EARLIEST + (LATEST - EARLIEST) * chance)


def retry_after_s(ends_at: datetime, now: datetime) -> float:
    """How long to wait for an answer before asking again: more often as the end comes near."""
    return min(MAX_RETRY_S, max(MIN_RETRY_S, (ends_at - now).total_seconds() / 4))
