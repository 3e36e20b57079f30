"""The entry point of `releasehand-agent`."""

import sys
from pathlib import Path

from agent.start import DEFAULT_CONFIG, run_daemon


def main() -> None:
    """Run the command that was typed; ends with SystemExit.

    The daemon's own is read here, as units write it; all else, and other ways to write it, by agent.cli.app:
    a daemon shall not load what it never uses again."""
    match sys.argv[1:]:
        case ["run"]:
            sys.exit(run_daemon(DEFAULT_CONFIG))
        case ["run", "--config" | "-c", file]:
            sys.exit(run_daemon(Path(file)))
        case _:
            from agent.cli.app import app

            app()


if __name__ == "__main__":
    main()
