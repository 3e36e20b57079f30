"""What is kept and what goes: the rule by itself over long random histories, and done on a real root."""

import os
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.core.retention import Removal, Stored, decide_removals, find_previous
from agent.journal import open_shelf
from agent.retention import tree_bytes
from releasehand.model.status import Phase
from tests.fakes.host import INSTANCE, Host, deploy, package_of, ref_of, rollback, url_of

pytestmark = pytest.mark.slow

# The rule.


def good(name: str, at: int, *, installed: int = 0, pinned: bool = False, size_bytes: int = 10) -> Stored:
    return Stored(name, True, installed or at, at, pinned, size_bytes)


def failed(name: str, at: int, *, size_bytes: int = 10) -> Stored:
    return Stored(name, False, at, size_bytes=size_bytes)


def untried(name: str, at: int) -> Stored:
    return Stored(name, None, at, size_bytes=10)


def names(removals: list[Removal]) -> list[str]:
    return [one.name for one in removals]


def decide(*stored: Stored, current: str = "", keep: int = 2, keep_bytes: int | None = None) -> list[str]:
    return names(decide_removals(stored, current=current, in_use=set(), keep=keep, keep_bytes=keep_bytes))


def test_only_good_releases_count() -> None:
    kept = [good("v1", 1), good("v2", 2), good("v3", 3)]
    broken = [failed(f"bad-{number}", number) for number in range(4, 24)]
    assert decide(*kept, *broken, current="v3", keep=3) == [f"bad-{number}" for number in range(4, 23)]


def test_the_oldest_good_ones_go_when_there_are_too_many() -> None:
    assert decide(*(good(f"v{n}", n) for n in range(1, 6)), current="v5", keep=3) == ["v1", "v2"]


def test_the_one_before_is_kept_even_where_one_is_to_be_kept() -> None:
    assert decide(good("v1", 1), good("v2", 2), good("v3", 3), current="v3", keep=1) == ["v1"]


def test_after_a_rollback_both_meanings_of_the_one_before_are_kept() -> None:
    stored = [good("v1", 1), good("v2", 4, installed=2), good("v3", 3)]  # v2 is active again, after v3
    assert find_previous(stored, "v2") == {"v1", "v3"}
    assert decide(*stored, current="v2", keep=1) == []


def test_a_pinned_release_stays_and_takes_no_place() -> None:
    stored = [good("v1", 1, pinned=True), good("v2", 2), good("v3", 3), good("v4", 4)]
    assert decide(*stored, current="v4", keep=2) == ["v2"]


def test_what_an_attempt_works_with_stays() -> None:
    stored = [good("v1", 1), good("v2", 2), good("v3", 3), untried("v4", 4)]
    gone = decide_removals(stored, current="v3", in_use={"v1", "v4"}, keep=1, keep_bytes=0)
    assert gone == []


def test_untried_ones_take_the_places_that_good_ones_leave() -> None:
    stored = [untried("u1", 1), untried("u2", 2), untried("u3", 3), good("v4", 4)]
    assert decide(*stored, current="v4", keep=3) == ["u1"]


def test_over_the_budget_failed_ones_go_first_then_the_oldest_and_never_what_is_needed() -> None:
    stored = [good("v1", 1), good("v2", 2), good("v3", 3), good("v4", 4), failed("bad", 5), untried("u", 6)]
    for budget, gone in (
        (60, []),
        (59, ["bad"]),
        (49, ["bad", "u"]),
        (39, ["bad", "u", "v1"]),
        (1, ["bad", "u", "v1", "v2"]),
    ):
        assert decide(*stored, current="v4", keep=9, keep_bytes=budget) == gone


def test_each_removal_says_why() -> None:
    stored = [good("v1", 1), good("v2", 2), good("v3", 3), failed("b1", 4), failed("b2", 5), untried("u", 6)]
    removals = decide_removals(stored, current="v3", in_use=set(), keep=2, keep_bytes=25)
    assert {one.name: one.reason for one in removals} == {
        "b1": "it failed here, and a newer one failed since",
        "u": "it was never active, and 2 releases are to be kept",
        "v1": "2 releases are to be kept, and newer ones were good",
        "b2": "all releases take 30 bytes, and 25 are allowed",
    }


# Long histories.


