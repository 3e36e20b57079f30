"""What of a URL may be shown. Query strings of presigned URLs are credentials (security notes 4.3)."""

from urllib.parse import urlsplit

from releasehand.shown import escape_controls


def split_query(url: str) -> tuple[str, str]:
    """What stands before the `?` of a URL, and what follows it: byte for byte, so that both together are the
    same again. A fragment goes with the query."""
    path, _, query = url.partition("?")
    return path, query


def redact_url(url: str) -> str:
    """Return scheme://host/path, with `?…` where a query was; safe to log, store and show.

    User information and fragment are dropped, control characters are escaped. Never raises.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "(unreadable URL)"
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    origin = f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")
    shown = origin + parts.path + ("?…" if parts.query else "")
    return escape_controls(shown)
