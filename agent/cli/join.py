"""`releasehand-agent join`: what was typed, what agent.toml says, and how it went."""

import asyncio
import os
import ssl
import sys
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from agent.config import HubUrl, read_config
from agent.join import JoinError, Wish, join
from agent.patience import Patience
from agent.start import BAD_CONFIG, CANNOT_RUN, DEFAULT_CONFIG, DEFAULT_STATE_DIR, tell_problems
from releasehand.model.fields import Name
from shared.clock import SystemClock
from shared.errors import ReleasehandError
from shared.join_token import MAX_TOKEN_CHARS, parse_join_token
from shared.settings import ConfigError


def run_join(
    url: str, token_file: Path, config: Path, agent_id: str, state_dir: Path | None, *, again: bool
) -> int:
    """The exit code: 0 when the host has joined, CANNOT_RUN, or BAD_CONFIG with every problem on stderr."""
    try:
        asked_id, configured_dir = _read_config(config, url)
        wish = Wish(
            url=TypeAdapter(HubUrl).validate_python(url).rstrip("/"),
            token=parse_join_token(_read_token(token_file)),
            agent_id=TypeAdapter(Name).validate_python(agent_id) if agent_id else asked_id,
            again=again,
        )
        if asked_id and agent_id not in ("", asked_id):
            raise JoinError(f"cannot join as '{agent_id}': {config} says agent_id = '{asked_id}'")
        patience = Patience(SystemClock(), _tell)
        outcome = asyncio.run(join(state_dir or configured_dir, wish, patience))
    except ConfigError as exc:
        tell_problems(config, exc.problems)
        return BAD_CONFIG
    except ValidationError as exc:
        return _fail(exc.errors()[0]["msg"])
    except (ReleasehandError, ssl.SSLError) as exc:
        return _fail(str(exc))
    except OSError as exc:
        return _fail(f"cannot join: {exc.filename or ''}: {exc.strerror or exc}")
    member = outcome.membership
    how = "joined" if outcome.fresh else "has joined before, and stays as it is (--again joins anew)"
    until = f"{member.ends_at:%Y-%m-%d %H:%M} UTC"
    sys.stdout.write(f"agent {member.agent_id} {how}: {member.url}, certificate until {until}\n")
    return 0


def _read_config(config: Path, url: str) -> tuple[str, Path]:
    """The agent's id and state directory; a host may join before anybody has written its configuration.
    Raises ConfigError, JoinError."""
    if not config.exists() and config == DEFAULT_CONFIG:
        return "", DEFAULT_STATE_DIR
    settings = read_config(config, os.environ)
    configured = settings.controller.url
    if configured and configured.rstrip("/") != url.rstrip("/"):
        raise JoinError(f"cannot join at {url}: {config} says controller.url = '{configured}'")
    return settings.agent_id or "", settings.state_dir


def _read_token(token_file: Path) -> str:
    """Raises OSError."""
    if str(token_file) == "-":
        return sys.stdin.read(MAX_TOKEN_CHARS * 2)
    return token_file.read_bytes()[: MAX_TOKEN_CHARS * 2].decode("ascii", "replace")


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _fail(text: str) -> int:
    sys.stderr.write(f"{text}\n")
    return CANNOT_RUN
