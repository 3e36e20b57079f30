"""The envelope around every answer under /v1 (DESIGN «HTTP API»)."""

from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from pydantic import TypeAdapter

from controller.core.written import Written
from releasehand.model import Answer, ErrorBody, ErrorEnvelope
from releasehand.shown import escape_json

from .errors import ApiError

JSON: Final = "application/json"
_OPENING: Final = b'{"code":200,"message":"success","data":'


def success(adapter: TypeAdapter[Any], answer: Answer) -> web.Response:
    """The answer is written once: its JSON is set between the envelope's bytes."""
    return _enclose(adapter.dump_json(answer))


def success_written(answer: Written[Any]) -> web.Response:
    """The same of an answer that the database has put into JSON for the most part."""
    return _enclose(answer.to_json())


def _enclose(data: bytes) -> web.Response:
    return web.Response(body=_OPENING + presentable(data) + b"}", content_type=JSON)


def presentable(data: bytes) -> bytes:
    """JSON that means the same and that no terminal acts on: people read answers there too, and hosts have
    written much of them."""
    if data.isascii() and b"\x7f" not in data:
        return data
    return escape_json(data.decode()).encode()


def failure(error: ApiError, request_id: str) -> web.Response:
    status = error.fault.status
    envelope = ErrorEnvelope(
        code=status,
        message=HTTPStatus(status).phrase.lower(),
        data=error.data,
        error=ErrorBody(
            type=error.type,
            detail=error.detail,
            errors=list(error.errors),
            request_id=request_id,
            retryable=error.fault.retryable,
        ),
    )
    content = presentable(envelope.model_dump_json().encode())
    return web.Response(body=content, status=status, content_type=JSON, headers=error.headers)
