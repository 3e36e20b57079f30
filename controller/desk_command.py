"""What the administrators' commands share: where the configuration is, how long something is good, and how a
command ends. Heavy imports stand inside: --help needs none of them."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from releasehand.shown import escape_controls

if TYPE_CHECKING:
    from pydantic import ValidationError

    from controller.administration import Desk
    from controller.config import ControllerConfig

ConfigFile = Annotated[  # what cannot be read is told by who reads it, with what to do
    Path, typer.Option("--config", readable=False, help="The TOML file; the environment overrides it.")
]
UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def parse_ttl(text: str) -> int:
    """Seconds, or a number with s, m, h or d. Raises typer.BadParameter."""
    number, unit = (text[:-1], UNITS[text[-1]]) if text[-1:] in UNITS else (text, 1)
    if not number.isascii() or not number.isdigit() or int(number) == 0:
        raise typer.BadParameter("a number of seconds, or one with s, m, h or d, like 1h or 90d")
    return int(number) * unit


def run_at_desk(config: Path, work: "Callable[[ControllerConfig, Desk], Awaitable[None]]") -> None:
    """Do `work` with the database open; exit 2 for a configuration that cannot be used, 1 for anything else
    that goes wrong."""
    from controller.administration import open_desk
    from controller.config import load_config
    from shared.errors import ReleasehandError
    from shared.settings import ConfigError

    async def run() -> None:
        settings = load_config(config, os.environ)
        async with open_desk(settings) as desk:
            await work(settings, desk)

    try:
        asyncio.run(run())
    except ConfigError as exc:
        fail(str(exc), 2, keep="\n")
    except (ReleasehandError, OSError) as exc:
        fail(str(exc), 1)


def bad_parameter(problem: "ValidationError") -> typer.BadParameter:
    """The first thing that is wrong with what was typed."""
    first = problem.errors()[0]
    where = str(first["loc"][0]).replace("_", "-") if first["loc"] else ""
    said = first["msg"].removeprefix("Value error, ")
    return typer.BadParameter(f"{where}: {said}" if where else said)


def fail(text: str, status: int, *, keep: str = "") -> NoReturn:
    """End the command and say why. No code of what was typed reaches the terminal; characters in `keep` stay
    as they are."""
    typer.echo(escape_controls(text, keep=keep), err=True)
    raise typer.Exit(status)
