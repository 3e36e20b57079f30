"""PostgreSQL, for more than one controller. Why writers take turns here too: docs/decisions/0005."""

from datetime import datetime
from typing import Final

from sqlalchemy import URL, event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

WRITE_LOCK: Final = int.from_bytes(b"release", "big")
"""The advisory lock that each write transaction of each controller holds, from its first statement on."""
LOCK_TIMEOUT_S: Final = 20
STATEMENT_TIMEOUT_S: Final = 60
"""Nothing here takes so long, unless the server has gone without a word."""
CONNECT_TIMEOUT_S: Final = 10

_SESSION: Final = {
    "application_name": "releasehand-controller",
    "timezone": "UTC",
    "jit": "off",  # compiling a statement costs more than these take
    "synchronous_commit": "on",
    # A controller whose host went away without a word holds its locks no longer than this.
    "idle_in_transaction_session_timeout": "30s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "4",
}
_WRITES: Final = _SESSION | {
    # Each statement sees what was committed before it, and so after the lock was given: one snapshot for the
    # whole transaction would be the one from before the wait.
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "lock_timeout": f"{LOCK_TIMEOUT_S}s",
}
_READS: Final = _SESSION | {
    "default_transaction_isolation": "repeatable read",  # one snapshot for one look
    "default_transaction_read_only": "on",
}
CONFLICTS: Final = frozenset({"40001", "40P01", "23505"})
"""Serialization failure, deadlock, unique violation: somebody wrote who does not take turns."""
_UNUSABLE: Final = ("08", "25006", "25P03", "28", "3D", "53", "55P03", "57", "58", "XX")


def make_engine(url: URL, *, pool_size: int, writes: bool) -> AsyncEngine:
    """With `writes`, a transaction waits for its turn among those of all controllers on this database."""
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=30,
        pool_pre_ping=True,  # a server that was restarted costs no call
        connect_args={
            "timeout": CONNECT_TIMEOUT_S,
            "command_timeout": STATEMENT_TIMEOUT_S,
            "server_settings": _WRITES if writes else _READS,
        },
    )
    if writes:
        turn = f"SELECT pg_advisory_xact_lock({WRITE_LOCK})"
        event.listen(engine.sync_engine, "begin", lambda conn: conn.exec_driver_sql(turn))
    return engine


async def find_weakness(conn: AsyncConnection) -> str:
    """Why this server cannot be trusted with what was acknowledged; "" if it can."""
    wanted = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "server_encoding": "UTF8"}
    for name, value in wanted.items():
        found = (await conn.execute(text(f"SHOW {name}"))).scalar_one()
        if found != value:
            return f"PostgreSQL runs with {name}={found}, not {value}"
    return ""


async def tell_time(conn: AsyncConnection) -> datetime | None:
    """The server's, aware."""
    told: datetime = (await conn.execute(text("SELECT clock_timestamp()"))).scalar_one()
    return told


def sql_state(exc: BaseException) -> str:
    """The five characters by which the server tells what went wrong; "" if it did not answer."""
    state = getattr(getattr(exc, "orig", None) or exc, "sqlstate", None)
    return state if isinstance(state, str) else ""


def is_unusable(state: str) -> bool:
    """Whether the server, and not the statement, is at fault (PostgreSQL, appendix A)."""
    return state.startswith(_UNUSABLE)
