"""The service of these tests: it answers with its version, and writes a line for each start of it.

It runs by itself with the standard library alone. `release.txt` beside it holds its version and its manner:

    good    comes up
    sick    answers 500 once, then ends: it does not come up
    deadly  kills its parent, which is the agent that starts it, and ends
    gated   answers 503 until the file named by GATE is there
"""

import os
import signal
import socket
from pathlib import Path


def main() -> None:
    version, manner = Path(__file__).with_name("release.txt").read_text(encoding="ascii").split()
    starts = os.open(os.environ["STARTS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(starts, f"{version} {os.getpid()}\n".encode())
    if manner == "deadly":
        os.kill(os.getppid(), signal.SIGKILL)
        return
    gate = Path(os.environ["GATE"])
    with socket.create_server(("127.0.0.1", int(os.environ["RELEASEHAND_PORT"]))) as server:
        while True:
            well = manner != "sick" and (manner != "gated" or gate.exists())
            answer(server, "200 OK" if well else "500 Not well", f'"{version}" {os.getpid()}\n')
            if manner == "sick":
                return


def answer(server: socket.socket, status: str, body: str) -> None:
    connection, _ = server.accept()
    with connection:
        connection.settimeout(2)
        try:
            connection.recv(65_536)
            head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            connection.sendall(f"{head}{body}".encode())
        except OSError:
            return  # a client that left, or said nothing


if __name__ == "__main__":
    main()
