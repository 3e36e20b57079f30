"""Whether systemd-run works on this host: it speaks to systemd by the system bus (systemd-run(1), --wait)."""

import shutil
import socket
from pathlib import Path
from typing import Final

from agent.tool import MINIMAL_PATH

SYSTEM_BUS: Final = Path("/run/dbus/system_bus_socket")
_TIMEOUT_S: Final = 5.0


def find_lack_of_bus(bus: Path = SYSTEM_BUS) -> str:
    """What is missing, in words; "" for nothing."""
    if shutil.which("systemd-run", path=MINIMAL_PATH) is None:
        return "there is no systemd-run on this host"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as asked:
        asked.settimeout(_TIMEOUT_S)
        try:
            asked.connect(str(bus))
        except OSError as exc:
            return f"the system bus does not answer at {bus}: {exc.strerror or exc}"
    return ""
