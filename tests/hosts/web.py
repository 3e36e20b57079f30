"""The service that hosts of the lab look after, its packages, and where they come from."""

import hashlib
import io
import tarfile
import tempfile
from pathlib import Path
from typing import Final

import trustme

from .host import HERE, Host

# Waits while somebody holds this version there, so that a test finds an attempt in the phase that it wants.
GATE: Final = """\
#!/bin/sh
while [ -e "/run/hold/$1-$(cat /srv/web/current/VERSION)" ]; do sleep 0.05; done
"""
UNIT: Final = """\
[Unit]
Description=a service that releasehand looks after
[Service]
ExecStartPre=/usr/local/bin/gate start
ExecStart=/srv/web/current/run
TimeoutStartSec=300
Restart=always
RestartSec=200ms
[Install]
WantedBy=multi-user.target
"""
RUN: Final = """\
#!/bin/sh
/usr/local/bin/gate answer
cd "$(dirname "$0")" && exec /usr/bin/python3 -m http.server --bind 127.0.0.1 8081
"""
SICK: Final = "#!/bin/sh\nexit 1\n"
ORIGIN_UNIT: Final = """\
[Service]
WorkingDirectory=/opt/packages
ExecStart=/usr/bin/python3 /opt/origin.py /etc/origin.pem
Restart=always
[Install]
WantedBy=multi-user.target
"""


def make_archive(version: str, *, run: str = RUN, ballast_bytes: int = 0) -> bytes:
    """A package of the service: `run`, VERSION, and zeros that make it big."""
    made = io.BytesIO()
    files = {"run": run.encode(), "VERSION": f"{version}\n".encode(), "ballast": bytes(ballast_bytes)}
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755 if name == "run" else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def publish(origin: Host, version: str, *, run: str = RUN, ballast_bytes: int = 0) -> None:
    """Put a package and its digest where agents find them."""
    archive = make_archive(version, run=run, ballast_bytes=ballast_bytes)
    digest = hashlib.sha256(archive).hexdigest()
    origin.put(f"/opt/packages/{version}.tar.sha256", f"{digest}  {version}.tar\n")
    origin.put(f"/opt/packages/{version}.tar", archive)


def set_up_origin(host: Host) -> bytes:
    """Serve packages over HTTPS, also after a boot; returns the authority to trust."""
    authority = trustme.CA()
    leaf = authority.issue_cert(host.name)
    with tempfile.TemporaryDirectory() as folder:
        authority.cert_pem.write_to_path(Path(folder) / "ca.pem")
        ca = (Path(folder) / "ca.pem").read_bytes()
    host.put("/etc/origin.pem", leaf.private_key_and_cert_chain_pem.bytes(), mode=0o600)
    host.put("/opt/origin.py", (HERE / "origin.py").read_bytes())
    host.put("/etc/systemd/system/origin.service", ORIGIN_UNIT)
    host.run("mkdir -p /opt/packages && systemctl daemon-reload && systemctl enable -q --now origin")
    return ca


def set_up_service(host: Host) -> None:
    """The unit, enabled; nothing is deployed yet."""
    host.put("/usr/local/bin/gate", GATE, mode=0o755)
    host.put("/etc/systemd/system/web.service", UNIT)
    host.run("mkdir -p /srv/web && systemctl daemon-reload && systemctl enable -q web")
