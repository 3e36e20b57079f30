"""`releasehand-agent releases`: what people do to the kept releases while the agent runs."""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agent.cli.app import app
from agent.journal import JournalError, open_shelf
from releasehand.model.status import Phase
from tests.fakes.host import INSTANCE, Host, deploy, digest_of, package_of, rollback, url_of

pytestmark = pytest.mark.slow

Command = Callable[..., Awaitable[Result]]


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    host = Host(tmp_path)
    host.section = {"keep_releases": 2}
    for number in range(1, 9):
        host.fetcher.packages[url_of(f"v{number}")] = package_of(f"v{number}")
    async with host.boot() as host:
        yield host


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "agent.toml"
    file.write_text(f"""
agent_id = "host-1"
state_dir = "{tmp_path}"


[[instance]]
id = "{INSTANCE}"
service = "web"
root = "{tmp_path}/srv"
driver = {{ type = "none" }}
keep_releases = 2
""")
    return file


@pytest.fixture
def command(config: Path) -> Command:
    """Runs in a thread, as another process would beside the agent's loop."""

    async def run(*words: str) -> Result:
        argv = ["releases", *words, "--config", str(config)]
        return await asyncio.to_thread(lambda: CliRunner().invoke(app, argv))

    return run


def name_of(version: str) -> str:
    return f"{version}-{digest_of(version)[:12]}"


def kept(host: Host) -> list[str]:
    return sorted(p.name.partition("-")[0] for p in (host.root / "releases").iterdir() if p.name[0] != ".")


async def test_a_host_where_nothing_was_installed_has_an_empty_list(tmp_path: Path, config: Path) -> None:
    """No agent has run here either, so there is no journal."""

    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["releases", *words, "--config", str(config)])
        return result.exit_code, result.output

    assert await asyncio.to_thread(run, "list") == (0, f"{INSTANCE}: no release is kept here\n")
    assert await asyncio.to_thread(run, "prune") == (0, f"{INSTANCE}: nothing to remove\n")
    (tmp_path / "srv/releases/v1-0123456789ab").mkdir(parents=True)
    code, shown = await asyncio.to_thread(run, "list")
    assert (code, shown.splitlines()[1].split()[:4]) == (0, [INSTANCE, "v1-0123456789ab", "v1", "untried"])
    assert not (tmp_path / "agent.db").exists()


def test_each_problem_of_a_file_has_a_line_of_its_own(config: Path) -> None:
    config.write_text("one = 1\ntwo = 2\n")
    result = CliRunner().invoke(app, ["releases", "list", "--config", str(config)])
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert lines[0] == f"{config} cannot be used:"
    assert {"  one: unknown key", "  two: unknown key"} <= set(lines)


async def test_the_list_shows_what_is_kept_and_why(host: Host, command: Command) -> None:
    await host.carry_out(deploy("v1", 1))
    await host.carry_out(deploy("v2", 2))
    host.check.sick = lambda version: version == "v3"
    await host.carry_out(deploy("v3", 3))
    await command("pin", INSTANCE, "v3")
    shown = await command("list")
    assert shown.exit_code == 0, shown.output
    lines = [re.split(r"  +", line) for line in shown.output.splitlines()]
    assert lines[0] == ["INSTANCE", "RELEASE", "VERSION", "STATE", "KEPT AS", "MIB"]
    assert [line[:5] for line in lines[1:]] == [
        [INSTANCE, name_of("v2"), "v2", "good", "active"],
        [INSTANCE, name_of("v1"), "v1", "good", "previous"],
        [INSTANCE, name_of("v3"), "v3", "failed", "pinned"],
    ]


async def test_a_pinned_release_outlives_what_comes_after_it(host: Host, command: Command) -> None:
    await host.carry_out(deploy("v1", 1))
    done = await command("pin", INSTANCE, "v1")
    assert (done.exit_code, done.output) == (0, f"{INSTANCE}: {name_of('v1')} is pinned\n")
    assert (await command("pin", INSTANCE, name_of("v1"))).exit_code == 0
    for number in range(2, 6):
        await host.carry_out(deploy(f"v{number}", number))
    end = await host.carry_out(rollback("v1", 6))
    assert end.entered is Phase.DONE
    assert end.end is not None
    assert {one.version: one.pinned for one in end.end.releases} == {"v1": True, "v4": False, "v5": False}
    assert (await command("unpin", INSTANCE, "v1")).exit_code == 0
    await host.carry_out(deploy("v6", 7))
    await host.carry_out(deploy("v7", 8))
    await host.carry_out(rollback("v0", 9))
    assert kept(host) == ["v6", "v7"]


