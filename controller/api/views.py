"""What the API looks at in the store beyond the functions of the specification."""

from datetime import datetime
from typing import Protocol

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


class StoreViews(Protocol):
    """Each may raise StoreUnavailableError, and may be cancelled at any time."""

    async def release_log(self, kind: OperationKind, operation_id: str, page: LogPage) -> ReleaseLog:
        """Raises UnknownOperationError."""
        ...

    async def list_deployments(self, wanted: OperationFilter, page: Page) -> DeploymentList: ...

    async def list_rollbacks(self, wanted: OperationFilter, page: Page) -> RollbackList: ...

    async def list_services(self, name: str, page: Page) -> ServiceList: ...

    async def list_instances(self, wanted: InstanceFilter, page: Page) -> InstanceList: ...

    async def list_agents(self, wanted: AgentFilter, page: Page) -> AgentList: ...

    async def service_versions_at(
        self, service: str, at: datetime, *, include_stopped: bool
    ) -> ServiceVersions:
        """What ran at a time. Raises UnknownServiceError."""
        ...