@dataclass
class Model:
    """What an instance's journal says after any history, without a disk."""

    keep: int
    keep_bytes: int | None
    stored: dict[str, Stored] = field(default_factory=dict)
    current: str = ""
    clock: int = 0

    def deploy(self, *, well: bool, size_bytes: int) -> None:
        name = self.stage(size_bytes)
        self.activate(name, well=well)

    def stage(self, size_bytes: int) -> str:
        self.clock += 1
        name = f"v{self.clock}"
        self.stored[name] = Stored(name, None, self.clock, size_bytes=size_bytes)
        return name

    def activate(self, name: str, *, well: bool) -> None:
        self.clock += 1
        if well:
            self.stored[name] = replace(self.stored[name], good=True, activated=self.clock)
            self.current = name
        elif name != self.current:
            self.stored[name] = replace(self.stored[name], good=False)
            if self.current:  # the revert
                self.stored[self.current] = replace(
                    self.stored[self.current], good=True, activated=self.clock
                )
        self.prune()

    def roll_back(self, dice: random.Random, *, well: bool) -> None:
        choice = [one.name for one in self.stored.values() if one.good and one.name != self.current]
        if choice:
            self.activate(dice.choice(sorted(choice)), well=well)

    def pin(self, dice: random.Random, *, pinned: bool) -> None:
        if self.stored:
            name = dice.choice(sorted(self.stored))
            self.stored[name] = replace(self.stored[name], pinned=pinned)

    def cancel(self, size_bytes: int) -> None:
        del self.stored[self.stage(size_bytes)]

    def crash(self, size_bytes: int) -> None:
        """The agent dies with a staged release; somebody prunes by hand before it goes on."""
        name = self.stage(size_bytes)
        self.prune(in_use={name})
        assert name in self.stored
        self.activate(name, well=True)

    def prune(self, in_use: frozenset[str] | set[str] = frozenset()) -> None:
        before = dict(self.stored)
        needed = (
            {self.current} & set(before) | find_previous(list(before.values()), self.current) | set(in_use)
        )
        needed |= {one.name for one in before.values() if one.pinned}
        removals = decide_removals(
            list(before.values()),
            current=self.current,
            in_use=in_use,
            keep=self.keep,
            keep_bytes=self.keep_bytes,
        )
        gone = names(removals)
        assert len(gone) == len(set(gone))
        assert needed <= set(before) - set(gone), "something needed was named"
        assert all(one.reason for one in removals)
        for name in gone:
            del self.stored[name]
        self.check_bounds(needed)

    def check_bounds(self, needed: set[str]) -> None:
        free = [one for one in self.stored.values() if one.name not in needed]
        assert len([one for one in free if one.good]) <= self.keep - bool(self.current)
        assert len([one for one in free if one.good is False]) <= 1
        total = sum(one.size_bytes for one in self.stored.values())
        assert self.keep_bytes is None or total <= self.keep_bytes or not free
        again = decide_removals(
            list(self.stored.values()),
            current=self.current,
            in_use=needed,
            keep=self.keep,
            keep_bytes=self.keep_bytes,
        )
        assert again == [], "what is left is what would be kept"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32),
    keep=st.integers(1, 8),
    keep_bytes=st.one_of(st.none(), st.integers(1, 400)),
)
def test_nothing_needed_ever_goes_in_a_thousand_operations(
    seed: int, keep: int, keep_bytes: int | None
) -> None:
    dice, model = random.Random(seed), Model(keep, keep_bytes)
    operations: list[Callable[[], None]] = [
        lambda: model.deploy(well=True, size_bytes=dice.randrange(100)),
        lambda: model.deploy(well=False, size_bytes=dice.randrange(100)),
        lambda: model.roll_back(dice, well=True),
        lambda: model.roll_back(dice, well=False),
        lambda: model.pin(dice, pinned=True),
        lambda: model.pin(dice, pinned=False),
        lambda: model.pin(dice, pinned=False),
        lambda: model.cancel(dice.randrange(100)),
        lambda: model.crash(dice.randrange(100)),
    ]
    for _ in range(1_000):
        dice.choice(operations)()


# On a real root, by the real runner.


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    host = Host(tmp_path)
    host.section = {"keep_releases": 3}
    for number in range(1, 40):
        host.fetcher.packages[url_of(f"v{number}")] = package_of(f"v{number}")
    async with host.boot() as host:
        yield host


def on_disk(host: Host) -> list[str]:
    """The versions kept, by name; nothing but releases and their notes may be there."""
    folder = host.root / "releases"
    found = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    notes = sorted(path.name for path in folder.iterdir() if path.name.startswith("."))
    assert notes == [f".{name}.json" for name in found]
    return sorted((name.partition("-")[0] for name in found), key=lambda version: int(version[1:]))


async def settle(host: Host) -> None:
    """Wait until what follows the last report is done: the next attempt is begun only then."""
    [state] = await host.executor.states()
    await host.carry_out(rollback("v0", max(1, state.generation), attempt=9))


async def test_the_newest_good_ones_are_kept_and_twenty_failures_push_none_out(host: Host) -> None:
    for number in range(1, 5):
        await host.carry_out(deploy(f"v{number}", number))
    host.check.sick = lambda version: int(version[1:]) > 4
    for number in range(5, 25):
        assert (await host.carry_out(deploy(f"v{number}", number))).entered is Phase.REVERTED
    assert (await host.carry_out(rollback("v2", 25))).entered is Phase.DONE
    await settle(host)
    assert on_disk(host) == ["v2", "v3", "v4", "v24"]  # the last failure stays for a look
    rows = {one.release for one in await host.journal.releases(INSTANCE)}
    assert rows == {path.name for path in (host.root / "releases").iterdir() if path.name[0] != "."}
    assert host.left_over() == []


