"""Which names an archive may bring (docs/explanation/unpacking.md, «Names»)."""

import unicodedata
from typing import Final

from agent.unpack.refusal import RefusedError, show

_PART_BYTES: Final = 255  # NAME_MAX
_PATH_BYTES: Final = 1024
# Control, format, and what some readers take for a newline.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Zl", "Zp"})
_HEX: Final = frozenset("0123456789abcdef")


def parse_path(raw: bytes, *, depth: int) -> str:
    """Return a path below the destination, "" for itself. "." and empty parts are dropped, ".." is refused.

    Raises RefusedError naming `raw`.
    """
    return check_path(check_text(raw, "name"), depth=depth)


def check_path(text: str, *, depth: int) -> str:
    """Like parse_path, for a name that passed check_text."""
    if text.startswith("/"):
        raise RefusedError(f"the name {show(text)} is absolute")
    path = text
    if "//" in text or "/." in text or text[0] == "." or text[-1] == "/":
        parts = [part for part in text.split("/") if part and part != "."]
        if ".." in parts:
            raise RefusedError(f"the name {show(text)} leads out of the destination")
        path = "/".join(parts)
    if path.count("/") >= depth:
        raise RefusedError(f"the name {show(text)} is more than {depth} levels deep")
    if not path.isascii() or len(path) > _PART_BYTES:
        for part in path.split("/"):
            if len(part.encode()) > _PART_BYTES:
                raise RefusedError(f"a part of the name {show(text)} is longer than {_PART_BYTES} bytes")
    return path


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
    if "\\" in text and not _only_escapes(text):
        raise RefusedError(f"the {what} {show(raw)} holds a backslash")
    # isprintable() is decided in C, and false for some harmless letters too: it is only the short way.
    if not text.isprintable() and any(unicodedata.category(char) in _UNSEEN for char in text):
        raise RefusedError(f"the {what} {show(raw)} holds a control or format character")
    return text


def _only_escapes(text: str) -> bool:
    """systemd writes "-" in a unit's name as \\x2d. Any other backslash is a separator somewhere."""
    return all(
        len(rest) >= 3 and rest[0] == "x" and _HEX.issuperset(rest[1:3]) for rest in text.split("\\")[1:]
    )


def fold(path: str) -> str:
    """Return what `path` looks like: equal for two spellings of the same text, composed and decomposed."""
    return path if path.isascii() else unicodedata.normalize("NFC", path)
