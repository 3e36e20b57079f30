"""Rows that the database puts into JSON itself, in the words of both databases."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, Text, func, literal_column, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

BLANK: Final[ColumnElement[str]] = literal_column("''", Text)


class _Object(FunctionElement[str]):
    """The JSON text of an object, from names and values in turn."""

    type, inherit_cache, name = Text(), True, "written_object"


class _Time(FunctionElement[str]):
    """A time as `releasehand.model.format_time` writes it: UTC, milliseconds cut off, Z."""

    type, inherit_cache, name = Text(), True, "written_time"


@compiles(_Object, "sqlite")
def _object_of_sqlite(element: _Object, compiler: SQLCompiler, **how: Any) -> str:
    return f"json_object({compiler.process(element.clauses, **how)})"


@compiles(_Object, "postgresql")
def _object_of_postgresql(element: _Object, compiler: SQLCompiler, **how: Any) -> str:
    return f"json_build_object({compiler.process(element.clauses, **how)})::text"


@compiles(_Time, "sqlite")
def _time_of_sqlite(element: _Time, compiler: SQLCompiler, **how: Any) -> str:
    """It is kept as `2026-01-02 03:04:05.678901`."""
    time = compiler.process(element.clauses, **how)
    return f"substr({time}, 1, 10) || 'T' || substr({time}, 12, 12) || 'Z'"


@compiles(_Time, "postgresql")
def _time_of_postgresql(element: _Time, compiler: SQLCompiler, **how: Any) -> str:
    time = compiler.process(element.clauses, **how)
    return f"to_char({time} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"


def write_time(column: ColumnElement[datetime] | ColumnElement[datetime | None]) -> ColumnElement[str]:
    """The text of a time; null stays null."""
    return _Time(column)


def write_object(fields: Mapping[str, ColumnElement[Any]]) -> ColumnElement[str]:
    """The JSON text of one object."""
    pairs = [part for name, value in fields.items() for part in (literal_column(f"'{name}'"), value)]
    return _Object(*pairs)


def write_array(objects: Select[str]) -> Select[str]:
    """One row with a JSON array of what `objects` has in its one column, in its order.

    Both databases aggregate in the order of a sorted subquery when nothing is joined to it (SQLite keeps the
    ORDER BY of a subquery under group_concat: select.c; PostgreSQL: manual, 9.21)."""
    each = objects.subquery().c
    joined = func.aggregate_strings(each[0], ",")
    return select("[" + func.coalesce(joined, BLANK) + "]")
