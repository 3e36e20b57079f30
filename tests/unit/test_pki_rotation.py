"""One authority in the place of another: both count for a while, and what a kill leaves can be used."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from controller.__main__ import app
from controller.core.enrolment import Certificate
from controller.pki import (
    Authority,
    AuthorityError,
    BadRequestError,
    begin_rotation,
    finish_rotation,
    hash_key,
    is_rotating,
    issue_for_agent,
    open_authorities,
    open_authority,
    read_authority,
    read_expired,
    read_hub_authority,
    read_link_certificate,
)
from controller.pki.rotation import NEW_KEY_NAME, OLD_KEY_NAME
from shared.clock import SystemClock

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())


def certificate_of(authority: Authority) -> str:
    ends_at = NOW + timedelta(days=1)
    return issue_for_agent(
        authority,
        Certificate("ab12", "web-1", hash_key(KEY.public_key()), NOW, ends_at, ""),
        KEY.public_key(),
    )


def test_both_count_and_the_new_one_signs_while_the_hub_keeps_the_old_one(tmp_path: Path) -> None:
    old = open_authority(tmp_path, NOW)
    new = begin_rotation(tmp_path, NOW)
    assert is_rotating(tmp_path)
    assert new.key_hash != old.key_hash
    assert new.trusted == [new.certificate, old.certificate]
    assert (tmp_path / "ca.pem").read_bytes() == new.pem
    assert read_hub_authority(tmp_path, NOW).key_hash == old.key_hash
    for one in (old, new):
        assert read_expired(certificate_of(one), new.trusted).agent_id == "web-1"


def test_who_signs_and_who_is_shown_are_two_during_a_rotation_alone(tmp_path: Path) -> None:
    first = open_authorities(tmp_path, NOW)
    assert first.signing is first.shown
    new = begin_rotation(tmp_path, NOW)
    both = open_authorities(tmp_path, NOW)
    assert (both.signing.key_hash, both.shown.key_hash) == (new.key_hash, first.shown.key_hash)
    finish_rotation(tmp_path, NOW)
    last = open_authorities(tmp_path, NOW)
    assert last.signing is last.shown
    assert last.shown.key_hash == new.key_hash


def test_after_the_end_of_a_rotation_the_old_one_counts_no_more(tmp_path: Path) -> None:
    old = open_authority(tmp_path, NOW)
    new = begin_rotation(tmp_path, NOW)
    last = finish_rotation(tmp_path, NOW)
    assert last.trusted == [new.certificate]
    assert not is_rotating(tmp_path)
    assert read_hub_authority(tmp_path, NOW).key_hash == new.key_hash
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ca.key", "ca.pem"]
    with pytest.raises(BadRequestError, match="another authority"):
        read_expired(certificate_of(old), last.trusted)


def test_a_rotation_is_begun_once_and_ended_once(tmp_path: Path) -> None:
    open_authority(tmp_path, NOW)
    with pytest.raises(AuthorityError, match="no rotation was begun"):
        finish_rotation(tmp_path, NOW)
    begin_rotation(tmp_path, NOW)
    with pytest.raises(AuthorityError, match="begun already"):
        begin_rotation(tmp_path, NOW)


def test_what_a_kill_leaves_of_a_beginning_can_be_used_and_begun_again(tmp_path: Path) -> None:
    old = open_authority(tmp_path, NOW)
    begin_rotation(tmp_path, NOW)
    # As before the last two files were touched: both certificates, the new key under its first name.
    (tmp_path / "ca.key").rename(tmp_path / NEW_KEY_NAME)
    (tmp_path / OLD_KEY_NAME).rename(tmp_path / "ca.key")
    left = read_authority(tmp_path, NOW)
    assert left.key_hash == read_hub_authority(tmp_path, NOW).key_hash == old.key_hash
    assert len(left.trusted) == 2
    assert len(begin_rotation(tmp_path, NOW).trusted) == 2
    assert len(finish_rotation(tmp_path, NOW).trusted) == 1


def test_what_a_kill_leaves_of_an_end_can_be_used_and_ended_again(tmp_path: Path) -> None:
    open_authority(tmp_path, NOW)
    new = begin_rotation(tmp_path, NOW)
    (tmp_path / OLD_KEY_NAME).unlink()
    assert read_hub_authority(tmp_path, NOW).key_hash == new.key_hash
    assert finish_rotation(tmp_path, NOW).trusted == [new.certificate]


def test_the_certificate_of_a_link_tells_whose_it_is(tmp_path: Path) -> None:
    authority = open_authority(tmp_path, NOW)
    pem = certificate_of(authority)
    der = x509.load_pem_x509_certificate(pem.encode()).public_bytes(serialization.Encoding.DER)
    shown = read_link_certificate(der)
    assert (shown.serial, shown.agent_id, shown.ends_at) == ("ab12", "web-1", NOW + timedelta(days=1))
    assert shown.key == KEY.public_key()


@pytest.mark.parametrize("what", ["nothing", "the authority itself", "too much", "a forged one"])
def test_a_document_that_is_no_agents_certificate_is_refused(tmp_path: Path, what: str) -> None:
    authority = open_authority(tmp_path, NOW)
    stranger = open_authority(tmp_path / "stranger", NOW)
    forged = (
        x509.CertificateBuilder()
        .subject_name(authority.certificate.subject)
        .issuer_name(authority.certificate.subject)  # in the name of our authority, by another key
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .sign(stranger.key, hashes.SHA256())
    )
    pem = {
        "nothing": "",
        "the authority itself": authority.pem.decode(),
        "too much": certificate_of(authority) + "#" * 20_000,
        "a forged one": forged.public_bytes(serialization.Encoding.PEM).decode(),
    }[what]
    with pytest.raises(BadRequestError):
        read_expired(pem, authority.trusted)


def test_the_commands_tell_that_two_authorities_count_and_what_to_wait_for(tmp_path: Path) -> None:
    file, run = tmp_path / "controller.toml", CliRunner().invoke
    file.write_text(
        f'database = "sqlite:///{tmp_path}/controller.db"\n[hub]\nhost = "127.0.0.1"\n[pki]\n'
        f'directory = "{tmp_path}/pki"\n'
    )
    old = open_authority(tmp_path / "pki", SystemClock().now())
    begun = run(app, ["pki", "rotate", "--config", str(file)])
    assert (begun.exit_code, "five minutes" in begun.stdout) == (0, True), begun.output
    shown = run(app, ["pki", "show", "--config", str(file)]).stdout
    assert f"beside it  {old.key_hash}" in shown
    assert f"key hash   {old.key_hash}" not in shown
    assert run(app, ["pki", "rotate", "--finish", "--config", str(file)]).exit_code == 0
    assert old.key_hash not in run(app, ["pki", "show", "--config", str(file)]).stdout