async def test_pruning_does_what_its_dry_run_says(host: Host, command: Command) -> None:
    await host.carry_out(deploy("v1", 1))
    await command("pin", INSTANCE, "v1")
    for number in range(2, 4):
        await host.carry_out(deploy(f"v{number}", number))
    await host.carry_out(rollback("v0", 9))
    await command("unpin", INSTANCE, "v1")
    planned = await command("prune", "--dry-run")
    assert kept(host) == ["v1", "v2", "v3"]
    done = await command("prune", INSTANCE)
    why = "2 releases are to be kept, and newer ones were good"
    assert planned.output == f"{INSTANCE}: would remove {name_of('v1')}: {why}\n"
    assert done.output == f"{INSTANCE}: removed {name_of('v1')}: {why}\n"
    assert kept(host) == ["v2", "v3"]
    assert (await command("prune")).output == f"{INSTANCE}: nothing to remove\n"
    assert host.left_over() == []
    assert (await host.carry_out(rollback("v2", 10))).entered is Phase.DONE


async def test_an_instance_that_is_worked_on_is_left_alone(host: Host, command: Command) -> None:
    await host.carry_out(deploy("v1", 1))
    host.fetcher.gate.clear()
    host.fetcher.entered.clear()
    await host.executor.execute(deploy("v2", 2))
    await host.fetcher.entered.wait()
    shown = await command("prune")
    assert "is being worked on" in shown.output
    host.fetcher.gate.set()
    assert (await host.wait_for_end(deploy("v2", 2).ref)).entered is Phase.DONE


async def test_no_attempt_begins_while_somebody_prunes(host: Host) -> None:
    """What `prune` found unused cannot come into use before it is out of the way."""
    await host.carry_out(deploy("v1", 1))
    await host.carry_out(deploy("v2", 2))
    async with asyncio.TaskGroup() as group:
        with open_shelf(host.directory / "agent.db", INSTANCE) as shelf:
            assert shelf.unfinished() == []
            asked = group.create_task(host.executor.execute(rollback("v1", 3)))
            await host.journal.broken(INSTANCE)  # reads pass, and by now the command wants to be written
            shelf.pin(name_of("v1"), version="v1", sha256="", pinned=True)
            assert not asked.done()
            assert shelf.unfinished() == []
    assert asked.done()
    end = await host.wait_for_end(rollback("v1", 3).ref)
    assert end.end is not None
    assert {one.version: one.pinned for one in end.end.releases} == {"v1": True, "v2": False}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["pin", "web-9", "v1"], 2, "no instance web-9 is configured here; there is web-1"),
        (["pin", INSTANCE, "v9"], 1, "no release v9 is kept below"),
        (["pin", INSTANCE, "v1"], 2, "v1 can be v1-"),
        (["pin", INSTANCE, "../../etc"], 1, "no release ../../etc is kept below"),
        (["list", "web-9"], 2, "no instance web-9"),
        (["prune", "web-9"], 2, "no instance web-9"),
    ],
)
async def test_what_is_not_there_is_told(
    host: Host, command: Command, words: list[str], code: int, said: str
) -> None:
    await host.carry_out(deploy("v1", 1))
    await host.carry_out(rollback("v1", 2, url=url_of("v1"), force=True))  # the same version, another release
    result = await command(*words)
    assert result.exit_code == code
    assert said in result.output


@pytest.mark.parametrize("word", ["list", "prune"])
def test_a_host_without_an_instance_has_nothing_to_list_or_remove(word: str, tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(f'state_dir = "{tmp_path}/state"\n')
    result = CliRunner().invoke(app, ["releases", word, "--config", str(tmp_path / "agent.toml")])
    assert result.exit_code == 0
    assert "no instance is configured here" in result.output


async def test_without_a_journal_nothing_is_made(config: Path, command: Command, tmp_path: Path) -> None:
    (tmp_path / "srv" / "releases").mkdir(parents=True)
    result = await command("prune")
    assert result.exit_code == 1
    assert "has an agent run with this state directory?" in result.output
    assert not (tmp_path / "agent.db").exists()


def test_a_journal_that_is_none_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    path.write_bytes(b"no journal" * 1_000)
    with pytest.raises(JournalError), open_shelf(path, INSTANCE):
        pass
    assert path.read_bytes() == b"no journal" * 1_000
    path.unlink()
    with closing(sqlite3.connect(path)) as tables:
        tables.execute("PRAGMA user_version=99")
    with pytest.raises(JournalError, match="format 99"), open_shelf(path, INSTANCE):
        pass


async def test_what_fails_inside_a_transaction_is_undone(host: Host) -> None:
    await host.carry_out(deploy("v1", 1))

    def pin_and_stumble() -> None:
        with open_shelf(host.directory / "agent.db", INSTANCE) as shelf:
            shelf.pin(name_of("v1"), version="v1", sha256="", pinned=True)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pin_and_stumble()
    [one] = await host.journal.releases(INSTANCE)
    assert not one.pinned
