"""Who is let in by which certificate: real TLS, a real hub, and what an agent that is refused says of it."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent.config import AgentConfig, CommandDriver, ControllerSection, InstanceSection
from agent.daemon import run_agent
from controller.core.enrolment import Certificate
from controller.pki import (
    Authority,
    HubCertificate,
    issue_for_agent,
    open_authority,
    read_authority,
    read_link_certificate,
)
from releasehand import Client, NotFoundError
from shared.clock import SystemClock
from shared.identity_folder import IdentityFolder
from shared.tls import client_context
from tests.fakes.agent import FakeAgent
from tests.fakes.certificates import MONTH, context_of, give_identity
from tests.fakes.clock import FakeClock
from tests.fakes.controller import RunningController, running_controller

AGENT = "host-1"


async def alert_of(controller: RunningController, context: ssl.SSLContext) -> str:
    """OpenSSL's name of what the hub answers to a handshake that it does not take."""
    address = urlsplit(controller.hub)
    try:
        reader, writer = await asyncio.open_connection(address.hostname, address.port, ssl=context)
    except ssl.SSLError as exc:
        return exc.reason
    with pytest.raises(ssl.SSLError) as refused:
        await reader.read()
    writer.transport.abort()
    return refused.value.reason


def authority_of(controller: RunningController) -> Authority:
    return read_authority(controller.folder / "pki", SystemClock().now())


def identity_of(
    controller: RunningController, issued_at: datetime, life: timedelta = MONTH
) -> ssl.SSLContext:
    """Signed by the controller's own authority, but given out by nobody."""
    state_dir = controller.state_dir("forged")
    give_identity(
        state_dir,
        AGENT,
        controller.hub,
        authority=authority_of(controller),
        issued_at=issued_at,
        life=life,
    )
    return context_of(state_dir)


async def test_a_certificate_of_another_authority_is_refused(
    controller: RunningController, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = open_authority(tmp_path / "other", SystemClock().now())
    give_identity(tmp_path / "stranger", AGENT, controller.hub, authority=other)
    folder = IdentityFolder(tmp_path / "stranger")
    folder.authority_file.write_bytes(authority_of(controller).pem)
    assert await alert_of(controller, context_of(tmp_path / "stranger")) == "TLSV1_ALERT_UNKNOWN_CA"
    assert "a certificate was refused" in caplog.text


async def test_a_certificate_past_its_end_or_before_its_begin_is_refused(
    controller: RunningController,
) -> None:
    now = SystemClock().now()
    ended = identity_of(controller, now - MONTH, MONTH - timedelta(seconds=5))
    assert await alert_of(controller, ended) == "SSLV3_ALERT_CERTIFICATE_EXPIRED"
    early = identity_of(controller, now + timedelta(hours=2))
    assert await alert_of(controller, early) == "SSLV3_ALERT_BAD_CERTIFICATE"


async def test_a_servers_certificate_lets_no_agent_in(controller: RunningController) -> None:
    pki = controller.folder / "pki"
    context = client_context(pki / "ca.pem")
    context.load_cert_chain(pki / "hub.pem", pki / "hub.key")
    assert await alert_of(controller, context) == "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE"


async def test_tls_1_2_is_refused(controller: RunningController) -> None:
    context = client_context(controller.folder / "pki" / "ca.pem")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert await alert_of(controller, context) == "TLSV1_ALERT_PROTOCOL_VERSION"


async def test_a_client_that_does_not_know_the_authority_refuses_the_hub(
    controller: RunningController, tmp_path: Path
) -> None:
    open_authority(tmp_path / "other", SystemClock().now())
    context = client_context(tmp_path / "other" / "ca.pem")
    assert await alert_of(controller, context) == "CERTIFICATE_VERIFY_FAILED"


async def test_a_certificate_that_was_given_to_nobody_opens_no_link(controller: RunningController) -> None:
    """Of the right authority: whoever stole its key a while ago, or a database that was put back."""
    identity_of(controller, SystemClock().now())
    controller.state_dir("forged").rename(controller.state_dir(AGENT))
    agent = FakeAgent(AGENT, {"a": "v1"})
    async with agent.linked(controller):
        assert agent.welcome is None
        assert agent.refusal is not None
        assert agent.refusal.code == "unknown_certificate"
        assert "has not given agent 'host-1' this certificate" in agent.refusal.reason


async def test_a_recorded_serial_with_another_key_opens_no_link(controller: RunningController) -> None:
    """Whoever has the authority's key can sign any serial, and serials are no secret: logs have them."""
    own = FakeAgent(AGENT, {"a": "v1"})
    async with own.linked(controller):
        assert own.welcome is not None
    folder = IdentityFolder(controller.state_dir(AGENT))
    given = read_link_certificate(
        x509.load_pem_x509_certificate(folder.certificate_file.read_bytes()).public_bytes(Encoding.DER)
    )
    key = ec.generate_private_key(ec.SECP256R1())
    record = Certificate(given.serial, AGENT, "", SystemClock().now(), given.ends_at, "")
    forged = issue_for_agent(authority_of(controller), record, key.public_key())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    folder.keep_key(pem)
    folder.replace_certificate(forged.encode())
    thief = FakeAgent(AGENT, {"a": "v1"})
    async with thief.linked(controller):
        assert thief.welcome is None
        assert thief.refusal is not None
        assert thief.refusal.code == "other_key"


async def test_a_link_ends_with_its_certificate(controller: RunningController, clock: FakeClock) -> None:
    agent = FakeAgent(AGENT, {"a": "v1"})
    async with agent.linked(controller):
        assert agent.welcome is not None
        clock.advance((SystemClock().now() + MONTH - clock.now()).total_seconds() + 1)
        await agent.until(agent.closed.is_set)
    assert "certificate ended at" in agent.close_reason


async def test_a_renewed_certificate_is_shown_to_the_next_who_connects(
    tmp_path: Path, clock: FakeClock
) -> None:
    hub = HubCertificate(open_authority(tmp_path, clock.now()), tmp_path, ["127.0.0.1"], clock)
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=hub.open())
    port = server.sockets[0].getsockname()[1]

    async def look() -> int:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=blind)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.transport.abort()
        return x509.load_der_x509_certificate(shown).serial_number

    async with server:
        first = await look()
        assert await look() == first
        clock.advance(61 * 86_400)
        assert hub.renew()
        assert await look() != first


