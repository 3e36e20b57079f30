"""The reference lists every failure code as it is, and every refusal of a package has one of its own."""

import re
from collections import Counter
from pathlib import Path

from agent.errors import VerificationError
from releasehand.model.codes import TRANSIENT, FailureCode

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "failure-codes.md"
ROWS = re.findall(r"^\| `(\w+)` \| (\w+) \| (.+) \| (.+) \|$", REFERENCE.read_text(), re.MULTILINE)


def test_the_reference_lists_every_failure_code_once() -> None:
    assert Counter(code for code, *_ in ROWS) == Counter(map(str, FailureCode))


def test_the_reference_says_truly_what_is_tried_again() -> None:
    told = {code: again for code, again, *_ in ROWS}
    assert set(told.values()) == {"yes", "once", "no"}
    assert {code for code, again in told.items() if again != "no"} == TRANSIENT
    assert [code for code, again in told.items() if again == "once"] == [FailureCode.DIGEST_MISMATCH]


def test_each_refusal_of_a_package_has_a_code_of_its_own() -> None:
    codes = [one.code for one in VerificationError.__subclasses__()]
    assert len(codes) == len(set(codes))
    verdicts = {code for code in FailureCode if code.startswith(("signature_", "digest_"))}
    assert set(codes) == verdicts - {FailureCode.DIGEST_MISMATCH}
