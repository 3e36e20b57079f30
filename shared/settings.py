"""Settings of both daemons: a TOML file, over it systemd's credentials, over them the environment; all
problems are reported at once.

The credential `config.controller.url` and the variable `PREFIX__CONTROLLER__URL` set `controller.url`; a
number names an element of a list (`PREFIX__INSTANCE__0__PORT`). A value that starts with `[` or `{` is read
as JSON, all else is text that the model converts. Credentials (systemd.exec(5), LoadCredential=) of other
names are left alone."""

import json
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from .errors import ReleasehandError

ModelT = TypeVar("ModelT", bound=BaseModel)
CREDENTIALS_VARIABLE: Final = "CREDENTIALS_DIRECTORY"
CREDENTIAL_PREFIX: Final = "config."


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong; `where` is a key path like `instance[0].driver.unit`, a variable,
    a credential or a file."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class ConfigError(ReleasehandError):
    """The settings cannot be used. `problems` holds all of them, never empty."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("cannot use the configuration: " + "; ".join(map(str, self.problems)))


@dataclass
class Written:
    """What was written for the settings, right or wrong, and where."""

    file: Path | None
    tree: dict[str, Any]
    origins: dict[tuple[str, ...], str] = field(default_factory=dict)
    """By key path: the variable or the credential, in words. What is missing here was in the file."""
    problems: list[Problem] = field(default_factory=list)

    def origin_of(self, path: Sequence[str | int]) -> str:
        """Who says the value at `path`, like ("instance", 0, "port"): a variable, a credential or the file,
        in words for people; "" where nobody does, so that a default holds."""
        node: Any = self.tree
        for part in path:
            try:
                node = node[part]
            except (KeyError, IndexError, TypeError):
                return ""
        return self.over_file(path) or str(self.file)

    def over_file(self, path: Sequence[str | int]) -> str:
        """The variable or the credential that set `path`, or a table around it; "" for none."""
        parts = tuple(map(str, path))
        found = (self.origins.get(parts[:end]) for end in range(len(parts), 0, -1))
        return next((origin for origin in found if origin), "")

    def put(self, path: Sequence[str], text: str, origin: str) -> None:
        """Lay one value over what there is."""
        try:
            _place(self.tree, path, _parse(text))
        except ValueError as exc:
            self.problems.append(Problem(origin, str(exc)))
            return
        whole = tuple(path)
        for below in [known for known in self.origins if known[: len(whole)] == whole]:
            del self.origins[below]
        self.origins[whole] = origin


def load_settings(
    model: type[ModelT],
    *,
    file: Path | None,
    environment: Mapping[str, str],
    prefix: str,
    look_across: Callable[[Mapping[str, Any]], Iterable[Problem]] = lambda _: (),
) -> ModelT:
    """Read what `read_written` reads, and validate it.

    `look_across` finds what no single key shows; it sees the values as they were read, right or wrong.
    Raises ConfigError. Whether files that the settings name exist is the caller's question."""
    written = read_written(file=file, environment=environment, prefix=prefix)
    problems = [*written.problems, *look_across(written.tree)]
    try:
        settings = model.model_validate(written.tree)
    except ValidationError as exc:
        problems += _problems_of(exc, written)
    else:
        if not problems:
            return settings
    raise ConfigError(problems)


def read_written(*, file: Path | None, environment: Mapping[str, str], prefix: str) -> Written:
    """Read `file` (None: start from nothing), lay over it the credentials `config.`… of the folder that
    CREDENTIALS_DIRECTORY names, and over them the variables named `prefix`__….

    Raises ConfigError for a file that cannot be read; other problems are in the result."""
    written = Written(file, _read_toml(file) if file is not None else {})
    if directory := environment.get(CREDENTIALS_VARIABLE):
        _lay_credentials(written, Path(directory))
    for variable in sorted(environment, key=lambda name: _rank(name.lower().split("__"))):
        if variable.upper().startswith(f"{prefix}_") and not variable.upper().startswith(f"{prefix}__"):
            what = f"names no key: write {prefix}__KEY, with two underscores"
            written.problems.append(Problem(variable, what))
        elif variable.upper().startswith(f"{prefix}__"):
            path = variable[len(prefix) + 2 :].lower().split("__")
            written.put(path, environment[variable], variable)
    return written


def _lay_credentials(written: Written, directory: Path) -> None:
    try:
        found = [file for file in directory.iterdir() if file.name.startswith(CREDENTIAL_PREFIX)]
    except OSError as exc:
        what = f"{directory} cannot be read: {exc.strerror or exc}"
        written.problems.append(Problem(CREDENTIALS_VARIABLE, what))
        return
    for file in sorted(found, key=lambda file: _rank(file.name.split("."))):
        origin = f"credential {file.name}"
        try:
            text = file.read_text(encoding="utf-8").strip()
        except OSError as exc:
            written.problems.append(Problem(origin, f"cannot be read: {exc.strerror or exc}"))
        except UnicodeDecodeError:
            written.problems.append(Problem(origin, "is not text"))
        else:
            written.put(file.name.removeprefix(CREDENTIAL_PREFIX).split("."), text, origin)


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError([Problem(str(file), _say_unreadable(exc))]) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError([Problem(str(file), f"is not TOML: {exc}")]) from exc


def _say_unreadable(exc: OSError) -> str:
    match exc:
        case FileNotFoundError():
            return "there is no such file: write it, or name another with --config"
        case PermissionError():
            return "this account may not read it: run this as root, or let its group (chgrp, chmod 640)"
        case _:
            return f"cannot be read: {exc.strerror or exc}"


def _rank(path: Sequence[str]) -> list[tuple[int, str]]:
    """What sorts a table before what is in it, and 2 before 10: a list grows by one element at a time.

    Digits are compared as they stand: int() refuses very many."""
    numbers = (part.lstrip("0") if part.isdecimal() else None for part in path)
    return [
        (0, part) if digits is None else (len(digits), digits)
        for part, digits in zip(path, numbers, strict=True)
    ]


def _parse(text: str) -> Any:
    if not text.lstrip().startswith(("[", "{")):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError as exc:
        raise ValueError(f"is not JSON: {exc}") from exc


def _place(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set `value` at `path`, making tables on the way. Raises ValueError."""
    if not all(path):
        raise ValueError("names no key: a part of it is empty")
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
            node = node.setdefault(part, {})
        else:
            where = ".".join(path[: done - 1])
            raise ValueError(f"'{where}' is a value, not a table")  # noqa: TRY004 - what was typed, not a type


def _problems_of(error: ValidationError, written: Written) -> Iterator[Problem]:
    for one in error.errors(include_url=False, include_input=False, include_context=False):
        parts = _without_tags(one["loc"], written.tree)
        where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts).lstrip(".") or "(top)"
        origin = written.over_file(parts)
        what = "unknown key" if one["type"] == "extra_forbidden" else one["msg"].removeprefix("Value error, ")
        yield Problem(f"{where} (from {origin})" if origin else where, what)


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
