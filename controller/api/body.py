"""Request bodies: bounded, JSON by content type, strict about what JSON leaves open (RFC 8259 §4, §6,
§8.1)."""

import asyncio
import json
from typing import Any, Final, NoReturn, TypeVar

from aiohttp import web
from pydantic import ValidationError

from releasehand.model import ErrorType, FieldError, Request

from .errors import ApiError
from .problems import problems_of

MAX_BODY_BYTES: Final = 8 * 1024 * 1024
MAX_DIGITS: Final = 100
MEDIA_TYPE: Final = "application/json"

BodyT = TypeVar("BodyT", bound=Request)


async def read_body(request: web.Request, deadline_s: float) -> bytes:
    """The bytes of the body, b"" without one. Raises ApiError when they are too many, too slow or not said to
    be plain JSON."""
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise too_large()
    try:
        async with asyncio.timeout(deadline_s):
            content = await request.read()
    except TimeoutError as exc:
        detail = f"cannot accept the body: it was not there after {deadline_s:g} s"
        raise ApiError(ErrorType.REQUEST_TIMEOUT, detail, headers={"Connection": "close"}) from exc
    except web.HTTPRequestEntityTooLarge as exc:  # a chunked body tells its length only while it is read
        raise too_large() from exc
    if content:
        _check_media_type(request)
    return content


def parse_body(
    model: type[BodyT], content: bytes, *, required: bool
) -> tuple[BodyT | None, list[FieldError]]:
    """The parsed body, or everything that is wrong with it. Without a body: all defaults, where none is
    required."""
    if not content.strip() and not required:
        return model.model_validate({}), []
    try:
        tree = _parse_json(content)
    except ValueError as exc:
        return None, [FieldError(pointer="", detail=str(exc))]
    try:
        return model.model_validate(tree), []
    except ValidationError as exc:
        return None, problems_of(exc, in_body=True)


def too_large() -> ApiError:
    return ApiError(
        ErrorType.BODY_TOO_LARGE, f"cannot accept the body: it has more than {MAX_BODY_BYTES} bytes"
    )


def _check_media_type(request: web.Request) -> None:
    if request.headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
        raise ApiError(
            ErrorType.UNSUPPORTED_MEDIA_TYPE, "cannot accept the body: send it without Content-Encoding"
        )
    charset = (request.charset or "utf-8").lower()
    if request.content_type != MEDIA_TYPE or charset not in {"utf-8", "utf8"}:
        raise ApiError(
            ErrorType.UNSUPPORTED_MEDIA_TYPE,
            f"cannot accept the body: its Content-Type must be {MEDIA_TYPE} in UTF-8",
        )


def _parse_json(content: bytes) -> Any:
    """Raises ValueError that says what is wrong with the text."""
    if not content.strip():
        raise ValueError("the body is empty: send a JSON object")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise ValueError(f"the body is not UTF-8: byte {exc.start} cannot be read") from exc
    try:
        return json.loads(
            text,
            object_pairs_hook=_refuse_repeated,
            parse_constant=_refuse_constant,
            parse_float=_read_fraction,
            parse_int=_read_whole,
        )
    except json.JSONDecodeError as exc:
        raise ValueError(f"the body is not JSON: {exc.msg} at line {exc.lineno}, column {exc.colno}") from exc
    except RecursionError as exc:
        raise ValueError("the body is nested too deeply") from exc


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two readers of a repeated key may each take another one: none is right."""
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"the body is not clear: {name[:128]!r} is given more than once")
            seen.add(name)
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"the body is not JSON: {name} is no JSON value")


def _read_fraction(text: str) -> int | float:
    """JSON has one kind of number: 300.0 is a whole one (JSON Schema 2020-12, 6.1.1)."""
    value = float(text)
    return int(value) if value.is_integer() else value


def _read_whole(text: str) -> int:
    """Longer ones are out of every range, and Python takes quadratic time for them."""
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number has more than {MAX_DIGITS} digits")
    return int(text)
