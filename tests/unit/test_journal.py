"""The journal over real SQLite: what is durable, what is whole, and what a damaged file does."""

import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.core.instant import Instant
from agent.core.record import AttemptRecord, begin
from agent.journal import Change, Journal, JournalError, ReleaseMark
from agent.journal.journal import KEPT_ATTEMPTS
from agent.journal.query import KEY_NAME
from agent.journal.tables import FORMAT
from releasehand.model.status import Phase
from shared.attempt import Outcome
from tests.fakes.clock import START
from tests.fakes.host import INSTANCE, deploy, ref_of

NOW = Instant(boot_id="boot-1", boot_s=100.0, wall=START)


def accepted(generation: int = 1) -> AttemptRecord:
    return begin(deploy("v1", generation), NOW)


def cancelled(generation: int) -> AttemptRecord:
    return accepted(generation).moved(Outcome.CANCELLED, NOW)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "agent.db")
    yield journal
    await journal.close()


def moved_aside(directory: Path) -> list[Path]:
    return list(directory.glob("agent.db.damaged-*"))


async def test_what_was_committed_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    first = await Journal.open(path)
    record = accepted().moved(Outcome.OK, NOW)
    await first.commit(Change(accepted()), Change(record, broken="it is"))
    incarnation = first.incarnation
    await first.close()
    second = await Journal.open(path)
    assert second.incarnation == incarnation
    assert await second.attempts(INSTANCE) == [record]
    assert await second.broken(INSTANCE) == "it is"
    assert [move.n for move in await second.pending(after=0, limit=10)] == [1, 2]
    assert second.last_n == 2
    await second.close()


