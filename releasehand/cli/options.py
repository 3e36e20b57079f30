"""The options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

CONNECTION = "Connection"


def _check_name(value: str) -> str:
    """The controller judges names; these three would not even reach it as names."""
    if value in {"", ".", ".."}:
        raise typer.BadParameter(f"'{value}' is no name")
    return value


Server = Annotated[
    str,
    typer.Option(
        "--server",
        metavar="URL",
        envvar="RELEASEHAND_URL",
        help="The controller's address, like https://controller:8443.",
        rich_help_panel=CONNECTION,
        show_default=False,
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="File that holds the token. Without it the token is taken from RELEASEHAND_TOKEN.",
        rich_help_panel=CONNECTION,
        show_default=False,
    ),
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        metavar="FILE",
        envvar="RELEASEHAND_CA_FILE",
        help="PEM file of the certificate authority to trust, instead of the system's.",
        rich_help_panel=CONNECTION,
        show_default=False,
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the answer as JSON on stdout; progress goes to stderr.")
]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Follow it to its end, or return once it is accepted.")
]
Service = Annotated[
    str,
    typer.Argument(metavar="SERVICE", help="Name of the service.", show_default=False, callback=_check_name),
]
OperationId = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the operation.", show_default=False, callback=_check_name)
]
Instances = Annotated[
    list[str] | None,
    typer.Option("--instance", "-i", metavar="ID", help="An instance; repeat for more.", show_default=False),
]
AllInstances = Annotated[bool, typer.Option("--all-instances", help="Every instance of the service.")]
Timeout = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=86_400,
        metavar="SECONDS",
        help="Budget of each instance over all its attempts; the controller's default is 300.",
        show_default=False,
    ),
]
Sha256 = Annotated[
    str,
    typer.Option("--sha256", metavar="HEX", help="The package's SHA-256 digest.", show_default=False),
]
OfRollback = Annotated[bool, typer.Option("--rollback", help="ID names a rollback, not a deployment.")]
