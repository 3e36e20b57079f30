"""Writes the tables of docs/reference/configuration.md from the models that read the files.

A daemon's tables stand between `<!-- NAME: made by make docs -->` and `<!-- end -->`; what is between them is
replaced, all else is left alone. What a key means is the text below its field in the code. With `--check`
nothing is written, and the exit code is 1 when the document is not up to date.
"""

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from agent.config import AgentConfig
from controller.config import ControllerConfig
from shared.settings_schema import describe_keys, models_in

DOCUMENT: Final = Path(__file__).resolve().parent.parent / "docs" / "reference" / "configuration.md"
FILES: Final[Mapping[str, type[BaseModel]]] = {"controller": ControllerConfig, "agent": AgentConfig}
_BLOCK: Final = re.compile(r"(<!-- (?P<name>[a-z-]+): made by make docs -->\n).*?(<!-- end -->)", re.DOTALL)
_FORMATS: Final = {
    "path": "absolute path",
    "password": "string, secret",
    "date-time": "time with its zone",
    "ipv4network": "network",
    "ipv6network": "network",
}
_UNITS: Final = {"_bytes_s": "bytes/s", "_bytes": "bytes", "_s": "seconds"}


class UndescribedKeyError(Exception):
    """A key without words for its user, or a document that asks for a file that nobody reads."""


@dataclass(frozen=True)
class Table:
    """One table of a file: `path` is how it is headed there, "" for the top; `tag` chooses among several."""

    path: str
    model: type[BaseModel]
    required: bool = False
    many: bool = False
    tag: str = ""

    @property
    def heading(self) -> str:
        if not self.path:
            return "At the top"
        brackets = f"`[[{self.path}]]`" if self.many else f"`[{self.path}]`"
        return f'{brackets} with `type = "{self.tag}"`' if self.tag else brackets


def find_tables(table: Table) -> Iterator[Table]:
    """A table and all inside it, in the order of the code."""
    yield table
    for name, field in table.model.model_fields.items():
        inside = list(models_in(field.annotation))
        many = get_origin(field.annotation) is tuple
        path = f"{table.path}.{name}".lstrip(".") + (".NAME" if get_origin(field.annotation) is dict else "")
        for model in inside:
            tag = _tag_of(model)
            yield from find_tables(Table(path, model, field.is_required(), many, tag))


def _tag_of(model: type[BaseModel]) -> str:
    kind = model.model_fields.get("type")
    return str(get_args(kind.annotation)[0]) if kind else ""


def type_in_words(name: str, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What may be written for a key, with its bounds and its unit."""
    if "$ref" in schema:
        return type_in_words(name, definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        kinds = [type_in_words(name, one, definitions) for one in schema["anyOf"] if one != {"type": "null"}]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in schema:
        return " or ".join(f'`"{word}"`' for word in schema["enum"])
    match schema["type"]:
        case "array":
            return f"list of {type_in_words(name, schema['items'], definitions)}"
        case "object":
            [value] = schema.get("patternProperties", {"": schema.get("additionalProperties")}).values()
            return f"table of NAME = {type_in_words(name, value, definitions)}"
        case "string":
            return _FORMATS.get(schema.get("format", ""), "string")
        case "boolean":
            return "true or false"
        case kind:
            unit = next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), "")
            return ", ".join(filter(None, [kind, unit, _bounds(schema)]))


def _bounds(schema: Mapping[str, Any]) -> str:
    words = []
    if "exclusiveMinimum" in schema:
        words.append(f"above {schema['exclusiveMinimum']:,}")
    if "minimum" in schema:
        words.append(f"from {schema['minimum']:,}")
    if "maximum" in schema:
        words.append(f"to {schema['maximum']:,}")
    return " ".join(words)


def _default_in_words(name: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    assert value is not PydanticUndefined, "what is not required has a default"
    match value:
        case None:
            return "none"
        case bool():
            return f"`{str(value).lower()}`"
        case int() if name.endswith("_bytes") and value and value % (1 << 20) == 0:
            return f"`{value}` ({value >> 20:,} MiB)"
        case Enum() | Path() | str():
            return f"`{json.dumps(str(value))}`"
        case tuple() | dict():
            return "empty"
        case _:
            return f"`{value}`"


def write_table(table: Table) -> str:
    """The heading, what the table is for, and its keys. Raises UndescribedKeyError."""
    schema = table.model.model_json_schema()
    described = describe_keys(table.model)
    rows = []
    for name, field in table.model.model_fields.items():
        if name == "type" or any(models_in(field.annotation)):
            continue
        if name not in described:
            raise UndescribedKeyError(f"{table.model.__name__}.{name}: write below it what it means")
        kind = type_in_words(name, schema["properties"][name], schema.get("$defs", {}))
        rows.append(f"| `{name}` | {kind} | {_default_in_words(name, field)} | {described[name]} |")
    head = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    about = " ".join((inspect.getdoc(table.model) or "").split()) if table.path else "Above all tables."
    about += " Required." if table.required else ""
    return "\n".join([f"### {table.heading}", "", about, *(["", *head, *rows] if rows else []), ""])


def render(document: str) -> str:
    """The document with every table written anew. Raises UndescribedKeyError."""
    asked = [block["name"] for block in _BLOCK.finditer(document)]
    if sorted(asked) != sorted(FILES):
        raise UndescribedKeyError(f"the document has {sorted(asked)}, written are {sorted(FILES)}")

    def write(block: re.Match[str]) -> str:
        tables = find_tables(Table("", FILES[block["name"]]))
        return f"{block[1]}\n" + "\n".join(map(write_table, tables)) + block[3]

    return _BLOCK.sub(write, document)


def main() -> int:
    written = DOCUMENT.read_text(encoding="utf-8")
    drawn = render(written)
    if drawn == written:
        return 0
    if "--check" in sys.argv[1:]:
        print(f"{DOCUMENT.name} is not up to date: run make docs", file=sys.stderr)
        return 1
    DOCUMENT.write_text(drawn, encoding="utf-8")
    print(f"wrote {DOCUMENT.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
