"""The signed comment: one form, and every part of it compared."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.signed import Statement, Wanted, find_refusal, parse_statement
from releasehand.model.codes import FailureCode
from tests.fakes.signing import PACKAGE, SHA256

SIGNED_AT = datetime(2026, 11, 21, 10, tzinfo=UTC)
STATEMENT = Statement("web", "v1", len(PACKAGE), SHA256, SIGNED_AT)

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,20}", fullmatch=True)


@given(
    service=NAMES,
    version=NAMES,
    size=st.integers(0, 10**15),
    digest=st.binary(min_size=32, max_size=32),
    signed_at=st.datetimes(min_value=datetime(2000, 1, 1)).map(lambda at: at.replace(microsecond=0)),  # noqa: DTZ001 - made aware below
)
def test_a_statement_reads_back_as_it_was_written(
    service: str, version: str, size: int, digest: bytes, signed_at: datetime
) -> None:
    statement = Statement(service, version, size, digest.hex(), signed_at.replace(tzinfo=UTC))
    assert parse_statement(str(statement)) == statement


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("releasehand1", "releasehand2"),
        ("service=web ", ""),
        ("service=web ", "service=web  "),
        ("service=web version=v1", "version=v1 service=web"),
        ("version=v1", "version=v1 version=v2"),
        ("version=v1", "version=../v1"),
        ("size=124", "size=0124"),
        ("size=124", "size=-124"),
        ("size=124", "size=١٢٤"),
        (SHA256, SHA256.upper()),
        (SHA256, SHA256[:-1]),
        ("Z", "+00:00"),
        ("11-21", "11-31"),
        ("10:00:00Z", "10:00:00Z\n"),
        ("10:00:00Z", "10:00:00Z note=hello"),
    ],
)
def test_a_comment_that_is_not_exactly_of_the_form_says_nothing(old: str, new: str) -> None:
    text = str(STATEMENT)
    assert parse_statement(text) == STATEMENT
    assert old in text
    with pytest.raises(ValueError, match=r"form|time"):
        parse_statement(text.replace(old, new))


WANTED = Wanted("web", "v1", len(PACKAGE), SHA256)


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (WANTED, None),
        (replace(WANTED, sha256=SHA256.upper()), None),
        (replace(WANTED, service="web2"), FailureCode.SIGNATURE_WRONG_SERVICE),
        (replace(WANTED, version="v10"), FailureCode.SIGNATURE_WRONG_VERSION),
        (replace(WANTED, version="V1"), FailureCode.SIGNATURE_WRONG_VERSION),
        (replace(WANTED, size_bytes=125), FailureCode.SIGNATURE_INVALID),
        (replace(WANTED, sha256="0" * 64), FailureCode.SIGNATURE_INVALID),
    ],
)
def test_every_part_of_a_statement_is_compared(wanted: Wanted, code: FailureCode | None) -> None:
    refusal = find_refusal(STATEMENT, wanted, min_signed_time=None)
    assert (refusal and refusal.code) == code


@pytest.mark.parametrize(
    ("floor", "refused"),
    [
        (None, False),
        (SIGNED_AT, False),
        (SIGNED_AT - timedelta(seconds=1), False),
        (SIGNED_AT + timedelta(seconds=1), True),
        (SIGNED_AT.astimezone(timezone(timedelta(hours=8))), False),
    ],
)
def test_the_floor_is_a_time_of_signing(floor: datetime | None, refused: bool) -> None:
    refusal = find_refusal(STATEMENT, WANTED, min_signed_time=floor)
    assert (refusal is not None) == refused
    assert refusal is None or refusal.code is FailureCode.SIGNATURE_TOO_OLD
