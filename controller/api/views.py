"""What the API looks at in the store beyond the functions of the specification."""

from datetime import datetime
from typing import Protocol

from controller.core.audit import Actor, AuditEntry, AuditFilter
from controller.core.lists import AgentFilter, InstanceFilter, LogPage, OperationFilter, Page
from controller.core.token import KnownToken
from releasehand.model import (
    AgentList,
    AuditList,
    CreateTokenParams,
    DeploymentList,
    InstanceList,
    JoinTokenList,
    JoinTokenParams,
    JoinTokenSummary,
    NewToken,
    OperationKind,
    ReleaseLog,
    RevokeAgentResult,
    RollbackList,
    ServiceList,
    ServiceVersions,
    Token,
    TokenList,
    TokenStatus,
)


class AccessStore(Protocol):
    """Who may do what, and what was done. Each may raise StoreUnavailableError; what changes something is
    durable on return."""

    async def find_token(self, digest: str) -> KnownToken | None:
        """The token with this digest, whether or not it is in force."""
        ...

    async def create_token(self, params: CreateTokenParams, *, actor: Actor) -> NewToken:
        """Raises TokenExistsError."""
        ...

    async def revoke_token(self, name: str, *, actor: Actor) -> Token:
        """Raises UnknownTokenError."""
        ...

    async def list_tokens(self, status: TokenStatus | None, page: Page) -> TokenList: ...

    async def create_join_token(
        self, params: JoinTokenParams, secret_sha256: str, *, actor: Actor
    ) -> JoinTokenSummary: ...

    async def list_join_tokens(self, page: Page) -> JoinTokenList: ...

    async def revoke_join_token(self, token_id: str, *, actor: Actor) -> JoinTokenSummary:
        """Raises UnknownJoinTokenError."""
        ...

    async def revoke_agent(self, agent_id: str, reason: str, *, actor: Actor) -> RevokeAgentResult:
        """Raises UnknownAgentError."""
        ...

    async def audit(self, entry: AuditEntry) -> None:
        """Record what was refused or failed."""
        ...

    async def list_audit(self, wanted: AuditFilter, page: Page) -> AuditList: ...


class StoreViews(Protocol):
    """Each may raise StoreUnavailableError, and may be cancelled at any time."""

    async def find_service(self, kind: OperationKind, operation_id: str) -> str | None:
        """The service that an operation is of; None if there is no such operation."""
        ...

    async def find_service_of_instance(self, instance_id: str) -> str | None:
        """The service that an instance is of; None if there is no such instance."""
        ...

    async def release_log(self, kind: OperationKind, operation_id: str, page: LogPage) -> ReleaseLog:
        """Raises UnknownOperationError."""
        ...

    async def list_deployments(self, wanted: OperationFilter, page: Page) -> DeploymentList: ...

    async def list_rollbacks(self, wanted: OperationFilter, page: Page) -> RollbackList: ...

    async def list_services(self, name: str, page: Page, within: frozenset[str]) -> ServiceList:
        """`within` are the services of a limited caller; empty: all."""
        ...

    async def list_instances(self, wanted: InstanceFilter, page: Page) -> InstanceList: ...

    async def list_agents(self, wanted: AgentFilter, page: Page) -> AgentList: ...

    async def service_versions_at(
        self, service: str, at: datetime, *, include_stopped: bool
    ) -> ServiceVersions:
        """What ran at a time. Raises UnknownServiceError."""
        ...
