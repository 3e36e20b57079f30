"""The command driver against real processes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest

from agent.errors import ActivationError
from agent.process import Process, boot_id, identify
from agent.service import CommandService, ServiceManager, ServiceState
from agent.service.record import ServiceRecord, read_record, write_record
from tests.fakes.waiting import until, until_told

pytestmark = pytest.mark.slow

Make = Callable[..., CommandService]
# Says what it was given, then serves until somebody ends it.
REPORT = """
import json, os, sys, time, signal
if "stubborn" in sys.argv: signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "family" in sys.argv and not os.fork(): time.sleep(600)
if "runaway" in sys.argv and not os.fork(): os.setsid(); time.sleep(600)
if "brief" in sys.argv: sys.exit(3)
print("serving", flush=True)
said = {"cwd": os.getcwd(), "env": dict(os.environ), "pid": os.getpid()}
open(sys.argv[1] + ".new", "w").write(json.dumps(said))
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(600)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An instance root with two releases; the first is active."""
    root = tmp_path / "shop-1"
    for name in ("v1-aaa", "v2-bbb"):
        (root / "releases" / name).mkdir(parents=True)
        (root / "releases" / name / "serve.py").write_text(REPORT)
    point(root, "v1-aaa")
    return root


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for three names."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "nr_inodes=4", "tmpfs", str(path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield path
    subprocess.run(["umount", path], check=True)


def point(root: Path, name: str) -> None:
    (root / "current").unlink(missing_ok=True)
    (root / "current").symlink_to(f"releases/{name}")


@pytest.fixture
async def make(root: Path) -> AsyncIterator[Make]:
    """Makes drivers of the one service; what runs at the end is stopped."""

    def make(*words: str, **options: object) -> CommandService:
        settings: dict[str, object] = {
            "start": [sys.executable, "serve.py", str(root / "report"), *words],
            "service": "shop",
            "instance": "shop-1",
            "port": 8080,
            "version": lambda: (root / "current").readlink().name.partition("-")[0],
            "stop_timeout_s": 0.5,
        }
        return CommandService(root, **{**settings, **options})  # type: ignore[arg-type]

    yield make
    await make().stop()


async def report(root: Path) -> Mapping[str, object]:
    """What the service says of itself; taken away, so that the next start has to say it again."""
    await until((root / "report").exists)
    said: Mapping[str, object] = json.loads((root / "report").read_text())
    (root / "report").unlink()
    return said


def is_gone(pid: int) -> bool:
    """No process, and no zombie either."""
    return not Path(f"/proc/{pid}").exists()


async def test_a_service_starts_in_its_release_with_a_plain_environment(make: Make, root: Path) -> None:
    driver: ServiceManager = make(environment={"COLOUR": "blue", "PATH": "/usr/bin"})
    assert (await driver.observe()).state is ServiceState.STOPPED
    mark = await driver.restart()
    said = await report(root)
    assert said["cwd"] == str(root / "releases/v1-aaa")
    environment = said["env"]
    assert isinstance(environment, dict)
    assert len(environment.pop("RELEASEHAND_START")) == 32
    assert {name: value for name, value in environment.items() if name != "LC_CTYPE"} == {
        "PATH": "/usr/bin",
        "COLOUR": "blue",
        "RELEASEHAND_SERVICE": "shop",
        "RELEASEHAND_INSTANCE": "shop-1",
        "RELEASEHAND_VERSION": "v1",
        "RELEASEHAND_PORT": "8080",
    }
    seen = await driver.observe()
    assert (seen.state, seen.mark) == (ServiceState.RUNNING, mark)
    assert (root / "service.log").read_text() == "serving\n"


async def test_a_restart_replaces_the_process_and_follows_current(make: Make, root: Path) -> None:
    driver = make()
    first = await driver.restart()
    old = (await report(root))["pid"]
    point(root, "v2-bbb")
    second = await driver.restart()
    said = await report(root)
    assert first != second
    assert said["cwd"] == str(root / "releases/v2-bbb")
    assert isinstance(old, int)
    await until(lambda: is_gone(old))
    assert (root / "service.log").read_text() == "serving\nserving\n"


async def test_stopping_is_safe_to_repeat(make: Make, root: Path) -> None:
    driver = make()
    await driver.stop()
    await driver.restart()
    pid = (await report(root))["pid"]
    assert isinstance(pid, int)
    await driver.stop()
    await driver.stop()
    await until(lambda: is_gone(pid))
    assert (await driver.observe()).state is ServiceState.STOPPED
    assert not (root / ".service.json").exists()


async def test_a_service_survives_the_agent_and_is_found_again(make: Make, root: Path) -> None:
    code = f"""