# what an agent says of it


class Reasons(logging.Handler):
    """Sets `heard` at the first reason with `words` in it that the uplink gives for having no link."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words, self.heard = words, asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self.words in str(getattr(record, "fields", {}).get("reason", "")):
            self.heard.set()


def unjoined(controller: RunningController) -> None:
    IdentityFolder(controller.state_dir(AGENT)).certificate_file.unlink()


def of_another_authority(controller: RunningController) -> None:
    folder = IdentityFolder(controller.state_dir(AGENT))
    known = folder.authority_file.read_bytes()
    give_identity(controller.state_dir(AGENT), AGENT, controller.hub)
    folder.authority_file.write_bytes(known)


def knowing_another_authority(controller: RunningController) -> None:
    give_identity(controller.state_dir(AGENT), AGENT, controller.hub)


def by_another_name(controller: RunningController) -> None:
    url = controller.hub.replace("127.0.0.1", "127.0.0.2")
    IdentityFolder(controller.state_dir(AGENT)).url_file.write_text(url)


def with_anothers_key(controller: RunningController) -> None:
    other = controller.state_dir("other")
    give_identity(other, AGENT, controller.hub)
    IdentityFolder(other).key_file.replace(IdentityFolder(controller.state_dir(AGENT)).key_file)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (unjoined, "this host has not joined a controller"),
        (of_another_authority, "refused this agent's certificate: it is of another authority"),
        (knowing_another_authority, "is of another authority than the one that this host joined"),
        (by_another_name, "put '127.0.0.2' into hub.names of the controller"),
        (with_anothers_key, "its files do not belong together; join again"),
    ],
)
async def test_an_agent_says_why_it_has_no_link_and_links_when_that_is_mended(
    tmp_path: Path, spoil: Callable[[RunningController], None], words: str
) -> None:
    async with running_controller(tmp_path, SystemClock(), host="0.0.0.0") as found:
        controller = replace(found, hub=found.hub.replace("0.0.0.0", "127.0.0.1"))
        await controller.tls(AGENT)
        good = IdentityFolder(controller.state_dir(AGENT))
        kept = {path: path.read_bytes() for path in good.path.iterdir()}
        spoil(controller)
        reasons, log = Reasons(words), logging.getLogger("agent.uplink")
        log.addHandler(reasons)
        try:
            async with asyncio.TaskGroup() as group, controller.client() as client:
                agent = group.create_task(run_agent(config_of(controller), jitter=lambda: 0.01))
                async with asyncio.timeout(20):
                    await reasons.heard.wait()
                for path, content in kept.items():
                    path.write_bytes(content)
                await until_listed(client)
                agent.cancel()
        finally:
            log.removeHandler(reasons)


def config_of(controller: RunningController) -> AgentConfig:
    driver = CommandDriver(type="command", start=("true",))
    section = InstanceSection(id="a", service="user", root=controller.folder / "srv", driver=driver)
    return AgentConfig(state_dir=controller.state_dir(AGENT), instance=(section,))


async def test_an_agent_follows_its_controller_to_the_address_of_its_configuration(
    controller: RunningController,
) -> None:
    """It joined at one where nobody listens any more (docs/decisions/0012)."""
    await controller.tls(AGENT)
    IdentityFolder(controller.state_dir(AGENT)).url_file.write_text("wss://127.0.0.1:1\n")
    moved = config_of(controller).model_copy(update={"controller": ControllerSection(url=controller.hub)})
    async with asyncio.TaskGroup() as group, controller.client() as client:
        agent = group.create_task(run_agent(moved, jitter=lambda: 0.01))
        await until_listed(client)
        agent.cancel()


async def test_an_agent_whose_configuration_names_another_controller_refuses_that(
    controller: RunningController, tmp_path: Path
) -> None:
    await controller.tls(AGENT)
    reasons, log = Reasons("is of another authority than the one that this host joined"), "agent.uplink"
    logging.getLogger(log).addHandler(reasons)
    try:
        async with running_controller(tmp_path / "other", SystemClock()) as other:
            section = ControllerSection(url=other.hub)
            astray = config_of(controller).model_copy(update={"controller": section})
            async with asyncio.TaskGroup() as group, other.client() as client:
                agent = group.create_task(run_agent(astray, jitter=lambda: 0.01))
                async with asyncio.timeout(20):
                    await reasons.heard.wait()
                agent.cancel()
                with pytest.raises(NotFoundError):
                    await client.get_service_instances("user")
    finally:
        logging.getLogger(log).removeHandler(reasons)


async def until_listed(client: Client) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await client.get_service_instances("user")
            except NotFoundError:
                await SystemClock().sleep(0.02)
            else:
                return
