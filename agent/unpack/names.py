"""Which names an archive may bring (security notes 2.4, point 2)."""

import unicodedata
from typing import Final

from agent.unpack.entry import Parts
from agent.unpack.refusal import RefusedError, show

_PART_BYTES: Final = 255  # NAME_MAX
_PATH_BYTES: Final = 1024
_UNSEEN: Final = frozenset(
    {"Cc", "Cf", "Zl", "Zp"}
)  # control, format, and what some readers take for a newline


def parse_path(raw: bytes, *, depth: int) -> Parts:
    """Return the parts of a path below the destination. "." and empty parts are dropped, ".." is refused.

    Raises RefusedError naming `raw`.
    """
    text = check_text(raw, "name")
    if text.startswith("/"):
        raise RefusedError(f"the name {show(raw)} is absolute")
    parts = tuple([part for part in text.split("/") if part and part != "."])
    if ".." in parts:
        raise RefusedError(f"the name {show(raw)} leads out of the destination")
    if len(parts) > depth:
        raise RefusedError(f"the name {show(raw)} is more than {depth} levels deep")
    if not text.isascii() or len(text) > _PART_BYTES:
        for part in parts:
            if len(part.encode()) > _PART_BYTES:
                raise RefusedError(f"a part of the name {show(raw)} is longer than {_PART_BYTES} bytes")
    return parts


def check_text(raw: bytes, what: str) -> str:
    """Return `raw` as text if every byte of it can be shown and none can be taken for something else."""
    if not raw:
        raise RefusedError(f"a {what} is empty")
    if len(raw) > _PATH_BYTES:
        raise RefusedError(f"the {what} {show(raw)} is longer than {_PATH_BYTES} bytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise RefusedError(f"the {what} {show(raw)} is not UTF-8") from exc
    if "\\" in text:
        raise RefusedError(f"the {what} {show(raw)} holds a backslash")
    printable = (
        text.isprintable()
    )  # decided in C; false for some harmless letters too, so it is only the short way
    if not printable and any(unicodedata.category(char) in _UNSEEN for char in text):
        raise RefusedError(f"the {what} {show(raw)} holds a control or format character")
    return text
