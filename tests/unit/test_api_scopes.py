"""Every route of the OpenAPI document, with each kind of token: who may not is refused before all else."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Final

import pytest

from controller.api.openapi import build_document
from controller.api.routes import ROUTES
from releasehand.model import AuditOutcome, ErrorType, Scope
from shared.clock import SystemClock
from tests.fakes.api_server import ApiClient, ApiServer, Reply

DOCUMENT: Final = json.loads(build_document(ROUTES, version="0"))
OPERATIONS: Final[dict[str, tuple[str, str, list[str]]]] = {
    operation["operationId"]: (
        method.upper(),
        path.replace("{", "no-").replace("}", ""),
        [scope for one in operation["security"] for scope in one["bearer"]],
    )
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
OPEN: Final = {
    *("GetSystemHealth", "GetLiveness", "GetReadiness", "GetOpenApi"),
    *("GetInstallScript", "GetInstallPackage"),  # for hosts, which have no token of the API
}
GUARDED: Final = sorted(set(OPERATIONS) - OPEN)
CHANGING: Final = {route.operation_id for route in ROUTES if route.action is not None}


@pytest.fixture
async def api() -> AsyncIterator[ApiClient]:
    client = await ApiServer().start()
    yield client
    await client.http.close()


async def call(api: ApiClient, operation: str, token: str, query: str = "") -> Reply:
    """With a body that is no request: whoever may call is told so, and nothing is changed."""
    method, path, _ = OPERATIONS[operation]
    more: dict[str, Any] = {"json": {"nonsense": 1}} if method == "POST" else {}
    return await api.call(method, path + query, headers={"Authorization": f"Bearer {token}"}, **more)


def test_every_route_but_the_open_ones_asks_for_one_scope() -> None:
    asked = {name: scopes for name, (_, _, scopes) in OPERATIONS.items()}
    assert {name for name, scopes in asked.items() if not scopes} == OPEN
    assert all(len(asked[name]) == 1 and asked[name][0] in set(Scope) for name in GUARDED)


def test_every_route_that_is_no_get_is_audited_and_needs_more_than_reading() -> None:
    assert {name for name, (method, _, _) in OPERATIONS.items() if method != "GET"} == CHANGING
    assert not [name for name in CHANGING if OPERATIONS[name][2] == [Scope.DEPLOY_READ]]


def test_every_route_of_deploy_scopes_says_how_it_is_limited_to_services() -> None:
    limited = {Scope.DEPLOY_READ, Scope.DEPLOY_WRITE}
    assert [route.operation_id for route in ROUTES if (route.scope in limited) != bool(route.reach)] == []


@pytest.mark.parametrize("operation", GUARDED)
async def test_each_scope_alone_opens_its_own_routes_and_no_other(api: ApiClient, operation: str) -> None:
    [needed] = OPERATIONS[operation][2]
    for scope in Scope:
        token = api.server.store.give(f"only-{scope.replace(':', '-')}", scope)
        reply = await call(api, operation, token)
        if scope == needed:
            assert reply.status in {200, 400, 404}, reply.text
        else:
            assert (reply.status, reply.json["error"]["type"]) == (403, ErrorType.FORBIDDEN)
            assert needed in reply.json["error"]["detail"]
            assert f'scope="{needed}"' in reply.headers["WWW-Authenticate"]


@pytest.mark.parametrize("operation", GUARDED)
async def test_all_other_scopes_together_do_not_open_a_route(api: ApiClient, operation: str) -> None:
    others = set(Scope) - {Scope(word) for word in OPERATIONS[operation][2]}
    assert (await call(api, operation, api.server.store.give("others", *others))).status == 403
    assert api.server.store.calls == []


@pytest.mark.parametrize("operation", GUARDED)
async def test_tokens_that_are_not_in_force_open_nothing_and_are_told_why(
    api: ApiClient, operation: str
) -> None:
    store = api.server.store
    past = SystemClock().now() - timedelta(seconds=1)
    revoked = store.give("revoked", *Scope)
    assert (await call(api, operation, revoked)).status != 401
    store.take_away(revoked)
    store.calls.clear()
    told = {
        revoked: "token 'revoked' was revoked",
        store.give("expired", *Scope, expires_at=past): "token 'expired' expired at",
        revoked[:-1]: "damaged",
        revoked[:-1] + ("a" if revoked[-1] != "a" else "b"): "damaged",
        "a-token-of-nobody": "no caller has this token",
    }
    for token, why in told.items():
        reply = await call(api, operation, token, "?nonsense=1")
        assert (reply.status, reply.json["error"]["type"]) == (401, ErrorType.UNAUTHENTICATED)
        assert why in reply.json["error"]["detail"]
        assert 'error="invalid_token"' in reply.headers["WWW-Authenticate"]
    assert store.calls == []


@pytest.mark.parametrize("operation", sorted(CHANGING))
async def test_a_refused_change_is_recorded_before_it_is_answered(api: ApiClient, operation: str) -> None:
    store = api.server.store
    await call(api, operation, store.give("reader", Scope.DEPLOY_READ))
    [entry] = store.entries
    assert (entry.outcome, entry.code) == (AuditOutcome.REFUSED, ErrorType.FORBIDDEN)
    assert (entry.actor.name, entry.actor.address) == ("reader", "127.0.0.1")
    await call(api, operation, store.give("all", *Scope))
    assert [one.actor.name for one in store.entries] == ["reader", "all"]
    assert store.entries[1].outcome is AuditOutcome.REFUSED
    assert store.entries[0].action == store.entries[1].action
