"""Tokens and the audit in memory, and which service what is of."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from controller.core.audit import Actor, AuditEntry, AuditFilter
from controller.core.lists import Page
from controller.core.refusals import UnknownAgentError, UnknownJoinTokenError
from controller.core.token import (
    Grant,
    KnownToken,
    TokenExistsError,
    UnknownTokenError,
    digest_of,
    make_token,
)
from releasehand.model import (
    DEFAULT_JOIN_TTL_S,
    AuditList,
    CreateTokenParams,
    JoinTokenList,
    JoinTokenParams,
    JoinTokenState,
    JoinTokenSummary,
    NewToken,
    RevokeAgentResult,
    Scope,
    Token,
    TokenList,
    TokenStatus,
)
from tests.fakes.api_lists import FakeLists
from tests.fakes.api_operation import NOON


@dataclass
class FakeAccess(FakeLists):
    """`uses` and `entries` are what was written. Time stands still."""

    tokens: dict[str, KnownToken] = field(default_factory=dict)
    uses: dict[str, tuple[datetime, str]] = field(default_factory=dict)
    entries: list[AuditEntry] = field(default_factory=list)
    join_tokens: dict[str, JoinTokenSummary] = field(default_factory=dict)

    def give(
        self, name: str, *scopes: Scope, services: Sequence[str] = (), expires_at: datetime | None = None
    ) -> str:
        """A token that is known from now on."""
        token = make_token(name.encode().ljust(32, b"."))
        grant = Grant(frozenset(scopes), frozenset(services))
        self.tokens[digest_of(token)] = KnownToken(f"id-of-{name}", name, grant, expires_at, None)
        return token

    def take_away(self, token: str) -> None:
        """What revoking it from anywhere does."""
        known = self.tokens[digest_of(token)]
        self.tokens[digest_of(token)] = replace(known, revoked_at=NOON)

    async def find_token(self, digest: str) -> KnownToken | None:
        self._answer()
        return self.tokens.get(digest)

    async def find_tokens_in_force(self, token_ids: Collection[str]) -> set[str]:
        self._answer()
        known = self.tokens.values()
        return {one.token_id for one in known if one.token_id in token_ids and one.revoked_at is None}

    async def create_token(self, params: CreateTokenParams, *, actor: Actor) -> NewToken:
        self._note("create_token", params, actor)
        if any(one.name == params.name and one.revoked_at is None for one in self.tokens.values()):
            raise TokenExistsError(params.name)
        expires_at = NOON + timedelta(seconds=params.ttl) if params.ttl else None
        token = self.give(params.name, *params.scopes, services=params.services, expires_at=expires_at)
        return NewToken(token=token, **_told(self.tokens[digest_of(token)], actor.name).model_dump())

    async def revoke_token(self, name: str, *, actor: Actor) -> Token:
        self._note("revoke_token", name, actor)
        for digest, known in self.tokens.items():
            if known.name == name:
                self.tokens[digest] = replace(known, revoked_at=known.revoked_at or NOON)
                return _told(self.tokens[digest], "you")
        raise UnknownTokenError(name)

    async def list_tokens(self, status: TokenStatus | None, page: Page) -> TokenList:
        self._note("list_tokens", status, page)
        listed = [_told(known, "you") for known in self.tokens.values()]
        return TokenList(tokens=listed, total=len(listed), limit=page.limit, offset=page.offset)

    async def create_join_token(
        self, params: JoinTokenParams, secret_sha256: str, *, actor: Actor
    ) -> JoinTokenSummary:
        self._note("create_join_token", params, actor)
        self.join_tokens[secret_sha256] = made = JoinTokenSummary(
            token_id=f"join-{len(self.join_tokens) + 1}",
            host=params.host,
            max_uses=params.max_uses or 1,
            uses=0,
            state=JoinTokenState.OPEN,
            created_by=actor.name,
            created_at=NOON,
            expires_at=NOON + timedelta(seconds=params.ttl or DEFAULT_JOIN_TTL_S),
            revoked_at=None,
        )
        return made

    async def list_join_tokens(self, page: Page) -> JoinTokenList:
        self._note("list_join_tokens", page)
        listed = list(self.join_tokens.values())
        return JoinTokenList(join_tokens=listed, total=len(listed), limit=page.limit, offset=page.offset)

    async def revoke_join_token(self, token_id: str, *, actor: Actor) -> JoinTokenSummary:
        self._note("revoke_join_token", token_id, actor)
        for one in self.join_tokens.values():
            if one.token_id == token_id:
                return one.model_copy(update={"state": JoinTokenState.REVOKED, "revoked_at": NOON})
        raise UnknownJoinTokenError(token_id)

    async def revoke_agent(self, agent_id: str, reason: str, *, actor: Actor) -> RevokeAgentResult:
        self._note("revoke_agent", agent_id, reason, actor)
        if agent_id != "agent-1":
            raise UnknownAgentError(agent_id)
        return RevokeAgentResult(agent_id=agent_id, revoked_certificates=1, revoked_at=NOON)

    async def note_access(
        self, uses: Mapping[str, tuple[datetime, str]], entries: Sequence[AuditEntry]
    ) -> None:
        self._answer()
        self.uses |= uses
        self.entries += entries

    async def audit(self, entry: AuditEntry) -> None:
        self._answer()
        self.entries.append(entry)

    async def list_audit(self, wanted: AuditFilter, page: Page) -> AuditList:
        self._note("list_audit", wanted, page)
        return AuditList(records=[], total=0, limit=page.limit, offset=page.offset)


def _told(known: KnownToken, created_by: str) -> Token:
    return Token(
        name=known.name,
        scopes=sorted(known.grant.scopes),
        services=sorted(known.grant.services),
        status=known.status(NOON),
        created_by=created_by,
        created_at=NOON,
        expires_at=known.expires_at,
        last_used_at=None,
        last_used_from="",
        revoked_at=known.revoked_at,
    )
