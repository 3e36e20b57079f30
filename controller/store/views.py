"""What can be looked at: each method is one consistent look."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.lists import AgentFilter, InstanceFilter, LogPage, OperationFilter, Page
from releasehand.model import (
    AgentList,
    DeploymentList,
    InstanceList,
    OperationKind,
    ReleaseLog,
    RollbackList,
    ServiceList,
    ServiceVersions,
)

from . import history, lists, release_log
from .engine import Database, carry_through

ResultT = TypeVar("ResultT")


class Views:
    """Everything here may raise StoreUnavailableError, and may be cancelled."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def _read(self, look: Callable[[AsyncConnection], Awaitable[ResultT]]) -> ResultT:
        async def read() -> ResultT:
            async with self._database.read() as conn:
                return await look(conn)

        return await carry_through(read())

    async def release_log(self, kind: OperationKind, operation_id: str, page: LogPage) -> ReleaseLog:
        """Raises UnknownOperationError."""
        return await self._read(lambda conn: release_log.read(conn, kind, operation_id, page))

    async def list_deployments(self, wanted: OperationFilter, page: Page) -> DeploymentList:
        """Newest first."""
        return await self._read(lambda conn: lists.read_deployments(conn, wanted, page))

    async def list_rollbacks(self, wanted: OperationFilter, page: Page) -> RollbackList:
        """Newest first."""
        return await self._read(lambda conn: lists.read_rollbacks(conn, wanted, page))

    async def list_services(self, name: str, page: Page) -> ServiceList:
        """By name; `name` is a part of it."""
        return await self._read(lambda conn: lists.read_services(conn, name, page))

    async def list_instances(self, wanted: InstanceFilter, page: Page) -> InstanceList:
        """By id."""
        return await self._read(lambda conn: lists.read_instances(conn, wanted, page))

    async def list_agents(self, wanted: AgentFilter, page: Page) -> AgentList:
        """By id."""
        return await self._read(lambda conn: lists.read_agents(conn, wanted, page))

    async def service_versions_at(
        self, service: str, at: datetime, *, include_stopped: bool
    ) -> ServiceVersions:
        """What ran at a time. Raises UnknownServiceError."""
        return await self._read(
            lambda conn: history.read_versions_at(conn, service, at, include_stopped=include_stopped)
        )
