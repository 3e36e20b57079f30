"""The controller's real database driver without its threads: each statement runs in line (see
tests.simulation.loop)."""

import sqlite3
from asyncio import Future
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiosqlite
from sqlalchemy import event
from sqlalchemy.engine import Engine


class _Now:
    """Takes work as the thread's queue does, and does it."""

    def put_nowait(self, item: tuple[Future[Any] | None, Callable[[], Any]]) -> None:
        future, work = item
        try:
            result = work()
        except Exception as exc:  # noqa: BLE001 - it belongs to whoever awaits the future
            if future is not None:
                future.set_exception(exc)
        else:
            if future is not None:
                future.set_result(result)


class _NoThread:
    daemon = True

    def start(self) -> None:
        return None


class InlineConnection(aiosqlite.Connection):
    """aiosqlite's own connection, with its thread taken out."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=64)
        self._tx: Any = _Now()
        self._thread: Any = _NoThread()


def _connect_inline(_dialect: object, _record: object, _args: list[Any], options: dict[str, Any]) -> None:
    options["async_creator_fn"] = lambda *args, **more: InlineConnection(
        lambda: sqlite3.connect(*args, **more)
    )


@contextmanager
def inline_sqlite() -> Iterator[None]:
    """Until the block ends, engines of SQLAlchemy that connect to SQLite do so without threads."""
    event.listen(Engine, "do_connect", _connect_inline)
    try:
        yield
    finally:
        event.remove(Engine, "do_connect", _connect_inline)
