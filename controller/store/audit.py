"""What was done, by whom, and with what outcome. Rows are only ever added: triggers of the database refuse
anything else."""

from typing import Final

from sqlalchemy import ColumnElement, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.audit import MAX_MESSAGE_CHARS, MAX_TEXT_CHARS, AuditEntry, AuditFilter, bounded
from controller.core.lists import Page
from releasehand.model import AuditList, AuditRecord
from releasehand.shown import escape_controls

from .access_tables import AUDIT

_NEWEST_FIRST: Final = select(AUDIT).order_by(AUDIT.c.at.desc(), AUDIT.c.id.desc())


async def record(conn: AsyncConnection, entry: AuditEntry) -> None:
    """Add an entry; it is durable with the transaction, and undone with it.

    An accepted change is recorded in its own transaction. A refused or failed one has none that is kept: it
    is recorded in another, before anybody is answered."""
    actor = entry.actor
    row = {
        "at": entry.at,
        "actor": _safe(actor.name),
        "actor_kind": actor.kind.value,
        "address": _safe(actor.address),
        "request_id": _safe(actor.request_id),
        "action": entry.action.value,
        "objects": {_safe(name): _safe_value(value) for name, value in bounded(entry.objects).items()},
        "outcome": entry.outcome.value,
        "code": _safe(entry.code),
        "message": escape_controls(entry.message[:MAX_MESSAGE_CHARS]),
    }
    await conn.execute(insert(AUDIT), row)


async def read(conn: AsyncConnection, wanted: AuditFilter, page: Page) -> AuditList:
    """Newest first."""
    conditions = _conditions(wanted)
    total: int = (await conn.execute(select(func.count()).select_from(AUDIT).where(*conditions))).scalar_one()
    statement = _NEWEST_FIRST.where(*conditions).limit(page.limit).offset(page.offset)
    rows = (await conn.execute(statement)).mappings()
    records = [AuditRecord.model_validate(dict(row)) for row in rows]
    return AuditList(records=records, total=total, limit=page.limit, offset=page.offset)


def _conditions(wanted: AuditFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.actor:
        conditions.append(AUDIT.c.actor == wanted.actor)
    if wanted.action is not None:
        conditions.append(AUDIT.c.action == wanted.action.value)
    if wanted.outcome is not None:
        conditions.append(AUDIT.c.outcome == wanted.outcome.value)
    if wanted.since is not None:
        conditions.append(AUDIT.c.at >= wanted.since)
    if wanted.until is not None:
        conditions.append(AUDIT.c.at < wanted.until)
    return conditions


def _safe(text: str) -> str:
    return escape_controls(text[:MAX_TEXT_CHARS])


def _safe_value(value: str | int | list[str]) -> str | int | list[str]:
    if isinstance(value, int):
        return value
    return _safe(value) if isinstance(value, str) else [_safe(name) for name in value]
