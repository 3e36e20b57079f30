"""Lists without anything in them, that note what they were asked for."""

from dataclasses import dataclass, field

from controller.core.lists import AgentFilter, InstanceFilter, OperationFilter, Page
from releasehand.model import AgentList, DeploymentList, InstanceList, RollbackList, ServiceList


@dataclass
class FakeLists:
    """`raises` is raised by each call."""

    calls: list[tuple[object, ...]] = field(default_factory=list)
    raises: Exception | None = None

    def _note(self, *call: object) -> None:
        self.calls.append(call)
        self._answer()

    def _answer(self) -> None:
        """For what goes on around calls, and is not noted as one."""
        if self.raises is not None:
            raise self.raises

    async def list_deployments(self, wanted: OperationFilter, page: Page) -> DeploymentList:
        self._note("list_deployments", wanted, page)
        return DeploymentList(deployments=[], total=0, limit=page.limit, offset=page.offset)

    async def list_rollbacks(self, wanted: OperationFilter, page: Page) -> RollbackList:
        self._note("list_rollbacks", wanted, page)
        return RollbackList(rollbacks=[], total=0, limit=page.limit, offset=page.offset)

    async def list_services(self, name: str, page: Page, within: frozenset[str]) -> ServiceList:
        self._note("list_services", name, page, within)
        return ServiceList(services=[], total=0, limit=page.limit, offset=page.offset)

    async def list_instances(self, wanted: InstanceFilter, page: Page) -> InstanceList:
        self._note("list_instances", wanted, page)
        return InstanceList(instances=[], total=0, limit=page.limit, offset=page.offset)

    async def list_agents(self, wanted: AgentFilter, page: Page) -> AgentList:
        self._note("list_agents", wanted, page)
        return AgentList(agents=[], total=0, limit=page.limit, offset=page.offset)
