"""The form of a token, and what a grant covers."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.token import EVERYTHING, PREFIX, TOKEN_CHARS, Grant, digest_of, is_damaged, make_token
from releasehand.model import Scope

TOKEN = make_token(bytes(range(32)))


@given(st.binary(min_size=32, max_size=32))
def test_every_token_has_the_form_that_scanners_look_for(secret: bytes) -> None:
    token = make_token(secret)
    assert re.fullmatch(r"rht_[0-9A-Za-z]{49}", token)
    assert not is_damaged(token)


def test_the_smallest_and_the_greatest_secret_differ_in_every_digit_that_they_can() -> None:
    least, most = make_token(b"\0" * 32), make_token(b"\xff" * 32)
    assert len(least) == len(most) == TOKEN_CHARS
    assert least.startswith(f"{PREFIX}{'0' * 43}")
    assert most != least


@pytest.mark.parametrize("size", [0, 31, 33])
def test_another_number_of_random_bytes_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        make_token(b"x" * size)


@given(st.integers(min_value=4, max_value=TOKEN_CHARS - 1), st.sampled_from("0aZ"))
def test_a_changed_character_is_seen_before_anything_is_looked_up(at: int, other: str) -> None:
    changed = TOKEN[:at] + other + TOKEN[at + 1 :]
    assert is_damaged(changed) == (changed != TOKEN)


@pytest.mark.parametrize("damaged", [TOKEN[:-1], TOKEN + "0", PREFIX, TOKEN[:-1] + "é", "rht_\udcff"])
def test_what_was_cut_or_mistyped_is_damaged(damaged: str) -> None:
    assert is_damaged(damaged)


def test_what_has_another_form_is_no_damaged_token() -> None:
    assert not is_damaged("a-token-of-the-scheduler")


def test_a_digest_tells_tokens_apart_and_never_raises() -> None:
    assert digest_of(TOKEN) != digest_of(TOKEN + " ")
    assert len(digest_of("\udcff")) == 64


R, W, A, T = Scope.DEPLOY_READ, Scope.DEPLOY_WRITE, Scope.AGENT_ADMIN, Scope.TOKEN_ADMIN


def grant(*scopes: Scope, services: tuple[str, ...] = ()) -> Grant:
    return Grant(frozenset(scopes), frozenset(services))


@pytest.mark.parametrize(
    ("has", "gives", "may"),
    [
        (EVERYTHING, grant(R, W, A, T), True),
        (EVERYTHING, grant(R, services=("a",)), True),
        (grant(T, R), grant(R), True),
        (grant(T, R), grant(W), False),
        (grant(T), grant(T, R), False),
        (grant(T, R, services=("a", "b")), grant(R, services=("a",)), True),
        (grant(T, R, services=("a",)), grant(R, services=("a", "b")), False),
        (grant(T, R, services=("a",)), grant(R), False),
    ],
)
def test_nobody_gives_more_than_they_have(has: Grant, gives: Grant, may: bool) -> None:
    assert has.covers(gives) is may


def test_a_limited_grant_reaches_its_services_alone_and_nothing_that_nobody_knows() -> None:
    limited = grant(R, services=("a",))
    assert [limited.reaches(service) for service in ("a", "b", "", None)] == [True, False, False, False]
    assert EVERYTHING.reaches(None)
