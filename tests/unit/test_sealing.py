"""What is sealed is read with its own key, for its own purpose, unchanged; a key file is its owner's."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.sealing import (
    KEY_BYTES,
    BrokenSealError,
    KeyFileError,
    Keyring,
    UnknownKeyError,
    find_key_id,
    obtain_key,
    read_key,
    tell_key_id,
)

KEY, OTHER = bytes(KEY_BYTES), b"k" * KEY_BYTES
URL = "https://origin.example/v1.tar.gz"
RING = Keyring(KEY)


@given(secret=st.text(), about=st.text())
def test_what_was_sealed_comes_out_again(secret: str, about: str) -> None:
    assert RING.unseal(RING.seal(secret, about), about) == secret


def test_a_seal_shows_neither_secret_nor_key_and_never_looks_the_same() -> None:
    first, second = RING.seal("signature=hush", URL), RING.seal("signature=hush", URL)
    assert first != second
    for shown in (first, repr(RING), str(RING)):
        assert "hush" not in shown
        assert KEY.hex() not in shown


def test_another_purpose_does_not_open_it() -> None:
    with pytest.raises(BrokenSealError):
        RING.unseal(RING.seal("signature=hush", URL), f"{URL}x")


def test_a_changed_byte_anywhere_does_not_open() -> None:
    sealed = RING.seal("signature=hush", URL)
    for place in range(len(sealed)):
        changed = sealed[:place] + ("A" if sealed[place] != "A" else "B") + sealed[place + 1 :]
        with pytest.raises((BrokenSealError, UnknownKeyError)):
            RING.unseal(changed, URL)
    for short in range(len(sealed)):
        with pytest.raises((BrokenSealError, UnknownKeyError)):
            RING.unseal(sealed[:short], URL)


def test_an_older_key_still_opens_and_the_newest_seals() -> None:
    sealed = RING.seal("signature=hush", URL)
    rotated = Keyring(OTHER, [KEY])
    assert rotated.unseal(sealed, URL) == "signature=hush"
    assert find_key_id(rotated.seal("x", URL)) == tell_key_id(OTHER)


def test_a_key_that_is_gone_is_named() -> None:
    with pytest.raises(UnknownKeyError, match=tell_key_id(KEY)):
        Keyring(OTHER).unseal(RING.seal("signature=hush", URL), URL)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Keyring(b"k" * length)


def test_a_key_file_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "secrets.key"
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: obtain_key(path), range(32)))
    assert len(keys) == 1
    assert keys == {read_key(path)}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path], "no draft is left"


@pytest.mark.parametrize(
    "content", [b"", b"00" * 31, b"00" * 33, b"zz" * 32, b"\xff" * 64, b"00" * 32 + b"\n\n00"]
)
def test_a_file_that_holds_no_key_is_told_without_its_content(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secrets.key"
    path.write_bytes(content)
    with pytest.raises(KeyFileError, match="64 hexadecimal digits") as caught:
        read_key(path)
    assert not content or content.decode("latin-1") not in str(caught.value)


def test_a_key_file_that_cannot_be_read_or_made_is_told_with_its_name(tmp_path: Path) -> None:
    for broken in (tmp_path / "none" / "secrets.key", tmp_path):
        with pytest.raises(KeyFileError, match=str(broken)):
            obtain_key(broken)
