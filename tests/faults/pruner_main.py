"""The real pruner on a real database, which kills itself at a point of its work:

    pruner_main.py --database URL --days N --arm FILE

It ends by itself when all that is older than N days is gone; without the armed file nothing kills it."""

import asyncio
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from controller.pruner import Pruner, Retention
from controller.store import Store
from controller.store.engine import Database
from shared.clock import SystemClock
from tests.fakes.keys import KEYRING
from tests.faults.controller_main import make_checkpoint


async def prune(url: str, kept: timedelta, arm: Path) -> None:
    clock = SystemClock()
    store = Store(Database(url), clock, KEYRING, make_checkpoint(arm))
    try:
        await Pruner(store, Retention(events=kept, history=kept), clock).prune()
    finally:
        await store.close()


def main(arguments: Sequence[str]) -> None:
    parser = ArgumentParser()
    parser.add_argument("--database", required=True)
    parser.add_argument("--days", type=int, required=True)
    parser.add_argument("--arm", type=Path, required=True)
    asked = parser.parse_args(arguments)
    asyncio.run(prune(asked.database, timedelta(days=asked.days), asked.arm))


if __name__ == "__main__":
    main(sys.argv[1:])