async def test_numbers_go_on_after_all_were_acknowledged_and_the_agent_restarted(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    first = await Journal.open(path)
    await first.commit(Change(accepted(1)), Change(accepted(2)))
    await first.acknowledge(2)
    assert await first.pending(after=0, limit=10) == []
    await first.close()
    second = await Journal.open(path)
    await second.commit(Change(accepted(3)))
    assert [move.n for move in await second.pending(after=0, limit=10)] == [3]
    await second.close()


async def test_the_file_is_as_durable_as_sqlite_can_make_it(journal: Journal, tmp_path: Path) -> None:
    await journal.commit(Change(accepted()))
    with sqlite3.connect(tmp_path / "agent.db") as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()
    level = await journal._run(lambda: journal._tables.execute("PRAGMA synchronous").fetchone()[0])
    assert level == 2


async def test_no_report_leaves_before_it_is_durable(journal: Journal) -> None:
    """Phases between the durable ones are committed without a sync; reading them for the link brings it."""
    await journal.commit(Change(accepted().moved(Outcome.OK, NOW)))
    assert journal._unsynced
    await journal.pending(after=0, limit=1)
    assert not journal._unsynced


async def test_a_failing_change_takes_the_others_of_its_transaction_with_it(journal: Journal) -> None:
    await journal.commit(Change(accepted(1)))
    await journal._run(lambda: journal._tables.execute("DROP TABLE release"))
    mark = ReleaseMark("v1-aaa", "v1", "", good=True)
    with pytest.raises(JournalError):
        await journal.commit(Change(accepted(2)), Change(accepted(3), releases=(mark,)))
    assert [one.ref.generation for one in await journal.attempts(INSTANCE)] == [1]
    assert journal.last_n == 1
    assert len(await journal.pending(after=0, limit=10)) == 1


async def test_a_cancelled_call_still_happens_whole(journal: Journal) -> None:
    task = asyncio.get_running_loop().create_task(journal.commit(Change(accepted())))
    while not task.done():
        task.cancel()
        await asyncio.wait([task])
    assert len(await journal.pending(after=0, limit=10)) in {0, 1}
    assert len(await journal.attempts(INSTANCE)) == journal.last_n


async def test_reports_wake_the_link(tmp_path: Path) -> None:
    told: list[int] = []
    journal = await Journal.open(tmp_path / "agent.db", report=lambda: told.append(1))
    await journal.commit(Change(accepted(), report=False))
    assert told == []
    await journal.commit(Change(accepted().moved(Outcome.OK, NOW)))
    assert told == [1]
    await journal.close()


async def test_starts_are_counted_without_a_report(journal: Journal) -> None:
    await journal.commit(Change(accepted()))
    [counted] = await journal.count_starts(await journal.attempts(INSTANCE))
    assert counted.starts == 1
    assert await journal.attempts(INSTANCE) == [counted]
    assert journal.last_n == 1


async def test_ended_attempts_are_forgotten_in_the_end_but_live_ones_never(journal: Journal) -> None:
    await journal.commit(Change(accepted(1)))
    for generation in range(2, KEPT_ATTEMPTS + 10):
        await journal.commit(Change(cancelled(generation)))
    generations = [one.ref.generation for one in await journal.attempts(INSTANCE)]
    assert generations[0] == 1
    assert generations[-1] == KEPT_ATTEMPTS + 9
    assert len(generations) == KEPT_ATTEMPTS + 1


async def test_releases_come_in_the_order_of_their_activation(journal: Journal) -> None:
    for name in ("b", "a", "c", "b"):
        mark = ReleaseMark(name, "v1", "", good=True, activated=True)
        await journal.commit(Change(cancelled(1), releases=(mark,)))
    await journal.commit(Change(cancelled(1), releases=(ReleaseMark("a", "v1", "", good=False),)))
    assert [(one.release, one.good) for one in await journal.releases(INSTANCE)] == [
        ("a", False),
        ("c", True),
        ("b", True),
    ]


async def test_an_instance_is_adopted_once(journal: Journal) -> None:
    assert await journal.adopt(INSTANCE, [ReleaseMark("a", "v1", "", good=True, activated=True)])
    assert not await journal.adopt(INSTANCE, [ReleaseMark("a", "v1", "", good=None)])
    assert [one.good for one in await journal.releases(INSTANCE)] == [True]


async def test_a_report_is_repeated_only_when_none_of_its_attempt_waits(journal: Journal) -> None:
    await journal.commit(Change(accepted(1)))
    await journal.repeat_report(ref_of(1))
    await journal.repeat_report(ref_of(2))
    assert [one.n for one in await journal.pending(after=0, limit=9)] == [1]
    await journal.acknowledge(1)
    await journal.repeat_report(ref_of(1))
    assert [(one.n, one.entered) for one in await journal.pending(after=0, limit=9)] == [(2, Phase.QUEUED)]


async def test_a_repeated_report_that_fails_uses_no_number(journal: Journal) -> None:
    await journal.commit(Change(accepted(1)))
    await journal.acknowledge(1)
    await journal._run(lambda: journal._tables.execute("ALTER TABLE outbox RENAME TO gone"))
    with pytest.raises(JournalError):
        await journal.repeat_report(ref_of(1))
    assert journal.last_n == 1


async def test_a_new_incarnation_numbers_what_waits_from_one(journal: Journal) -> None:
    old = journal.incarnation
    for generation in (1, 2, 3):
        await journal.commit(Change(accepted(generation)))
    await journal.acknowledge(1)
    await journal.renew_incarnation()
    assert journal.incarnation != old
    assert [(one.n, one.generation) for one in await journal.pending(after=0, limit=9)] == [(1, 2), (2, 3)]
    assert journal.last_n == 2


async def test_a_journal_of_a_newer_agent_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    await (await Journal.open(path)).close()
    tables = sqlite3.connect(path)
    tables.execute(f"PRAGMA user_version={FORMAT + 1}")
    tables.close()
    with pytest.raises(JournalError, match="a newer agent wrote it"):
        await Journal.open(path)
    assert path.exists()


@pytest.mark.parametrize("damage", ["not a database" * 1000, ""])
async def test_a_file_that_is_no_journal_is_moved_aside(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "agent.db"
    path.write_text(damage)
    journal = await Journal.open(path)
    await journal.commit(Change(accepted()))
    await journal.close()
    assert len(moved_aside(tmp_path)) == bool(damage)  # an empty file is an empty journal


async def test_a_journal_with_a_torn_middle_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    first = await Journal.open(path)
    for generation in range(1, 40):
        await first.commit(Change(accepted(generation)))
    incarnation = first.incarnation
    await first.close()
    content = bytearray(path.read_bytes())
    content[4096 * 2 : 4096 * 6] = b"\xff" * (4096 * 4)
    path.write_bytes(content)
    second = await Journal.open(path)
    assert second.incarnation != incarnation
    assert await second.attempts(INSTANCE) == []
    await second.close()
    assert moved_aside(tmp_path)


async def test_a_record_that_means_nothing_makes_a_damaged_journal(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    first = await Journal.open(path)
    await first.commit(Change(accepted()))
    await first._run(lambda: first._tables.execute("UPDATE attempt SET record = '{}'"))
    await first.close()
    second = await Journal.open(path)
    assert await second.attempts(INSTANCE) == []
    await second.close()


async def test_a_place_that_cannot_be_written_is_told_and_left(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot use"):
        await Journal.open(tmp_path / "missing" / "agent.db")


PRESIGNED = "https://origin.example/v1.tar.gz?X-Signature=hush-hush&b=c"


def with_secret(record: AttemptRecord, url: str = PRESIGNED) -> AttemptRecord:
    return record.model_copy(update={"command": record.command.model_copy(update={"url": url})})


def holders(directory: Path) -> list[str]:
    """The files that show it."""
    return [path.name for path in directory.iterdir() if b"hush-hush" in path.read_bytes()]


async def test_a_presigned_url_is_whole_after_a_restart_and_readable_in_no_file(tmp_path: Path) -> None:
    first = await Journal.open(tmp_path / "agent.db")
    await first.commit(Change(with_secret(accepted())))
    assert holders(tmp_path) == []
    await first.close()
    second = await Journal.open(tmp_path / "agent.db")
    assert [record.command.url for record in await second.attempts(INSTANCE)] == [PRESIGNED]
    await second.close()
    assert holders(tmp_path) == []
    assert stat.S_IMODE((tmp_path / KEY_NAME).stat().st_mode) == 0o600


async def test_an_attempt_that_has_ended_keeps_no_query(journal: Journal, tmp_path: Path) -> None:
    await journal.commit(Change(with_secret(accepted())), Change(with_secret(cancelled(1))))
    [record] = await journal.attempts(INSTANCE)
    assert record.command.url == PRESIGNED.partition("?")[0]
    (tmp_path / KEY_NAME).unlink()
    assert await journal.attempts(INSTANCE) == [record], "no key is needed for it"


async def test_a_lost_key_of_the_host_costs_the_query_alone(tmp_path: Path) -> None:
    first = await Journal.open(tmp_path / "agent.db")
    await first.commit(Change(with_secret(accepted())))
    await first.close()
    (tmp_path / KEY_NAME).unlink()
    second = await Journal.open(tmp_path / "agent.db")
    [record] = await second.attempts(INSTANCE)
    assert record.command.url == PRESIGNED.partition("?")[0]
    await second.close()


async def test_a_host_that_meets_no_presigned_url_has_no_key(journal: Journal, tmp_path: Path) -> None:
    await journal.commit(Change(with_secret(accepted(), PRESIGNED.partition("?")[0])))
    assert not (tmp_path / KEY_NAME).exists()
