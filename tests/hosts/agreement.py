"""What is to be so after everything that happened to a host: all accounts of it agree."""

import json
from collections import Counter

from .host import Host, wait_for
from .world import World

PHASES = ("downloading", "verifying", "unpacking", "staged", "activating", "checking")
"""What every release goes through, in this order."""

AGENTS = "releasehand-agent*"
"""Root's agent, and the one without root."""


def agree(world: World, host: Host, version: str) -> None:
    """`current`, the service and the API name one version; each phase in the journal has a start and an end.

    The service and the API are given time: a host may just have come up."""
    assert host.run("basename $(readlink /srv/web/current)").output.startswith(f"{version}-")
    wait_for(
        lambda: live_version(host) == version,
        60,
        lambda: f"{host.name} answers {version}, not {live_version(host)}",
    )
    wait_for(
        lambda: world.sees(host) and told_version(world, host) == version,
        90,
        lambda: f"the API says {version} of {host.name}, not {told_version(world, host)}",
    )
    phases = read_phases(host)
    assert phases["started"] == phases["ended"], phases


def live_version(host: Host) -> str:
    """What the service itself answers."""
    return host.run("curl -sS -m 5 http://127.0.0.1:8081/VERSION", check=False).output.strip()


def told_version(world: World, host: Host) -> str:
    """What the controller's API says."""
    answer = world.call("GET", "/v1/service/web/instances")["data"]["instances"]
    found = {one["instance_id"]: one["version"] for one in answer}
    return str(found.get(f"web-{host.name}"))


def read_phases(host: Host) -> dict[str, Counter[tuple[str, str]]]:
    """Starts and ends of phases, by deployment, as the journal has them in its fields."""
    fields = "MESSAGE,RELEASEHAND_PHASE,RELEASEHAND_DEPLOY_ID"
    host.run("journalctl --sync")
    text = host.run(f"journalctl -u '{AGENTS}' -o json --output-fields={fields}").output
    found: dict[str, Counter[tuple[str, str]]] = {"started": Counter(), "ended": Counter()}
    for line in text.splitlines():
        entry = json.loads(line)
        for kind, counts in found.items():
            if f"phase {kind}" in str(entry.get("MESSAGE", "")):
                counts[entry["RELEASEHAND_DEPLOY_ID"], entry["RELEASEHAND_PHASE"]] += 1
    return found


def has_logged(host: Host, deploy_id: str, what: str, phase: str) -> bool:
    """Whether the agent's journal has such a line of that deployment."""
    fields = f"RELEASEHAND_DEPLOY_ID={deploy_id} RELEASEHAND_PHASE={phase}"
    return what in host.run(f"journalctl -u '{AGENTS}' {fields} -o cat", check=False).output


def pid_of(host: Host, unit: str) -> str:
    """The main process of a unit; "0" when it has none."""
    return host.run(f"systemctl show -P MainPID {unit}").output.strip()
