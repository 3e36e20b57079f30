"""`releasehand versions`."""

# The client and the models are loaded when a command runs, not for its --help.

from datetime import UTC
from typing import TYPE_CHECKING, Annotated

import typer

from releasehand.shown import escape_controls

from .complaint import Exit
from .options import AsJson, CaFile, Server, Service, TokenFile
from .session import Session, run
from .terminal import counted, print_json, say

if TYPE_CHECKING:
    from rich.table import Table

    from releasehand.client import Client
    from releasehand.model import ServiceVersions

_STYLES = {"running": "green", "error": "red", "stopped": "dim"}


def versions(
    service: Service,
    server: Server,
    include_stopped: Annotated[
        bool, typer.Option("--include-stopped", help="List stopped instances too.")
    ] = False,
    as_json: AsJson = False,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
) -> None:
    """Show which version each instance of SERVICE runs."""

    async def work(client: "Client", session: Session) -> Exit:
        answer = await client.get_service_instance_versions(service, include_stopped)
        if session.as_json:
            print_json(session.out, answer)
            return Exit.COMPLETED
        if not answer.instances:
            more = "" if include_stopped else "; --include-stopped lists stopped ones"
            say(session.out, f"No running instance of {service}{more}")
            return Exit.COMPLETED
        session.out.print(_table(answer))
        counts = sorted(answer.version_summary.items(), key=lambda item: (-item[1], item[0]))
        summary = ", ".join(f"{number:,} on {version or 'nothing'}" for version, number in counts)
        say(session.out, (f"{counted(answer.total_instances, 'instance')}: {summary}", "dim"))
        return Exit.COMPLETED

    run(Session(as_json), server, token_file, ca_file, work)


def _table(answer: "ServiceVersions") -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for title in ("INSTANCE", "VERSION", "STATUS", "UPDATED (UTC)"):
        table.add_column(title, no_wrap=True, overflow="ellipsis")
    if any(instance.status_reason for instance in answer.instances):
        table.add_column("")
    for instance in answer.instances:
        cells = [
            Text(escape_controls(instance.instance_id)),
            Text(escape_controls(instance.version or "-")),
            Text(instance.status.value, style=_STYLES[instance.status.value]),
            Text(instance.last_updated.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S"), style="dim"),
        ]
        if len(table.columns) > len(cells):
            cells.append(Text(escape_controls(instance.status_reason), style="yellow"))
        table.add_row(*cells)
    return table
