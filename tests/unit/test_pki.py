"""The controller's authority: made once, kept from others, signing for agents and hubs and nobody else."""

import ssl
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from typer.testing import CliRunner

from controller.__main__ import app
from controller.core.enrolment import Certificate
from controller.pki import (
    AuthorityError,
    BadRequestError,
    HubCertificate,
    issue_for_agent,
    open_authority,
    read_authority,
    read_request,
    serial_text,
)
from controller.pki.issue import issue_for_server
from shared.identity import agent_uri, find_agent_id
from tests.fakes.clock import FakeClock

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
MONTH = timedelta(days=30)
LONGEST_NAME = "a" * 128


def make_request(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody-else")])
    algorithm = hashes.SHA256() if isinstance(key, ec.EllipticCurvePrivateKey) else None
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, algorithm)
    return request.public_bytes(serialization.Encoding.PEM).decode()


def test_the_authority_is_made_once_and_never_changed(tmp_path: Path) -> None:
    folder = tmp_path / "lib" / "pki"
    made = open_authority(folder, NOW)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    again = open_authority(folder, NOW + MONTH)
    assert again.certificate == made.certificate
    assert again.key_hash == made.key_hash
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "ca.key").stat().st_mode) == 0o600


def test_the_authority_signs_certificates_but_makes_no_other_authority(tmp_path: Path) -> None:
    certificate = open_authority(tmp_path, NOW).certificate
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (True, True, False)
    assert certificate.not_valid_after_utc == NOW + timedelta(days=3650)


def test_of_many_that_start_at_once_one_makes_the_authority(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: open_authority(tmp_path, NOW), range(8)))
    assert len({one.key_hash for one in made}) == 1
    assert len({one.certificate.serial_number for one in made}) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca.key", "ca.pem"]


def test_a_start_that_was_cut_after_the_key_is_finished_by_the_next(tmp_path: Path) -> None:
    key = open_authority(tmp_path, NOW).key_hash
    (tmp_path / "ca.pem").unlink()
    assert open_authority(tmp_path, NOW).key_hash == key


@pytest.mark.parametrize(
    ("flaw", "words"),
    [
        ("no key", "cannot read .*ca.key: No such file"),
        ("bad key", "holds no key"),
        ("open key", "others may read it .mode 640.; chmod 600"),
        ("bad certificate", "holds no certificate"),
        ("another's certificate", "not the key"),
    ],
)
def test_an_authority_that_is_of_no_use_is_told_and_left_as_it_is(
    tmp_path: Path, flaw: str, words: str
) -> None:
    open_authority(tmp_path, NOW)
    key, certificate = tmp_path / "ca.key", tmp_path / "ca.pem"
    match flaw:
        case "no key":
            key.unlink()
        case "bad key":
            key.write_text("x")
        case "open key":
            key.chmod(0o640)
        case "bad certificate":
            certificate.write_text("x")
        case _:
            certificate.write_bytes(open_authority(tmp_path / "other", NOW).pem)
    before = certificate.read_bytes()
    with pytest.raises(AuthorityError, match=words):
        open_authority(tmp_path, NOW)
    assert (key.exists(), certificate.read_bytes()) == (flaw != "no key", before)


def test_an_authority_past_its_end_is_told(tmp_path: Path) -> None:
    open_authority(tmp_path, NOW)
    with pytest.raises(AuthorityError, match="it ended on 2036-11-19"):
        read_authority(tmp_path, NOW + timedelta(days=3651))


@pytest.mark.parametrize("agent_id", ["host-1", "a.b_c+d", LONGEST_NAME])
def test_an_agents_certificate_names_the_agent_and_serves_nothing(tmp_path: Path, agent_id: str) -> None:
    authority, key = open_authority(tmp_path, NOW), ec.generate_private_key(ec.SECP256R1())
    given = Certificate("a1b2c3", agent_id, "", NOW, NOW + MONTH, "")
    certificate = x509.load_pem_x509_certificate(issue_for_agent(authority, given, key.public_key()).encode())
    certificate.verify_directly_issued_by(authority.certificate)
    extensions = certificate.extensions
    alternatives = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = alternatives.get_values_for_type(x509.UniformResourceIdentifier)
    assert (list(alternatives), find_agent_id(uris)) == ([x509.UniformResourceIdentifier(uris[0])], agent_id)
    [usage] = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert usage == ExtendedKeyUsageOID.CLIENT_AUTH
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert serial_text(certificate.serial_number) == given.serial
    assert certificate.public_key() == key.public_key()
    assert certificate.not_valid_before_utc == NOW - timedelta(hours=1)
    assert certificate.not_valid_after_utc == NOW + MONTH


def test_no_server_outlives_the_authority(tmp_path: Path) -> None:
    authority, key = open_authority(tmp_path, NOW), ec.generate_private_key(ec.SECP256R1())
    late = NOW + timedelta(days=3640)
    pem = issue_for_server(authority, ["hub.example"], key.public_key(), now=late, life=MONTH)
    assert x509.load_pem_x509_certificate(pem).not_valid_after_utc == authority.ends_at


def test_a_request_gives_its_key_and_nothing_else() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    request = read_request(make_request(key))
    assert (request.key, request.names) == (key.public_key(), ("somebody-else",))


