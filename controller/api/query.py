"""Query parameters: strict, all problems at once, and an empty value is an absent one (DESIGN «Requests»)."""

import re
from typing import Annotated, Final, TypeVar

from multidict import MultiMapping
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from releasehand.model import FieldError, InstanceStatus, Name, Period, Status

from .instants import Instant
from .problems import problems_of

DEFAULT_LIMIT: Final = 100
DEFAULT_HISTORY_LIMIT: Final = 50
MAX_LIMIT: Final = 1_000
MAX_OFFSET: Final = 2**31 - 1
WAIT_PATTERN: Final = (
    r"^(([1-5]?[0-9])(\.[0-9]{1,3})?s|60s|([0-9]{1,4}|[1-5][0-9]{4}|60000)ms|0m(0s)?|1m(0s)?)$"
)
_WHOLE_NUMBER = re.compile(r"(0|-?[1-9][0-9]{0,17})\Z")
_DURATION = re.compile(r"(?P<amount>[0-9.]+)(?P<unit>ms|s|m)")
_SECONDS_PER: Final = {"ms": 0.001, "s": 1.0, "m": 60.0}

QueryT = TypeVar("QueryT", bound="Query")


def read_number(text: str | int) -> int:
    """Raises ValueError."""
    if isinstance(text, int):
        return text  # the default
    if not _WHOLE_NUMBER.match(text):
        raise ValueError("must be a whole number")
    return int(text)


def _read_flag(text: str | bool) -> bool:
    if isinstance(text, bool):
        return text  # the default
    if text not in {"true", "false"}:
        raise ValueError("must be true or false")
    return text == "true"


def _check_wait(text: str) -> str:
    if text and not re.match(WAIT_PATTERN[:-1] + r"\Z", text):
        raise ValueError("must be a time like 30s, 500ms or 1m, at most 60s")
    return text


def wait_seconds(text: str) -> float:
    """The seconds of a `wait` that was accepted; "" is 0."""
    return sum(float(part["amount"]) * _SECONDS_PER[part["unit"]] for part in _DURATION.finditer(text))


Flag = Annotated[bool, BeforeValidator(_read_flag)]
Limit = Annotated[int, Field(ge=0, le=MAX_LIMIT), BeforeValidator(read_number)]
Offset = Annotated[int, Field(ge=0, le=MAX_OFFSET), BeforeValidator(read_number)]
Wait = Annotated[str, Field(json_schema_extra={"pattern": WAIT_PATTERN}), BeforeValidator(_check_wait)]


class Query(BaseModel):
    """The query of a route that takes none; the others add their fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StartQuery(Query):
    dry_run: Flag = Field(
        default=False, description="Tell what would happen to each instance; change nothing, use no id."
    )


class VersionsQuery(Query):
    include_stopped: Flag = Field(default=False, description="List stopped instances too.")
    at: Instant | None = Field(default=None, description="Tell what ran at this time; absent: what runs now.")


class InstancesQuery(Query):
    status: InstanceStatus | None = Field(default=None, description="Only instances of this status.")
    version: Name | None = Field(default=None, description="Only instances on which this version is live.")
    limit: Limit = Field(default=0, description=f"At most so many instances; 0 means {DEFAULT_LIMIT}.")
    offset: Offset = Field(default=0, description="Leave out so many from the start.")


class HistoryQuery(Query):
    limit: Limit = Field(default=0, description=f"At most so many entries; 0 means {DEFAULT_HISTORY_LIMIT}.")
    offset: Offset = Field(default=0, description="Leave out so many of the newest.")


class StatusQuery(Query):
    wait: Wait = Field(
        default="",
        description="Answer when the operation has ended, at the latest after this time (at most 60s).",
    )
    instance_limit: Limit | None = Field(
        default=None, description=f"List at most so many instances; 0 means {DEFAULT_LIMIT}. Absent: all."
    )
    instance_offset: Offset | None = Field(default=None, description="Leave out so many from the start.")
    instance_status: Status | None = Field(default=None, description="List only instances of this status.")


class StatsQuery(Query):
    period: Period = Field(default=Period.DAY, description="The window that ends now.")


def parse_query(model: type[QueryT], query: MultiMapping[str]) -> tuple[QueryT | None, list[FieldError]]:
    """The parsed query, or everything that is wrong with it."""
    repeated = [name for name in dict.fromkeys(query) if len(query.getall(name)) > 1]
    problems = [FieldError(pointer=name[:128], detail="given more than once") for name in repeated]
    unknown = [name for name in dict.fromkeys(query) if name not in model.model_fields]
    problems += [FieldError(pointer=name[:128], detail="unknown query parameter") for name in unknown]
    values = {name: value for name, value in query.items() if value and name in model.model_fields}
    try:
        parsed = model.model_validate(values)
    except ValidationError as exc:
        return None, problems + problems_of(exc, in_body=False)
    return (None if problems else parsed), problems
