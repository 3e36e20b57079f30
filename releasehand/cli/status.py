"""`releasehand status` and `releasehand cancel`: back to an operation that was left alone."""

# The client and the models are loaded when a command runs, not for its --help.

from typing import TYPE_CHECKING, Annotated

import typer

from .complaint import Exit
from .options import AsJson, CaFile, OfRollback, OperationId, Server, TokenFile
from .session import Session, run
from .terminal import print_json, say

if TYPE_CHECKING:
    from releasehand.client import Client


def status(
    operation_id: OperationId,
    server: Server,
    rollback: OfRollback = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end.")] = False,
    as_json: AsJson = False,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Show how a deployment or rollback does.

    Exit codes: 0 completed or still open, 1 failed or cancelled, 2 refused, 3 controller not reached.
    """

    async def work(client: "Client", session: Session) -> Exit:
        from .progress import task_lines
        from .watch import follow, show_outcome

        if wait:
            return await follow(client, session, "rollback" if rollback else "deployment", operation_id)
        ask = client.get_rollback_status if rollback else client.get_deployment_status
        answer = await ask(operation_id)
        exit_code = show_outcome(session, answer)
        open_tasks = [task for task in answer.instances if task.status.value in {"pending", "in_progress"}]
        if open_tasks and not session.as_json:
            session.out.print(*task_lines(open_tasks), sep="\n")
        return exit_code

    run(Session(as_json), server, token_file, ca_file, work)


def cancel(
    operation_id: OperationId,
    server: Server,
    rollback: OfRollback = False,
    as_json: AsJson = False,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Cancel a deployment or rollback. An instance that is already switching still finishes or goes back."""

    async def work(client: "Client", session: Session) -> Exit:
        ask = client.cancel_rollback if rollback else client.cancel_deployment
        result = await ask(operation_id)
        if session.as_json:
            print_json(session.out, result)
        else:
            kind = "rollback" if rollback else "deployment"
            words = result.status.value.replace("_", " ")
            say(session.out, f"Cancel of {kind} {operation_id} is recorded; its status is {words}.")
        return Exit.COMPLETED

    run(Session(as_json), server, token_file, ca_file, work)
