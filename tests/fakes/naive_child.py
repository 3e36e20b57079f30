"""An unpacking child whose strict reader was replaced by tarfile without a filter: what a bug could come to.

Started and sandboxed as agent.unpack.child is: the second layer alone stands between it and the host.
"""

import json
import os
import sys
import tarfile

from agent.unpack import sandbox
from agent.unpack.limits import Limits


def main() -> None:
    """Carry out the order on stdin as badly as possible."""
    order = json.loads(sys.stdin.buffer.readline())
    destination = order["destination_fd"]
    with open(order["package_fd"], "rb", closefd=False) as package:
        archive = tarfile.TarFile(fileobj=package, errorlevel=2)
        os.fchdir(destination)
        sandbox.confine(destination, Limits(**order["limits"]), order["user"])
        sandbox.forbid_processes()
        failures = []
        for member in archive:
            try:
                archive.extract(member, ".", filter="fully_trusted")
            except Exception as exc:  # noqa: BLE001 — whatever it is, the next member is tried
                failures.append(f"{member.name}: {type(exc).__name__}")
    print(json.dumps(failures))  # noqa: T201


main()
