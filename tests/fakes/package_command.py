"""`releasehand-agent package unpack`, for many packages in one process:

    python -I -c "<set sys.path>; from tests.fakes.package_command import main; main()" CONFIG FOLDER...

In each FOLDER it unpacks `package` into `dest`, which is there, and writes to stdout one JSON line: the exit
code and what was said. The command is the one that is installed, from its arguments to its exit."""

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout

from agent.__main__ import main as run_agent_command


def main() -> None:
    config, *folders = sys.argv[1:]
    for folder in folders:
        code, said = unpack(f"{folder}/package", f"{folder}/dest", config)
        sys.stdout.write(json.dumps([code, said]) + "\n")


def unpack(package: str, dest: str, config: str) -> tuple[int, str]:
    """The exit code, and all that the command printed."""
    sys.argv = ["releasehand-agent", "package", "unpack", package, dest, "--config", config]
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        try:
            run_agent_command()
        except SystemExit as end:
            return int(end.code or 0), said.getvalue()
    return 0, said.getvalue()
