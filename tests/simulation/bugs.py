"""What the daemons call a bug of their own: they log it with its traceback and go on."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.bugs: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            trace = "".join(traceback.format_exception(record.exc_info[1]))
            self.bugs.append(f"{record.getMessage()}: {trace}")


@contextmanager
def noticed_bugs() -> Iterator[list[str]]:
    """All of them while the block runs."""
    collector, root = _Collector(), logging.getLogger()
    root.addHandler(collector)
    try:
        yield collector.bugs
    finally:
        root.removeHandler(collector)
