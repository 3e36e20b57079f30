"""Errors for people: what happened, why, and what to do next; and the exit codes."""

from dataclasses import dataclass
from enum import IntEnum

from rich.console import Console

from releasehand.errors import (
    ApiError,
    BadAnswerError,
    BusyError,
    ConflictError,
    ConnectionFailedError,
    InvalidRequestError,
    NotFoundError,
    ReleasehandError,
    UnauthenticatedError,
    UnavailableError,
)
from releasehand.shown import escape_controls

from .terminal import glyphs, say


class Exit(IntEnum):
    """What the process ends with; scripts rely on it."""

    COMPLETED = 0
    FAILED = 1
    REFUSED = 2
    UNREACHABLE = 3
    INTERRUPTED = 130


@dataclass(eq=False)
class CommandError(Exception):
    """`what` is one sentence; `why` lines of detail; `remedy` what to do next."""

    what: str
    why: tuple[str, ...] = ()
    remedy: str = ""
    exit_code: Exit = Exit.REFUSED


def show(console: Console, complaint: CommandError) -> None:
    """Print to `console`, which is stderr."""
    say(console, (f"{glyphs(console).bad} ", "bold red"), (complaint.what, "bold"))
    for line in complaint.why:
        say(console, "  ", line)
    if complaint.remedy:
        for line in complaint.remedy.split("\n"):
            say(console, "  ", (line, "cyan"))


def explain(error: ReleasehandError) -> CommandError:
    """The complaint that an error of the client means."""
    match error:
        case ConnectionFailedError():
            return CommandError(
                f"Cannot reach the controller at {error.url}",
                (_sentence(error.reason),),
                _remedy_of_connection(error),
                Exit.UNREACHABLE,
            )
        case BadAnswerError():
            why = [_sentence(error.reason) + f" (HTTP {error.status})"]
            why += [f"It begins: {error.excerpt}"] if error.excerpt else []
            return CommandError(
                "The answer makes no sense",
                tuple(why),
                "Is --server the address of the controller's API?",
                Exit.UNREACHABLE,
            )
        case ApiError():
            return _explain_refusal(error)
        case _:
            return CommandError(_sentence(str(error)))


def _explain_refusal(error: ApiError) -> CommandError:
    why = [f"{fault.pointer}: {fault.detail}" if fault.pointer else fault.detail for fault in error.errors]
    exit_code = Exit.REFUSED
    match error:
        case UnauthenticatedError():
            remedy = "Give a valid token in --token-file or RELEASEHAND_TOKEN."
        case BusyError():
            remedy = "Wait for the other operation (releasehand status ID --wait), or cancel it first."
        case ConflictError() if error.type == "deploy_id_conflict":
            remedy = "Take another --id; this one names a deployment with other contents."
        case NotFoundError() | ConflictError() | InvalidRequestError():
            remedy = ""
        case UnavailableError():
            remedy, exit_code = "Try again in a moment.", Exit.UNREACHABLE
        case _ if error.status >= 500:
            remedy, exit_code = "The controller's log tells more.", Exit.UNREACHABLE
        case _:
            remedy = ""
    if error.request_id:
        why.append(f"request {error.request_id}")
    return CommandError(
        _sentence(error.detail or f"Refused with HTTP {error.status}"), tuple(why), remedy, exit_code
    )


def _remedy_of_connection(error: ConnectionFailedError) -> str:
    if "certificate" in error.reason:
        return "If the controller has a certificate authority of its own, name it with --ca-file."
    if error.reason.startswith("TLS"):
        return "Is this the port of the controller's API, and does it speak https?"
    return "Is the controller running, and is --server right?"


def _sentence(text: str) -> str:
    return escape_controls(text[:1].upper() + text[1:])
