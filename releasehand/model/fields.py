"""The field types that requests and answers share: names, URLs, digests and times."""

import re
from datetime import UTC, datetime
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$"
NAME_SCHEMA_PATTERN: Final = r"^[A-Za-z0-9](\.?[A-Za-z0-9_+-])*\.?$"
"""The same without `..`, for JSON Schema, which then accepts exactly what is accepted here (with the length
bounds)."""
MAX_INSTANCES: Final = 20_000
MAX_URL_CHARS: Final = 4096


def _build_url_pattern() -> str:
    """RFC 3986 as far as packages need it: ASCII, https, no user, no fragment; a name, an IPv4 or an IPv6
    address; a true port.

    It says exactly what `check_package_url` accepts, so that JSON Schema can say it too."""
    hextet = "[0-9A-Fa-f]{1,4}"
    shortened = [f"({hextet}:){{1,{7 - n}}}(:{hextet}){{1,{n}}}" for n in range(1, 7)]
    ipv6 = "|".join(
        [f"({hextet}:){{7}}{hextet}", f"({hextet}:){{1,7}}:", *shortened, f":((:{hextet}){{1,7}}|:)"]
    )
    port = "0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
    return rf"^[Hh][Tt][Tt][Pp][Ss]://([A-Za-z0-9_][A-Za-z0-9._-]*|\[({ipv6})\])(:{port})?([/?][!-\x22\x24-~]*)?$"


URL_PATTERN: Final = _build_url_pattern()
_NAME = re.compile(NAME_PATTERN[:-1] + r"\Z")
_URL = re.compile(URL_PATTERN[:-1] + r"\Z")
_RESERVED_VERSIONS: Final = frozenset({"current", "previous"})


def check_name(value: str) -> str:
    """A name becomes a path component on hosts, so `..` is refused wherever it stands. Raises ValueError."""
    if not _NAME.match(value):
        raise ValueError(
            "a name starts with a letter or digit and has at most 128 letters, digits or any of . _ + -"
        )
    if ".." in value:
        raise ValueError("a name must not contain '..'")
    return value


def _check_version(value: str) -> str:
    if value in _RESERVED_VERSIONS:
        raise ValueError(f"'{value}' is a word of the system, not a version")
    return value


def _check_target_version(value: str) -> str:
    """A rollback may say `previous`; what is current is no target."""
    return value if value == "previous" else _check_version(value)


def check_package_url(value: str) -> str:
    """An https URL with a host, no user and no fragment; raises ValueError that says which part is wrong."""
    if len(value) > MAX_URL_CHARS:
        raise ValueError(f"a URL has at most {MAX_URL_CHARS} characters")
    if any(ord(c) <= 0x20 or ord(c) == 0x7F for c in value):
        raise ValueError("a URL has no spaces or control characters")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as exc:
        raise ValueError(f"not a URL: {exc}") from exc
    if parts.scheme.lower() != "https":
        raise ValueError(f"packages are fetched over https only, not {parts.scheme or 'a path'}")
    if not parts.hostname:
        raise ValueError("a URL names a host")
    if port == 0:
        raise ValueError("a URL has a port from 1 to 65535")
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "a URL must not carry a user or password; use a presigned query or the host's own settings"
        )
    if "#" in value:
        raise ValueError(
            "a URL of a package has no fragment: an origin is never asked for one; write # as %23"
        )
    if not _URL.match(value):
        raise ValueError(
            "a URL has an ASCII host name and path; write other characters as punycode or percent-encoded"
        )
    return value


def _check_optional_url(value: str) -> str:
    return value and check_package_url(value)


def _check_digest(value: str) -> str:
    if value and not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise ValueError("a SHA-256 digest is 64 hexadecimal digits")
    return value.lower()


def format_time(value: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, ending in Z."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Name = Annotated[
    str,
    Field(min_length=1, max_length=128, json_schema_extra={"pattern": NAME_SCHEMA_PATTERN}),
    AfterValidator(check_name),
]
Version = Annotated[
    Name,
    Field(json_schema_extra={"not": {"enum": sorted(_RESERVED_VERSIONS)}}),
    AfterValidator(_check_version),
]
TargetVersion = Annotated[
    Name,
    Field(json_schema_extra={"not": {"const": "current"}}),
    AfterValidator(_check_target_version),
]
PackageUrl = Annotated[
    str,
    Field(min_length=1, max_length=MAX_URL_CHARS, json_schema_extra={"pattern": URL_PATTERN}),
    AfterValidator(check_package_url),
]
OptionalPackageUrl = Annotated[
    str,
    Field(max_length=MAX_URL_CHARS, json_schema_extra={"pattern": f"^({URL_PATTERN[1:-1]})?$"}),
    AfterValidator(_check_optional_url),
]
OptionalDigest = Annotated[
    str,
    Field(max_length=64, json_schema_extra={"pattern": "^([0-9a-fA-F]{64})?$"}),
    AfterValidator(_check_digest),
]
Time = Annotated[
    AwareDatetime,
    PlainSerializer(format_time, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


Empty = Literal[""]
"""What a word of a closed list is where there is none: strings are never null."""


class Request(BaseModel):
    """A body that a caller sends: unknown fields are refused, nothing is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Answer(BaseModel):
    """Data that the controller answers. Lists and maps are never null, strings are never null.

    Clients ignore fields they do not know, so that a newer controller can add some."""

    model_config = ConfigDict(extra="ignore", frozen=True)
