"""The real controller, which kills itself at a point of its work:

    controller_main.py --config FILE --arm FILE

While the armed file holds "POINT N", the N-th passing of that checkpoint removes the file and ends the
process by SIGKILL. It is read at each checkpoint: a test arms a controller that runs, and one that starts
after the kill is not armed."""

import asyncio
import os
import signal
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from controller.app import serve_until_told
from controller.config import load_config
from shared.logs import configure_logs


def main(arguments: Sequence[str]) -> None:
    parser = ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--arm", type=Path, required=True)
    asked = parser.parse_args(arguments)
    config = load_config(asked.config, {})
    configure_logs(config.log_format)
    asyncio.run(serve_until_told(config, checkpoint=make_checkpoint(asked.arm)))


def make_checkpoint(arm: Path) -> Callable[[str], None]:
    """A checkpoint that ends this process where the file says so."""
    passed: Counter[str] = Counter()  # by what was wanted: each arming counts from one

    def checkpoint(name: str) -> None:
        try:
            wanted = arm.read_text()
        except FileNotFoundError:
            return
        point, _, nth = wanted.partition(" ")
        if name == point:
            passed[wanted] += 1
            if passed[wanted] == int(nth.split()[0]):
                arm.unlink()
                os.kill(os.getpid(), signal.SIGKILL)

    return checkpoint


if __name__ == "__main__":
    main(sys.argv[1:])
