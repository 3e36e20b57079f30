"""Frames that no honest peer sends: broken, huge, deep, of wrong types, and well-formed lies."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from releasehand.model import OperationKind, Phase
from shared.attempt import TRANSITIONS, Outcome
from shared.clock import SystemClock
from shared.frames import (
    MAX_FRAME_BYTES,
    Ack,
    Active,
    AttemptEnd,
    Cancel,
    Execute,
    Heartbeat,
    Hello,
    InstancePulse,
    InstanceState,
    Move,
    Progress,
    Ref,
    Report,
    encode,
)
from tests.faults.world import SERVICE, Package

Text = str | bytes
_ODD: Final[tuple[Any, ...]] = (
    *(
        None,
        True,
        -1,
        0,
        2**63,
        10**400,
        1e308,
        -0.0,
        "",
        "\0",
        "\ud800",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "\x1b[2J\n",
        "🙂" * 50,
        "../../etc",
        "A" * 70_000,
    ),
    *([], {}, [[]], {"a": {"a": {}}}, ["x"] * 1_000, {"type": "execute"}),
)
_TYPES: Final = (
    "hello",
    "heartbeat",
    "report",
    "progress",
    "welcome",
    "execute",
    "cancel",
    "ack",
    "refuse",
    "x",
)


@dataclass(frozen=True)
class Victim:
    """An instance of somebody else, and an attempt of it."""

    instance: str
    ref: Ref


def hello_of(agent_id: str, dice: random.Random) -> str:
    """Mostly a good one, sometimes with another's name or a lost journal."""
    name = agent_id if dice.random() < 0.9 else "host-0"
    return encode(
        Hello(
            agent_id=name,
            agent_version="0",
            host="nowhere",
            boot_id="boot",
            incarnation=dice.choice(("one", "two")),
            last_n=dice.randrange(5),
            instances=[
                InstanceState(
                    instance_id=instance, service=SERVICE, active=Active(release="r", version="v666")
                )
                for instance in ("stranger-1", "web-host-0")
            ],
        )
    )


def to_controller(dice: random.Random, victim: Victim) -> Text:
    """What a hostile agent sends."""
    honest = (
        Heartbeat(instances=[InstancePulse(instance_id=victim.instance, active=Active(version="v666"))]),
        Report(
            incarnation=dice.choice(("one", "two", "three")), moves=[_lie(dice, victim) for _ in range(3)]
        ),
        Progress(ref=victim.ref, bytes_done=2**62, bytes_total=1),
        Ack(incarnation="one", upto=10**9),
        Cancel(ref=victim.ref),
    )
    return _spoil(dice, encode(dice.choice(honest)))


def to_agent(dice: random.Random, instance_id: str, package: Package) -> Text:
    """What a hostile controller sends. Nothing of it is a command that the host's owner allows."""
    # For a command that would be right but for one thing, that thing is wrong.
    wrong: dict[str, str] = dice.choice(
        (
            {"url": "http://127.0.0.1/v1.tar.gz"},
            {"url": "file:///etc/passwd"},
            {"url": "https://elsewhere.example.com/v1.tar.gz"},
            {"url": "https://user:password@localhost/v1.tar.gz"},
            {"url": "https://169.254.169.254/latest"},
            {"url": package.url + "\r\nHost: x"},
            {"url": ""},
            {"version": "../../../tmp/x"},
            {"version": "current"},
            {"version": ""},
            {"version": "v1\n"},
            {"service": "another"},
            {"instance_id": "unknown"},
            {"instance_id": "../x"},
        )
    )
    ref = Ref(
        instance_id=wrong.pop("instance_id", instance_id),
        generation=dice.randrange(1, 10**6),
        task=dice.randrange(1, 10**6),
        attempt=dice.randrange(1, 5),
    )
    command = {
        "ref": ref,
        "kind": dice.choice(list(OperationKind)),
        "operation_id": "x" * dice.choice((0, 10, 5_000)),
        "service": SERVICE,
        "version": "v1",
        "url": package.url,
        "sha256": package.sha256,
        "seconds_left": dice.choice((0.0, -1.0, 300.0, 1e300)),
        "force": dice.random() < 0.5,
    }
    execute = Execute.model_validate(command | wrong)
    ack = Ack(incarnation=dice.choice(("one", "x")), upto=dice.randrange(-5, 10**9))
    return _spoil(dice, encode(dice.choice((execute, execute, execute, Cancel(ref=ref), Heartbeat(), ack))))


def _lie(dice: random.Random, victim: Victim) -> Move:
    """A report on another agent's work: that it failed, that something else is live."""
    (left, outcome), entered = dice.choice(list(TRANSITIONS.items()))
    ref = victim.ref.model_copy(
        update={
            "generation": victim.ref.generation + dice.choice((0, 0, 1, 10**6)),
            "task": victim.ref.task + dice.choice((0, 0, 1)),
        }
    )
    return Move(
        **ref.model_dump(),
        n=dice.randrange(1, 6),
        at=SystemClock().now(),
        left=dice.choice((left, Phase.QUEUED, None)),
        outcome=dice.choice((outcome, Outcome.OK)),
        entered=entered,
        end=dice.choice((None, AttemptEnd(message="lies", active=Active(release="r", version="v666")))),
    )


def _spoil(dice: random.Random, text: str) -> Text:
    """`text` as it is in a third of all cases, otherwise broken in some way."""
    ways: tuple[Callable[[], Text], ...] = (
        *(lambda: text,) * 4,
        lambda: text[: dice.randrange(len(text))],
        text.encode,
        lambda: bytes(dice.randrange(256) for _ in range(200)),
        lambda: _replace(dice, json.loads(text)),
        lambda: _replace(dice, json.loads(text)),
        lambda: _replace(dice, json.loads(text)),
        lambda: json.dumps(
            json.loads(text) | {"type": dice.choice(_TYPES), "v": dice.choice((1, 2, "1", None))}
        ),
        lambda: "[" * 100_000,
        lambda: '{"a":' * 50_000 + "1" + "}" * 50_000,
        lambda: json.dumps({"type": "report", "incarnation": "one", "moves": [{}] * 250_000}),
        lambda: "x" * (MAX_FRAME_BYTES + 1) if dice.random() < 0.2 else "",
        lambda: '{"type": "heartbeat", "v": NaN}',
    )
    return dice.choice(ways)()


def _replace(dice: random.Random, value: dict[str, Any]) -> str:
    """One value somewhere, or its key, becomes something odd."""
    at = value
    while True:
        key = dice.choice(list(at)) if at else "new"
        inner = at.get(key)
        if isinstance(inner, list) and inner and isinstance(inner[0], dict):
            inner = inner[0]
        if isinstance(inner, dict) and dice.random() < 0.8:
            at = inner
            continue
        at[key if dice.random() < 0.9 else "unknown"] = dice.choice(_ODD)
        return json.dumps(value)
