"""Who an agent is, read from its folder, and what it says when TLS does not come about: real handshakes over
memory, by clocks that differ."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from agent.core.certificate import BadCertificateError, find_pem, read_own
from agent.identity import Expected, IdentityError, Membership, NotJoinedError, read_membership
from agent.trouble import describe_trouble
from controller.pki import HubCertificate, open_authority
from shared.clock import SystemClock
from shared.identity_folder import IdentityFolder
from tests.fakes.certificates import MONTH, give_identity, spare_hub
from tests.fakes.clock import FakeClock

URL = "wss://localhost:8443"
NOW = SystemClock().now()
DAY = timedelta(days=1)
LONGEST_NAME = "a" * 128


def der_of(state_dir: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(find_pem(IdentityFolder(state_dir).certificate_file.read_text()))


@pytest.mark.parametrize("agent_id", ["host-1", LONGEST_NAME])
@pytest.mark.parametrize("begin", [NOW, datetime(2049, 12, 30, tzinfo=UTC)])  # UTCTime ends with 2049
def test_a_certificate_is_read_as_the_library_reads_it(
    tmp_path: Path, agent_id: str, begin: datetime
) -> None:
    give_identity(tmp_path, agent_id, URL, issued_at=begin)
    own, found = read_own(der_of(tmp_path)), x509.load_der_x509_certificate(der_of(tmp_path))
    assert own.agent_id == agent_id
    assert (own.begins_at, own.ends_at) == (found.not_valid_before_utc, found.not_valid_after_utc)


def test_no_spoilt_certificate_is_read_as_another(tmp_path: Path) -> None:
    give_identity(tmp_path, "host-1", URL)
    whole = der_of(tmp_path)
    own = read_own(whole)
    for size in range(len(whole)):
        with pytest.raises(BadCertificateError):
            read_own(whole[:size])
    for at in range(len(whole)):
        try:
            read = read_own(whole[:at] + bytes([whole[at] ^ 0x80]) + whole[at + 1 :])
        except BadCertificateError:
            continue
        assert read == own  # a bit of the key, a name or the signature: TLS looks at those


def test_a_hubs_certificate_is_no_agents(tmp_path: Path) -> None:
    clock = SystemClock()
    HubCertificate(open_authority(tmp_path, clock.now()), tmp_path, ["localhost"], clock).open()
    found = x509.load_pem_x509_certificate((tmp_path / "hub.pem").read_bytes())
    with pytest.raises(BadCertificateError, match="names no agent"):
        read_own(found.public_bytes(serialization.Encoding.DER))


def test_a_host_that_has_not_joined_is_told_how(tmp_path: Path) -> None:
    with pytest.raises(NotJoinedError, match="releasehand-agent join --url"):
        read_membership(tmp_path, Expected())


def test_who_the_configuration_says_that_this_is_must_agree(tmp_path: Path) -> None:
    give_identity(tmp_path, "host-1", URL)
    assert read_membership(tmp_path, Expected("host-1")).agent_id == "host-1"
    with pytest.raises(IdentityError, match="says agent_id = 'host-2', and this host joined as 'host-1'"):
        read_membership(tmp_path, Expected("host-2"))


def test_where_the_configuration_says_that_the_controller_is_counts(tmp_path: Path) -> None:
    give_identity(tmp_path, "host-1", URL)
    assert read_membership(tmp_path, Expected()).url == URL
    assert read_membership(tmp_path, Expected(url="wss://other:8443/")).url == "wss://other:8443"
    assert IdentityFolder(tmp_path).url_file.read_text().strip() == URL


def test_files_that_are_of_no_use_are_told_by_name(tmp_path: Path) -> None:
    give_identity(tmp_path, "host-1", URL)
    folder = IdentityFolder(tmp_path)
    folder.certificate_file.write_text("nothing")
    with pytest.raises(IdentityError, match=r"agent.pem: it holds no certificate in PEM form; join again"):
        read_membership(tmp_path, Expected())
    folder.url_file.unlink()
    with pytest.raises(IdentityError, match=r"controller.url: No such file"):
        read_membership(tmp_path, Expected())


def meet(member: Membership, hub: ssl.SSLContext, name: str = "localhost") -> ssl.SSLError:
    """What the agent's side of a handshake ends with."""
    to_agent, to_hub = ssl.MemoryBIO(), ssl.MemoryBIO()
    agent = member.tls.wrap_bio(to_agent, to_hub, server_hostname=name)
    server = hub.wrap_bio(to_hub, to_agent, server_side=True)
    for _ in range(5):
        for step in (agent.do_handshake, server.do_handshake, agent.read):
            try:
                step()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as exc:
                return exc
    raise AssertionError("they agreed")


def hub_made_at(folder: Path, at: datetime) -> tuple[ssl.SSLContext, Membership]:
    """A hub whose clock says `at`, and an agent that joined it."""
    clock = FakeClock()
    clock.advance((at - clock.now()).total_seconds())
    authority = open_authority(folder, min(at, NOW))
    give_identity(folder / "agent", "host-1", URL, authority=authority)
    context = HubCertificate(authority, folder, ["localhost"], clock).open()
    return context, read_membership(folder / "agent", Expected())


@pytest.mark.parametrize(
    ("made_at", "words"),
    [
        (NOW + 2 * DAY, "is not valid yet by this host's clock, which says"),
        (NOW - 100 * DAY, "has expired by this host's clock, which says"),
    ],
)
def test_a_clock_that_is_wrong_is_named_when_the_hub_is_not_trusted(
    tmp_path: Path, made_at: datetime, words: str
) -> None:
    hub, member = hub_made_at(tmp_path, made_at)
    said = describe_trouble(meet(member, hub), member, NOW)
    assert words in said
    assert "set the clock" in said


def test_a_name_that_the_hub_lacks_is_told_with_the_key_to_put_it_in(tmp_path: Path) -> None:
    hub, member = hub_made_at(tmp_path, NOW)
    for name in ("127.0.0.2", "other.example"):
        said = describe_trouble(meet(member, hub, name), member, NOW)
        assert said.endswith("put 'localhost' into hub.names of the controller")  # as its URL calls it


@pytest.mark.parametrize(
    ("issued_at", "own_clock", "words"),
    [
        (NOW - 2 * MONTH, NOW, "this agent's certificate ended at"),
        (NOW - 2 * MONTH, NOW - 50 * DAY, "one of the two clocks is wrong"),
        (NOW + DAY, NOW + 2 * DAY, "not valid yet by the controller's clock"),
    ],
)
def test_clocks_that_differ_are_named_when_the_agent_is_refused(
    tmp_path: Path, issued_at: datetime, own_clock: datetime, words: str
) -> None:
    give_identity(tmp_path, "host-1", URL, issued_at=issued_at)
    member = read_membership(tmp_path, Expected())
    assert words in describe_trouble(meet(member, spare_hub()), member, own_clock)
