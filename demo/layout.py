"""What the demo consists of: hosts, instances, ports, folders and what each daemon reads at its start."""

import random
import secrets
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

HERE: Final = "127.0.0.1"
MARK: Final = "RELEASEHAND_DEMO"
"""Stands, with the demo's folder, in the environment of every process that belongs to a demo."""
PLACES: Final = (
    ("host-1", "web-1"),
    ("host-2", "web-2"),
    ("host-3", "web-3"),
    ("host-2", "api-1"),
    ("host-3", "api-2"),
)
CALLER: Final = "demo"
_PORTS: Final = range(20_000, 32_000)  # below the range that outgoing connections take theirs from


@dataclass(frozen=True)
class Place:
    """One instance: where it runs and where it answers."""

    instance: str
    host: str
    port: int
    root: Path

    @property
    def service(self) -> str:
        """`web` of `web-1`."""
        return self.instance.partition("-")[0]

    @property
    def url(self) -> str:
        """Where the service itself answers."""
        return f"http://{HERE}:{self.port}/"


@dataclass(frozen=True)
class Layout:
    """Everything under one folder. The token is made up anew each time."""

    folder: Path
    api_port: int
    hub_port: int
    origin_port: int
    places: tuple[Place, ...]
    api_token: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @property
    def api_url(self) -> str:
        """The controller's API."""
        return f"http://{HERE}:{self.api_port}"

    @property
    def origin_url(self) -> str:
        """The package origin."""
        return f"https://{HERE}:{self.origin_port}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """The agents, by name."""
        return tuple(sorted({place.host for place in self.places}))

    @property
    def packages(self) -> Path:
        """What the origin serves."""
        return self.folder / "packages"

    @property
    def logs(self) -> Path:
        """One file for each daemon."""
        return self.folder / "logs"

    def host_folder(self, host: str) -> Path:
        """All that belongs to one host."""
        return self.folder / host

    def agent_file(self, host: str) -> Path:
        """The agent's configuration."""
        return self.host_folder(host) / "agent.toml"

    @property
    def controller_file(self) -> Path:
        """The controller's configuration."""
        return self.folder / "controller.toml"

    def state_dir(self, host: str) -> Path:
        """Where the agent keeps who it is, and its journal."""
        return self.host_folder(host) / "state"

    @property
    def database(self) -> str:
        """The controller's."""
        return f"sqlite:///{self.folder}/controller.db"

    @property
    def hub_url(self) -> str:
        """Where the agents connect."""
        return f"wss://{HERE}:{self.hub_port}"

    def authority(self, whose: str) -> Path:
        """Folder with `ca.pem`, and with certificate and key, of the hub or the origin."""
        return self.folder / "pki" / whose

    def instances(self, service: str) -> list[str]:
        """The instances of a service."""
        return [place.instance for place in self.places if place.service == service]

    def on_host(self, host: str) -> list[str]:
        """The instances of a host."""
        return [place.instance for place in self.places if place.host == host]


def plan_layout(folder: Path) -> Layout:
    """Choose ports that are free now, and folders below `folder`. Raises OSError when no port is free."""
    ports = _free_ports()
    return Layout(
        folder=folder,
        api_port=next(ports),
        hub_port=next(ports),
        origin_port=next(ports),
        places=tuple(
            Place(instance, host, next(ports), folder / host / "srv" / instance) for host, instance in PLACES
        ),
    )


def write_configuration(layout: Layout) -> None:
    """Make the folders and write what the controller and each agent read."""
    for path in (layout.packages, layout.logs):
        path.mkdir(parents=True)
    layout.controller_file.write_text(_controller_toml(layout))
    for host in layout.hosts:
        layout.host_folder(host).mkdir()
        layout.agent_file(host).write_text(_agent_toml(layout, host))


def _controller_toml(layout: Layout) -> str:
    return f"""\
database = "{layout.database}"

[api]
host = "{HERE}"
port = {layout.api_port}
tokens = {{ {CALLER} = "{layout.api_token}" }}

[hub]
host = "{HERE}"
port = {layout.hub_port}

[pki]
directory = "{layout.authority("hub")}"
"""


def _agent_toml(layout: Layout, host: str) -> str:
    head = f"""\
state_dir = "{layout.state_dir(host)}"

[packages]
ca_file = "{layout.authority("origin")}/ca.pem"
allowed_hosts = ["{HERE}:{layout.origin_port}"]
allowed_networks = ["{HERE}/32"]
reserve_bytes = {16 * 1024 * 1024}
"""
    return head + "".join(_instance_toml(layout, place) for place in layout.places if place.host == host)


def _instance_toml(layout: Layout, place: Place) -> str:
    return f"""
[[instance]]
id = "{place.instance}"
service = "{place.service}"
port = {place.port}
root = "{place.root}"
activate_timeout_s = 20
revert_timeout_s = 20

[instance.driver]
type = "command"
start = ["{sys.executable}", "-I", "serve.py"]
environment = {{ {MARK} = "{layout.folder}" }}

[instance.check]
type = "http"
url = "{place.url}"
contains = '"version": "{{version}}"'
"""


def _free_ports() -> Iterator[int]:
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HERE, port))
            except OSError:
                continue
        yield port
    raise OSError(f"no port from {_PORTS.start} to {_PORTS.stop - 1} is free on {HERE}")