import asyncio, os, signal, sys
from pathlib import Path
from agent.service import CommandService
driver = CommandService(Path({str(root)!r}), start=[sys.executable, "serve.py", {str(root / "report")!r}],
                        service="shop", instance="shop-1", port=1, version=lambda: "v1")
print(asyncio.run(driver.restart()).identity, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    agent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE)
    out, _ = await agent.communicate()
    assert agent.returncode == -signal.SIGKILL
    said = await report(root)
    seen = await make().observe()
    assert seen.state is ServiceState.RUNNING
    assert seen.mark is not None
    assert seen.mark.identity == out.decode().strip()
    assert seen.mark.identity.startswith(f"{said['pid']}:")
    await make().stop()
    assert (await make().observe()).state is ServiceState.STOPPED


async def test_a_start_that_was_not_written_down_is_found_by_its_token(make: Make, root: Path) -> None:
    driver = make()
    mark = await driver.restart()
    await report(root)
    record = read_record(root / ".service.json")
    assert record is not None
    write_record(
        root / ".service.json", ServiceRecord(record.token, record.boot)
    )  # killed right after the spawn
    seen = await make().observe()
    assert (seen.state, seen.mark) == (ServiceState.RUNNING, mark)
    await make().stop()
    await until(lambda: is_gone(int(mark.identity.partition(":")[0])))


async def test_a_start_that_the_disk_did_not_take_is_ended_before_the_next(
    tmp_path: Path, disk: Path
) -> None:
    """Its token is not to be seen, or not yet: nobody but this driver knows the process."""
    (disk / "current").symlink_to(tmp_path)
    (disk / "service.log").touch()  # with the intent that is all there is room for
    (tmp_path / "serve.py").write_text(REPORT)
    start = ["/usr/bin/env", "-i", sys.executable, "serve.py", str(tmp_path / "report")]
    names = {"service": "shop", "instance": "shop-1", "version": lambda: "v1"}
    service = CommandService(disk, start=start, port=8080, **names)  # type: ignore[arg-type]
    with pytest.raises(ActivationError, match="No space left on device"):
        await service.restart()
    said = await report(tmp_path)
    assert (await service.observe()).state is ServiceState.RUNNING
    await service.stop()
    assert (await service.observe()).state is ServiceState.STOPPED
    await until(lambda: is_gone(int(str(said["pid"]))))


async def test_a_start_that_was_only_meant_is_no_service(make: Make, root: Path) -> None:
    write_record(root / ".service.json", ServiceRecord("0" * 32, boot_id()))
    assert (await make().observe()).state is ServiceState.STOPPED
    await make().stop()
    assert not (root / ".service.json").exists()


async def test_a_process_that_ends_by_itself_has_failed_and_is_no_zombie(make: Make, root: Path) -> None:
    driver = make("brief")
    mark = await driver.restart()
    pid = int(mark.identity.partition(":")[0])
    await until(lambda: is_gone(pid))
    seen = await driver.observe()
    assert (seen.state, seen.mark) == (ServiceState.FAILED, None)
    assert "exit code 3" in seen.detail
    assert "exit code" not in (await make("brief").observe()).detail  # another agent cannot know


async def test_a_recycled_number_is_not_our_service(make: Make, root: Path) -> None:
    me = identify(os.getpid())
    assert me is not None
    write_record(root / ".service.json", ServiceRecord("0" * 32, boot_id(), me.pid, me.started - 1))
    assert (await make().observe()).state is ServiceState.FAILED
    await make().stop()  # would end this very test
    assert not Process(me.pid, me.started - 1).is_alive()
    assert me.is_alive()


async def test_a_process_of_an_earlier_boot_is_not_our_service(make: Make, root: Path) -> None:
    me = identify(os.getpid())
    assert me is not None
    write_record(root / ".service.json", ServiceRecord("0" * 32, "another boot", me.pid, me.started))
    assert (await make().observe()).state is ServiceState.STOPPED
    await make().stop()
    assert not (root / ".service.json").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "1"}'])
async def test_a_damaged_record_is_none(make: Make, root: Path, content: str) -> None:
    (root / ".service.json").write_text(content)
    assert (await make().observe()).state is ServiceState.STOPPED


async def test_a_stubborn_service_is_killed_in_the_end(make: Make, root: Path) -> None:
    driver = make("stubborn")
    mark = await driver.restart()
    await report(root)
    await driver.stop()
    await until(lambda: is_gone(int(mark.identity.partition(":")[0])))


@pytest.mark.parametrize("kind", ["family", "runaway"])
async def test_children_of_a_service_end_with_it(make: Make, root: Path, kind: str) -> None:
    driver = make(kind)
    await driver.restart()
    await report(root)
    record = read_record(root / ".service.json")
    assert record is not None
    assert len(record.survivors()) == 2
    await driver.stop()
    assert record.survivors() == []


