"""The settings that are in effect, as TOML: each key that somebody wrote is marked with where it was.

What it writes can be read again, but for secrets, which are masked."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, Final

from pydantic import BaseModel, SecretStr

from .settings import Written

MASK: Final = "********"
_SECRET_NAME: Final = re.compile(
    r"pass|pwd|secret|token|credential|(?:api|private|access|sign|signing|encrypt|encryption).?key",
    re.IGNORECASE,
)
_USER_INFO: Final = re.compile(r"(?<=://)([^\s/?#:@]*):[^\s/?#]+@")
_DATABASE_USER_INFO: Final = re.compile(r"^((?!http|ws)[A-Za-z0-9+.-]+://[^\s/?#:@]*):.+@")
_QUERY_PART: Final = re.compile(
    rf"([?&][^\s=&#]*(?:{_SECRET_NAME.pattern})[^\s=&#]*=)[^\s&#]+", re.IGNORECASE
)
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
KeyPath = tuple[str | int, ...]


def write_page(settings: BaseModel, written: Written) -> str:
    """All keys with their values. `written` is what `settings` was read from."""
    file = f"file: {written.file}" if written.file else "no file"
    header = [
        f"# What is in effect. {file}; over it credentials, over them the environment.",
        "# A mark tells where a value is from; what has none is a default. Secrets are masked.",
    ]
    return "\n".join([*header, *_table(settings, (), (), written), ""])


def _table(model: BaseModel, heading: tuple[str, ...], path: KeyPath, written: Written) -> Iterator[str]:
    """The plain keys of a table first, as TOML needs it, then the tables in it."""
    fields = {name: getattr(model, name) for name in type(model).model_fields}
    for name, value in fields.items():
        if value is None:
            yield f"# {name}: not set"
        elif not _is_table(value):
            yield _line(name, value, (*path, name), written)
    for name, value in fields.items():
        below, place = (*heading, name), (*path, name)
        match value:
            case BaseModel():
                yield from ("", f"[{_dotted(below)}]")
                yield from _table(value, below, place, written)
            case Mapping() if value:
                yield from _mapping(value, below, place, written)
            case tuple() if _is_table(value):
                for index, one in enumerate(value):
                    yield from ("", f"[[{_dotted(below)}]]")
                    yield from _table(one, below, (*place, index), written)
            case _:
                pass  # written above


def _mapping(
    value: Mapping[str, Any], heading: tuple[str, ...], path: KeyPath, written: Written
) -> Iterator[str]:
    plain = {name: one for name, one in value.items() if not isinstance(one, BaseModel)}
    if plain:
        yield from ("", f"[{_dotted(heading)}]")
    for name, one in plain.items():
        shown = MASK if _SECRET_NAME.search(name) and isinstance(one, str) else one
        yield _line(name, shown, (*path, name), written)
    for name, one in value.items():
        if isinstance(one, BaseModel):
            yield from ("", f"[{_dotted((*heading, name))}]")
            yield from _table(one, (*heading, name), (*path, name), written)


def _is_table(value: object) -> bool:
    """Whether it has a heading of its own, or is nothing that has a value: an empty mapping."""
    if isinstance(value, tuple):
        return bool(value) and all(isinstance(one, BaseModel) for one in value)
    return isinstance(value, BaseModel | Mapping)


def _line(name: str, value: object, path: KeyPath, written: Written) -> str:
    origin = written.origin_of(path)
    mark = "file" if origin == str(written.file) else origin
    return f"{_key(name)} = {_value(value)}" + (f"  # {_comment(mark)}" if mark else "")


def _dotted(parts: Sequence[str]) -> str:
    return ".".join(map(_key, parts))


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _string(name)


def _value(value: object) -> str:
    match value:
        case SecretStr():
            return _string(MASK)
        case bool():
            return "true" if value else "false"
        case int() | float() if not isinstance(value, Enum):
            return repr(value)
        case datetime():
            return value.isoformat()
        case Enum():
            return _string(str(value.value))
        case tuple() | list() | frozenset():
            return "[" + ", ".join(map(_value, value)) + "]"
        case _:
            return _string(_without_password(str(value)))


def _without_password(text: str) -> str:
    """URLs such as a database's may carry one: before the host or in the query, and a database's even with
    a slash in it, for drivers look for the `@` alone."""
    if "://" not in text:
        return text
    text = _DATABASE_USER_INFO.sub(rf"\1:{MASK}@", text)
    text = _USER_INFO.sub(rf"\1:{MASK}@", text)
    return _QUERY_PART.sub(rf"\1{MASK}", text)


def _string(text: str) -> str:
    """A basic string (TOML 1.0). What is not printable is escaped, for terminals."""
    return '"' + "".join(map(_escape, text)) + '"'


def _escape(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def _comment(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
