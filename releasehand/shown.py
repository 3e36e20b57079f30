"""What others wrote, made safe to show: it splits no line and steers no terminal (CWE-117, CWE-150).

Loads nothing, so that even `--help` and the process that unpacks can have it."""


def escape_controls(text: str, *, keep: str = "") -> str:
    """`text` with everything that is not printable as an escape: line ends, terminal codes, C1, bidi marks,
    line separators, what is no character at all. Characters in `keep` stay."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def escape_json(text: str, *, keep: str = "") -> str:
    """The same for JSON that is written already, which means the same afterwards: JSON itself lets C1, bidi
    marks and DEL stand. Its layout, if it has one, is to be kept."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else _escape_in_json(char) for char in text)


def _escape_in_json(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
