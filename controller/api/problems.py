"""What is wrong with a request, in words for people, each with the place it stands at."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from releasehand.model import FieldError

MAX_POINTER_CHARS: Final = 256
_WORDS: Final[Mapping[str, str]] = {
    "missing": "is required",
    "extra_forbidden": "unknown field",
    "string_type": "must be a string",
    "string_unicode": "must be valid Unicode text",
    "string_too_short": "must not be empty",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}


def problems_of(error: ValidationError, *, in_body: bool) -> list[FieldError]:
    """Each problem of a validation; the pointer is a JSON Pointer (RFC 6901), or the parameter's name."""
    return [
        FieldError(
            pointer=_pointer(one["loc"]) if in_body else str(one["loc"][0]),
            detail=_words(one),
        )
        for one in error.errors(include_url=False, include_input=False)
    ]


def _pointer(loc: tuple[int | str, ...]) -> str:
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in loc)
    pointer = "".join(f"/{part}" for part in parts)
    return pointer[:MAX_POINTER_CHARS]


def _words(error: ErrorDetails) -> str:
    context: Mapping[str, Any] = error.get("ctx") or {}
    match error["type"]:
        case "value_error":
            return str(context["error"])
        case "string_too_long":
            return f"must have at most {context['max_length']} characters"
        case "too_short":
            return f"must have at least {context['min_length']} element"
        case "too_long":
            return f"must have at most {context['max_length']} elements"
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case "enum":
            return f"must be one of {context['expected']}"
        case known:
            return _WORDS.get(known, error["msg"])
