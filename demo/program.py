"""The service that the demo releases: it answers over HTTP which version it is. Each package holds a copy.

It runs by itself with the standard library alone; what it is stands in `release.json` beside it."""

import http.server
import json
import os
import socketserver
import sys
from pathlib import Path


class Answer(http.server.BaseHTTPRequestHandler):
    """Every GET is told service, instance, version and process."""

    body = b""

    def do_GET(self) -> None:
        """Answer the same to every path."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        """Say nothing: the log is for what is worth reading."""


class Server(http.server.ThreadingHTTPServer):
    """Listens without asking the name service who this host is, which may take seconds."""

    daemon_threads = True

    def server_bind(self) -> None:
        """Bind and nothing else."""
        socketserver.TCPServer.server_bind(self)


def main() -> None:
    """Serve until SIGTERM."""
    release = json.loads(Path(__file__).with_name("release.json").read_text(encoding="utf-8"))
    name = f"{release['service']} {release['version']}"
    if not release["comes_up"]:
        sys.exit(f"{name} cannot start: it was built to fail")
    instance = os.environ["RELEASEHAND_INSTANCE"]
    said = {"service": release["service"], "instance": instance, "version": release["version"]}
    Answer.body = json.dumps({**said, "pid": os.getpid()}).encode()
    server = Server(("127.0.0.1", int(os.environ["RELEASEHAND_PORT"])), Answer)
    sys.stdout.write(f"{name} listens on port {server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
