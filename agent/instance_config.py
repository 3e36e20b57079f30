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


class CommandDriver(Section):
    """The service is a program that the agent starts in the release's directory. No shell is involved."""

    type: Literal["command"]
    start: tuple[str, ...] = Field(min_length=1)
    stop: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    stop_timeout_s: Seconds = 10
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
    timeout_s: Seconds = 30


class HttpCheck(Section):
    """The new version is up when this URL answers 2xx with `contains` in it; `{version}` stands for the
    version."""

    type: Literal["http"]
    url: str = Field(pattern=r"^https?://[^\s]+$")
    contains: str = ""
    timeout_s: Seconds = 2
    settle_s: Pause = 0


class TcpCheck(Section):
    """The new version is up when this port accepts a connection."""

    type: Literal["tcp"]
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(ge=1, le=65_535)
    timeout_s: Seconds = 2
    settle_s: Pause = 0


class CommandCheck(Section):
    """The new version is up when this command ends with 0. It runs in the active release."""

    type: Literal["command"]
    command: Argv
    environment: dict[str, str] = {}
    timeout_s: Seconds = 10
    settle_s: Pause = 0


class NoCheck(Section):
    """The new version is up when its process stays the same for `settle_s`."""

    type: Literal["none"]
    settle_s: Pause = 1


Driver = Annotated[SystemdDriver | CommandDriver | NoDriver, Field(discriminator="type")]
Check = Annotated[HttpCheck | TcpCheck | CommandCheck | NoCheck, Field(discriminator="type")]


class InstanceSection(Section):
    """One instance of a service on this host. `root` is its own, whole."""

    id: Name
    service: Name
    port: int = Field(default=0, ge=0, le=65_535)
    root: AbsolutePath
    activate_timeout_s: Seconds = 120
    """For everything from the first pre-hook to the last post-hook."""
    revert_timeout_s: Seconds = 120
    driver: Driver
    restart: Restart = Restart.RESTART
    pre_hook: tuple[HookSection, ...] = ()
    post_hook: tuple[HookSection, ...] = ()
    check: Check = NoCheck(type="none")
    keep_releases: int = Field(default=5, ge=1, le=10_000)
    """How many releases that were active and good are kept, the active one included."""
    keep_bytes: int | None = Field(default=None, ge=1)
    """How much all releases may take on the disk; None for no limit."""
    metadata: dict[str, str] = {}

    @model_validator(mode="after")
    def _has_effect(self) -> "InstanceSection":
        if self.restart is Restart.STOP_SWITCH_START and isinstance(self.driver, NoDriver):
            raise ValueError("restart: 'stop-switch-start' has no effect with the driver 'none'")
        return self
