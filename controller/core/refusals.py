"""Why the controller refuses a call. Nothing was changed. HTTP statuses are given to these in controller.api
alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from releasehand.model import OperationKind, RollbackType, Status
from shared.errors import ReleasehandError


class RefusalError(ReleasehandError):
    """A call that cannot be carried out as asked."""


class ForbiddenError(RefusalError):
    """The caller may not do this. The text tells nothing of what there is."""


class UnknownServiceError(RefusalError):
    def __init__(self, service: str) -> None:
        self.service = service
        super().__init__(f"cannot find service '{service}': no agent has listed an instance of it")


class UnknownInstanceError(RefusalError):
    """`instances` are unknown, retired, or not of `service` ("" when no service was named)."""

    def __init__(self, instances: Sequence[str], service: str = "") -> None:
        self.instances, self.service = tuple(instances), service
        of = f" of service '{service}'" if service else ""
        super().__init__(f"cannot find {_several('instance', self.instances)}{of}: no agent lists it")


class UnknownAgentError(RefusalError):
    def __init__(self, agent_id: str) -> None:
        self.agent_id = agent_id
        super().__init__(f"cannot find agent '{agent_id}': it has never joined or connected")


class UnknownJoinTokenError(RefusalError):
    def __init__(self, token_id: str) -> None:
        self.token_id = token_id
        super().__init__(f"cannot find join token '{token_id}'")


@dataclass(frozen=True)
class Holder:
    """The operation that holds an instance."""

    instance_id: str
    kind: OperationKind
    operation_id: str


class InstanceBusyError(RefusalError):
    def __init__(self, holders: Sequence[Holder]) -> None:
        self.holders = tuple(holders)
        first = self.holders[0]
        more = f" (and {len(self.holders) - 1} more instances are held)" if len(self.holders) > 1 else ""
        super().__init__(
            f"cannot start: instance '{first.instance_id}' is held by {first.kind} '{first.operation_id}'"
            f"{more}; wait for its end or cancel it"
        )


class DeployIdConflictError(RefusalError):
    def __init__(self, deploy_id: str, field: str) -> None:
        self.deploy_id, self.field = deploy_id, field
        super().__init__(f"cannot reuse deploy_id '{deploy_id}': it was accepted with another '{field}'")


class IdempotencyKeyConflictError(RefusalError):
    """`field` of the body differs; "" when the key was accepted for another call altogether."""

    def __init__(self, field: str, accepted_for: RollbackType | None = None) -> None:
        self.field = field
        why = f"with another '{field}'" if field else f"for another call (rollback of kind '{accepted_for}')"
        super().__init__(f"cannot reuse this Idempotency-Key: it was accepted {why}")


class UnknownOperationError(RefusalError):
    def __init__(self, kind: OperationKind, operation_id: str) -> None:
        self.kind, self.operation_id = kind, operation_id
        super().__init__(f"cannot find {kind} '{operation_id}'")


class AlreadyEndedError(RefusalError):
    def __init__(self, kind: OperationKind, operation_id: str, status: Status) -> None:
        self.kind, self.operation_id, self.status = kind, operation_id, status
        super().__init__(f"cannot cancel {kind} '{operation_id}': it has already ended as {status}")


class NotEndedError(RefusalError):
    """Which instances of a deployment failed is known when it has ended."""

    def __init__(self, deploy_id: str, status: Status) -> None:
        self.deploy_id, self.status = deploy_id, status
        super().__init__(
            f"cannot retry what failed of deployment '{deploy_id}': it is still {status}; wait for its end"
        )


class NothingFailedError(RefusalError):
    def __init__(self, deploy_id: str, status: Status) -> None:
        self.deploy_id = deploy_id
        super().__init__(
            f"cannot retry what failed of deployment '{deploy_id}': it ended as {status},"
            " and no instance failed"
        )


def _several(noun: str, names: tuple[str, ...]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{noun}{'s' if len(names) > 1 else ''} {shown}{more}"


class StoreUnavailableError(ReleasehandError):
    """The database did not answer in time. Nothing is known to have changed; the same call may be made
    again."""


class NewerSchemaError(StoreUnavailableError):
    """The database is one of a newer release: trying again is of no use, a person must choose. Nothing was
    changed."""

    def __init__(self, schema: str) -> None:
        self.schema = schema
        super().__init__(
            f"cannot use this database: it has schema {schema} of a newer release; install that release, or "
            "put the copy from before the upgrade in its place (docs/how-to/upgrade.md, Go back)"
        )
