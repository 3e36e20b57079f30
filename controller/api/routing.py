"""What a route is: one row of the table from which both the server and its OpenAPI document are made."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar

from aiohttp import web

from controller.core.audit import Actor
from controller.core.token import Grant
from controller.core.written import Written
from releasehand.model import Answer, AuditAction, ErrorType, Request, Scope

from .authentication import Caller
from .deps import ApiDeps
from .query import Query

BodyT = TypeVar("BodyT", bound=Request | None)
QueryT = TypeVar("QueryT", bound=Query)
AnswerT_co = TypeVar("AnswerT_co", bound=Answer, covariant=True)

NO_BODY: Final = type(None)


@dataclass(frozen=True, slots=True)
class Call(Generic[BodyT, QueryT]):
    """A request that was authenticated, parsed and found valid.

    `name` is the id in the path, "" where the path has none. On open routes nobody is the caller."""

    deps: ApiDeps
    caller: Caller
    actor: Actor
    name: str
    query: QueryT
    body: BodyT
    idempotency_key: str | None = None
    last_event_id: int | None = None

    @property
    def grant(self) -> Grant:
        """What the caller may do."""
        return self.caller.grant


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(Generic[BodyT, QueryT, AnswerT_co]):
    """`operation_id` is the spec's name of the function. `refusals` are its own error types beside those
    that every route has. `scope` is what a token needs here; without one it is open to everybody. `reach`
    tells whether a call keeps within the services of a limited token; the scopes agent:admin and token:admin
    are not limited. `action` is what is audited: each route that changes something has one. `example` is a
    body that is valid. `dry_answer` is what it answers where nothing was to be done. `stream` serves who
    accepts text/event-stream; it takes the header Last-Event-ID."""

    method: Literal["GET", "POST", "DELETE"]
    path: str
    operation_id: str
    tag: str
    handler: Callable[[Call[BodyT, QueryT]], Awaitable[AnswerT_co | Written[Any]]]
    answer: type[AnswerT_co]
    query: type[QueryT]
    body: type[BodyT]
    scope: Scope | None
    reach: Callable[[Call[Any, Any]], Awaitable[bool]] | None = None
    action: AuditAction | None = None
    body_required: bool = True
    takes_idempotency_key: bool = False
    refusals: tuple[ErrorType, ...] = ()
    example: BodyT | None = None
    dry_answer: type[Answer] | None = None
    stream: Callable[[Call[BodyT, QueryT], web.Request], Awaitable[web.StreamResponse]] | None = None

    @property
    def open(self) -> bool:
        """Whether it asks for no token."""
        return self.scope is None

    @property
    def path_name(self) -> str:
        """The name of the id in the path, "" if it has none."""
        return self.path.partition("{")[2].partition("}")[0]

    @property
    def answers(self) -> tuple[type[Answer], ...]:
        """The models of all its successful answers."""
        return (self.answer, self.dry_answer) if self.dry_answer else (self.answer,)

    @property
    def request_model(self) -> type[Request] | None:
        return self.body if issubclass(self.body, Request) else None


AnyRoute = Route[Any, Any, Answer]
