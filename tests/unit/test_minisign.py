"""Minisign's formats and signatures, against vectors that the C tool made."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import (
    HostError,
    SignatureCommentInvalidError,
    SignatureInvalidError,
    SignatureLegacyError,
    SignatureMalformedError,
    VerificationError,
)
from agent.minisign import parse_public_key, parse_signature, prehash, verify_comment, verify_prehash
from tests.fakes.signing import PACKAGE, SHA256, public_key, signature

pytestmark = pytest.mark.slow

HASH = hashlib.blake2b(PACKAGE).digest()
GOOD = signature("good")
RELEASE = parse_public_key(public_key("release"))


def test_a_signature_of_the_c_tool_verifies() -> None:
    signed = parse_signature(GOOD)
    assert signed.key_id == RELEASE.key_id
    assert f"sha256={SHA256}" in verify_comment(RELEASE, signed)
    verify_prehash(RELEASE, signed, HASH)


def test_a_key_is_named_as_minisign_prints_it() -> None:
    assert RELEASE.comment == f"minisign public key {RELEASE.key_id}"


def test_a_changed_package_is_refused() -> None:
    changed = hashlib.blake2b(PACKAGE[:-1] + b"?").digest()
    with pytest.raises(SignatureInvalidError):
        verify_prehash(RELEASE, parse_signature(GOOD), changed)


def test_a_changed_comment_is_refused() -> None:
    with pytest.raises(SignatureCommentInvalidError):
        verify_comment(RELEASE, parse_signature(GOOD.replace(b"version=v1", b"version=v2")))


def test_a_comment_of_another_package_s_signature_is_refused() -> None:
    """Both are of one key, and the comments are even the same: only together they say something."""
    lines, others = GOOD.split(b"\n"), signature("other-bytes").split(b"\n")
    mixed = b"\n".join([*lines[:2], *others[2:]])
    with pytest.raises(SignatureCommentInvalidError):
        verify_comment(RELEASE, parse_signature(mixed))


def test_another_key_verifies_neither_part() -> None:
    stranger, signed = parse_public_key(public_key("stranger")), parse_signature(GOOD)
    with pytest.raises(SignatureCommentInvalidError):
        verify_comment(stranger, signed)
    with pytest.raises(SignatureInvalidError):
        verify_prehash(stranger, signed, HASH)


def test_a_legacy_signature_is_refused_by_its_kind() -> None:
    with pytest.raises(SignatureLegacyError):
        parse_signature(signature("legacy"))


def test_a_legacy_signature_that_says_prehashed_is_no_signature_of_the_hash() -> None:
    lines, legacy = GOOD.split(b"\n"), signature("legacy").split(b"\n")
    relabelled = b"RU" + legacy[1][2:]
    with pytest.raises(SignatureInvalidError):
        verify_prehash(RELEASE, parse_signature(b"\n".join([lines[0], relabelled, *lines[2:]])), HASH)


def test_a_truncated_signature_is_malformed_wherever_it_ends() -> None:
    for size in range(len(GOOD.rstrip())):
        with pytest.raises(SignatureMalformedError):
            parse_signature(GOOD[:size])


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<html>404</html>\n",
        GOOD.replace(b"trusted comment: releasehand1", b"comment: releasehand1"),
        GOOD.replace(b"untrusted comment: ", b""),
        GOOD.replace(b"RUTn", b"RVTn"),
        GOOD.replace(b"RUTn", b"RU n"),
        GOOD + b"one line more\n",
        b"\n" + GOOD,
        public_key("release"),
    ],
)
def test_what_is_no_signature_is_malformed(text: bytes) -> None:
    assert text != GOOD
    with pytest.raises(SignatureMalformedError):
        parse_signature(text)


@pytest.mark.parametrize("text", [GOOD.replace(b"\n", b"\r\n"), GOOD.rstrip(), GOOD + b"\n"])
def test_line_ends_do_not_matter(text: bytes) -> None:
    signed = parse_signature(text)
    verify_comment(RELEASE, signed)
    verify_prehash(RELEASE, signed, HASH)


@given(at=st.integers(0, len(GOOD) - 1), byte=st.integers(0, 255))
def test_a_signature_with_one_byte_changed_never_verifies_with_another_meaning(at: int, byte: int) -> None:
    changed = GOOD[:at] + bytes([byte]) + GOOD[at + 1 :]
    before = parse_signature(GOOD)
    try:
        signed = parse_signature(changed)
        comment = verify_comment(RELEASE, signed)
        verify_prehash(RELEASE, signed, HASH)
    except VerificationError:
        return
    assert comment.encode() == before.trusted_comment


@given(st.binary(max_size=600))
def test_no_bytes_at_all_crash_the_readers(text: bytes) -> None:
    with pytest.raises(VerificationError):
        parse_signature(text)
    with pytest.raises(ValueError):  # noqa: PT011 - which of its texts depends on the bytes
        parse_public_key(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "fewer than 2 lines"),
        (public_key("release").split(b"\n")[1], "fewer than 2 lines"),
        (GOOD, "more than 2 lines"),
        (public_key("release").replace(b"untrusted comment: ", b""), "does not begin"),
        (public_key("release")[:-9], "base64"),
        (public_key("release").replace(b"RWTn", b"RUTn"), "not known here"),
    ],
)
def test_what_is_no_public_key_is_refused_with_the_reason(text: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_public_key(text)


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 64 * 1024 * 1024 + 1])
async def test_the_hash_covers_the_whole_file_and_leaves_its_position(tmp_path: Path, size: int) -> None:
    path = tmp_path / "package"  # sparse: the sizes are those of a block, of a slice, and one more
    with path.open("w+b") as file:
        file.truncate(size)
        file.seek(size // 2)
        assert await prehash(file, path) == hashlib.blake2b(bytes(size)).digest()
        assert file.tell() == size // 2


async def test_a_disk_that_cannot_be_read_is_the_hosts_fault(tmp_path: Path) -> None:
    path = tmp_path / "package"
    with path.open("wb") as file, pytest.raises(HostError, match="package"):  # not open for reading
        await prehash(file, path)
