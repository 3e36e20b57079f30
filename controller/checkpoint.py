"""Points at which a test may end the controller.

In production nothing listens, and no setting changes that: only a test's own entry hands in something that
does (tests/faults/controller_main.py)."""

from collections.abc import Callable

Checkpoint = Callable[[str], None]
"""Told the name of each point as it is passed: `accept:begun` (its turn has come, nothing is written),
`accept:written` (in the transaction), `accept:committed` (nobody knows yet); likewise for each other write of
the store."""


def pass_by(_point: str) -> None:
    """Nobody listens."""