def test_a_request_that_is_not_signed_by_its_key_is_refused() -> None:
    request = x509.load_pem_x509_csr(make_request(ec.generate_private_key(ec.SECP256R1())).encode())
    der = bytearray(request.public_bytes(serialization.Encoding.DER))
    at = der.index(b"somebody-else")
    der[at : at + 8] = b"evilbody"
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM).decode()
    with pytest.raises(BadRequestError, match="not signed by its own key"):
        read_request(forged)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ("", "no PKCS #10"),
        ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "no PKCS #10"),
        ("\u00e9", "no PKCS #10"),
        ("x" * 8_193, "over 8192 characters"),
        (make_request(ed25519.Ed25519PrivateKey.generate()), "not ECDSA P-256"),
        (make_request(ec.generate_private_key(ec.SECP384R1())), "not ECDSA P-256"),
    ],
)
def test_what_is_no_request_for_a_p256_key_is_refused(request_: str, words: str) -> None:
    with pytest.raises(BadRequestError, match=words):
        read_request(request_)


@pytest.mark.parametrize(
    "uri", ["", "releasehand://hub/x", "releasehand://agent/", "releasehand://agent/a/b", "x"]
)
def test_a_uri_that_names_no_agent_is_nobodys(uri: str) -> None:
    assert find_agent_id([uri] if uri else []) == ""


def test_a_certificate_that_names_two_agents_is_nobodys() -> None:
    assert find_agent_id([agent_uri("a"), agent_uri("b")]) == ""


def hub_serial(folder: Path) -> int:
    return x509.load_pem_x509_certificate((folder / "hub.pem").read_bytes()).serial_number


def test_the_hubs_certificate_is_kept_while_it_is_good_and_renewed_in_time(tmp_path: Path) -> None:
    clock = FakeClock()
    hub = HubCertificate(open_authority(tmp_path, clock.now()), tmp_path, ["hub.example", "::1"], clock)
    hub.open()
    first = hub_serial(tmp_path)
    assert not hub.renew()
    clock.advance(59 * 86_400)
    assert not hub.renew()
    clock.advance(2 * 86_400)
    assert hub.renew()
    assert hub_serial(tmp_path) != first
    assert not hub.renew()
    assert stat.S_IMODE((tmp_path / "hub.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("spoil", ["names", "authority", "key", "no certificate", "clock"])
def test_a_hub_certificate_of_no_more_use_is_replaced_at_start(tmp_path: Path, spoil: str) -> None:
    clock = FakeClock()
    names = ["hub.example", "127.0.0.1"]
    HubCertificate(open_authority(tmp_path, clock.now()), tmp_path, names, clock).open()
    first = hub_serial(tmp_path)
    match spoil:
        case "names":
            names = ["hub.example", "127.0.0.2"]
        case "authority":
            (tmp_path / "ca.key").unlink()
            (tmp_path / "ca.pem").unlink()
        case "key":
            (tmp_path / "hub.key").unlink()
        case "no certificate":
            (tmp_path / "hub.pem").write_text("x")
        case _:
            clock.advance(-7_200)
    HubCertificate(open_authority(tmp_path, clock.now()), tmp_path, names, clock).open()
    assert hub_serial(tmp_path) != first


def test_the_hub_speaks_tls_1_3_alone_and_asks_for_a_certificate(tmp_path: Path) -> None:
    clock = FakeClock()
    context = HubCertificate(open_authority(tmp_path, clock.now()), tmp_path, ["localhost"], clock).open()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.verify_mode is ssl.CERT_OPTIONAL


def test_a_servers_certificate_is_none_of_an_agent(tmp_path: Path) -> None:
    authority, key = open_authority(tmp_path, NOW), ec.generate_private_key(ec.SECP256R1())
    pem = issue_for_server(authority, ["10.0.0.1", "hub.example"], key.public_key(), now=NOW, life=MONTH)
    extensions = x509.load_pem_x509_certificate(pem).extensions
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH
    ]
    alternatives = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternatives.get_values_for_type(x509.DNSName) == ["hub.example"]
    assert find_agent_id(alternatives.get_values_for_type(x509.UniformResourceIdentifier)) == ""


def test_the_command_makes_and_shows_the_authority(tmp_path: Path) -> None:
    file = tmp_path / "controller.toml"
    file.write_text(
        f'pki.directory = "{tmp_path}/pki"\nhub.host = "127.0.0.1"\n[api.tokens]\nscheduler = "{"t" * 20}"\n'
    )
    run = CliRunner().invoke
    none = run(app, ["pki", "show", "--config", str(file)])
    assert (none.exit_code, "cannot read" in none.stderr, "pki init" in none.stderr) == (1, True, True)
    made = run(app, ["pki", "init", "--config", str(file)])
    assert made.exit_code == 0, made.output
    authority = read_authority(
        tmp_path / "pki", datetime.fromtimestamp((tmp_path / "pki").stat().st_mtime, UTC)
    )
    assert authority.key_hash in made.stdout
    for command in ("init", "show"):
        assert run(app, ["pki", command, "--config", str(file)]).stdout == made.stdout