async def test_a_budget_takes_what_is_not_needed(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.section = {"keep_releases": 9, "keep_bytes": 1}
    async with host.boot():
        for number in range(1, 4):
            await host.carry_out(deploy(f"v{number}", number))
        await settle(host)
        assert on_disk(host) == ["v2", "v3"]


async def test_a_broken_link_lets_nothing_go(host: Host) -> None:
    for number in range(1, 4):
        await host.carry_out(deploy(f"v{number}", number))
    await settle(host)

    def spoil(name: str) -> None:
        if name == "done:entered":
            (host.root / "current").unlink()
            (host.root / "current").symlink_to("/somewhere/else")

    host.checkpoint = spoil
    await host.carry_out(deploy("v4", 4))
    await settle(host)
    assert on_disk(host) == ["v1", "v2", "v3", "v4"]


async def test_an_old_release_that_cannot_be_removed_stops_nothing(host: Host) -> None:
    for number in range(1, 4):
        await host.carry_out(deploy(f"v{number}", number))

    def spoil(name: str) -> None:
        if name == "done:entered":
            (host.root / ".staging").rmdir()
            (host.root / ".staging").write_text("a file of somebody's")

    host.checkpoint = spoil
    assert (await host.carry_out(deploy("v4", 4))).entered is Phase.DONE
    host.checkpoint = lambda _: None
    await settle(host)
    assert on_disk(host) == ["v1", "v2", "v3", "v4"]
    (host.root / ".staging").unlink()
    assert (await host.carry_out(rollback("v1", 5))).entered is Phase.DONE
    await settle(host)
    assert on_disk(host) == ["v1", "v3", "v4"]


def test_a_tree_is_measured_in_blocks_and_a_file_of_two_names_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10_000)
    alone = tree_bytes(tmp_path)
    assert alone >= 10_000
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    assert tree_bytes(tmp_path) == alone


SEEDS = range(30 if os.environ.get("HYPOTHESIS_PROFILE") == "explore" else 1)


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_happened_a_host_can_always_go_back(tmp_path: Path, seed: int) -> None:
    """Deployments good and bad, rollbacks, pins, cancels and crashes, in a random order."""
    dice, host = random.Random(seed), Host(tmp_path)
    keep = dice.randint(1, 4)
    host.section = {"keep_releases": keep}
    bad: set[str] = set()
    host.check.sick = lambda version: version in bad
    generation = 0
    for _ in range(4):  # each round ends with a kill
        async with host.boot():
            for _ in range(10):
                generation += 1
                version = f"v{generation}"
                host.fetcher.packages[url_of(version)] = package_of(version)
                live, pinned = host.live_version, await pinned_versions(host)
                kept = await good_versions(host)
                operation = dice.choice(["good", "good", "bad", "rollback", "pin", "unpin", "cancel"])
                match operation:
                    case "good":
                        assert (await host.carry_out(deploy(version, generation))).entered is Phase.DONE
                    case "bad":
                        bad.add(version)
                        assert (await host.carry_out(deploy(version, generation))).entered is Phase.REVERTED
                        assert host.live_version == live
                    case "rollback" if len(kept) > 1:
                        target = dice.choice([one for one in kept if one != live])
                        host.fetcher.packages.clear()  # the origin is gone
                        assert (await host.carry_out(rollback(target, generation))).entered is Phase.DONE
                        assert host.live_version == target
                    case "pin" | "unpin" as verb if kept:
                        choice = dice.choice(kept)
                        row = next(o for o in await host.journal.releases(INSTANCE) if o.version == choice)
                        with open_shelf(host.directory / "agent.db", INSTANCE) as shelf:
                            shelf.pin(row.release, version="", sha256="", pinned=verb == "pin")
                        pinned = await pinned_versions(host)
                    case "cancel":
                        await host.executor.cancel(ref_of(generation))
                        await host.carry_out(deploy(version, generation + 1))
                        generation += 1
                    case _:
                        pass
                await settle(host)
                after = set(on_disk(host))
                assert pinned <= after
                assert host.live_version in after | {""}
                assert len(await good_versions(host)) >= min(2, len(kept))
                unpinned = [one for one in await good_versions(host) if one not in pinned]
                if operation in {"good", "bad"}:  # the others remove nothing, or had nothing to do
                    assert len(unpinned) <= max(keep, 3)
                assert host.left_over() == []


async def good_versions(host: Host) -> list[str]:
    return [one.version for one in await host.journal.releases(INSTANCE) if one.good]


async def pinned_versions(host: Host) -> set[str]:
    return {one.version for one in await host.journal.releases(INSTANCE) if one.pinned}
