"""How many calls may hold a connection open at once: in all, and of one caller."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from releasehand.model import ErrorType

from .errors import ApiError


class Places:
    """For the event loop alone."""

    def __init__(self, total: int, of_caller: int, *, what: str, instead: str) -> None:
        """`what` takes the places, `instead` tells what to do when none is left."""
        self._total, self._of_caller = total, of_caller
        self._what, self._instead = what, instead
        self._taken: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many are taken."""
        return self._taken.total()

    @contextmanager
    def take(self, caller: str) -> Iterator[None]:
        """Hold a place until the block ends. Raises ApiError `too_many_requests` when there is none."""
        if len(self) >= self._total:
            raise self._full(f"{self._total} {self._what} are open already")
        if self._taken[caller] >= self._of_caller:
            raise self._full(f"'{caller}' has {self._of_caller} {self._what} open already")
        self._taken[caller] += 1
        try:
            yield
        finally:
            self._taken[caller] -= 1
            if not self._taken[caller]:
                del self._taken[caller]

    def _full(self, why: str) -> ApiError:
        return ApiError(ErrorType.TOO_MANY_REQUESTS, f"cannot open one more: {why}; {self._instead}")
