"""The product on a lab's hosts, installed as users do it: the Debian package, a controller, agents."""

import io
import json
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import trustme

from .host import Host, LabError, wait_for
from .lab import NET, Lab

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
[packages]
ca_file = "/etc/releasehand/packages-ca.pem"
allow_private = true
allowed_networks = ["{NET}.0/24"]

[[instance]]
id = "web-HOST"
service = "web"
port = 8081
root = "/srv/web"
activate_timeout_s = 20
driver = {{ type = "systemd", unit = "web.service" }}
check = {{ type = "http", url = "http://127.0.0.1:8081/VERSION", contains = "{{version}}", settle_s = 0.5 }}
"""
WEB: Final = """\
[Unit]
Description=a service that releasehand looks after
[Service]
ExecStart=/srv/web/current/run
Restart=always
RestartSec=200ms
[Install]
WantedBy=multi-user.target
"""
ORIGIN: Final = """\
import http.server, ssl
server = http.server.ThreadingHTTPServer(("0.0.0.0", 9443), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/etc/origin.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
RUN: Final = """\
#!/bin/sh
cd "$(dirname "$0")" && exec /usr/bin/python3 -m http.server --bind 127.0.0.1 8081
"""
SICK: Final = "#!/bin/sh\nexit 1\n"


def find_package() -> Path:
    """The newest .deb in dist/. Raises LabError."""
    found = sorted((ROOT / "dist").glob("releasehand-daemons_*.deb"), key=lambda file: file.stat().st_mtime)
    if not found:
        raise LabError("there is no .deb in dist/: make dist")
    return found[-1]


def make_archive(version: str, *, run: str = RUN, ballast_bytes: int = 0) -> bytes:
    """A package of the service: `run`, VERSION, and random bytes that make it big."""
    made = io.BytesIO()
    files = {"run": run.encode(), "VERSION": f"{version}\n".encode(), "ballast": bytes(ballast_bytes)}
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755 if name == "run" else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


@dataclass
class World:
    """Up and joined."""

    lab: Lab
    package: bytes  # the .deb, read once: dist/ may be built anew meanwhile

    @property
    def ctl(self) -> Host:
        return self.lab["ctl"]

    @property
    def hosts(self) -> list[Host]:
        return [host for name, host in self.lab.hosts.items() if name != "ctl"]

    def set_up(self) -> None:
        """Install the package everywhere, start a controller and an origin, have every host join."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.install, self.lab.hosts.values()))
        self._make_origin()
        self.ctl.put("/etc/releasehand/controller.toml", CONTROLLER)
        self.ctl.run("chgrp releasehand /etc/releasehand/controller.toml")
        self.ctl.run("chmod 640 /etc/releasehand/controller.toml")
        self.ctl.run("systemctl enable --now releasehand-controller")
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.join, self.hosts))

    def install(self, host: Host) -> None:
        """The package, over an older one where there is one."""
        host.put("/root/releasehand.deb", self.package)
        host.run("dpkg -i /root/releasehand.deb && rm /root/releasehand.deb", timeout_s=300)

    def start_origin(self) -> None:
        """Hand out packages over HTTPS."""
        self.ctl.run(
            "systemd-run --unit=origin --working-directory=/opt/packages /usr/bin/python3 /opt/origin.py"
        )

    def _make_origin(self) -> None:
        authority = trustme.CA()
        leaf = authority.issue_cert("ctl")
        with tempfile.TemporaryDirectory() as folder:
            authority.cert_pem.write_to_path(Path(folder) / "ca.pem")
            ca = (Path(folder) / "ca.pem").read_bytes()
        self.ctl.put("/etc/origin.pem", leaf.private_key_and_cert_chain_pem.bytes(), mode=0o600)
        self.ctl.put("/opt/origin.py", ORIGIN)
        self.ctl.run("mkdir -p /opt/packages")
        self.start_origin()
        for host in self.hosts:
            host.put("/etc/releasehand/packages-ca.pem", ca)

    def join(self, host: Host) -> None:
        """From a host with the package alone to an agent that is online."""
        host.put("/etc/systemd/system/web.service", WEB)
        host.put("/etc/releasehand/agent.toml", AGENT.replace("HOST", host.name))
        host.run("mkdir -p /srv/web")
        invitation = self.call("POST", "/v1/join-token", {"host": host.name})["data"]
        host.run(invitation["command"])
        host.run(
            "systemctl daemon-reload && systemctl enable -q web && systemctl enable --now releasehand-agent"
        )
        wait_for(lambda: self.sees(host), 30, f"the controller sees {host.name}")

    # what is asked of the controller, by a caller beside it

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """The whole envelope, whatever its code."""
        given = f"-H 'Content-Type: application/json' -d '{json.dumps(body)}'" if body is not None else ""
        ran = self.ctl.run(
            f"curl -sS -m 90 -X {method} -H 'Authorization: Bearer {TOKEN}' {given} '{API}{path}'"
        )
        answer: dict[str, Any] = json.loads(ran.output)
        return answer

    def sees(self, host: Host) -> bool:
        ran = self.ctl.run(
            f"curl -sS -m 5 -H 'Authorization: Bearer {TOKEN}' '{API}/v1/service/web/instances'", check=False
        )
        try:
            instances = json.loads(ran.output)["data"]["instances"]
        except (ValueError, KeyError, TypeError):  # unknown as yet
            return False
        return any(
            one["instance_id"] == f"web-{host.name}" and one.get("status_reason") != "agent_offline"
            for one in instances
        )

    def publish(self, version: str, **more: Any) -> str:
        """Put a package where agents find it; its URL."""
        self.ctl.put(f"/opt/packages/{version}.tar", make_archive(version, **more))
        return f"https://ctl:9443/{version}.tar"

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
            found.update(self.call("GET", f"/v1/deployment/{deploy_id}?wait=5s")["data"])
            return found["status"] in {"completed", "failed", "cancelled"}

        wait_for(has_ended, within_s, f"{deploy_id} ends")
        return found
