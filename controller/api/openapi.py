"""The OpenAPI 3.1 document, made from the table of routes and the models: it cannot say anything else than
they do."""

import inspect
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from releasehand.model import Answer, ErrorEnvelope, ErrorType, Name, Request

from .errors import FAULTS
from .install import PACKAGE_PATH, PACKAGE_TYPE, SCRIPT_PATH
from .query import Query
from .routing import AnyRoute

REF: Final = "#/components/schemas/{model}"
JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream"
_T = ErrorType
_ALWAYS: Final = (
    _T.INVALID_REQUEST,
    _T.EXPECTATION_FAILED,
    _T.TOO_MANY_REQUESTS,
    _T.INTERNAL_ERROR,
    _T.UNAVAILABLE,
)
_WITH_BODY: Final = (_T.REQUEST_TIMEOUT, _T.BODY_TOO_LARGE, _T.UNSUPPORTED_MEDIA_TYPE)
_INTRODUCTION: Final = """\
Carries out releases and tells the truth about what happened.

Every answer under `/v1` is an envelope `{code, message, data}` whose `code` is the HTTP status; a refusal has
`error` beside it, with a `type` of a closed list, all `errors` found, the `request_id` and whether it is
`retryable`. Nothing was changed by a refused call. Times are RFC 3339 in UTC. The zero value of an optional
field, and an empty query parameter, mean its default; unknown fields and parameters are refused. An
`X-Request-Id` that is sent comes back."""
_BEARER: Final = """\
A caller's token. The role that each operation lists is the scope that the token needs there; a token may be
limited to some services, which limits deploy:read and deploy:write."""
_TAGS: Final = {
    "deployment": "Put a version on instances.",
    "rollback": "Take instances back to a version.",
    "service": "What runs where.",
    "instance": "What was done to an instance.",
    "agent": "Who looks after instances.",
    "token": "Who may call, and what was done.",
    "system": "How the controller does.",
}
_PATH_EXAMPLES: Final = {
    "deploy_id": "deploy-12345",
    "rollback_id": "rollback-12345",
    "service": "user-service",
    "instance_id": "instance-1",
    "name": "ci",
    "token_id": "join-1a2b3c4d5e6f",
    "agent_id": "web-1",
}
_REQUEST_ID_HEADER: Final = {
    "X-Request-Id": {
        "description": "The id of this request: the caller's own, or one made here.",
        "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 128},
    }
}
_ERROR_HEADERS: Final[dict[int, dict[str, Any]]] = {
    401: {"WWW-Authenticate": {"description": "Asks for a bearer token.", "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}},
    503: {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}},
}


class _Schemas(GenerateJsonSchema):
    """Answers carry every field, also those with a default; titles made of field names say nothing new."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def field_is_required(self, field: Any, total: bool) -> bool:
        return self.mode == "serialization" or super().field_is_required(field, total)


class _Named(BaseModel):
    """Carries the type of a path's id into the schemas."""

    name: Name


def build_document(routes: Sequence[AnyRoute], *, version: str) -> bytes:
    """The document as JSON. `version` is the controller's."""
    schemas, queries = _schemas(routes)
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for route in routes:
        paths[route.path][route.method.lower()] = _operation(route, queries)
        for answer in route.answers:
            schemas.setdefault(_envelope_name(answer), _envelope(answer))
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "releasehand",
            "version": version,
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths | _plain_paths(),
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": _BEARER}},
        },
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _schemas(routes: Sequence[AnyRoute]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The components, and apart from them the query models by name (their fields become parameters)."""
    requests: set[type[Request]] = {route.request_model for route in routes if route.request_model}
    queries: set[type[Query]] = {route.query for route in routes}
    answers = {answer for route in routes for answer in route.answers} | {ErrorEnvelope}
    read: list[type[BaseModel]] = [*requests, *queries, _Named]
    wanted: list[tuple[type[BaseModel], Any]] = [(model, "validation") for model in read]
    wanted += [(model, "serialization") for model in answers]
    wanted.sort(key=lambda pair: pair[0].__name__)
    _, top = models_json_schema(wanted, ref_template=REF, schema_generator=_Schemas)
    schemas: dict[str, Any] = top["$defs"]
    return schemas, {
        name: schemas.pop(name) for name in (_Named.__name__, *(query.__name__ for query in queries))
    }


def _operation(route: AnyRoute, queries: dict[str, Any]) -> dict[str, Any]:
    summary, _, description = inspect.cleandoc(route.handler.__doc__ or "").partition("\n")
    operation: dict[str, Any] = {
        "operationId": route.operation_id,
        "tags": [route.tag],
        "summary": summary,
        "description": description.strip() or summary,
        "parameters": list(_parameters(route, queries)),
        "responses": _responses(route),
    }
    operation["security"] = [] if route.scope is None else [{"bearer": [route.scope.value]}]
    if route.request_model is not None:
        content: dict[str, Any] = {"schema": {"$ref": REF.format(model=route.request_model.__name__)}}
        if route.example is not None:
            content["example"] = route.example.model_dump(mode="json", exclude_unset=True)
        operation["requestBody"] = {"required": route.body_required, "content": {JSON: content}}
    return operation


def _parameters(route: AnyRoute, queries: dict[str, Any]) -> Iterable[dict[str, Any]]:
    if route.path_name:
        yield {
            "name": route.path_name,
            "in": "path",
            "required": True,
            "schema": queries[_Named.__name__]["properties"]["name"],
            "example": _PATH_EXAMPLES[route.path_name],
        }
    for name, schema in queries[route.query.__name__].get("properties", {}).items():
        yield {
            "name": name,
            "in": "query",
            "required": False,
            "allowEmptyValue": True,
            "description": schema["description"],
            "schema": _bare(schema),
        }
    if route.stream is not None:
        yield {
            "name": "Last-Event-ID",
            "in": "header",
            "required": False,
            "description": "The id after which to go on, as clients of event streams send it.",
            "schema": {"type": "string", "pattern": "^[0-9]{1,18}$", "minLength": 1, "maxLength": 18},
        }
    if route.takes_idempotency_key:
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "The same key with the same body answers the same again and starts nothing.",
            "schema": {"type": "string", "pattern": "^[!-~]{1,128}$", "minLength": 1, "maxLength": 128},
        }


def _bare(schema: dict[str, Any]) -> dict[str, Any]:
    """A field's schema as a parameter's: one that is absent has no value, so `null` is ours alone."""
    kept = {key: value for key, value in schema.items() if key != "description"}
    if not kept.get("default"):
        kept.pop("default", None)
    choices = [choice for choice in kept.pop("anyOf", []) if choice != {"type": "null"}]
    return kept | (choices[0] if len(choices) == 1 else {"anyOf": choices} if choices else {})


def _responses(route: AnyRoute) -> dict[str, Any]:
    types = [*_ALWAYS, *route.refusals, *(_WITH_BODY if route.request_model else ())]
    if not route.open:
        types += [_T.UNAUTHENTICATED, _T.FORBIDDEN]
    by_status: dict[int, list[ErrorType]] = defaultdict(list)
    for error_type in ErrorType:
        if error_type in types:
            by_status[FAULTS[error_type].status].append(error_type)
    envelopes = [{"$ref": REF.format(model=_envelope_name(answer))} for answer in route.answers]
    content: dict[str, Any] = {
        JSON: {"schema": envelopes[0] if len(envelopes) == 1 else {"anyOf": envelopes}}
    }
    if route.stream is not None:
        content[EVENT_STREAM] = {"schema": {"type": "string"}}
    responses = {"200": {"description": "Done as asked.", "headers": _REQUEST_ID_HEADER, "content": content}}
    for status, of_status in sorted(by_status.items()):
        responses[str(status)] = _refusal(status, of_status)
    return responses


def _refusal(status: int, types: Sequence[ErrorType]) -> dict[str, Any]:
    listed = ", ".join(f"`{error_type}`" for error_type in types)
    narrowed = {
        "properties": {"code": {"const": status}, "error": {"properties": {"type": {"enum": list(types)}}}}
    }
    return {
        "description": f"{HTTPStatus(status).phrase}: {listed}.",
        "headers": _REQUEST_ID_HEADER | _ERROR_HEADERS.get(status, {}),
        "content": {JSON: {"schema": {"allOf": [{"$ref": REF.format(model="ErrorEnvelope")}, narrowed]}}},
    }


def _envelope_name(answer: type[Answer]) -> str:
    return f"{answer.__name__}Envelope"


def _envelope(answer: type[Answer]) -> dict[str, Any]:
    return {
        "type": "object",
        "description": f"A successful answer with its {answer.__name__}.",
        "properties": {
            "code": {"const": 200, "type": "integer"},
            "message": {"const": "success", "type": "string"},
            "data": {"$ref": REF.format(model=answer.__name__)},
        },
        "required": ["code", "message", "data"],
    }


def _install_paths() -> dict[str, Any]:
    """What hosts fetch to become agents, without token; only what is refused is in the envelope."""

    def path(operation_id: str, summary: str, media_type: str, *refused: int, **more: Any) -> dict[str, Any]:
        content = {media_type: {"schema": {"type": "string"}}}
        kinds = {429: [_T.TOO_MANY_REQUESTS], 404: [_T.NOT_FOUND]}
        responses = {"200": {"description": summary, "headers": _REQUEST_ID_HEADER, "content": content}}
        responses |= {str(status): _refusal(status, kinds[status]) for status in refused}
        operation = {"operationId": operation_id, "tags": ["agent"], "summary": summary, "security": []}
        return {"get": operation | more | {"responses": responses}}

    file = {"name": "file", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    return {
        SCRIPT_PATH: path("GetInstallScript", "A shell script that installs an agent.", "text/plain", 429),
        PACKAGE_PATH: path(
            "GetInstallPackage", "A package that the script names.", PACKAGE_TYPE, 404, 429, parameters=[file]
        ),
    }


def _plain_paths() -> dict[str, Any]:
    """What is answered without envelope or token."""
    status = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}

    def path(operation_id: str, summary: str, schema: dict[str, Any], **more: str) -> dict[str, Any]:
        described = {"200": summary, **{code.removeprefix("on_"): text for code, text in more.items()}}
        responses = {
            code: {"description": text, "content": {JSON: {"schema": schema}}}
            for code, text in described.items()
        }
        return {
            "get": {
                "operationId": operation_id,
                "tags": ["system"],
                "summary": summary,
                "security": [],
                "responses": responses,
            }
        }

    return _install_paths() | {
        "/livez": path("GetLiveness", "The process runs.", status),
        "/readyz": path("GetReadiness", "The controller can work.", status, on_503="It cannot just now."),
        "/openapi.json": path("GetOpenApi", "This document.", {"type": "object"}),
    }
