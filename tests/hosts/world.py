"""The product on a lab's hosts, installed as users do it: the Debian package, a controller, agents."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

from .host import Host, LabError, wait_for
from .lab import NET, Lab
from .web import RUN, publish, set_up_origin, set_up_service

ROOT: Final = Path(__file__).parents[2]
TOKEN: Final = "a-caller-of-the-test-hosts"
API: Final = "http://127.0.0.1:8080"
CONTROLLER: Final = f"""\
[api]
tokens = {{ tests = "{TOKEN}" }}
[hub]
host = "0.0.0.0"
names = ["ctl"]
"""
AGENT: Final = f"""\
[trust]
verification = "digest"
accept_sha256_file = true

[packages]
ca_file = "/etc/releasehand/packages-ca.pem"
allow_private = true
allowed_networks = ["{NET}.0/24"]

[[instance]]
id = "web-HOST"
service = "web"
port = 8081
root = "/srv/web"
activate_timeout_s = 240
revert_timeout_s = 240
driver = {{ type = "systemd", unit = "web.service" }}
check = {{ type = "http", url = "http://127.0.0.1:8081/VERSION", contains = "{{version}}", settle_s = 0.5 }}
"""


def find_package() -> Path:
    """The newest .deb in dist/. Raises LabError."""
    found = sorted((ROOT / "dist").glob("releasehand-daemons_*.deb"), key=lambda file: file.stat().st_mtime)
    if not found:
        raise LabError("there is no .deb in dist/: make dist")
    return found[-1]


@dataclass
class World:
    """Up and joined."""

    lab: Lab
    package: bytes  # the .deb, read once: dist/ may be built anew meanwhile
    packages_ca: bytes = b""

    @property
    def ctl(self) -> Host:
        return self.lab["ctl"]

    @property
    def hosts(self) -> list[Host]:
        return [host for name, host in self.lab.hosts.items() if name != "ctl"]

    def set_up(self) -> None:
        """Install the package everywhere, start a controller and an origin; every host joins and gets v0."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.install, self.lab.hosts.values()))
        self.packages_ca = set_up_origin(self.ctl)
        self.ctl.put("/etc/releasehand/controller.toml", CONTROLLER)
        self.ctl.run("chgrp releasehand /etc/releasehand/controller.toml")
        self.ctl.run("chmod 640 /etc/releasehand/controller.toml")
        self.ctl.run("systemctl enable --now releasehand-controller")
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.join, self.hosts))
        self.publish("v0")
        end = self.end_of(self.deploy("v0", self.hosts))
        if end["status"] != "completed":
            raise LabError(f"the first version could not be deployed: {end}")

    def install(self, host: Host) -> None:
        """The package, over an older one where there is one."""
        host.put("/root/releasehand.deb", self.package)
        host.run("dpkg -i /root/releasehand.deb && rm /root/releasehand.deb", timeout_s=300)

    def join(self, host: Host) -> None:
        """From a host with the package alone to an agent that is online."""
        set_up_service(host)
        host.put("/etc/releasehand/packages-ca.pem", self.packages_ca)
        host.put("/etc/releasehand/agent.toml", AGENT.replace("HOST", host.name))
        invitation = self.call("POST", "/v1/join-token", {"host": host.name})["data"]
        host.run(invitation["command"])
        host.run("systemctl enable --now releasehand-agent")
        wait_for(lambda: self.sees(host), 60, f"the controller sees {host.name}")

    def mend(self) -> None:
        """Power and whole cables for every host; nothing changes where all have them."""
        for host in self.lab.hosts.values():
            host.mend()

    # what is asked of the controller, by a caller beside it

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """The whole envelope, whatever its code."""
        given = f"-H 'Content-Type: application/json' -d '{json.dumps(body)}'" if body is not None else ""
        ran = self.ctl.run(
            f"curl -sS -m 90 -X {method} -H 'Authorization: Bearer {TOKEN}' {given} '{API}{path}'"
        )
        answer: dict[str, Any] = json.loads(ran.output)
        return answer

    def presence(self, host: Host) -> str:
        """Whether the controller can hear its agent: online, suspect or offline; "unknown": nobody says."""
        ran = self.ctl.run(f"curl -sS -m 5 -H 'Authorization: Bearer {TOKEN}' '{API}/v1/agent'", check=False)
        try:
            agents = json.loads(ran.output)["data"]["agents"]
        except (ValueError, KeyError, TypeError):  # the controller is not up
            return "unknown"
        return {one["agent_id"]: str(one["status"]) for one in agents}.get(host.name, "unknown")

    def sees(self, host: Host) -> bool:
        return self.presence(host) == "online"

    def publish(self, version: str, *, run: str = RUN, ballast_bytes: int = 0) -> str:
        """Put a package where agents find it; its URL."""
        publish(self.ctl, version, run=run, ballast_bytes=ballast_bytes)
        return f"https://{self.ctl.name}:9443/{version}.tar"

    def deploy(self, version: str, hosts: list[Host], *, deploy_id: str = "", **more: Any) -> str:
        """Accepted; the deployment's id."""
        body = {
            "deploy_id": deploy_id or f"{version}-{token_hex(4)}",
            "service": "web",
            "version": version,
            "instances": [f"web-{host.name}" for host in hosts],
            "package_url": f"https://ctl:9443/{version}.tar",
            **more,
        }
        answer = self.call("POST", "/v1/deployment", body)
        if answer["code"] != 200:
            raise LabError(f"deployment was refused: {answer}")
        return str(body["deploy_id"])

    def end_of(self, deploy_id: str, *, within_s: float = 120.0) -> dict[str, Any]:
        """The status of a deployment that has ended."""
        found: dict[str, Any] = {}

        def has_ended() -> bool:
            try:
                found.update(self.call("GET", f"/v1/deployment/{deploy_id}?wait=5s")["data"])
            except LabError:  # the controller is just being started again
                return False
            return found["status"] in {"completed", "failed", "cancelled"}

        wait_for(has_ended, within_s, f"{deploy_id} ends")
        return found
