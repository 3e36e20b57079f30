"""`releasehand rollback`."""

# The client and the models are loaded when a command runs, not for its --help.

import shlex
import uuid
from typing import TYPE_CHECKING, Annotated

import typer

from .complaint import CommandError, Exit
from .options import (
    AllInstances,
    AsJson,
    CaFile,
    Instances,
    Server,
    Service,
    Sha256,
    Timeout,
    TokenFile,
    Wait,
)
from .session import Session, run
from .targets import build, check_choice, find_instances
from .terminal import counted, print_json, say

if TYPE_CHECKING:
    from releasehand.client import Client


def rollback(
    service: Service,
    version: Annotated[
        str,
        typer.Argument(
            metavar="VERSION",
            help="Version to go back to, or `previous`: each instance to its own previous good one.",
            show_default=False,
        ),
    ],
    server: Server,
    instance: Instances = None,
    all_instances: AllInstances = False,
    url: Annotated[
        str,
        typer.Option(
            "--url",
            metavar="URL",
            help="Where the package is (https), for hosts that no longer keep the release.",
            show_default=False,
        ),
    ] = "",
    sha256: Sha256 = "",
    force: Annotated[
        bool, typer.Option("--force", help="Supersede an open task; install even what is already active.")
    ] = False,
    timeout: Timeout = None,
    wait: Wait = True,
    as_json: AsJson = False,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Take instances of SERVICE back to VERSION, and follow it to its end.

    Exit codes: 0 completed, 1 failed or cancelled, 2 refused, 3 controller not reached.
    """

    async def work(client: "Client", session: Session) -> Exit:
        from releasehand.model import (
            BatchRollbackParams,
            BatchRollbackResult,
            InstanceRollbackParams,
            RollbackResult,
        )

        from .watch import follow, keep_interrupt_note

        check_choice(instance, all_instances)
        chosen = await find_instances(client, service, instance)
        key = uuid.uuid4().hex
        session.on_interrupt = ("Whether the rollback was accepted is not known.", f"Ask: {_look(service)}")
        session.on_no_answer = f"Whether it was accepted is not known. Ask: {_look(service)}"
        result: RollbackResult | BatchRollbackResult
        if instance and len(chosen) == 1:
            one = build(
                lambda: InstanceRollbackParams(
                    instance_id=chosen[0],
                    target_version=version,
                    package_url=url,
                    force=force,
                    timeout=timeout or 0,
                    package_sha256=sha256,
                )
            )
            await _check_home(client, service, one.instance_id)
            result = await client.rollback_instance(one, key)
        else:
            several = build(
                lambda: BatchRollbackParams(
                    service=service,
                    target_version=version,
                    instances=chosen,
                    package_url=url,
                    force=force,
                    timeout=timeout or 0,
                    package_sha256=sha256,
                )
            )
            result = await client.rollback_batch(several, key)
        session.accepted = True
        if wait:
            return await follow(client, session, "rollback", result.rollback_id)
        keep_interrupt_note(session, "rollback", result.rollback_id)
        if session.as_json:
            print_json(session.out, result)
        else:
            count = counted(len(chosen), "instance")
            say(session.out, f"Accepted rollback {result.rollback_id}: {service} to {version} on {count}")
            look = f"releasehand status {shlex.quote(result.rollback_id)} --rollback --wait"
            say(session.out, "  watch it:   ", (look, "cyan"))
        return Exit.COMPLETED

    run(Session(as_json), server, token_file, ca_file, work)


async def _check_home(client: "Client", service: str, instance_id: str) -> None:
    """The interface's rollback of one instance names no service: a slip would reach another one."""
    home = (await client.get_version_history(instance_id, limit=1)).service
    if home != service:
        raise CommandError(
            f"The instance {instance_id} belongs to {home}, not to {service}", ("Nothing was changed.",)
        )


def _look(service: str) -> str:
    return f"releasehand versions {shlex.quote(service)}"
