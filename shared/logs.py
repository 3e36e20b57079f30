"""Logging for both daemons: past-tense events with ids as fields, one line each: text or JSON on stderr, or,
where that is the journal's, entries with these fields.

    log = get_log(__name__)
    log.info("phase ended", instance_id="user-service-1", phase="downloading", outcome="ok")

Nothing secret and no query string of a URL goes into a field (shared.urls.redact_url)."""

import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

from releasehand.shown import escape_controls, escape_json
from shared.journald import JournalHandler, is_stderr_of_journal

LogFormat = Literal["text", "json"]
MAX_VALUE_CHARS: Final = 4_096
_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-:/@,")
_SUBJECT: Final = ("instance_id", "version")  # begin a line of the journal
_BESIDE: Final = frozenset({*_SUBJECT, "deploy_id", "service", "generation", "task"})  # fields say them there
_QUIET: Final = ("websockets", "aiohttp", "asyncio", "alembic", "sqlalchemy")  # heard from WARNING on


class Log:
    """A logger whose values are fields, never parts of the text. Immutable: `bind` gives a new one."""

    def __init__(self, logger: logging.Logger, fields: Mapping[str, Any] | None = None) -> None:
        self._logger, self._fields = logger, dict(fields or {})

    def bind(self, **fields: Any) -> "Log":
        """The same log with `fields` in every line."""
        return Log(self._logger, self._fields | fields)

    def debug(self, event: str, /, **fields: Any) -> None:
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: Any) -> None:
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, /, **fields: Any) -> None:
        self._write(logging.ERROR, event, fields)

    def crash(self, event: str, /, **fields: Any) -> None:
        """An error that is a bug of ours: the traceback of the exception at hand goes with it."""
        self._write(logging.ERROR, event, fields, exc_info=True)

    def _write(self, level: int, event: str, fields: Mapping[str, Any], *, exc_info: bool = False) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"fields": {**self._fields, **fields}}, exc_info=exc_info)


def get_log(name: str, **fields: Any) -> Log:
    return Log(logging.getLogger(name), fields)


def configure_logs(
    form: LogFormat,
    *,
    program: str = "releasehand",
    level: int = logging.INFO,
    stream: TextIO | None = None,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Send everything to `stream` (stderr) as lines of `form`; safe to repeat, the last call counts.

    What systemd would put into the journal goes there as entries of `program`, with their fields beside the
    line: they have a priority, and no length at which the journal would cut a line in two."""
    handler = _make_handler(form, program, stream, environment)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def _make_handler(
    form: LogFormat, program: str, stream: TextIO | None, environment: Mapping[str, str]
) -> logging.Handler:
    handler: logging.Handler
    if stream is None and is_stderr_of_journal(environment):
        try:
            handler = JournalHandler(program)
        except OSError:
            pass  # what is written to stderr reaches it too, without fields
        else:
            handler.setFormatter(JsonFormatter() if form == "json" else JournalFormatter())
            return handler
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    return handler


class TextFormatter(logging.Formatter):
    """`2026-11-21T19:13:57.123Z INFO phase ended instance_id=web-1 message="two words"`."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time_of(record)} {record.levelname} {escape_controls(record.getMessage())}"
        for key, value in _fields_of(record).items():
            line += f" {key}={_quote(value)}"
        return line + "".join(f" traceback={_quote(trace)}" for trace in self._traceback(record))

    def _traceback(self, record: logging.LogRecord) -> list[str]:
        return [self.formatException(record.exc_info)] if record.exc_info else []


class JournalFormatter(logging.Formatter):
    """`web-1 v1.2.3: phase ended phase=downloading outcome=ok`: time, level and ids stand beside it."""

    def format(self, record: logging.LogRecord) -> str:
        """The traceback goes into `exc_text`, for a field of its own."""
        fields = _fields_of(record)
        of_instance = "instance_id" in fields
        about = " ".join(str(fields[key]) for key in _SUBJECT if fields.get(key)) if of_instance else ""
        line = escape_controls((f"{about}: " if about else "") + record.getMessage())
        for key, value in fields.items():
            if not of_instance or key not in _BESIDE:
                line += f" {key}={_quote(value)}"
        if record.exc_info:
            record.exc_text = self.formatException(record.exc_info)
            line += f" error={_quote(record.exc_text.splitlines()[-1])}"
        return line


class JsonFormatter(logging.Formatter):
    """One object per line; the fields stand beside time, level, logger and event. As an entry of the journal
    it says all of it twice, for readers of either."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        for key, value in _fields_of(record).items():
            line[key if key not in line else f"{key}_"] = value if _is_scalar(value) else str(value)
        if record.exc_info:
            record.exc_text = line["traceback"] = self.formatException(record.exc_info)
        return escape_json(json.dumps(line, ensure_ascii=True))


def _time_of(record: logging.LogRecord) -> str:
    return (
        datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def _fields_of(record: logging.LogRecord) -> Mapping[str, Any]:
    return getattr(record, "fields", {})


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _quote(value: object) -> str:
    text = str(value)
    text = text if len(text) <= MAX_VALUE_CHARS else text[:MAX_VALUE_CHARS] + "…"
    if text and _PLAIN.issuperset(text):
        return text
    return '"' + escape_controls(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'
