"""Following an operation to its end, and what is said then."""

import shlex
from typing import TYPE_CHECKING, Final

from rich.console import Console

from releasehand.model import DeployStatus, RollbackStatus, Status, TaskResult

from .complaint import Exit
from .operation import Operation, live, reason, view
from .progress import display
from .session import Session
from .terminal import counted, duration, glyphs, print_json, say

if TYPE_CHECKING:
    from releasehand.client import Client

MAX_LISTED: Final = 20
MAX_NAMED: Final = 8
"""Instances that fit into a command to copy."""


async def follow(client: "Client", session: Session, kind: str, operation_id: str) -> Exit:
    """Show progress until the operation has ended, then its outcome. Ctrl-C leaves it running."""
    keep_interrupt_note(session, kind, operation_id)
    with display(session.progress) as shown:
        answer: DeployStatus | RollbackStatus
        if kind == "deployment":
            answer = await client.wait_for_deployment(
                operation_id, on_change=shown.change, on_trouble=shown.trouble
            )
        else:
            answer = await client.wait_for_rollback(
                operation_id, on_change=shown.change, on_trouble=shown.trouble
            )
    return show_outcome(session, answer)


def keep_interrupt_note(session: Session, kind: str, operation_id: str) -> None:
    """From now on Ctrl-C says that the operation goes on, and how to get back to it."""
    flag = " --rollback" if kind == "rollback" else ""
    name = shlex.quote(operation_id)
    session.on_interrupt = (
        f"The {kind} {operation_id} goes on without you.",
        f"  watch it:   releasehand status {name}{flag} --wait",
        f"  cancel it:  releasehand cancel {name}{flag}",
    )
    session.on_no_answer = f"The {kind} goes on. See how it does: releasehand status {name}{flag} --wait"


def show_outcome(session: Session, answer: DeployStatus | RollbackStatus) -> Exit:
    """Print what came of it (or the JSON) and return the exit code; an open operation gives 0."""
    if session.as_json:
        print_json(session.out, answer)
    else:
        _summarise(session.out, view(answer))
    return Exit.FAILED if answer.status in {Status.FAILED, Status.CANCELLED} else Exit.COMPLETED


def _summarise(console: Console, operation: Operation) -> None:
    signs, progress = glyphs(console), operation.progress
    of_all = f"{progress.completed:,} of {counted(progress.total, 'instance')}"
    name = f"{operation.kind} {operation.id}"
    match operation.status:
        case Status.COMPLETED:
            done = "Deployed" if operation.kind == "deployment" else "Rolled back"
            to = "" if operation.kind == "deployment" else "to "
            kept = sum(task.result is TaskResult.ALREADY_ACTIVE for task in operation.tasks)
            say(
                console,
                (f"{signs.good} ", "bold green"),
                f"{done} {operation.service} {to}",
                (operation.target, "bold"),
                f" on {counted(progress.total, 'instance')} in {duration(operation.took_s)}",
                (f"  {kept:,} already ran it" if kept else "", "dim"),
                (f"  {name}", "dim"),
            )
        case Status.FAILED:
            lead = f"{name[0].upper() + name[1:]} failed"
            say(console, (f"{signs.bad} ", "bold red"), (lead, "bold"), f": {of_all} completed")
        case Status.CANCELLED:
            lead = f"{name[0].upper() + name[1:]} was cancelled"
            say(console, (f"{signs.bad} ", "bold yellow"), (lead, "bold"), f": {of_all} completed")
        case Status.PENDING | Status.IN_PROGRESS:
            words = operation.status.value.replace("_", " ")
            say(console, f"{name[0].upper() + name[1:]} is {words}: {of_all} completed")
    _list_losses(console, operation)


def _list_losses(console: Console, operation: Operation) -> None:
    """The instances that did not arrive, whole reasons and all, and how to go on."""
    lost = [task for task in operation.tasks if task.status in {Status.FAILED, Status.CANCELLED}]
    lost.sort(key=lambda task: task.status is Status.CANCELLED)
    for task in lost[:MAX_LISTED]:
        style = "red" if task.status is Status.FAILED else "yellow"
        say(console, f"  {task.instance_id}  ", (task.status.value, style), f", {live(task)}")
        if task.status is Status.FAILED:
            say(console, f"    {reason(task)}")
    if len(lost) > MAX_LISTED:
        say(console, (f"  and {len(lost) - MAX_LISTED:,} more; --json lists all", "dim"))
    moved = [task for task in operation.tasks if task.status is Status.COMPLETED]
    if operation.kind == "deployment" and lost and moved and operation.status is not Status.IN_PROGRESS:
        named = "".join(f" -i {shlex.quote(task.instance_id)}" for task in moved[:MAX_NAMED])
        named = named if len(moved) <= MAX_NAMED else " -i ID ..."
        say(
            console,
            "  To take the others back: ",
            (f"releasehand rollback {operation.service} previous{named}", "cyan"),
        )
