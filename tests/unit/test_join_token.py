"""Join tokens as text: what is in them, and what is no join token."""

import hashlib

import pytest

from shared.join_token import BadJoinTokenError, JoinToken, hash_secret, parse_join_token

KEY = b"a SubjectPublicKeyInfo"
TOKEN = JoinToken(hashlib.sha256(KEY).digest(), bytes(range(16)))


def test_a_token_is_read_as_it_was_written() -> None:
    assert parse_join_token(TOKEN.text) == TOKEN
    assert parse_join_token(f"\n {TOKEN.text}\r\n") == TOKEN
    assert TOKEN.text.startswith("rhj1.")
    assert len(TOKEN.text) == 71


def test_a_token_names_one_key_and_no_other() -> None:
    assert TOKEN.names(KEY)
    assert not TOKEN.names(KEY + b" of somebody else")


def test_what_is_stored_of_a_secret_does_not_hold_it() -> None:
    stored = hash_secret(TOKEN.secret_text)
    assert len(stored) == 64
    assert TOKEN.secret_text not in stored
    assert stored != hash_secret(JoinToken(TOKEN.authority_sha256, b"x" * 16).secret_text)


def test_neither_the_secret_nor_the_text_is_in_what_a_log_would_show() -> None:
    assert TOKEN.secret_text not in repr(TOKEN)
    assert str(TOKEN.secret) not in repr(TOKEN)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rht_somebody-elses",
        TOKEN.text[:-1],
        TOKEN.text + "A",
        TOKEN.text.replace("rhj1", "rhj2"),
        TOKEN.text.replace(".", " ", 1),
        TOKEN.text[:-1] + "=",
        TOKEN.text[:-1] + chr(ord(TOKEN.text[-1]) + 1),  # bits that no byte has
        TOKEN.text + "\n" + TOKEN.text,
        "rhj1." + "é" * 43 + "." + "A" * 22,
    ],
)
def test_what_is_no_join_token_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(BadJoinTokenError) as refused:
        parse_join_token(text)
    assert not text or text not in str(refused.value)
