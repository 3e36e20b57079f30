"""`releasehand deploy`."""

# The client and the models are loaded when a command runs, not for its --help.

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from .complaint import Exit
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


def deploy(
    service: Service,
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="Version to install.", show_default=False)
    ],
    server: Server,
    url: Annotated[
        str, typer.Option("--url", metavar="URL", help="Where the package is (https).", show_default=False)
    ],
    instance: Instances = None,
    all_instances: AllInstances = False,
    sha256: Sha256 = "",
    deploy_id: Annotated[
        str,
        typer.Option(
            "--id",
            metavar="ID",
            help="Id of the deployment. Repeating a command with its id starts nothing twice.",
            show_default="a new one",
        ),
    ] = "",
    timeout: Timeout = None,
    retries: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=10,
            metavar="N",
            help="Further attempts after a passing failure; the controller's default is 3.",
            show_default=False,
        ),
    ] = None,
    wait: Wait = True,
    as_json: AsJson = False,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Install VERSION of SERVICE on instances, and follow it to its end.

    Exit codes: 0 completed, 1 failed or cancelled, 2 refused, 3 controller not reached.
    """

    async def work(client: "Client", session: Session) -> Exit:
        from releasehand.model import NO_RETRIES, DeployParams

        from .watch import follow, keep_interrupt_note

        check_choice(instance, all_instances)
        chosen = await find_instances(client, service, instance)
        params = build(
            lambda: DeployParams(
                service=service,
                version=version,
                instances=chosen,
                package_url=url,
                deploy_id=deploy_id or _new_id(service, version),
                timeout=timeout or 0,
                retry_count=0 if retries is None else retries or NO_RETRIES,
                package_sha256=sha256,
            )
        )
        look = f"releasehand status {shlex.quote(params.deploy_id)}"
        session.on_interrupt = (f"Whether {params.deploy_id} was accepted is not known. Ask: {look}",)
        session.on_no_answer = (
            f"Whether it was accepted is not known. Repeat with --id {shlex.quote(params.deploy_id)}: "
            "nothing is started twice."
        )
        result = await client.execute_deployment(params)
        session.accepted = True
        if wait:
            return await follow(client, session, "deployment", result.deploy_id)
        keep_interrupt_note(session, "deployment", result.deploy_id)
        if session.as_json:
            print_json(session.out, result)
        else:
            count = counted(result.total_instances, "instance")
            say(session.out, f"Accepted deployment {result.deploy_id}: {service} {version} on {count}")
            say(session.out, "  watch it:   ", (f"{look} --wait", "cyan"))
        return Exit.COMPLETED

    run(Session(as_json), server, token_file, ca_file, work)


def _new_id(service: str, version: str) -> str:
    """Readable, unique, and within the 128 characters of a name."""
    import uuid

    return f"{service[:50]}-{version[:50]}-{uuid.uuid4().hex[:8]}"
