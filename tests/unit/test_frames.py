"""The frames as they stand on the wire: a golden file for each type and direction, and what is refused.

After a deliberate change of the protocol: `python tests/unit/test_frames.py` writes the golden files anew."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from releasehand.model import FailureCode, OperationKind, Phase, ServiceState, TaskResult
from shared.attempt import Outcome
from shared.errors import ProtocolError
from shared.frames import (
    MAX_LOG_TAIL_CHARS,
    PROTOCOL,
    Ack,
    Active,
    AgentFrame,
    AnyFrame,
    AttemptEnd,
    Cancel,
    ControllerFrame,
    Execute,
    Heartbeat,
    Hello,
    HostLoad,
    InstancePulse,
    InstanceState,
    Kept,
    Move,
    OpenAttempt,
    Progress,
    Ref,
    Refuse,
    RefusedInstance,
    Renew,
    Renewed,
    Report,
    Wanted,
    Welcome,
    decode_from_agent,
    decode_from_controller,
    encode,
)

GOLDEN = Path(__file__).resolve().parents[1] / "vectors" / "frames"
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
V1, V2 = "ab" * 32, "cd" * 32
FROM_AGENT, FROM_CONTROLLER = "agent", "controller"

REF: dict[str, Any] = {"instance_id": "user-1", "generation": 4, "task": 17, "attempt": 2}
ACTIVE = Active(release="v1-abababababab", version="v1", sha256=V1)
KEPT = [
    Kept(release="v1-abababababab", version="v1", sha256=V1, good=True, pinned=True),
    Kept(release="v2-cdcdcdcdcdcd", version="v2", sha256=V2, good=False),
    Kept(release="v3-efefefefefef", version="v3", sha256="ef" * 32),
]

PEM = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
EXAMPLES: dict[str, AnyFrame] = {
    "agent-hello": Hello(
        agent_id="agent-1",
        agent_version="0.1.0",
        host="web-01.example",
        boot_id="5d3c7a9e-0000-4000-8000-000000000001",
        incarnation="0c6f4d1b-0000-4000-8000-000000000002",
        last_n=41,
        instances=[
            InstanceState(
                instance_id="user-1",
                service="user",
                port=8080,
                generation=4,
                active=ACTIVE,
                releases=KEPT,
                state=ServiceState.RUNNING,
                activate_timeout_s=60,
                revert_timeout_s=45.5,
                metadata={"zone": "a"},
            ),
            InstanceState(
                instance_id="user-2", service="user", broken=True, reason="cannot start: exit status 3"
            ),
        ],
        open_attempts=[OpenAttempt(**REF, phase=Phase.STAGED)],
        metadata={"rack": "7"},
    ),
    "agent-heartbeat": Heartbeat(
        host=HostLoad(cpu_percent=12.5, memory_percent=40.25, load_1m=0.75, disk_free_bytes=9_000_000_000),
        instances=[
            InstancePulse(instance_id="user-1", active=ACTIVE, state=ServiceState.FAILED, reason="HTTP 503"),
            InstancePulse(instance_id="user-2", releases=KEPT),
        ],
        last_n=41,
    ),
    "agent-report": Report(
        incarnation="0c6f4d1b-0000-4000-8000-000000000002",
        moves=[
            Move(**REF, n=40, at=NOON, left=None, outcome=Outcome.OK, entered=Phase.QUEUED),
            Move(
                **REF,
                n=41,
                at=NOON,
                left=Phase.QUEUED,
                outcome=Outcome.KEPT,
                entered=Phase.STAGED,
                duration_s=0.125,
            ),
        ],
    ),
    "agent-report-end": Report(
        incarnation="0c6f4d1b-0000-4000-8000-000000000002",
        moves=[
            Move(
                **REF,
                n=44,
                at=NOON,
                left=Phase.REVERTING,
                outcome=Outcome.OK,
                entered=Phase.REVERTED,
                duration_s=3.5,
                end=AttemptEnd(
                    code=FailureCode.CHECK_FAILED,
                    message="cannot accept v2: GET /health answered 503",
                    active=ACTIVE,
                    releases=KEPT,
                    sha256=V2,
                    log_tail="Traceback …\nRuntimeError: 版本 2\n",
                ),
            )
        ],
    ),
    "agent-report-done": Report(
        incarnation="0c6f4d1b-0000-4000-8000-000000000002",
        moves=[
            Move(
                **REF,
                n=45,
                at=NOON,
                left=Phase.CHECKING,
                outcome=Outcome.OK,
                entered=Phase.DONE,
                duration_s=1,
                end=AttemptEnd(result=TaskResult.DOWNLOADED, active=ACTIVE, releases=KEPT[:1], sha256=V1),
            )
        ],
    ),
    "agent-progress": Progress(ref=Ref(**REF), bytes_done=1_048_576, bytes_total=20_000_000),
    "agent-renew": Renew(),
    "controller-renewed": Renewed(certificate=PEM, authorities=PEM + PEM),
    "controller-welcome": Welcome(
        server_time=NOON,
        heartbeat_interval_s=10,
        session_epoch=3,
        reconnect_window_s=4,
        acked=39,
        trust_sha256=V1,
        wanted=[Wanted(**REF), Wanted(**(REF | {"instance_id": "user-2", "task": 18}), cancel=True)],
        refused=[
            RefusedInstance(instance_id="user-9", reason="instance 'user-9' belongs to agent 'agent-2'")
        ],
    ),
    "controller-heartbeat": Heartbeat(),
    "controller-execute": Execute(
        ref=Ref(**REF),
        kind=OperationKind.ROLLBACK,
        operation_id="r-1",
        service="user",
        version="v1",
        url="https://origin.example/user/v1.tar.gz?signature=x",
        sha256=V1,
        source_sha256=V1,
        seconds_left=287.5,
        force=True,
    ),
    "controller-cancel": Cancel(ref=Ref(**REF)),
    "controller-ack": Ack(incarnation="0c6f4d1b-0000-4000-8000-000000000002", upto=41),
    "controller-refuse": Refuse(code="unknown_agent", reason="no agent 'agent-1' is configured here"),
}
DECODERS: dict[str, Callable[[str | bytes], AnyFrame]] = {
    FROM_AGENT: decode_from_agent,
    FROM_CONTROLLER: decode_from_controller,
}


def decoder_of(name: str) -> Callable[[str | bytes], AnyFrame]:
    """How the frame `name` is read by the side that it goes to."""
    return DECODERS[name.split("-", 1)[0]]


def read_golden(name: str) -> str:
    return (GOLDEN / f"{name}.json").read_text(encoding="utf-8").rstrip("\n")


def write_golden() -> None:
    """Write every golden file from the examples above."""
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for path in GOLDEN.glob("*.json"):
        path.unlink()
    for name, frame in EXAMPLES.items():
        (GOLDEN / f"{name}.json").write_text(encode(frame) + "\n", encoding="utf-8")


def send(decode: Callable[[str | bytes], AnyFrame], name: str, **changed: Any) -> AnyFrame:
    """Decode the golden frame `name` with some of its fields changed."""
    return decode(json.dumps(json.loads(read_golden(name)) | changed))


def test_every_frame_type_of_both_directions_has_a_golden_file() -> None:
    def types(direction: str) -> set[type]:
        return {type(frame) for name, frame in EXAMPLES.items() if name.startswith(direction)}

    assert types(FROM_AGENT) == set(get_args(AgentFrame))
    assert types(FROM_CONTROLLER) == set(get_args(ControllerFrame))
    assert {path.stem for path in GOLDEN.glob("*")} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_frame_is_written_as_its_golden_file_says(name: str) -> None:
    assert encode(EXAMPLES[name]) == read_golden(name)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_golden_file_is_read_back_as_the_frame_and_written_as_the_same_text(name: str) -> None:
    text = read_golden(name)
    frame = decoder_of(name)(text)
    assert frame == EXAMPLES[name]
    assert encode(frame) == text
    assert decoder_of(name)(text.encode()) == frame


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_frame_names_its_type_and_the_protocol_version(name: str) -> None:
    golden = json.loads(read_golden(name))
    assert golden["type"] == name.split("-")[1]
    assert golden["v"] == PROTOCOL == 1


@pytest.mark.parametrize("name", EXAMPLES)
def test_fields_of_a_newer_peer_are_ignored_at_every_depth(name: str) -> None:
    def add_unknown(value: Any) -> Any:
        if isinstance(value, dict):
            added = {"from_the_future": [1]}
            return {
                key: part if key == "metadata" else add_unknown(part) for key, part in value.items()
            } | added
        return [add_unknown(part) for part in value] if isinstance(value, list) else value

    assert decoder_of(name)(json.dumps(add_unknown(json.loads(read_golden(name))))) == EXAMPLES[name]


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_an_unknown_version_is_a_protocol_error(name: str, version: object) -> None:
    with pytest.raises(ProtocolError, match=r"\bv: ") as caught:
        send(decoder_of(name), name, v=version)
    assert caught.value.code == "bad_frame"


@pytest.mark.parametrize("decode", DECODERS.values())
@pytest.mark.parametrize("kind", ["explode", "", 7, None])
def test_an_unknown_type_is_a_protocol_error(decode: Callable[[str | bytes], AnyFrame], kind: object) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(json.dumps({"type": kind, "v": 1}))
    assert caught.value.code == "bad_frame"


@pytest.mark.parametrize("name", [name for name in EXAMPLES if not name.endswith("heartbeat")])
def test_a_frame_that_comes_from_the_wrong_side_is_a_protocol_error(name: str) -> None:
    wrong = FROM_CONTROLLER if name.startswith(FROM_AGENT) else FROM_AGENT
    with pytest.raises(ProtocolError):
        DECODERS[wrong](read_golden(name))


@pytest.mark.parametrize("decode", DECODERS.values())
@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "7", '"hello"', "{}", b"\xff\xfe", '{"type": "ack", "v": 1', "[" * 100_000],
)
def test_what_is_no_frame_is_a_protocol_error(
    decode: Callable[[str | bytes], AnyFrame], text: str | bytes
) -> None:
    with pytest.raises(ProtocolError):
        decode(text)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("agent-hello", {"agent_id": ""}),
        ("agent-hello", {"last_n": -1}),
        ("agent-hello", {"instances": None}),
        ("agent-progress", {"ref": REF | {"generation": 0}}),
        ("agent-progress", {"ref": REF | {"attempt": 0}}),
        ("agent-progress", {"bytes_done": -1}),
        ("controller-execute", {"kind": "uninstall"}),
        ("controller-welcome", {"server_time": "2030-01-01T12:00:00"}),
        ("controller-welcome", {"heartbeat_interval_s": 0}),
        ("controller-welcome", {"reconnect_window_s": -1}),
        ("controller-ack", {"incarnation": ""}),
    ],
)
def test_a_value_out_of_its_range_is_a_protocol_error_that_names_the_field(
    name: str, changed: dict[str, Any]
) -> None:
    with pytest.raises(ProtocolError) as caught:
        send(decoder_of(name), name, **changed)
    assert next(iter(changed)) in str(caught.value)


def test_a_refusal_never_repeats_what_the_peer_sent() -> None:
    """It goes to logs, and URLs carry signatures."""
    with pytest.raises(ProtocolError) as caught:
        send(decode_from_controller, "controller-execute", seconds_left="secret-value")
    assert "secret-value" not in str(caught.value)


def test_a_frame_never_changes() -> None:
    frame = EXAMPLES["controller-ack"]
    with pytest.raises(ValidationError, match="frozen"):
        frame.upto = 99  # type: ignore[misc, union-attr]


def test_a_log_tail_is_bounded() -> None:
    AttemptEnd(active=Active(), log_tail="x" * MAX_LOG_TAIL_CHARS)
    with pytest.raises(ValidationError):
        AttemptEnd(active=Active(), log_tail="x" * (MAX_LOG_TAIL_CHARS + 1))


if __name__ == "__main__":
    write_golden()
    sys.stdout.write(f"wrote {len(EXAMPLES)} files to {GOLDEN}\n")
