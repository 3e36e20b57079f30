"""The tables at the end: what runs where, and what happened to one instance."""

from datetime import UTC
from typing import Final

from rich.table import Table
from rich.text import Text

from demo.layout import Layout
from releasehand.model import HistoryStatus, InstanceStatus, ServiceVersions, VersionHistory

_STATUS_STYLES: Final = {
    InstanceStatus.RUNNING: "green",
    InstanceStatus.ERROR: "red",
    InstanceStatus.STOPPED: "dim",
}
_RESULT_STYLES: Final = {
    HistoryStatus.SUCCESS: "green",
    HistoryStatus.FAILED: "red",
    HistoryStatus.CANCELLED: "yellow",
    HistoryStatus.UNKNOWN: "yellow",
}


def tabulate_versions(services: list[ServiceVersions], layout: Layout) -> Table:
    """One row for each instance."""
    places = {place.instance: place for place in layout.places}
    table = _table("INSTANCE", "HOST", "VERSION", "STATUS", "ANSWERS AT")
    for service in services:
        for one in service.instances:
            table.add_row(
                one.instance_id,
                places[one.instance_id].host,
                one.version,
                Text(one.status, style=_STATUS_STYLES[one.status]),
                Text(places[one.instance_id].url, style="dim"),
            )
    return table


def tabulate_history(history: VersionHistory) -> Table:
    """One row for each entry, newest first."""
    table = _table("TIME (UTC)", "ACTION", "VERSION", "RESULT", "OPERATION")
    for entry in history.history:
        table.add_row(
            Text(entry.timestamp.astimezone(UTC).strftime("%H:%M:%S"), style="dim"),
            entry.action,
            entry.version,
            Text(entry.status, style=_RESULT_STYLES[entry.status]),
            Text(entry.deploy_id, style="dim"),
        )
    return table


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for title in titles:
        table.add_column(title, no_wrap=True)
    return table
