"""The account that goes with the end of an attempt: several texts, each under its title, in one bound."""

from collections.abc import Sequence


def compose_tail(lines: Sequence[str], parts: Sequence[tuple[str, str]], *, most: int) -> str:
    """`lines`, then each part that has a text, under its title, in at most `most` characters.

    What is too long loses its beginning. Every part has an equal share, and what one leaves of it goes to the
    others; `lines` are whole, up to half of `most`."""
    text = "\n".join(lines)[-(most // 2) :]
    told = [(title, part) for title, part in parts if part]
    room = most - len(text) - sum(len(_head(title, cut=True)) for title, _ in told)
    shares: dict[str, int] = {}
    for left, (title, part) in enumerate(sorted(told, key=lambda one: len(one[1]))):
        shares[title] = min(len(part), room // (len(told) - left))
        room -= shares[title]
    for title, part in told:
        text += _head(title, cut=len(part) > shares[title]) + part[len(part) - shares[title] :]
    return text


def _head(title: str, *, cut: bool) -> str:
    return f"\n{title} {'ends with' if cut else 'is'}:\n"
