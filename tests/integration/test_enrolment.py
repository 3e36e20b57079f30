"""Hosts that join a real controller, over TLS: who is let in, who is refused, and what the audit has of it.

The rows of S8 (security.md): each is refused, and recorded."""

import asyncio
import http.client
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from agent.enrolment import RefusedError, UnansweredError, ask
from agent.join import JoinError, Outcome, Wish, join
from agent.patience import Patience
from controller.administration import open_desk
from controller.config import ControllerConfig, PkiSection
from controller.core.audit import AuditFilter
from controller.core.lists import Page
from controller.invitation import Invitations
from controller.pki import open_authority
from releasehand.model import AuditAction, JoinTokenParams
from shared.clock import SystemClock
from shared.enrolment import JOIN_PATH, RENEW_PATH, Join, RenewExpired
from shared.identity_folder import IdentityFolder
from shared.join_token import JoinToken, parse_join_token
from tests.fakes.certificates import spare_authority, spare_hub
from tests.fakes.controller import RunningController, running_controller, store_of

AT_ONCE: Final = Patience(SystemClock(), print, limit_s=0)


class HeldClock(SystemClock):
    """Of a hub whose allowances refill when a test says so."""

    held_s = 1_000.0

    def monotonic(self) -> float:
        return self.held_s


@pytest.fixture
async def controller(tmp_path: Path) -> AsyncIterator[RunningController]:
    async with running_controller(tmp_path, SystemClock()) as controller:
        yield controller


async def make_token(controller: RunningController, **said: Any) -> JoinToken:
    config = ControllerConfig(
        database=controller.database, pki=PkiSection(directory=controller.folder / "pki")
    )
    async with open_desk(config) as desk:
        authority = open_authority(config.pki.directory, desk.now)
        invitations = Invitations(desk.store, key_hash=authority.key_hash, url=controller.hub)
        made = await invitations.create(JoinTokenParams.model_validate(said), actor=desk.actor)
    return parse_join_token(made.token)


async def audited(controller: RunningController, action: AuditAction) -> list[tuple[str, str, str]]:
    """Who, outcome and code, oldest first."""
    async with store_of(controller) as store:
        records = (await store.list_audit(AuditFilter(action=action), Page())).records
    return [(one.actor, one.outcome.value, one.code) for one in reversed(records)]


