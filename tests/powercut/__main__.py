"""python -m tests.powercut [--cuts N] [--seed N]: cut the power of hosts and of the controller's database.

Works on a file system of its own, in a file, mounted in a namespace of its own: no mount of this machine is
touched, and nothing is left behind. Needs root and loop devices; without them it says so and ends with 0."""

import asyncio
import os
import random
import subprocess
import sys
from argparse import ArgumentParser
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.fakes.origin import run_origin
from tests.fakes.processes import free_ports
from tests.faults.forks import ROOT, open_server
from tests.powercut.agent_cuts import BrokenHostError, Count, Host
from tests.powercut.disk import Boots, Disk
from tests.powercut.ledger_cuts import cut_ledger

KINDS: Final = ("at random", "at random", "at a step", "after the end")
LEDGER_SHARE: Final = 4  # cuts of a host for each cut of the database
_UNSHARE: Final = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child")
_INSIDE: Final = "--inside"


def main() -> int:
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cuts", type=int, default=120, help="of hosts; the database gets a quarter more")
    parser.add_argument("--seed", type=int, default=20_261_121)
    parser.add_argument(_INSIDE, action="store_true", help="what the namespace is entered with")
    asked = parser.parse_args()
    if asked.inside:
        assert os.getpid() == 1, "it ends every process that it can see: it needs a namespace of its own"
        return asyncio.run(run(asked.cuts, asked.seed))
    if reason := why_not():
        say(f"skipped: {reason}")
        return 0
    inner = [sys.executable, "-m", "tests.powercut", _INSIDE, *sys.argv[1:]]
    return subprocess.run([*_UNSHARE, "--mount-proc", *inner], cwd=ROOT, check=False).returncode


def why_not() -> str:
    """Why power cuts cannot be simulated here, "" if they can."""
    if os.geteuid() != 0:
        return "simulated power cuts mount a file system, which only root may"
    with TemporaryDirectory() as folder:
        probe = [sys.executable, "-m", "tests.powercut.probe", folder]
        tried = subprocess.run([*_UNSHARE, *probe], cwd=ROOT, capture_output=True, text=True, check=False)
    return (
        "" if tried.returncode == 0 else f"no loop mount or no power cut here: {tried.stderr.strip()[-300:]}"
    )


async def run(cuts: int, seed: int) -> int:
    """Make them all; returns 1 if anything was violated."""
    dice = random.Random(seed)
    ports = free_ports()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        origin = await stack.enter_async_context(run_origin(folder))
        shots = await stack.enter_async_context(open_server("tests.faults.one_shot"))
        ledger = await stack.enter_async_context(open_server("tests.powercut.ledger"))
        disk, ledger_disk = Disk(folder, "host"), Disk(folder, "controller")
        stack.callback(ledger_disk.unmount)
        stack.callback(disk.unmount)
        keep = frozenset({os.getpid(), shots.pid, ledger.pid})
        host = Host(disk, Boots(folder), shots, origin, next(ports), folder, keep, dice)
        await host.begin()
        database = Count()
        for number in range(1, cuts + 1):
            kind = KINDS[number % len(KINDS)]
            try:
                await host.cut(kind)
            except BrokenHostError as exc:
                host.counts[kind].violations.append(str(exc))
                break
            if number % LEDGER_SHARE == 0:
                await cut_ledger(ledger_disk, ledger, folder, number, dice, database)
            done = sum(count.cuts for count in host.counts.values())
            if number % 10 == 0:
                say(f"{done} cuts of hosts, {database.cuts} of the database")
    return tell({**{f"host, {kind}": count for kind, count in host.counts.items()}, "database": database})


def tell(counts: dict[str, Count]) -> int:
    """Print the table."""
    say(f"\n{'power cut':<22} {'cuts':>5} {'told before':>12} {'unsynced lost':>14} {'violations':>11}")
    for kind, count in sorted(counts.items()):
        row = (count.cuts, count.acked, count.lost_canaries, len(count.violations))
        say(f"{kind:<22} {row[0]:>5} {row[1]:>12} {row[2]:>14} {row[3]:>11}")
    violations = [line for count in counts.values() for line in count.violations]
    for line in violations:
        say(line)
    total = sum(count.cuts for count in counts.values())
    say(f"{total} power cuts, {len(violations)} violations")
    if not any(count.lost_canaries for count in counts.values()):
        say("no cut lost anything that was not durable: these were no power cuts")
        return 1
    return 1 if violations else 0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
