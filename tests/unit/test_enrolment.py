"""Who may join and who may renew: each refusal by its code, and what is in force."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controller.core.enrolment import (
    RENEWABLE_AFTER_END,
    Admission,
    Applicant,
    Certificate,
    EnrolmentCode,
    EnrolmentRefusedError,
    JoinToken,
    Term,
    admit,
    check_link,
    check_renewal,
    check_standing,
)

C = EnrolmentCode
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
FOR_WEB = JoinToken("join-1", "web-1", 1, 0, NOW + timedelta(hours=1), None)
FOR_ANY = replace(FOR_WEB, host="", max_uses=2)
WEB = Applicant("web-1", "key-1")
GIVEN = Certificate("ab12", "web-1", "key-1", NOW, NOW + timedelta(days=30), "ca-1")


def ask(token: JoinToken | None, applicant: Applicant = WEB, **said: Any) -> Admission:
    return admit(token, applicant, **({"given": None, "known": False, "now": NOW} | said))


def test_a_token_for_a_host_lets_that_host_in_whether_it_says_its_name_or_not() -> None:
    assert ask(FOR_WEB) == ask(FOR_WEB, replace(WEB, agent_id="")) == Admission("web-1", None, replaces=False)


def test_a_host_that_joins_anew_replaces_what_it_had() -> None:
    assert ask(FOR_WEB, known=True).replaces


def test_a_token_for_any_host_lets_new_names_in() -> None:
    assert ask(FOR_ANY) == Admission("web-1", None, replaces=False)


def test_the_same_token_and_key_get_the_same_answer_even_when_the_token_is_used_up() -> None:
    for token in (FOR_WEB, FOR_ANY):
        again = ask(replace(token, uses=token.max_uses), given=GIVEN, known=True)
        assert again == Admission("web-1", GIVEN, replaces=False)


REFUSED: dict[EnrolmentCode, tuple[JoinToken | None, Applicant, dict[str, Any]]] = {
    C.UNKNOWN_TOKEN: (None, WEB, {}),
    C.TOKEN_REVOKED: (replace(FOR_WEB, revoked_at=NOW), WEB, {"given": GIVEN}),
    C.TOKEN_EXPIRED: (replace(FOR_WEB, expires_at=NOW), WEB, {"given": GIVEN}),
    C.TOKEN_USED: (replace(FOR_WEB, uses=1), replace(WEB, key_sha256="key-2"), {"known": True}),
    C.OTHER_HOST: (FOR_WEB, replace(WEB, agent_id="db-1"), {}),
    C.NAME_MISSING: (FOR_ANY, replace(WEB, agent_id=""), {}),
    C.NAME_TAKEN: (FOR_ANY, WEB, {"known": True}),
    C.NAME_CLAIMED: (FOR_WEB, replace(WEB, claimed=("web-1", "db-1")), {}),
}


@pytest.mark.parametrize("code", REFUSED)
def test_who_may_not_join_is_told_why(code: EnrolmentCode) -> None:
    token, applicant, said = REFUSED[code]
    with pytest.raises(EnrolmentRefusedError) as refused:
        ask(token, applicant, **said)
    assert refused.value.code is code


def test_a_certificate_that_was_revoked_is_not_given_again() -> None:
    with pytest.raises(EnrolmentRefusedError) as refused:
        ask(replace(FOR_WEB, uses=1), given=replace(GIVEN, revoked_at=NOW), known=True)
    assert refused.value.code is C.TOKEN_USED


def test_a_request_may_name_the_agent_that_it_is_for() -> None:
    assert ask(FOR_WEB, replace(WEB, claimed=("web-1", "releasehand://agent/web-1"))).agent_id == "web-1"


def test_what_is_unknown_revoked_or_somebody_elses_opens_no_link() -> None:
    assert check_standing(GIVEN, "web-1") is GIVEN
    for certificate, code in (
        (None, C.UNKNOWN_CERTIFICATE),
        (replace(GIVEN, agent_id="db-1"), C.UNKNOWN_CERTIFICATE),
        (replace(GIVEN, revoked_at=NOW), C.CERTIFICATE_REVOKED),
    ):
        with pytest.raises(EnrolmentRefusedError) as refused:
            check_standing(certificate, "web-1")
        assert refused.value.code is code


def test_a_link_needs_the_key_that_its_certificate_was_given_for() -> None:
    assert check_link(GIVEN, "web-1", GIVEN.key_sha256) is GIVEN
    for certificate, key, code in (
        (GIVEN, "key-2", C.OTHER_KEY),
        (replace(GIVEN, revoked_at=NOW), GIVEN.key_sha256, C.CERTIFICATE_REVOKED),
    ):
        with pytest.raises(EnrolmentRefusedError) as refused:
            check_link(certificate, "web-1", key)
        assert refused.value.code is code


def test_an_expired_certificate_is_renewed_for_90_days_by_its_own_key() -> None:
    last = GIVEN.not_after + RENEWABLE_AFTER_END - timedelta(seconds=1)
    assert check_renewal(GIVEN, "web-1", WEB, last) is GIVEN
    for applicant, now, code in (
        (WEB, last + timedelta(seconds=1), C.CERTIFICATE_EXPIRED),
        (replace(WEB, key_sha256="key-2"), NOW, C.OTHER_KEY),
        (replace(WEB, claimed=("db-1",)), NOW, C.NAME_CLAIMED),
    ):
        with pytest.raises(EnrolmentRefusedError) as refused:
            check_renewal(GIVEN, "web-1", applicant, now)
        assert refused.value.code is code


def test_a_certificate_ends_with_its_life_or_with_the_authority() -> None:
    at = NOW.replace(microsecond=999_999)
    made = Term(timedelta(days=30), NOW + timedelta(days=3_000), "ca-1").certificate(
        "1", "web-1", "key-1", at
    )
    assert (made.issued_at, made.not_after) == (NOW, NOW + timedelta(days=30))
    made = Term(timedelta(days=30), NOW + timedelta(days=3), "ca-1").certificate("1", "web-1", "key-1", at)
    assert made.not_after == NOW + timedelta(days=3)
