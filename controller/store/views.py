"""What can be looked at: each method is one consistent look."""

from datetime import datetime

from controller.core.acceptance import InstancePage
from controller.core.lists import AgentFilter, InstanceFilter, LogPage, OperationFilter, Page
from controller.core.written import Written
from releasehand.model import (
    AgentList,
    DeploymentList,
    DeployStatus,
    InstanceList,
    InstanceStatus,
    OperationKind,
    Period,
    ReleaseLog,
    RollbackList,
    RollbackStatus,
    ServiceInstances,
    ServiceList,
    ServiceVersions,
    SystemStats,
    VersionHistory,
)

from . import history, instances, lists, operations, release_log, stats
from .transactions import Transactions


class Views(Transactions):
    """Nothing here writes."""

    async def deploy_status(self, deploy_id: str, page: InstancePage) -> Written[DeployStatus]:
        """Raises UnknownOperationError."""
        return await self._read(lambda conn: operations.read_deployment(conn, deploy_id, page))

    async def rollback_status(self, rollback_id: str, page: InstancePage) -> Written[RollbackStatus]:
        """Raises UnknownOperationError."""
        return await self._read(lambda conn: operations.read_rollback(conn, rollback_id, page))

    async def find_service(self, kind: OperationKind, operation_id: str) -> str | None:
        """The service that an operation is of; None if there is no such operation."""
        return await self._read(lambda conn: operations.find_service(conn, kind, operation_id))

    async def find_service_of_instance(self, instance_id: str) -> str | None:
        """The service that an instance is of, retired or not; None if there is no such instance."""
        return await self._read(lambda conn: instances.find_service(conn, instance_id))

    async def service_versions(self, service: str, *, include_stopped: bool) -> Written[ServiceVersions]:
        """Raises UnknownServiceError."""
        return await self._read(
            lambda conn: instances.read_versions(
                conn, service, include_stopped=include_stopped, now=self._clock.now()
            )
        )

    async def service_instances(
        self, service: str, *, status: InstanceStatus | None, version: str, limit: int, offset: int
    ) -> ServiceInstances:
        """Raises UnknownServiceError."""
        return await self._read(
            lambda conn: instances.read_instances(
                conn, service, status=status, version=version, limit=limit, offset=offset
            )
        )

    async def version_history(self, instance_id: str, *, limit: int, offset: int) -> VersionHistory:
        """Raises UnknownInstanceError."""
        return await self._read(lambda conn: history.read(conn, instance_id, limit=limit, offset=offset))

    async def system_stats(self, period: Period) -> SystemStats:
        """The figures as of now."""
        return await self._read(lambda conn: stats.read(conn, period, self._clock.now()))

    async def release_log(self, kind: OperationKind, operation_id: str, page: LogPage) -> ReleaseLog:
        """Raises UnknownOperationError."""
        return await self._read(lambda conn: release_log.read(conn, kind, operation_id, page))

    async def list_deployments(self, wanted: OperationFilter, page: Page) -> DeploymentList:
        """Newest first."""
        return await self._read(lambda conn: lists.read_deployments(conn, wanted, page))

    async def list_rollbacks(self, wanted: OperationFilter, page: Page) -> RollbackList:
        """Newest first."""
        return await self._read(lambda conn: lists.read_rollbacks(conn, wanted, page))

    async def list_services(self, name: str, page: Page, within: frozenset[str] = frozenset()) -> ServiceList:
        """By name; `name` is a part of it."""
        return await self._read(lambda conn: lists.read_services(conn, name, page, within))

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
