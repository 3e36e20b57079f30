"""Whether a process runs, as tests see it: by themselves, not by the code that they test."""

import os
from pathlib import Path


def is_alive(pid: int) -> bool:
    """A zombie is not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
