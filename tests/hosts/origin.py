"""Serves packages over HTTPS on a host of the lab: the files of its working directory.

    origin.py CERTIFICATE

While /run/hold/NAME is there, three quarters of NAME are sent, and the rest waits. Standard library alone:
it runs by the system's python3."""

import http.server
import shutil
import ssl
import sys
import time
from pathlib import Path
from typing import Any

HOLDS = Path("/run/hold")


class Handler(http.server.SimpleHTTPRequestHandler):
    """One that may be held in the middle of a file."""

    def copyfile(self, source: Any, outputfile: Any) -> None:
        hold = HOLDS / Path(self.path).name
        if hold.exists():
            whole = Path(self.translate_path(self.path)).stat().st_size
            outputfile.write(source.read(whole * 3 // 4))
            outputfile.flush()
            while hold.exists():
                time.sleep(0.05)
        shutil.copyfileobj(source, outputfile)


def main() -> None:
    server = http.server.ThreadingHTTPServer(("0.0.0.0", 9443), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
