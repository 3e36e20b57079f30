"""How the child says no. Shown to people, so whatever an archive brings is escaped first (CWE-117)."""

from typing import Final

from releasehand.shown import escape_controls

_SHOWN_CHARS: Final = 200


class RefusedError(Exception):
    """The archive cannot be accepted. The text is the reason, safe to log and to show on a terminal."""


def show(name: bytes | str) -> str:
    """Return `name` quoted, with everything that is not printable escaped, and cut to a readable length."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    safe = escape_controls(text.replace("\\", "\\\\").replace("'", "\\'"))
    return f"'{safe[:_SHOWN_CHARS]}…'" if len(safe) > _SHOWN_CHARS else f"'{safe}'"
