"""The frames of the agent link (docs/architecture.md): frozen, tagged, versioned; golden files in
tests/vectors/.

Unknown fields are ignored, so that either side may be newer. An unknown type or version is a
ProtocolError."""

from typing import Annotated, Final, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, FailFast, Field, TypeAdapter, ValidationError

from releasehand.model.codes import FailureCode
from releasehand.model.status import OperationKind, Phase, ServiceState, TaskResult

from .attempt import Outcome
from .errors import ProtocolError

FrameT = TypeVar("FrameT")
ItemT = TypeVar("ItemT")

PROTOCOL: Final = 1
MAX_FRAME_BYTES: Final = 1 << 20
MAX_LOG_TAIL_CHARS: Final = 65_536
MAX_MESSAGE_CHARS: Final = 4_096
MAX_TOLD_ERRORS: Final = 100
MAX_NUMBER: Final = 2**63 - 1  # what a column of either database holds
MAX_GENERATION_TOLD: Final = 2**53  # by an agent: the controller counts on from it
MAX_TIMEOUT_S: Final = 86_400.0

Id = Annotated[str, Field(min_length=1, max_length=128)]
Text = Annotated[str, Field(max_length=MAX_MESSAGE_CHARS)]
Number = Annotated[int, Field(ge=0, le=MAX_NUMBER)]
Ordinal = Annotated[int, Field(ge=1, le=MAX_NUMBER)]
BoundSeconds = Annotated[float, Field(gt=0, le=MAX_TIMEOUT_S)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Pem = Annotated[str, Field(min_length=1, max_length=65_536)]
Many = Annotated[list[ItemT], FailFast()]
"""Stops at the first wrong item: a frame of nothing but wrong ones would cost gigabytes in errors alone."""


class Part(BaseModel):
    """A piece of a frame."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Frame(Part):
    v: Literal[1] = PROTOCOL


class Ref(Part):
    """Which try of which task of which instance: carried by every command and report."""

    instance_id: Id
    generation: Ordinal
    task: Ordinal
    attempt: Ordinal


class Active(Part):
    """What `current` names, read back from disk. All empty when nothing is installed."""

    release: str = ""
    version: str = ""
    sha256: str = ""


class Kept(Part):
    """A complete release on the host's disk. `good`: it was active and passed its check; None: never
    tried."""

    release: str
    version: str
    sha256: str = ""
    good: bool | None = None
    pinned: bool = False


class InstanceState(Part):
    """An instance as its host finds it at `hello`."""

    instance_id: Id
    service: Id
    port: int = Field(default=0, ge=0, le=65_535)
    generation: int = Field(default=0, ge=0, le=MAX_GENERATION_TOLD)  # the highest accepted here
    active: Active = Active()
    releases: Many[Kept] = []
    state: ServiceState = ServiceState.UNKNOWN
    reason: Text = ""  # why it is not well, "" when it is
    broken: bool = False
    activate_timeout_s: BoundSeconds = 120
    revert_timeout_s: BoundSeconds = 120
    metadata: dict[str, str] = {}


class OpenAttempt(Ref):
    phase: Phase


class Hello(Frame):
    """The agent's first frame: everything is read from disk, nothing remembered."""

    type: Literal["hello"] = "hello"
    agent_id: Id
    agent_version: str
    host: str
    boot_id: str
    incarnation: Id  # made anew when the journal was lost: sequences start again
    last_n: Number  # the newest report in the outbox
    instances: Many[InstanceState]
    open_attempts: Many[OpenAttempt] = []
    metadata: dict[str, str] = {}


class HostLoad(Part):
    cpu_percent: Finite = 0
    memory_percent: Finite = 0
    load_1m: Finite = 0
    disk_free_bytes: Number = 0


class InstancePulse(Part):
    instance_id: Id
    active: Active = Active()
    state: ServiceState = ServiceState.UNKNOWN
    reason: Text = ""
    releases: Annotated[list[Kept] | None, FailFast()] = None  # None: as `hello` or the newest end said


class Heartbeat(Frame):
    """Sent both ways; the controller's carries neither host nor instances."""

    type: Literal["heartbeat"] = "heartbeat"
    host: HostLoad | None = None
    instances: Many[InstancePulse] = []
    last_n: Number = 0  # the newest report in the outbox when this was written


class AttemptEnd(Part):
    """How an attempt ended and what is live now, read back from disk after the end."""

    code: FailureCode | None = None
    message: Text = ""
    result: TaskResult | None = None
    active: Active
    state: ServiceState = ServiceState.UNKNOWN
    reason: Text = ""  # why the service is not well, "" when it is
    broken: bool = False  # by this attempt, or still by one before it
    releases: Many[Kept] = []
    sha256: str = ""  # of the package, once known
    log_tail: str = Field(default="", max_length=MAX_LOG_TAIL_CHARS)


class Move(Ref):
    """One move of an attempt, numbered in the agent's outbox. `left` is None when the command was accepted;
    `end` is there exactly when `entered` is terminal."""

    n: Ordinal
    at: AwareDatetime
    left: Phase | None
    outcome: Outcome
    entered: Phase
    duration_s: float = Field(default=0, ge=0, allow_inf_nan=False)
    end: AttemptEnd | None = None


class Report(Frame):
    type: Literal["report"] = "report"
    incarnation: Id
    moves: Many[Move]


class Progress(Frame):
    """Not numbered; may be lost."""

    type: Literal["progress"] = "progress"
    ref: Ref
    bytes_done: Number
    bytes_total: Number = 0  # 0 while unknown


class Renew(Frame):
    """Asks for a new certificate for the key of this link's."""

    type: Literal["renew"] = "renew"


class Wanted(Ref):
    cancel: bool = False


class RefusedInstance(Part):
    instance_id: Id
    reason: Text


class Welcome(Frame):
    """The controller's answer to `hello`. An open attempt that is not `wanted` is given up while it can
    be."""

    type: Literal["welcome"] = "welcome"
    server_time: AwareDatetime
    heartbeat_interval_s: float = Field(gt=0)  # 0 would be a busy loop
    session_epoch: Number
    reconnect_window_s: float = Field(ge=0)
    acked: Number  # reports of this incarnation recorded so far
    trust_sha256: str = ""  # of the authorities that count now, as `ca.pem` has them; "" says nothing
    wanted: Many[Wanted] = []
    refused: Many[RefusedInstance] = []


class Execute(Frame):
    type: Literal["execute"] = "execute"
    ref: Ref
    kind: OperationKind
    operation_id: str
    service: str
    version: str
    url: str = ""
    url_lost: Text = ""  # why there is no URL although one was given
    sha256: str = ""  # which release is meant; "" leaves it to the version
    source_sha256: str = ""  # what a download must have where `sha256` leaves it open; "" if nobody knows
    seconds_left: float
    force: bool = False


class Cancel(Frame):
    type: Literal["cancel"] = "cancel"
    ref: Ref


class Ack(Frame):
    """Reports of `incarnation` up to and including `upto` are recorded durably."""

    type: Literal["ack"] = "ack"
    incarnation: Id
    upto: Number


class Refuse(Frame):
    """Why the link is closed, in words for the agent's log."""

    type: Literal["refuse"] = "refuse"
    code: str
    reason: Text


class Renewed(Frame):
    """The agent's new certificate, on which the link now stands, and the authorities to trust from now on."""

    type: Literal["renewed"] = "renewed"
    certificate: Pem
    authorities: Pem


AgentFrame = Hello | Heartbeat | Report | Progress | Renew
ControllerFrame = Welcome | Heartbeat | Execute | Cancel | Ack | Refuse | Renewed
AnyFrame = AgentFrame | ControllerFrame

_FROM_AGENT: Final[TypeAdapter[AgentFrame]] = TypeAdapter(Annotated[AgentFrame, Field(discriminator="type")])
_FROM_CONTROLLER: Final[TypeAdapter[ControllerFrame]] = TypeAdapter(
    Annotated[ControllerFrame, Field(discriminator="type")]
)


def encode(frame: Frame) -> str:
    return frame.model_dump_json()


def decode_from_agent(text: str | bytes) -> AgentFrame:
    """Raises ProtocolError with a code of `bad_frame`."""
    return decode_as(_FROM_AGENT, text)


def decode_from_controller(text: str | bytes) -> ControllerFrame:
    """Raises ProtocolError with a code of `bad_frame`."""
    return decode_as(_FROM_CONTROLLER, text)


def decode_as(adapter: TypeAdapter[FrameT], text: str | bytes) -> FrameT:
    """One of the frames that `adapter` knows. Raises ProtocolError with a code of `bad_frame`."""
    # PostgreSQL takes no NUL in a text, and JSON can spell one in this way only.
    text = (
        text.replace("\\u0000", "\\ufffd") if isinstance(text, str) else text.replace(b"\\u0000", b"\\ufffd")
    )
    try:
        return adapter.validate_json(text)
    except ValidationError as exc:
        if exc.error_count() > MAX_TOLD_ERRORS:  # telling even one would make an object of each
            raise ProtocolError("bad_frame", f"frame: wrong in {exc.error_count()} places") from exc
        first = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "frame"
        raise ProtocolError("bad_frame", f"{where}: {first['msg']}") from exc
