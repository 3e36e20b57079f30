"""The tables of agent.toml that say how one instance is run: driver, hooks, check, how much is kept.

What is run on a host stands here alone; nothing of it comes from a controller."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from releasehand.model.fields import Name


def _check_absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


def _check_argv(argv: tuple[str, ...]) -> tuple[str, ...]:
    if not argv[0] or any("\0" in word for word in argv):
        raise ValueError("must begin with a program, and hold no NUL")
    return argv


AbsolutePath = Annotated[Path, AfterValidator(_check_absolute)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Pause = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Argv = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_check_argv)]


class Section(BaseModel):
    """A table of the file: unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# how it is started and stopped


class SystemdDriver(Section):
    """The service is a systemd unit."""

    type: Literal["systemd"]
    unit: str = Field(pattern=r"^[A-Za-z0-9:_.\\@-]{1,250}\.service$")
    """The unit's full name."""


class CommandDriver(Section):
    """The service is a program that the agent starts in the release's directory. No shell is involved."""

    type: Literal["command"]
    start: tuple[str, ...] = Field(min_length=1)
    """The program and its arguments."""
    stop: tuple[str, ...] = ()
    """Run to stop it. Left out: SIGTERM, and SIGKILL when that did not help."""
    environment: dict[str, str] = {}
    """Added to the program's environment."""
    stop_timeout_s: Seconds = 10
    """How long a stop may take."""
    start_after_boot: bool = True
    """Whether the agent starts what ran when the host went down."""


class NoDriver(Section):
    """Nothing is started or looked at: somebody else picks up what `current` names."""

    type: Literal["none"]


class Restart(StrEnum):
    """How a running service changes over to another release."""

    RESTART = "restart"  # switch, then restart
    STOP_SWITCH_START = "stop-switch-start"  # for one that must not see `current` change


# what stands around it


class HookSection(Section):
    """A command that runs before or after each activation; it has ended well when it ends with 0."""

    command: Argv
    """The program and its arguments."""
    timeout_s: Seconds = 30
    """After that it is ended, and counts as failed."""


class HttpCheck(Section):
    """The new version is up when this URL answers 2xx with `contains` in it; `{version}` stands for the
    version."""

    type: Literal["http"]
    url: str = Field(pattern=r"^https?://[^\s]+$")
    """What is asked."""
    contains: str = ""
    """A text that the answer must hold."""
    timeout_s: Seconds = 2
    """For one answer."""
    settle_s: Pause = 0
    """How long the process must stay the same before that."""


class TcpCheck(Section):
    """The new version is up when this port accepts a connection."""

    type: Literal["tcp"]
    host: str = Field(default="127.0.0.1", min_length=1)
    """Where the port is."""
    port: int = Field(ge=1, le=65_535)
    """The port."""
    timeout_s: Seconds = 2
    """For one connection."""
    settle_s: Pause = 0
    """How long the process must stay the same before that."""


class CommandCheck(Section):
    """The new version is up when this command ends with 0. It runs in the active release."""

    type: Literal["command"]
    command: Argv
    """The program and its arguments."""
    environment: dict[str, str] = {}
    """Added to the program's environment."""
    timeout_s: Seconds = 10
    """For one run."""
    settle_s: Pause = 0
    """How long the process must stay the same before that."""


class NoCheck(Section):
    """The new version is up when its process stays the same for `settle_s`."""

    type: Literal["none"]
    settle_s: Pause = 1
    """How long its process must stay the same."""


Driver = Annotated[SystemdDriver | CommandDriver | NoDriver, Field(discriminator="type")]
Check = Annotated[HttpCheck | TcpCheck | CommandCheck | NoCheck, Field(discriminator="type")]


class InstanceSection(Section):
    """One instance of a service on this host. `root` is its own, whole."""

    id: Name
    """The instance's name, unlike that of any other instance of any host."""
    service: Name
    """The service it is a copy of."""
    port: int = Field(default=0, ge=0, le=65_535)
    """Told to the controller; 0 for none."""
    root: AbsolutePath
    """Its own directory: `current`, `releases/`."""
    activate_timeout_s: Seconds = 120
    """For everything from the first pre-hook to the last post-hook."""
    revert_timeout_s: Seconds = 120
    """For the way back, when the new version did not come up."""
    driver: Driver
    restart: Restart = Restart.RESTART
    """`stop-switch-start` for a service that must not see `current` change."""
    pre_hook: tuple[HookSection, ...] = ()
    """Run before each activation."""
    post_hook: tuple[HookSection, ...] = ()
    """Run after each activation."""
    check: Check = NoCheck(type="none")
    keep_releases: int = Field(default=5, ge=1, le=10_000)
    """How many releases that were active and good are kept, the active one included."""
    keep_bytes: int | None = Field(default=None, ge=1)
    """How much all releases may take on the disk; left out for no limit."""
    metadata: dict[str, str] = {}
    """Told to the controller, and listed with the instance."""

    @model_validator(mode="after")
    def _has_effect(self) -> "InstanceSection":
        if self.restart is Restart.STOP_SWITCH_START and isinstance(self.driver, NoDriver):
            raise ValueError("restart: 'stop-switch-start' has no effect with the driver 'none'")
        return self
