"""Times in query parameters (RFC 3339, 5.6), read exactly as the document's pattern says."""

import re
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, WithJsonSchema


def _build_pattern() -> str:
    """Years 0001 to 9999, with the days that each month has; no leap seconds."""
    leap = "([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][48]|[2468]0|[13579][26])00)"
    days = (
        "[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])"
        "|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
    )
    clock = "([01][0-9]|2[0-3]):[0-5][0-9]"
    return rf"^(?!0000)({days}|{leap}-02-29)T{clock}:[0-5][0-9](\.[0-9]{{1,9}})?(Z|[+-]{clock})$"


TIME_PATTERN: Final = _build_pattern()
_TIME: Final = re.compile(TIME_PATTERN[:-1] + r"\Z")
_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)
_LOST_PLUS: Final = re.compile(r" (?=\d\d:\d\d\Z)")


def _read_time(text: str) -> datetime:
    """In UTC; what lies beyond the years of a datetime there is the first or the last time of all."""
    text = _LOST_PLUS.sub("+", text)  # a plus that was not percent-encoded arrives as a space
    if not _TIME.match(text):
        raise ValueError("must be a time like 2026-01-31T12:00:00Z (RFC 3339)")
    value = datetime.fromisoformat(text)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        return _FIRST if value.year == 1 else _LAST


Instant = Annotated[
    datetime,
    BeforeValidator(_read_time),
    Field(strict=True),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": TIME_PATTERN}),
]
