"""From a configuration file to a running agent, without the library that reads command lines: the daemon
stays for months, and would carry it along."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

DEFAULT_CONFIG: Final = Path("/etc/releasehand/agent.toml")
DEFAULT_STATE_DIR: Final = Path("/var/lib/releasehand-agent")
CANNOT_RUN: Final = 1
BAD_CONFIG: Final = 2


def run_daemon(config: Path) -> int:
    """Run in the foreground until SIGTERM or SIGINT. Returns the exit code: 0 when it was asked to stop,
    CANNOT_RUN, or BAD_CONFIG with every problem on stderr."""
    import asyncio

    from agent.config import AgentConfig, load_config
    from agent.daemon import run_agent
    from agent.link_file import link_dir
    from shared.clock import SystemClock
    from shared.errors import ReleasehandError
    from shared.logs import configure_logs, get_log
    from shared.settings import ConfigError
    from shared.supervisor import Supervisor

    async def serve(settings: AgentConfig) -> None:
        supervisor = Supervisor.from_environment(os.environ)
        async with supervisor.watch(SystemClock()):
            folder = link_dir(os.environ, settings.state_dir)
            await run_agent(settings, supervisor=supervisor, link_dir=folder)

    try:
        settings = load_config(config, os.environ)
    except ConfigError as exc:
        tell_problems(config, exc.problems)
        return BAD_CONFIG
    configure_logs(settings.log_format, program="releasehand-agent")
    try:
        asyncio.run(serve(settings))
    except (ReleasehandError, OSError) as exc:
        get_log("agent").error("agent could not go on", reason=str(exc))
        return CANNOT_RUN
    return 0


def tell_problems(config: Path, problems: Sequence[object]) -> None:
    """Say on stderr what is wrong with the file."""
    lines = [f"{config} cannot be used:", *(f"  {problem}" for problem in problems)]
    sys.stderr.write("\n".join(lines) + "\n")
