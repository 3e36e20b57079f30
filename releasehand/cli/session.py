"""One run of a command: where the controller is, where output goes, and how the run ends."""

# The client and the models are loaded when a command runs, not for its --help.

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

import typer
from rich.console import Console

from releasehand.errors import ReleasehandError

from .complaint import CommandError, Exit, explain, show
from .terminal import open_console, say

if TYPE_CHECKING:
    from releasehand.client import Client

MAX_TOKEN_BYTES = 4096


@dataclass
class Session:
    """What a command has at hand. `on_interrupt` is what Ctrl-C tells; commands keep it true."""

    as_json: bool = False
    out: Console = field(default_factory=open_console)
    err: Console = field(default_factory=lambda: open_console(stderr=True))
    on_interrupt: tuple[str, ...] = ("Nothing was changed.",)
    on_no_answer: str = ""
    accepted: bool = (
        False  # an operation was started by this run: no error may look as if nothing had happened
    )

    @property
    def progress(self) -> Console:
        """Where progress is shown: not on stdout when that carries JSON."""
        return self.err if self.as_json else self.out


def run(
    session: Session,
    server: str,
    token_file: Path | None,
    ca_file: Path | None,
    work: Callable[["Client", Session], Awaitable[Exit]],
) -> NoReturn:
    """Connect, do `work`, and end the process with its exit code or with a complaint on stderr."""
    raise typer.Exit(_finish(session, server, token_file, ca_file, work))


def _finish(
    session: Session,
    server: str,
    token_file: Path | None,
    ca_file: Path | None,
    work: Callable[["Client", Session], Awaitable[Exit]],
) -> Exit:
    from releasehand.client import Client

    async def connected() -> Exit:
        token = _read_token(token_file, session.err)
        _warn_of_plain_http(server, session.err)
        try:
            client = Client(server, token, ca_file=ca_file)
        except ValueError as exc:
            raise CommandError(f"Cannot connect: {exc}") from exc
        except OSError as exc:
            raise CommandError(f"Cannot read the CA file {ca_file}: {exc.strerror or exc}") from exc
        async with client:
            return await work(client, session)

    try:
        return asyncio.run(connected())
    except KeyboardInterrupt:
        for line in session.on_interrupt:
            say(session.err, line)
        return Exit.INTERRUPTED
    except CommandError as complaint:
        show(session.err, complaint)
        return complaint.exit_code
    except ReleasehandError as exc:
        told = explain(exc)
        show(session.err, told)
        exit_code = Exit.UNREACHABLE if session.accepted else told.exit_code
        if session.on_no_answer and exit_code is Exit.UNREACHABLE:
            say(session.err, "  ", (session.on_no_answer, "cyan"))
        return exit_code


def _read_token(token_file: Path | None, err: Console) -> str:
    """The token; it is never an argument, since every user of a host can read those."""
    if token_file is None:
        token = os.environ.get("RELEASEHAND_TOKEN", "").strip()
        if not token:
            raise CommandError(
                "No token was given",
                remedy="Put it in a file and name that with --token-file, or set RELEASEHAND_TOKEN.",
            )
        return token
    try:
        with token_file.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(MAX_TOKEN_BYTES)
    except OSError as exc:
        raise CommandError(f"Cannot read the token file {token_file}: {exc.strerror or exc}") from exc
    if stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH):
        say(err, (f"Others on this host can read {token_file}; chmod 600 keeps it yours.", "yellow"))
    return content.decode(errors="replace").strip()


def _warn_of_plain_http(server: str, err: Console) -> None:
    try:
        parts = urlsplit(server)
        host = parts.hostname or ""
    except ValueError:
        return  # the client says what is wrong with it
    if parts.scheme == "http" and not _is_this_host(host):
        say(err, (f"The token goes to {host} unencrypted; use https.", "yellow"))


def _is_this_host(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
