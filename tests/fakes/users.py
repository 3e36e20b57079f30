"""Running programs as an ordinary user, where the tests are root."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

ORDINARY: Final = 12_345
"""User and group of nobody in particular."""


def become(user: int) -> list[str]:
    """setpriv itself still has root's capabilities when it starts a program; env starts ours without."""
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "env"]


def find_python(user: int | None) -> str:
    """An interpreter of our version that `user` can run; ours may lie below a closed home directory. Skips
    where there is none, or where this clone itself is closed to `user`."""
    if user is None:
        return sys.executable
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become another user, by setpriv")
    wanted = f"python3.{sys.version_info.minor}"
    for candidate in (os.path.realpath(sys.executable), f"/usr/bin/{wanted}", f"/usr/local/bin/{wanted}"):
        probe = [*become(user), candidate, "-I", "-c", "import sys; open(sys.argv[1]).close()", __file__]
        if subprocess.run(probe, check=False, capture_output=True, cwd="/").returncode == 0:
            return candidate
    pytest.skip("an ordinary user can run no interpreter of this version here, or not read this clone")


@contextmanager
def open_folder() -> Iterator[Path]:
    """A new folder that every user can pass to. pytest closes all that is in its own at each start, also for
    tests that run at that moment."""
    with tempfile.TemporaryDirectory(prefix="releasehand-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
