"""An nginx of one's own on loopback, serving one directory over HTTPS."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trustme

_CONFIG: Final = """
daemon off; master_process off; pid {work}/nginx.pid; error_log {work}/error.log; worker_rlimit_nofile 1024;
events {{ worker_connections 64; }}
http {{
    access_log off; sendfile on; tcp_nopush on; default_type application/octet-stream;
    client_body_temp_path {work}/t1; proxy_temp_path {work}/t2; fastcgi_temp_path {work}/t3;
    uwsgi_temp_path {work}/t4; scgi_temp_path {work}/t5;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {work}/server.pem; ssl_certificate_key {work}/server.key;
        root {root};
    }}
}}
"""


class NginxMissingError(Exception):
    """There is no nginx, and it could not be installed."""


@contextmanager
def serve(root: Path, work: Path) -> Iterator[tuple[str, Path]]:
    """Serve `root`; yield the URL without its last slash and the CA's file. `work` must be empty."""
    program = _find_nginx()
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(work / "ca.pem")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(work / "server.pem", append=True)
    certificate.private_key_pem.write_to_path(work / "server.key")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = work / "nginx.conf"
    config.write_text(_CONFIG.format(work=work, port=port, root=root))
    checked = subprocess.run(
        [program, "-t", "-c", config, "-p", work], capture_output=True, text=True, check=False
    )
    if checked.returncode:
        raise NginxMissingError(f"nginx does not take its configuration: {checked.stderr.strip()}")
    nginx = subprocess.Popen([program, "-c", config, "-p", work], stderr=subprocess.DEVNULL)
    url = f"https://localhost:{port}"
    try:
        ready = ["curl", "-sS", "--retry", "50", "--retry-connrefused", "--retry-delay", "1", "--cacert"]
        subprocess.run([*ready, work / "ca.pem", "-o", "/dev/null", url], check=True)
        yield url, work / "ca.pem"
    finally:
        nginx.terminate()
        nginx.wait()


def _find_nginx() -> str:
    places = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    if found := shutil.which("nginx", path=places):
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {"DEBIAN_FRONTEND": "noninteractive", "PATH": os.environ["PATH"]}
        install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", "nginx-light"]
        for command in (["apt-get", "update", "-qq"], install):
            subprocess.run(
                command, env=quiet, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=False
            )
        if found := shutil.which("nginx", path=places):
            return found
    raise NginxMissingError("the benchmark needs nginx (Debian: apt-get install nginx-light)")
