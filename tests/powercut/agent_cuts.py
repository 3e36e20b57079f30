"""Power cuts of a host while its agent works: what a controller was told must hold, and one whole release be
current, whenever the power went."""

import asyncio
import json
import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import psutil

from releasehand.model.status import OperationKind, Phase
from shared.clock import SystemClock
from tests.fakes.origin import Origin
from tests.fakes.waiting import until
from tests.faults.forks import ForkServer
from tests.faults.injection.scenes import Package, command, publish
from tests.faults.injection.truth import Expected, current, judge_after_fault, judge_end, read_journal
from tests.faults.order import END, Order, ended_file
from tests.powercut.disk import Boots, Disk, cut_power

_CHECKPOINTS: Final = (
    *("downloading:entered", "fetched", "unpacked", "committed", "staged:entered", "activating:entered"),
    *("switched", "restarted", "checking:entered", "checked", "done:entered"),
)
_ROLLBACK_POINTS: Final = _CHECKPOINTS[4:]
_FILES: Final = 40
_WEIGHT_BYTES: Final = 200_000


class BrokenHostError(Exception):
    """An earlier cut left a host that cannot be worked with any more."""


@dataclass
class Count:
    """Cuts of one kind, what was wrong after them, and how many of them lost what nobody had made durable."""

    cuts: int = 0
    violations: list[str] = field(default_factory=list)
    lost_canaries: int = 0
    acked: int = 0


