"""What the API tells, from a store in memory: one service, and whatever was done to it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from controller.core.acceptance import InstancePage
from controller.core.lists import LogPage
from controller.core.refusals import (
    Holder,
    InstanceBusyError,
    UnknownInstanceError,
    UnknownOperationError,
    UnknownServiceError,
)
from controller.core.written import Written
from releasehand.model import (
    ENDED,
    DeployStatus,
    HistoryAction,
    HistoryEntry,
    HistoryStatus,
    Instance,
    InstanceCounts,
    InstanceRollbackParams,
    InstanceStatus,
    InstanceVersion,
    OperationCounts,
    OperationKind,
    Period,
    ReleaseLog,
    RollbackStatus,
    RollbackType,
    ServiceInstances,
    ServiceVersions,
    SystemStats,
    VersionHistory,
)
from tests.fakes.api_access import FakeAccess
from tests.fakes.api_operation import NOON, Operation, progress_of, tasks_of, write


@dataclass
class FakeViews(FakeAccess):
    """Has one service, `user-service`, with `instance-1` to `instance-3` on v1.0.0. `raises` is raised by
    each call."""

    services: dict[str, dict[str, str]] = field(
        default_factory=lambda: {"user-service": {f"instance-{n}": "v1.0.0" for n in (1, 2, 3)}}
    )
    operations: dict[tuple[OperationKind, str], Operation] = field(default_factory=dict)

    async def deploy_status(self, deploy_id: str, page: InstancePage) -> Written[DeployStatus]:
        self._note("deploy_status", deploy_id, page)
        operation = self._find(OperationKind.DEPLOYMENT, deploy_id)
        answer = DeployStatus(
            deploy_id=deploy_id,
            service=operation.service,
            version=operation.version,
            status=operation.status,
            progress=progress_of(operation),
            instances=tasks_of(operation, page),
            started_at=NOON,
            updated_at=NOON,
        )
        return write(answer)

    async def rollback_status(self, rollback_id: str, page: InstancePage) -> Written[RollbackStatus]:
        self._note("rollback_status", rollback_id, page)
        operation = self._find(OperationKind.ROLLBACK, rollback_id)
        single = isinstance(operation.params, InstanceRollbackParams)
        answer = RollbackStatus(
            rollback_id=rollback_id,
            service=operation.service,
            target_version=operation.version,
            rollback_type=RollbackType.INSTANCE if single else RollbackType.BATCH,
            status=operation.status,
            progress=progress_of(operation),
            instances=tasks_of(operation, page),
            started_at=NOON,
            completed_at=None,
            updated_at=NOON,
        )
        return write(answer)

    async def service_versions(self, service: str, *, include_stopped: bool) -> Written[ServiceVersions]:
        self._note("service_versions", service, include_stopped)
        versions = self._service(service)
        summary: dict[str, int] = {}
        for version in versions.values():
            summary[version] = summary.get(version, 0) + 1
        answer = ServiceVersions(
            service=service,
            instances=[
                InstanceVersion(
                    instance_id=name, version=version, status=InstanceStatus.RUNNING, last_updated=NOON
                )
                for name, version in versions.items()
            ],
            version_summary=summary,
            total_instances=len(versions),
            updated_at=NOON,
        )
        return write(answer)

    async def service_instances(
        self, service: str, *, status: InstanceStatus | None, version: str, limit: int, offset: int
    ) -> ServiceInstances:
        self._note("service_instances", service, status, version, limit, offset)
        listed = [
            Instance(
                instance_id=name,
                host="host-1",
                port=8080,
                status=InstanceStatus.RUNNING,
                version=live,
                last_heartbeat=NOON,
                metadata={},
            )
            for name, live in self._service(service).items()
            if version in {"", live} and status in {None, InstanceStatus.RUNNING}
        ]
        page = listed[offset : offset + limit]
        return ServiceInstances(
            service=service, instances=page, total=len(listed), limit=limit, offset=offset
        )

    async def version_history(self, instance_id: str, *, limit: int, offset: int) -> VersionHistory:
        self._note("version_history", instance_id, limit, offset)
        service = self._service_of(instance_id)
        entry = HistoryEntry(
            version="v1.0.0",
            action=HistoryAction.DEPLOY,
            deploy_id="deploy-0",
            timestamp=NOON,
            status=HistoryStatus.SUCCESS,
        )
        page = [entry][offset : offset + limit]
        return VersionHistory(instance_id=instance_id, service=service, history=page, total=1)

    async def find_service(self, kind: OperationKind, operation_id: str) -> str | None:
        self._answer()
        known = self.operations.get((kind, operation_id))
        return known.service if known else None

    async def find_service_of_instance(self, instance_id: str) -> str | None:
        self._answer()
        return next((name for name, has in self.services.items() if instance_id in has), None)

    async def service_versions_at(
        self, service: str, at: datetime, *, include_stopped: bool
    ) -> ServiceVersions:
        self._note("service_versions_at", service, at, include_stopped)
        now = await self.service_versions(service, include_stopped=include_stopped)
        return now.read().model_copy(update={"at": at})

    async def release_log(self, kind: OperationKind, operation_id: str, page: LogPage) -> ReleaseLog:
        self._note("release_log", kind, operation_id, page)
        operation = self._find(kind, operation_id)
        listed = [event for event in operation.log if event.id > page.after]
        listed = [event for event in listed if page.instance_id in {"", event.instance_id}]
        events = listed[: page.limit]
        name = "deploy_id" if kind is OperationKind.DEPLOYMENT else "rollback_id"
        return ReleaseLog(
            **{name: operation_id},
            status=operation.status,
            events=events,
            next_after=events[-1].id if events else page.after,
            has_more=len(listed) > page.limit,
        )

    async def system_stats(self, period: Period) -> SystemStats:
        self._note("system_stats", period)
        none = OperationCounts(total=0, success=0, failed=0, success_rate=0.0)
        return SystemStats(
            period=period,
            deployments=none,
            rollbacks=none,
            instances=InstanceCounts(total=3, healthy=3, unhealthy=0),
            timestamp=NOON,
        )

    def _service_of(self, instance_id: str) -> str:
        for service, instances in self.services.items():
            if instance_id in instances:
                return service
        raise UnknownInstanceError([instance_id])

    def _service(self, service: str) -> dict[str, str]:
        if service not in self.services:
            raise UnknownServiceError(service)
        return self.services[service]

    def _check(self, service: str, instances: Sequence[str]) -> None:
        unknown = [name for name in instances if name not in self._service(service)]
        if unknown:
            raise UnknownInstanceError(unknown, service)

    def _check_free(self, instances: Sequence[str]) -> None:
        if busy := self._holders(instances):
            raise InstanceBusyError(busy)

    def _holders(self, instances: Sequence[str]) -> list[Holder]:
        return [
            Holder(name, operation.kind, operation.operation_id)
            for operation in self.operations.values()
            for name in operation.instances
            if operation.status not in ENDED and name in instances
        ]

    def _find(self, kind: OperationKind, operation_id: str) -> Operation:
        if (kind, operation_id) not in self.operations:
            raise UnknownOperationError(kind, operation_id)
        return self.operations[kind, operation_id]