async def test_orphans_of_a_service_that_died_are_ended_before_the_next_start(make: Make, root: Path) -> None:
    driver = make("runaway")
    mark = await driver.restart()
    await report(root)
    record = read_record(root / ".service.json")
    assert record is not None
    os.kill(int(mark.identity.partition(":")[0]), signal.SIGKILL)
    await driver.restart()
    await report(root)
    assert record.survivors() == []


async def test_the_stop_command_is_used_and_told_the_process(make: Make, root: Path) -> None:
    script = 'echo "$RELEASEHAND_PID $PWD" > "$0.told"; kill -KILL "$RELEASEHAND_PID"'
    driver = make(stop=["/bin/sh", "-c", script, str(root / "stop")], stop_timeout_s=30)
    mark = await driver.restart()
    await report(root)
    point(root, "v2-bbb")  # as after a switch: the old process still runs from its own release
    await driver.stop()
    pid = mark.identity.partition(":")[0]
    assert (root / "stop.told").read_text() == f"{pid} {root / 'releases/v1-aaa'}\n"


@pytest.mark.parametrize("stop", [["/bin/false"], ["/does/not/exist"], ["/bin/sleep", "600"]])
async def test_a_stop_command_that_does_not_work_keeps_nothing_up(
    make: Make, root: Path, stop: list[str]
) -> None:
    driver = make(stop=stop)
    mark = await driver.restart()
    await report(root)
    await driver.stop()
    await until(lambda: is_gone(int(mark.identity.partition(":")[0])))


async def test_cancelling_a_stop_leaves_no_stop_command_behind(make: Make, root: Path) -> None:
    script = 'echo $$ > "$0.pid"; exec sleep 600'
    driver = make(stop=["/bin/sh", "-c", script, str(root / "stop")], stop_timeout_s=30)
    await driver.restart()
    await report(root)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(driver.stop())
        await until((root / "stop.pid").exists)
        await until(lambda: (root / "stop.pid").read_text().endswith("\n"))
        task.cancel()
    assert task.cancelled()
    assert is_gone(int((root / "stop.pid").read_text()))
    assert (await driver.observe()).state is ServiceState.RUNNING


@pytest.mark.parametrize("start", [["/does/not/exist"], ["serve.py"], ["./serve.py"], ["./"]])
async def test_a_command_that_cannot_start_is_told(make: Make, root: Path, start: list[str]) -> None:
    driver = make(start=start)
    with pytest.raises(ActivationError, match="cannot start"):
        await driver.restart()
    assert (await driver.observe()).state is ServiceState.STOPPED


async def test_nothing_active_means_nothing_to_start(make: Make, root: Path) -> None:
    (root / "current").unlink()
    with pytest.raises(ActivationError, match="No such file"):
        await make().restart()


async def test_a_cancelled_restart_is_either_written_down_or_not_there(make: Make, root: Path) -> None:
    driver = make()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(driver.restart())
        await until((root / ".service.json").exists)
        task.cancel()
    record = read_record(root / ".service.json")
    assert record is not None
    assert record.pid
    assert (await driver.observe()).state is ServiceState.RUNNING


async def test_a_long_log_is_put_aside(make: Make, root: Path) -> None:
    with (root / "service.log").open("wb") as log:
        log.truncate(17 * 1024 * 1024)
    await make().restart()
    await report(root)
    assert (root / "service.log").read_text() == "serving\n"
    assert (root / "service.log.1").stat().st_size == 17 * 1024 * 1024


async def test_what_ran_when_the_host_went_down_is_started_again(make: Make, root: Path) -> None:
    driver = make()
    assert not await driver.start_after_boot()  # it never was started
    write_record(root / ".service.json", ServiceRecord("token", "another boot", 4711, 99))
    assert (await driver.observe()).state is ServiceState.STOPPED
    assert await driver.start_after_boot()
    assert (await report(root))["cwd"] == str(root / "releases/v1-aaa")
    assert (await driver.observe()).state is ServiceState.RUNNING
    assert not await driver.start_after_boot()


async def test_what_was_stopped_or_ended_in_this_boot_is_not_started(make: Make, root: Path) -> None:
    driver = make("brief")
    await driver.restart()
    await until_told(driver.observe, lambda seen: seen.state is ServiceState.FAILED)
    assert not await driver.start_after_boot()
    await driver.stop()
    assert not await driver.start_after_boot()
    write_record(root / ".service.json", ServiceRecord("token", "another boot", 4711, 99))
    assert not await make(starts_after_boot=False).start_after_boot()  # somebody else does it
