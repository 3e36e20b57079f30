"""Whose signatures a host accepts: what trusted.d and revoked.d say, and what they must not say."""

import base64
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import (
    SignatureKeyOutOfScopeError,
    SignatureRevokedKeyError,
    SignatureUntrustedKeyError,
    TrustUnreadableError,
)
from agent.minisign import parse_public_key
from agent.trust import MAX_KEY_FILE_BYTES, MAX_KEY_FILES, Trust, load_trust
from tests.fakes.signing import Keys, public_key

RELEASE = parse_public_key(public_key("release"))
STRANGER = parse_public_key(public_key("stranger"))


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def load(keys: Keys) -> Trust:
    return load_trust(keys.trusted_dir, keys.revoked_dir)


def test_missing_folders_pin_nothing(keys: Keys) -> None:
    trust = load(keys)
    assert not trust.pinned
    with pytest.raises(SignatureUntrustedKeyError):
        trust.key_for(RELEASE.key_id, "web")


def test_a_trusted_key_is_found_by_its_id_and_no_other_is(keys: Keys) -> None:
    keys.trust("release")
    trust = load(keys)
    assert trust.pinned
    assert trust.key_for(RELEASE.key_id, "web").ed25519 == RELEASE.ed25519
    with pytest.raises(SignatureUntrustedKeyError, match=STRANGER.key_id):
        trust.key_for(STRANGER.key_id, "web")


def test_a_key_that_is_added_counts_at_the_next_look(keys: Keys) -> None:
    keys.trust("release")
    load(keys)
    keys.trust("stranger")
    assert load(keys).key_for(STRANGER.key_id, "web").ed25519 == STRANGER.ed25519


def test_revoked_wins_over_trusted(keys: Keys) -> None:
    keys.trust("release")
    keys.revoke("release")
    with pytest.raises(SignatureRevokedKeyError):
        load(keys).key_for(RELEASE.key_id, "web")


def test_a_revoked_key_stays_revoked_under_another_id(keys: Keys) -> None:
    keys.revoke("release")
    keys.trusted_dir.mkdir()
    renamed = base64.b64encode(b"Ed" + bytes(8) + RELEASE.ed25519)
    (keys.trusted_dir / "again.pub").write_bytes(b"untrusted comment: again\n" + renamed + b"\n")
    with pytest.raises(SignatureRevokedKeyError):
        load(keys).key_for("0" * 16, "web")


def test_revoking_the_last_key_keeps_signatures_the_rule(keys: Keys) -> None:
    keys.trust("release").unlink()
    keys.revoke("release")
    assert load(keys).pinned


@pytest.mark.parametrize("name", ["release.pub", "release", "release.pub.old"])
def test_whatever_its_name_is_a_file_in_revoked_d_revokes(keys: Keys, name: str) -> None:
    keys.trust("release")
    keys.revoke("release").rename(keys.revoked_dir / name)
    with pytest.raises(SignatureRevokedKeyError):
        load(keys).key_for(RELEASE.key_id, "web")


@pytest.mark.parametrize("name", ["release.pub.old", "release", ".release.pub", "README"])
def test_what_is_not_named_as_a_key_is_not_trusted(keys: Keys, name: str) -> None:
    keys.trust("release").rename(keys.trusted_dir / name)
    assert not load(keys).pinned


def test_a_scope_names_the_services_that_a_key_may_sign_for(keys: Keys) -> None:
    keys.trust("release", scope="the web team services=web,web-admin since 2026")
    trust = load(keys)
    assert trust.key_for(RELEASE.key_id, "web-admin").ed25519 == RELEASE.ed25519
    with pytest.raises(SignatureKeyOutOfScopeError, match="api"):
        trust.key_for(RELEASE.key_id, "api")


def test_one_key_in_two_files_has_both_scopes(keys: Keys) -> None:
    keys.trust("release", scope="services=web").rename(keys.trusted_dir / "1.pub")
    keys.trust("release", scope="services=api")
    trust = load(keys)
    assert {trust.key_for(RELEASE.key_id, one).key_id for one in ("web", "api")} == {RELEASE.key_id}
    with pytest.raises(SignatureKeyOutOfScopeError):
        trust.key_for(RELEASE.key_id, "db")


@pytest.mark.parametrize(
    "scope",
    [
        "service=web",
        "Services=web",
        "services:web",
        "services =web",
        "services= web",
        "services=",
        "services=web,",
        "services=web, api",
        "services=../web",
        "services=web services=api",
    ],
)
def test_a_scope_that_is_misspelt_trusts_nothing(keys: Keys, scope: str) -> None:
    keys.trust("release", scope=scope)
    with pytest.raises(TrustUnreadableError, match="scope"):
        load(keys)


def _write(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


BAD_FILES: dict[str, Callable[[Path], object]] = {
    "no key": _write(b"hello\n"),
    "empty": lambda path: path.touch(),
    "half copied": _write(public_key("release")[:70]),
    "too large": _write(public_key("release") + b"\n" * MAX_KEY_FILE_BYTES),
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("what", BAD_FILES)
@pytest.mark.parametrize("folder", ["trusted.d", "revoked.d"])
def test_a_key_file_that_cannot_be_read_refuses_everything(
    keys: Keys, tmp_path: Path, folder: str, what: str
) -> None:
    keys.trust("release")
    (tmp_path / folder).mkdir(exist_ok=True)
    BAD_FILES[what](tmp_path / folder / "bad.pub")
    with pytest.raises(TrustUnreadableError) as caught:
        load(keys)
    assert caught.value.path == tmp_path / folder / "bad.pub"


def test_two_keys_with_one_id_are_refused(keys: Keys) -> None:
    keys.trust("release")
    forged = base64.b64encode(base64.b64decode(public_key("release").split()[-1])[:10] + STRANGER.ed25519)
    (keys.trusted_dir / "second.pub").write_bytes(b"untrusted comment: x\n" + forged + b"\n")
    with pytest.raises(TrustUnreadableError, match="another key"):
        load(keys)


def test_keys_that_everybody_may_write_are_no_trust(keys: Keys) -> None:
    path = keys.trust("release")
    path.chmod(0o666)
    with pytest.raises(TrustUnreadableError, match="everybody"):
        load(keys)
    path.chmod(0o644)
    keys.trusted_dir.chmod(0o777)
    with pytest.raises(TrustUnreadableError, match="everybody"):
        load(keys)


def test_a_file_in_place_of_a_folder_is_said(keys: Keys) -> None:
    keys.revoked_dir.write_text("")
    with pytest.raises(TrustUnreadableError, match="cannot be read"):
        load(keys)


def test_a_flood_of_keys_is_refused(keys: Keys) -> None:
    first = keys.trust("release")
    for number in range(MAX_KEY_FILES):
        (keys.trusted_dir / f"{number}.pub").hardlink_to(first)
    with pytest.raises(TrustUnreadableError, match="more than"):
        load(keys)


def test_a_link_to_a_key_is_followed(keys: Keys, tmp_path: Path) -> None:
    keys.trust("release").rename(tmp_path / "elsewhere")
    (keys.trusted_dir / "release.pub").symlink_to(tmp_path / "elsewhere")
    assert load(keys).key_for(RELEASE.key_id, "web").ed25519 == RELEASE.ed25519
