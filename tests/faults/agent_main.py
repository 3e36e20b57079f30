"""The real agent, which kills or stops itself at points of its work:

    agent_main.py --config FILE [--kill POINT:N]... [--hold POINT:N]... [--eager] [--impatient]

POINT is a name that the agent's checkpoint is told ("downloading:left", "switched"), N counts from 1 over
the life of the process. A kill is SIGKILL, a hold SIGSTOP: somebody else sends SIGCONT.
An eager agent connects again at once whenever its link is lost, so that many links take little time. An
impatient one gives up origins that fall silent for a moment."""

import asyncio
import os
import signal
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import random

from agent.config import load_config
from agent.daemon import run_agent
from agent.download.policy import DownloadPolicy
from agent.package_config import PackagesSection
from shared.logs import configure_logs


def main(arguments: Sequence[str]) -> None:
    parser = ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--kill", action="append", default=[])
    parser.add_argument("--hold", action="append", default=[])
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--impatient", action="store_true")
    asked = parser.parse_args(arguments)
    ends = dict.fromkeys(asked.kill, signal.SIGKILL) | dict.fromkeys(asked.hold, signal.SIGSTOP)
    config = load_config(asked.config, {})
    if asked.impatient:
        config = config.model_copy(update={"packages": Impatient.model_construct(**dict(config.packages))})
    configure_logs(config.log_format)
    jitter = _none if asked.eager else random
    asyncio.run(run_agent(config, jitter=jitter, checkpoint=make_checkpoint(ends)))


class Impatient(PackagesSection):
    """As configured, but for how long an origin may be silent."""

    def policy(self) -> DownloadPolicy:
        return replace(super().policy(), read_timeout_s=0.3)


def _none() -> float:
    return 0.0


def make_checkpoint(ends: dict[str, signal.Signals]) -> Callable[[str], None]:
    """A checkpoint that sends this process the signal of "POINT:N" when POINT is passed for the N-th time."""
    passed: Counter[str] = Counter()

    def checkpoint(name: str) -> None:
        passed[name] += 1
        if (number := ends.get(f"{name}:{passed[name]}")) is not None:
            os.kill(os.getpid(), number)

    return checkpoint


if __name__ == "__main__":
    main(sys.argv[1:])
