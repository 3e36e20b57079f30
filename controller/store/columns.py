"""Column types and naming that both databases share."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, MetaData, TypeDecorator
from sqlalchemy.types import TypeEngine
from sqlmodel import SQLModel

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Row(SQLModel):
    """A row of one of the controller's tables."""

    metadata = MetaData(naming_convention=NAMING)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC. SQLite has no zones and gives naive times back, PostgreSQL aware ones: here both
    are aware."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Raises ValueError on a naive time: nobody knows which instant it means."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"cannot store {value}: it has no time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], Any]:
        """As above, once for a run of equal times: ten thousand tasks are accepted at one moment."""
        process = super().bind_processor(dialect)
        assert process is not None
        newest: tuple[datetime | None, Any] = (None, process(None))

        def process_once(value: datetime | None) -> Any:
            nonlocal newest
            known, told = newest
            if value != known:
                newest = value, (told := process(value))
            return told

        return process_once

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Always aware."""
        if value is None or value.tzinfo is not None:
            return value  # type: ignore[no-any-return]
        return value.replace(tzinfo=UTC)  # type: ignore[no-any-return]


class Number(TypeDecorator[int]):
    """A whole number up to 2**63 - 1. SQLite's INTEGER holds that, and no other key counts up; PostgreSQL's
    holds half the digits."""

    impl = Integer
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """What the column is made of."""
        return dialect.type_descriptor(Integer() if dialect.name == "sqlite" else BigInteger())
