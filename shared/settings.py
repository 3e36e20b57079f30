"""Settings of both daemons: a TOML file, then the environment over it; all problems are reported at once.

`PREFIX__CONTROLLER__URL` sets `controller.url`; a number names an element of a list
(`PREFIX__INSTANCE__0__PORT`). A value that starts with `[` or `{` is read as JSON, all else is text that
the model converts."""

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from .errors import ReleasehandError

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong; `where` is a key path like `instance[0].driver.unit`, a variable or a file."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class ConfigError(ReleasehandError):
    """The settings cannot be used. `problems` holds all of them, never empty."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("cannot use the configuration: " + "; ".join(map(str, self.problems)))


def load_settings(
    model: type[ModelT],
    *,
    file: Path | None,
    environment: Mapping[str, str],
    prefix: str,
    look_across: Callable[[Mapping[str, Any]], Iterable[Problem]] = lambda _: (),
) -> ModelT:
    """Read `file` (None: start from nothing), lay the variables named `prefix`__… over it and validate.

    `look_across` finds what no single key shows; it sees the values as they were read, right or wrong.
    Raises ConfigError. Whether files that the settings name exist is the caller's question."""
    tree = _read_toml(file) if file is not None else {}
    problems: list[Problem] = []
    origins: dict[str, str] = {}
    for variable in sorted(environment):
        if variable.upper().startswith(f"{prefix}_") and not variable.upper().startswith(f"{prefix}__"):
            problems.append(Problem(variable, f"names no key: write {prefix}__KEY, with two underscores"))
        elif variable.upper().startswith(f"{prefix}__"):
            path = variable[len(prefix) + 2 :].lower().split("__")
            try:
                origins[_place(tree, path, _parse(environment[variable]))] = variable
            except ValueError as exc:
                problems.append(Problem(variable, str(exc)))
    problems += look_across(tree)
    try:
        settings = model.model_validate(tree)
    except ValidationError as exc:
        problems += _problems_of(exc, tree, origins)
    else:
        if not problems:
            return settings
    raise ConfigError(problems)


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError([Problem(str(file), f"cannot be read: {exc.strerror or exc}")]) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError([Problem(str(file), f"is not TOML: {exc}")]) from exc


def _parse(text: str) -> Any:
    if not text.lstrip().startswith(("[", "{")):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError as exc:
        raise ValueError(f"is not JSON: {exc}") from exc


def _place(tree: dict[str, Any], path: list[str], value: Any) -> str:
    """Set `value` at `path`, making tables on the way; returns the key path. Raises ValueError."""
    if not all(path):
        raise ValueError("names no key: a part between two '__' is empty")
    node: Any = tree
    for done, part in enumerate(path, 1):
        last = done == len(path)
        if isinstance(node, list):
            index = int(part) if part.isdecimal() else -1
            if not 0 <= index <= len(node):
                raise ValueError(f"'{part}' is no element of a list of {len(node)}")
            if index == len(node):
                node.append({})
            if last:
                node[index] = value
            node = node[index]
        elif isinstance(node, dict):
            if last:
                node[part] = value
            elif not isinstance(node.get(part), dict | list):
                node[part] = {}
            node = node[part]
        else:
            where = ".".join(path[: done - 1])
            raise ValueError(f"'{where}' is a value, not a table")  # noqa: TRY004 - what was typed, not a type
    return ".".join(path)


def _problems_of(
    error: ValidationError, tree: Mapping[str, Any], origins: Mapping[str, str]
) -> list[Problem]:
    found = []
    for one in error.errors(include_url=False, include_input=False, include_context=False):
        parts = _without_tags(one["loc"], tree)
        where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts).lstrip(".") or "(top)"
        variable = origins.get(".".join(map(str, parts)).lower())
        what = "unknown key" if one["type"] == "extra_forbidden" else one["msg"].removeprefix("Value error, ")
        found.append(Problem(f"{where} (from {variable})" if variable else where, what))
    return found


def _without_tags(loc: Sequence[int | str], tree: Any) -> list[int | str]:
    """`loc` without the tags of unions, which are no keys of the file."""
    parts: list[int | str] = []
    node = tree
    for part in loc:
        if isinstance(node, dict) and part not in node and part == node.get("type"):
            continue
        parts.append(part)
        if isinstance(node, dict):
            node = node.get(part)
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
        else:
            node = None
    return parts
