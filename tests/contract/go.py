"""What Go's encoding/json does with structs without `omitempty`, and no more lenient than the interface is.

Go reads null as the zero value everywhere; here it is refused except for pointers and for the times that the
caller names, because the interface promises more than Go needs."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

RFC3339_UTC: Final = re.compile(
    r"\d{4}-(0\d|1[0-2])-([0-2]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?Z"
)
ZERO_TIME: Final = "0001-01-01T00:00:00Z"
_ZEROS: Final[dict[str, Any]] = {
    "string": "",
    "int": 0,
    "float64": 0.0,
    "bool": False,
    "time.Time": ZERO_TIME,
}
_ESCAPED: Final = {"&": "\\u0026", "<": "\\u003c", ">": "\\u003e", "\u2028": "\\u2028", "\u2029": "\\u2029"}


class DecodeError(Exception):
    """encoding/json's UnmarshalTypeError, or a promise of the interface that was not kept."""


def marshal(struct: Mapping[str, str], values: Mapping[str, Any]) -> bytes:
    """json.Marshal of a struct literal: every field is sent, those that `values` leaves out as zero, a nil
    slice as null, and `&`, `<`, `>` escaped."""
    unknown = set(values) - set(struct)
    assert not unknown, f"no such field: {unknown}"
    tree = {name: values.get(name, _ZEROS.get(go_type)) for name, go_type in struct.items()}
    text = json.dumps(tree, ensure_ascii=False, separators=(",", ":"))
    return "".join(_ESCAPED.get(character, character) for character in text).encode()


def unmarshal(
    struct: Mapping[str, str], tree: Any, *, null_times: frozenset[str] = frozenset()
) -> dict[str, list[Any]]:
    """The values at each path of `struct` (`progress.total`, `instances[].status`) as their Go types.

    Every path is there: once, or once for each element of its slice. Raises DecodeError."""
    return {
        path: [
            decode(go_type, value, where=path, null_time=path in null_times) for value in reach(tree, path)
        ]
        for path, go_type in struct.items()
    }


def reach(tree: Any, path: str) -> list[Any]:
    """The values at `path`; several or none where it goes through a slice. Raises DecodeError."""
    found = [tree]
    for name in path.split("."):
        key = name.removesuffix("[]")
        for one in found:
            if not isinstance(one, dict) or key not in one:
                raise DecodeError(f"{path}: there is no '{key}' in {str(one)[:200]}")
        found = [one[key] for one in found]
        if name.endswith("[]"):
            for one in found:
                if not isinstance(one, list):
                    raise DecodeError(f"{path}: '{key}' is {one!r}, not a list")
            found = [element for one in found for element in one]
    return found


def decode(go_type: str, value: Any, *, where: str, null_time: bool = False) -> Any:
    """`value` as a `go_type`. Raises DecodeError."""
    if go_type.startswith("*"):
        return None if value is None else decode(go_type[1:], value, where=where)
    if go_type.startswith("[]") and isinstance(value, list):
        return [decode(go_type[2:], one, where=f"{where}[]") for one in value]
    if go_type.startswith("map[string]") and isinstance(value, dict):
        return {key: decode(go_type[11:], one, where=f"{where}.{key}") for key, one in value.items()}
    match go_type, value:
        case "string", str():
            return value
        case "bool", bool():
            return value
        case (("int" | "float64"), bool()):
            pass
        case "int", int() if -(2**63) <= value < 2**63:
            return value
        case "float64", int() | float():
            return float(value)
        case "time.Time", None if null_time:
            return ZERO_TIME
        case "time.Time", str() if RFC3339_UTC.fullmatch(value):
            return value
        case _:
            pass
    raise DecodeError(f"{where}: cannot unmarshal {value!r} into a {go_type}")
