"""What may stand in a settings file, told by its model: the words below each key, and a JSON Schema for
editors.

For commands and documents alone: a daemon needs none of it."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final, get_args

from pydantic import BaseModel

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def make_schema(model: type[BaseModel], title: str) -> dict[str, Any]:
    """The JSON Schema of a file that `model` reads. What stands in several keys, files and clocks, it does
    not know: `config check` does."""
    schema = model.model_json_schema()
    found = {"$schema": DIALECT, **schema, "title": title}
    definitions = schema.get("$defs", {})
    for one in _models_below(model):
        properties = (found if one is model else definitions[one.__name__]).get("properties", {})
        for name, words in describe_keys(one).items():
            if name in properties:
                properties[name]["description"] = words
    return found


def describe_keys(model: type[BaseModel]) -> dict[str, str]:
    """The words below each field, or its Field(description=…); a field of a parent class has the parent's."""
    found = {name: field.description for name, field in model.model_fields.items() if field.description}
    for owner in reversed(model.__mro__):
        if issubclass(owner, BaseModel) and owner is not BaseModel:
            for field, below in pairwise(_class_body(owner)):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    match below:
                        case ast.Expr(value=ast.Constant(value=str(text))):
                            found[field.target.id] = " ".join(text.split())
                        case _:
                            pass  # nothing is told of it here
    return found


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a field of this type may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    else:
        for part in get_args(annotation):
            yield from models_in(part)


def _models_below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for inside in models_in(field.annotation):
            yield from _models_below(inside)


def _class_body(owner: type) -> list[ast.stmt]:
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(tree, ast.ClassDef)
    return tree.body
