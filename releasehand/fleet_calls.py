"""Calls about services, instances, agents and the system."""

from datetime import datetime

from .connection import Connection, page_query, segment
from .model import (
    AgentList,
    InstanceList,
    InstanceStatus,
    MoveParams,
    MoveResult,
    Period,
    Presence,
    RetireResult,
    ServiceInstances,
    ServiceList,
    ServiceVersions,
    SystemHealth,
    SystemStats,
    VersionHistory,
    format_time,
)


class FleetCalls(Connection):
    """What runs where, and how the system does. Of a page, `limit` is at most 1,000, and `total` counts all
    that match."""

    async def get_service_instance_versions(
        self, service: str, include_stopped: bool = False, *, at: datetime | None = None
    ) -> ServiceVersions:
        """Which version each instance of a service runs, or ran at an aware time."""
        query = {"include_stopped": "true" if include_stopped else "false"}
        query |= {"at": format_time(at)} if at else {}
        path = f"/v1/service/{segment(service)}/versions"
        return await self._call("GET", path, ServiceVersions, query=query)

    async def get_service_instances(
        self,
        service: str,
        *,
        status: InstanceStatus | None = None,
        version: str = "",
        limit: int = 100,
        offset: int = 0,
    ) -> ServiceInstances:
        """One page (`limit` at most 1,000) of a service's instances; `total` counts all that match."""
        query = {"limit": str(limit), "offset": str(offset)}
        query |= {"status": status.value} if status else {}
        query |= {"version": version} if version else {}
        path = f"/v1/service/{segment(service)}/instances"
        return await self._call("GET", path, ServiceInstances, query=query)

    async def get_version_history(
        self, instance_id: str, *, limit: int = 50, offset: int = 0
    ) -> VersionHistory:
        """What was tried on an instance and what came of it, newest first."""
        query = {"limit": str(limit), "offset": str(offset)}
        path = f"/v1/instance/{segment(instance_id)}/version-history"
        return await self._call("GET", path, VersionHistory, query=query)

    async def retire_instance(self, instance_id: str) -> RetireResult:
        """Take an instance out of lists and figures; an agent that lists it again brings it back."""
        return await self._call("DELETE", f"/v1/instance/{segment(instance_id)}", RetireResult)

    async def move_instance(self, instance_id: str, agent_id: str) -> MoveResult:
        """Give an instance to another agent. Raises BusyError while a task of it is open."""
        path, body = f"/v1/instance/{segment(instance_id)}/move", MoveParams(agent_id=agent_id)
        return await self._call("POST", path, MoveResult, body=body)

    async def list_services(self, *, name: str = "", limit: int = 100, offset: int = 0) -> ServiceList:
        """Services by name, with how many instances are in which status; `name` is a part of it."""
        query = page_query(limit, offset, name=name)
        return await self._call("GET", "/v1/service", ServiceList, query=query)

    async def list_instances(
        self,
        *,
        service: str = "",
        agent_id: str = "",
        status: InstanceStatus | None = None,
        version: str = "",
        limit: int = 100,
        offset: int = 0,
    ) -> InstanceList:
        """Instances of all services by id."""
        filters = {"service": service, "agent_id": agent_id, "status": status and status.value}
        query = page_query(limit, offset, version=version, **filters)
        return await self._call("GET", "/v1/instance", InstanceList, query=query)

    async def list_agents(
        self, *, status: Presence | None = None, name: str = "", limit: int = 100, offset: int = 0
    ) -> AgentList:
        """Agents by id; `name` is a part of it or of the host's name."""
        query = page_query(limit, offset, status=status and status.value, name=name)
        return await self._call("GET", "/v1/agent", AgentList, query=query)

    async def get_system_health(self) -> SystemHealth:
        """The health of the system; an unhealthy one (HTTP 503) is an answer too, not an error."""
        return await self._call("GET", "/v1/system/health", SystemHealth, also=503)

    async def get_system_stats(self, period: Period = Period.DAY) -> SystemStats:
        """What ended in the last period, and how the instances do now."""
        return await self._call("GET", "/v1/system/stats", SystemStats, query={"period": period.value})
