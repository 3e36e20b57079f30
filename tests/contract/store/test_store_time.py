"""Whose time it is: the database's, where it has one."""

from datetime import timedelta

from controller.shared_clock import SharedClock
from controller.store import open_store
from shared.clock import SystemClock
from tests.fakes.clock import FakeClock
from tests.fakes.keys import KEYRING
from tests.fakes.ledger import Ledger
from tests.fakes.postgres import Postgres


async def test_a_wrong_clock_follows_the_database_where_that_has_one(ledger: Ledger) -> None:
    own = FakeClock()
    shared = SharedClock(own)
    if await shared.follow(ledger.store):
        assert abs(shared.now() - SystemClock().now()) < timedelta(seconds=5)
    else:
        assert shared.now() == own.now()
    own.advance(60)
    assert shared.monotonic() == own.monotonic()


async def test_controllers_with_different_clocks_agree_on_postgresql(postgres: Postgres) -> None:
    url = await postgres.empty("contract")
    times = []
    for hours in (0, 1, -1):
        own = FakeClock()
        own.advance(hours * 3_600)
        clock = SharedClock(own)
        store = await open_store(url, clock, KEYRING)
        await clock.follow(store)
        await clock.follow(store)
        times.append(clock.now())
        await store.close()
    assert max(times) - min(times) < timedelta(seconds=5)


async def test_a_small_difference_is_the_way_to_the_server_and_is_left_alone() -> None:
    class Source:
        async def skew(self) -> timedelta | None:
            return timedelta(milliseconds=150)

    own = FakeClock()
    clock = SharedClock(own)
    await clock.follow(Source())
    assert clock.now() == own.now()