@dataclass
class Host:
    """One host whose disk lives through all the cuts."""

    disk: Disk
    boots: Boots
    server: ForkServer
    origin: Origin
    port: int
    orders: Path
    keep: frozenset[int]
    """Processes that go on when the power of the host goes."""
    dice: random.Random
    packages: dict[str, Package] = field(default_factory=dict)
    good: list[str] = field(default_factory=list)
    """Versions that were live, the newest last."""
    generation: int = 0
    typical_s: float = 1.0
    counts: dict[str, Count] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.disk.mount / "host"

    async def begin(self) -> None:
        """Bring a first release up, and learn how long that takes."""
        self.folder.mkdir()
        clock = SystemClock()
        for _ in range(2):
            began = clock.monotonic()
            order, target = self._next(forward=True)
            code = await self.server.carry_out(order.write(self._path()))
            assert code == 0, self._log()
            self.typical_s = clock.monotonic() - began
            self.good.append(target)
            await self._end_processes()

    async def cut(self, kind: str) -> None:
        """One operation, one cut of `kind` ("at random", "at a step" or "after the end"), one recovery."""
        count = self.counts.setdefault(kind, Count())
        count.cuts += 1
        previous = self.good[-1]
        order, target = self._next(forward=self.dice.random() < 0.75)
        kind_of = "rollback" if target in self.good else "deployment"
        after, told = await self._lose_power(order, kind)
        canary = self.disk.mount / "canary"
        complaint = await asyncio.to_thread(self.disk.power_up)
        self.boots.begin()
        count.lost_canaries += not (canary.exists() and canary.read_text() == str(self.generation))
        count.acked += any(move["end"] for move in told)
        wrong = [f"fsck: {complaint}"] if complaint else []
        wrong += judge_after_fault(self.folder, self.packages.values(), live={target, previous})
        wrong += self._judge_journal(told)
        again = replace(order, cut_at="", runs="")
        code = await self.server.carry_out(again.write(self._path("-again")))
        if code:
            wrong.append(f"the next start ends with {code}: {self._log('-again')[-2000:]}")
        else:
            expected = Expected(self.generation, {Phase.DONE: target}, self.packages)
            wrong += judge_end(self.folder, expected)
            wrong += self._judge_reports(told)
        await self._end_processes()
        count.violations += [f"{kind_of} cut {after}: {line}" for line in wrong]
        self.good = [*[one for one in self.good if one != target], target]
        self._forget()

    def _next(self, *, forward: bool) -> tuple[Order, str]:
        self.generation += 1
        kept = {path.name.rpartition("-")[0] for path in self.folder.glob("srv/releases/*")}
        older = [version for version in self.good[:-1] if version in kept]
        kind = OperationKind.DEPLOYMENT if forward or not older else OperationKind.ROLLBACK
        target = self.dice.choice(older) if kind is OperationKind.ROLLBACK else f"v{self.generation}"
        if target not in self.packages:
            self.packages[target] = publish(
                self.origin, target, "good", weight_bytes=_WEIGHT_BYTES, more_files=_FILES
            )
        asked = command(self.packages[target], self.generation, kind)
        order = Order(
            folder=str(self.folder),
            port=self.port,
            ca_file=str(self.origin.ca_file),
            command=asked.model_dump_json(),
            runs=self.packages[self.good[-1]].release if self.good else "",
            speak=True,
            mount=str(self.disk.mount),
        )
        return order, target

    async def _lose_power(self, order: Order, kind: str) -> tuple[str, list[dict[str, Any]]]:
        """Carry the order out until the power goes; returns when that was, for people, and what had been told
        by then. What is said while it goes does not count: nobody could say anything any more."""
        told: list[dict[str, Any]] = []
        canary = self.disk.mount / "canary"
        match kind:
            case "after the end":
                order, after = replace(order, cut_at=END), "after the end was told"
            case "at a step":
                rollback = json.loads(order.command)["kind"] == OperationKind.ROLLBACK
                point = self.dice.choice(_ROLLBACK_POINTS if rollback else _CHECKPOINTS)
                order, after = replace(order, cut_at=point), f"at {point}"
            case _:
                after = ""
        work = asyncio.create_task(self.server.carry_out(order.write(self._path())))
        if not after:
            after_s = self.dice.uniform(0, 1.1 * self.typical_s)
            after = f"after {after_s:.3f} s"
            await SystemClock().sleep(after_s)
            canary.write_text(str(self.generation))
            told = self._told()
            cut_power(self.disk.mount)
            await self._end_processes()
        code = await work
        if code != -signal.SIGKILL and kind != "at random":
            raise BrokenHostError(
                f"{after} was never reached; the agent ended with {code}: {self._log()[-2000:]}"
            )
        await self._end_processes()
        return after, told if kind == "at random" else self._told()

    async def _end_processes(self) -> None:
        """The host is off: nothing of it runs on."""

        def left() -> list[psutil.Process]:
            found = [one for one in psutil.process_iter() if one.pid not in self.keep]
            return [one for one in found if _runs(one)]

        def kill() -> bool:
            for process in left():
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            return not left()

        await until(kill)

    def _judge_journal(self, told: list[dict[str, Any]]) -> Iterator[str]:
        """What the journal says before anybody repaired anything."""
        copy = self.orders / "journal"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for path in (self.folder / "state").glob("agent.db*"):
            shutil.copy(path, copy)
        try:
            record, _, _ = read_journal(copy / "agent.db", self.generation)
        except ValueError:
            if told:
                yield "the journal does not know what it had told of"
            return
        target = next(one.release for one in self.packages.values() if one.version == record.command.version)
        if record.phase is Phase.DONE and current(self.folder / "srv") != target:
            yield f"the journal says done, and current names {current(self.folder / 'srv')}"
        if told and told[-1]["end"] and record.phase != told[-1]["entered"]:
            yield f"the end was told and lost: the journal says {record.phase}"

    def _judge_reports(self, told: list[dict[str, Any]]) -> Iterator[str]:
        """What was told before the cut is what is told after it, number by number."""
        moves = json.loads(ended_file(self.folder).read_bytes())["moves"]
        now = {move["n"]: move for move in moves}
        for move in told:
            if now.get(move["n"]) != move:
                entered = now[move["n"]]["entered"] if move["n"] in now else "nothing"
                yield f"report {move['n']} told {move['entered']} and now tells {entered}, or otherwise"

    def _told(self) -> list[dict[str, Any]]:
        lines = self._log().splitlines()
        moves = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [move for move in moves if move.get("generation") == self.generation]

    def _path(self, suffix: str = "") -> Path:
        return self.orders / f"{self.generation}{suffix}.json"

    def _log(self, suffix: str = "") -> str:
        path = self._path(suffix).with_suffix(".log")
        return path.read_text(errors="replace") if path.exists() else ""

    def _forget(self) -> None:
        for path in self.orders.glob(f"{self.generation}*"):
            path.unlink()


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False