def make_csr(name: str = "") -> str:
    names = [x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    key = ec.generate_private_key(ec.SECP256R1())
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


async def join_as(controller: RunningController, name: str, token: JoinToken, **said: Any) -> Outcome:
    return await join(controller.folder / name, Wish(controller.hub, token, **said), AT_ONCE)


async def refusal(controller: RunningController, name: str, token: JoinToken, **said: Any) -> str:
    with pytest.raises(RefusedError) as refused:
        await join_as(controller, name, token, **said)
    return refused.value.code


async def test_a_host_joins_and_opens_a_link_with_its_certificate(controller: RunningController) -> None:
    outcome = await join_as(controller, "web", await make_token(controller, host="web-1"))
    assert (outcome.fresh, outcome.membership.agent_id) == (True, "web-1")
    async with connect(controller.hub, ssl=outcome.membership.tls) as socket:
        assert socket.response is not None
        assert socket.response.status_code == 101
    folder = IdentityFolder(controller.folder / "web")
    assert folder.key_file.stat().st_mode & 0o777 == 0o600
    assert folder.authority_file.read_bytes() == (controller.folder / "pki" / "ca.pem").read_bytes()
    assert not folder.pending_key_file.exists()
    assert await audited(controller, AuditAction.JOIN) == [("web-1", "accepted", "")]


async def test_a_host_that_has_joined_is_left_as_it_is(controller: RunningController) -> None:
    token = await make_token(controller, host="web-1")
    await join_as(controller, "web", token)
    assert not (await join_as(controller, "web", token)).fresh
    with pytest.raises(JoinError, match="already; --again"):
        await join_as(controller, "web", token, agent_id="db-1")


async def test_a_host_joins_anew_with_another_key_and_the_old_certificate_counts_no_more(
    controller: RunningController,
) -> None:
    first = await join_as(controller, "web", await make_token(controller, host="web-1"))
    key = IdentityFolder(controller.folder / "web").key_file.read_bytes()
    async with store_of(controller) as store:
        assert await store.revoked_serials() == frozenset()
    again = await join_as(controller, "web", await make_token(controller, host="web-1"), again=True)
    assert again.fresh
    assert again.membership.agent_id == first.membership.agent_id
    assert IdentityFolder(controller.folder / "web").key_file.read_bytes() != key
    async with store_of(controller) as store:
        assert len(await store.revoked_serials()) == 1


async def test_a_lost_answer_costs_nothing(controller: RunningController) -> None:
    """The agent is killed when the controller has committed: only its key is on disk by then."""
    token, folder = await make_token(controller, host="web-1"), IdentityFolder(controller.folder / "web")
    await join_as(controller, "web", token)
    folder.key_file.rename(folder.pending_key_file)
    for file in (folder.certificate_file, folder.authority_file, folder.url_file):
        file.unlink()
    outcome = await join_as(controller, "web", token)
    assert outcome.fresh
    async with store_of(controller) as store:
        assert [one.uses for one in (await store.list_join_tokens(Page())).join_tokens] == [1]


@pytest.mark.parametrize("kept", range(5))
async def test_a_kill_at_any_file_of_an_answer_is_mended_by_the_same_command(
    controller: RunningController, kept: int
) -> None:
    token, folder = await make_token(controller, host="web-1"), IdentityFolder(controller.folder / "web")
    await join_as(controller, "web", token)
    written = [folder.key_file, folder.authority_file, folder.url_file, folder.certificate_file]
    folder.pending_key_file.write_bytes(folder.key_file.read_bytes())
    for file in written[kept:]:
        file.unlink()
    outcome = await join_as(controller, "web", token)
    assert outcome.membership.agent_id == "web-1"
    assert not folder.pending_key_file.exists()


# S8, what is refused:


async def test_a_token_that_is_used_again_is_refused_and_audited(controller: RunningController) -> None:
    token = await make_token(controller, host="web-1")
    await join_as(controller, "web", token)
    assert await refusal(controller, "thief", token) == "token_used"
    assert not (controller.folder / "thief" / "identity" / "agent.pem").exists()
    assert (await audited(controller, AuditAction.JOIN))[-1] == ("", "refused", "token_used")


async def test_a_token_after_its_end_is_refused_and_audited(controller: RunningController) -> None:
    token = await make_token(controller, host="web-1", ttl=1)
    await SystemClock().sleep(1.01)
    assert await refusal(controller, "web", token) == "token_expired"
    assert await audited(controller, AuditAction.JOIN) == [("", "refused", "token_expired")]


async def test_a_stolen_token_is_of_no_use_on_another_host(controller: RunningController) -> None:
    token = await make_token(controller, host="web-1")
    assert await refusal(controller, "thief", token, agent_id="db-1") == "other_host"
    assert await audited(controller, AuditAction.JOIN) == [("", "refused", "other_host")]
    assert (await join_as(controller, "web", token)).fresh  # it is not used up


@pytest.mark.parametrize(("csr", "code"), [(make_csr("db-1"), "name_claimed"), ("no request", "bad_request")])
async def test_a_request_that_claims_another_name_is_refused_and_audited(
    controller: RunningController, csr: str, code: str
) -> None:
    token = await make_token(controller, host="web-1")
    question = Join(secret=token.secret_text, csr=csr)
    with pytest.raises(RefusedError) as refused:
        await ask(controller.hub, JOIN_PATH, question, controller.strangers_tls())
    assert refused.value.code == code
    assert await audited(controller, AuditAction.JOIN) == [("", "refused", code)]


@asynccontextmanager
async def impostor(authorities: str = "") -> AsyncIterator[tuple[str, list[str]]]:
    """Somebody else's hub, at its URL; what it heard, byte for byte as far as TLS lets it read. It says that
    its `authorities` are these, or its own."""
    shown = authorities or spare_authority()[1].pem.decode()
    heard: list[str] = []

    def answer(connection: ServerConnection, request: Request) -> Response | None:
        heard.append(f"{request.path} {dict(request.headers)}")
        return connection.respond(200, shown) if request.path == "/ca.pem" else None

    async def listen(connection: ServerConnection) -> None:
        heard.extend([str(text) async for text in connection])

    async with serve(listen, "127.0.0.1", 0, ssl=spare_hub(), process_request=answer) as server:
        yield f"wss://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}", heard


async def test_the_secret_is_not_sent_to_a_controller_with_another_authority(
    controller: RunningController,
) -> None:
    token = await make_token(controller, host="web-1")
    async with impostor() as (url, heard):
        with pytest.raises(JoinError, match="was not sent") as refused:
            await join(controller.folder / "web", Wish(url, token), AT_ONCE)
    own = await asyncio.to_thread(open_authority, controller.folder / "pki", SystemClock().now())
    assert f"the token is for {own.key_hash}" in str(refused.value), "as `pki show` has it"
    assert [line.partition(" ")[0] for line in heard] == ["/ca.pem"]
    assert not any(token.secret_text in line for line in heard)
    assert not IdentityFolder(controller.folder / "web").pending_key_file.exists()


async def test_the_secret_is_not_sent_to_who_shows_our_authority_without_having_its_key(
    controller: RunningController,
) -> None:
    """The certificate of the authority is public: showing it proves nothing."""
    token = await make_token(controller, host="web-1")
    ours = (controller.folder / "pki" / "ca.pem").read_text()
    async with impostor(ours) as (url, heard):
        with pytest.raises(UnansweredError, match="not trusted"):
            await join(controller.folder / "web", Wish(url, token), AT_ONCE)
    assert [line.partition(" ")[0] for line in heard] == ["/ca.pem"]


async def test_an_authority_that_is_slipped_in_beside_ours_is_not_trusted(
    controller: RunningController,
) -> None:
    token = await make_token(controller, host="web-1")
    both = (controller.folder / "pki" / "ca.pem").read_text() + spare_authority()[1].pem.decode()
    async with impostor(both) as (url, heard):
        with pytest.raises(UnansweredError, match="not trusted"):
            await join(controller.folder / "web", Wish(url, token), AT_ONCE)
    assert [line.partition(" ")[0] for line in heard] == ["/ca.pem"]


# the doors themselves


def get(controller: RunningController, path: str) -> http.client.HTTPResponse:
    context = controller.strangers_tls()
    connection = http.client.HTTPSConnection(
        "127.0.0.1", int(controller.hub.rpartition(":")[2]), context=context, timeout=10
    )
    connection.request("GET", path)
    return connection.getresponse()


async def test_everybody_may_read_the_authority_and_nothing_else(controller: RunningController) -> None:
    found = await asyncio.to_thread(get, controller, "/ca.pem")
    assert found.read() == (controller.folder / "pki" / "ca.pem").read_bytes()
    refused = await asyncio.to_thread(get, controller, "/ca.key")
    assert refused.status == 401


@pytest.mark.parametrize(
    "text", ["", "{", '{"type":"hello","v":1}', b"\x00", "x" * 70_000, '{"type":"join","v":2}']
)
async def test_nonsense_at_a_door_is_refused_or_cut_off_and_nothing_else_happens(
    controller: RunningController, text: str | bytes
) -> None:
    async with connect(controller.hub + JOIN_PATH, ssl=controller.strangers_tls()) as socket:
        heard: list[str] = []
        await socket.send(text)
        with suppress(ConnectionClosed):
            heard.extend([str(one) async for one in socket])
    assert len(heard) <= 1
    assert all('"code":"bad_request"' in one for one in heard)
    assert (await asyncio.to_thread(get, controller, "/ca.pem")).status == 200


async def test_a_question_of_one_door_is_refused_at_the_other(controller: RunningController) -> None:
    question = RenewExpired(certificate="x", csr="x")
    for path, asked in ((JOIN_PATH, question), (RENEW_PATH, Join(secret="x", csr="x"))):
        with pytest.raises(RefusedError) as refused:
            await ask(controller.hub, path, asked, controller.strangers_tls())
        assert refused.value.code == "bad_request"


async def test_who_guesses_is_let_in_ever_more_slowly(controller: RunningController) -> None:
    """After ten wrong tokens the address has to wait, and the rest are not heard."""
    question = Join(secret="A" * 22, csr=make_csr())
    answers = []
    for _ in range(12):
        with pytest.raises((UnansweredError, RefusedError)) as refused:
            await ask(controller.hub, JOIN_PATH, question, controller.strangers_tls())
        answers.append(getattr(refused.value, "code", str(refused.value)))
    assert answers[:8] == ["unknown_token"] * 8
    assert "HTTP 503" in answers[-1]


async def test_a_host_whose_address_has_asked_too_often_waits_and_joins_by_itself(tmp_path: Path) -> None:
    clock, said = HeldClock(), list[str]()

    def hear(line: str) -> None:
        said.append(line)
        clock.held_s += 60.0

    async with running_controller(tmp_path, clock) as controller:
        for _ in range(10):
            with pytest.raises((UnansweredError, RefusedError)):
                await ask(
                    controller.hub,
                    JOIN_PATH,
                    Join(secret="A" * 22, csr=make_csr()),
                    controller.strangers_tls(),
                )
        wish = Wish(controller.hub, await make_token(controller, host="web-1"))
        outcome = await join(controller.folder / "web", wish, Patience(clock, hear, lambda: -1.0))
    assert outcome.fresh
    assert said
    assert all("HTTP 503" in line and line.endswith("trying again in 0 s") for line in said)
