"""Joining and renewing as they stand on the wire: a golden file for each frame, and what is refused.

After a deliberate change of the protocol: `python tests/unit/test_enrolment_frames.py` writes the golden
files anew."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, get_args

import pytest

from shared.enrolment import (
    Answer,
    Join,
    Joined,
    Leave,
    Left,
    Question,
    RenewExpired,
    decode_answer,
    decode_question,
)
from shared.errors import ProtocolError
from shared.frames import Frame, Refuse, encode

GOLDEN: Final = Path(__file__).resolve().parents[1] / "vectors" / "enrolment"
CERTIFICATE: Final = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
REQUEST: Final = CERTIFICATE.replace("CERTIFICATE", "CERTIFICATE REQUEST")
EXAMPLES: Final[dict[str, Frame]] = {
    "host-join": Join(secret="AAECAwQFBgcICQoLDA0ODw", csr=REQUEST, agent_id="web-1"),
    "host-renew-expired": RenewExpired(certificate=CERTIFICATE, csr=REQUEST),
    "host-leave": Leave(),
    "hub-left": Left(agent_id="web-1", released=2),
    "hub-joined": Joined(agent_id="web-1", certificate=CERTIFICATE, authorities=CERTIFICATE),
    "hub-refuse": Refuse(code="token_used", reason="the join token was used already: make a new one"),
}


def decoder_of(name: str) -> Callable[[str | bytes], Frame]:
    return decode_question if name.startswith("host") else decode_answer


def read_golden(name: str) -> str:
    return (GOLDEN / f"{name}.json").read_text(encoding="utf-8").rstrip("\n")


def test_every_frame_of_both_directions_has_a_golden_file() -> None:
    def types(direction: str) -> set[type]:
        return {type(frame) for name, frame in EXAMPLES.items() if name.startswith(direction)}

    assert (types("host"), types("hub")) == (set(get_args(Question)), set(get_args(Answer)))
    assert {path.stem for path in GOLDEN.iterdir()} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_frame_is_written_and_read_as_its_golden_file_says(name: str) -> None:
    assert encode(EXAMPLES[name]) == read_golden(name)
    assert decoder_of(name)(read_golden(name)) == EXAMPLES[name]


@pytest.mark.parametrize(
    "changed",
    [
        {"agent_id": "../web"},
        {"agent_id": "web\n1"},
        {"secret": ""},
        {"secret": "A" * 65},
        {"csr": ""},
        {"csr": "A" * 70_000},
        {"v": 2},
        {"type": "hello"},
    ],
)
def test_a_question_that_is_out_of_bounds_is_refused_and_its_secret_not_repeated(
    changed: dict[str, Any],
) -> None:
    with pytest.raises(ProtocolError) as refused:
        decode_question(json.dumps(json.loads(read_golden("host-join")) | changed))
    assert refused.value.code == "bad_frame"
    assert "AAECAw" not in str(refused.value)


def test_a_secret_is_not_in_what_a_log_would_show() -> None:
    assert "AAECAw" not in repr(EXAMPLES["host-join"])


if __name__ == "__main__":
    for golden_name, frame in EXAMPLES.items():
        (GOLDEN / f"{golden_name}.json").write_text(encode(frame) + "\n", encoding="utf-8")
