"""Who may do what, and what was done: each method is one look or one transaction."""

from controller.core.audit import AuditEntry, AuditFilter
from controller.core.lists import Page
from releasehand.model import AuditList

from . import audit
from .transactions import Transactions


class Access(Transactions):
    """The audit."""

    async def audit(self, entry: AuditEntry) -> None:
        """Record what was refused or failed, in a transaction of its own. Durable on return."""
        await self._write(lambda conn, _now: audit.record(conn, entry), "audit")

    async def list_audit(self, wanted: AuditFilter, page: Page) -> AuditList:
        """Newest first."""
        return await self._read(lambda conn: audit.read(conn, wanted, page))
