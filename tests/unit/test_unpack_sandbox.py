"""The second layer holds alone: with the strict reader gone, nothing outside the destination changes (S2)."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.unpack import Limits, landlock, ownership, sandbox, unpack
from agent.unpack.process import library_places
from tests.fakes import withheld
from tests.fakes.archives import Member, directory, file, hardlink, symlink, tar, tgz
from tests.fakes.users import ORDINARY, become, find_python, open_folder

NAIVE_CHILD = "import sys; sys.path += {places!r}; import tests.fakes.naive_child"
ROOT = Path(__file__).resolve().parents[2]
WITHOUT_PRIVILEGES = [find_python(ORDINARY), "-I", withheld.__file__, "--privileged"]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
needs_landlock = pytest.mark.skipif(landlock.abi() < landlock.LEAST_ABI, reason="this kernel has no Landlock")

ESCAPES: dict[str, Callable[[Path], bytes]] = {
    "a file above": lambda _: tar(file("../victim", b"evil")),
    "an absolute file": lambda outside: tar(file(f"{outside}/victim", b"evil")),
    "a new file above": lambda _: tar(file("../new", b"evil")),
    "a new directory above": lambda _: tar(directory("../new")),
    "through a symlink": lambda _: tar(symlink("out", ".."), file("out/victim", b"evil")),
    "through an absolute symlink": lambda outside: tar(
        symlink("out", str(outside)), file("out/victim", b"evil")
    ),
    "by mode alone": lambda _: tar(directory("..", 0o777)),
    "a hard link out": lambda _: tar(hardlink("in", "../victim"), file("in", b"evil")),
    "a hard link back": lambda _: tar(file("in"), hardlink("../new", "in")),
    "a symlink above": lambda _: tar(symlink("../new", "/")),
    "a device": lambda _: tar(Member(b"device", kind=b"4", fields=((329, b"0000010"), (337, b"0000000")))),
    "a FIFO above": lambda _: tar(Member(b"../new", kind=b"6")),
}


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """What must be the same afterwards, to the byte, the mode and the nanosecond; `dest` lies in it."""
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "dest").mkdir(mode=0o700)
    before = snapshot(tmp_path)
    yield tmp_path
    assert snapshot(tmp_path) == before


@pytest.fixture
def for_all() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


def snapshot(place: Path) -> object:
    def facts(path: Path) -> object:
        status = path.lstat()
        return (status.st_mode, status.st_uid, status.st_gid, status.st_nlink, status.st_mtime_ns)

    victim = place / "victim"
    return (facts(place), sorted(path.name for path in place.iterdir()), facts(victim), victim.read_bytes())


def run_naive_child(data: bytes, place: Path) -> list[str]:
    """Unpack `data` into `place`/dest by tarfile in the sandbox; return what it failed to do."""
    user = sandbox.child_user()
    with (place.parent / f"{place.name}.package").open("w+b") as package:
        package.write(data)
        package.seek(0)
        package.flush()
        root = os.open(place / "dest", os.O_RDONLY | os.O_DIRECTORY)
        try:
            if user is not None:
                ownership.hand_over(root, user)
            order = {
                "package_fd": package.fileno(),
                "destination_fd": root,
                "limits": Limits()._asdict(),
                "user": user,
            }
            places = [str(ROOT), *library_places()]
            ended = subprocess.run(
                [sys.executable, "-I", "-S", "-c", NAIVE_CHILD.format(places=places)],
                input=json.dumps(order).encode() + b"\n", capture_output=True, check=False,
                pass_fds=(package.fileno(), root), cwd="/",
            )  # fmt: skip
        finally:
            if user is not None:
                ownership.take_over(root, user, contained=True)
            os.close(root)
    assert ended.returncode == 0, ended.stderr.decode()
    failures: list[str] = json.loads(ended.stdout)
    return failures


@as_root
@needs_landlock
@pytest.mark.parametrize("name", ESCAPES)
def test_without_the_strict_reader_nothing_outside_changes(name: str, outside: Path) -> None:
    assert run_naive_child(ESCAPES[name](outside), outside), "it was let do all it wanted"


@as_root
def test_an_honest_archive_passes_the_sandbox_without_the_strict_reader(tmp_path: Path) -> None:
    """So what the test above sees refused is refused for what it is."""
    (tmp_path / "dest").mkdir(mode=0o700)
    data = tar(directory("d"), file("d/f"), symlink("l", "d/f"))
    assert [one for one in run_naive_child(data, tmp_path) if "d/f" in one] == []
    assert (tmp_path / "dest/d/f").read_bytes() == b"content\n"


@as_root
async def test_root_owns_what_its_child_made_under_another_user(tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    dest.mkdir(mode=0o700)
    (tmp_path / "package").write_bytes(tgz(file("a/b/f"), symlink("a/l", "b/f"), hardlink("h", "a/b/f")))
    with (tmp_path / "package").open("rb") as package:
        await unpack(package, dest)
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in (dest, *dest.rglob("*"))} == {(0, 0)}


@as_root
def test_taking_over_leaves_what_was_never_the_childs(tmp_path: Path) -> None:
    """A child that was taken over could have linked somebody's file into its tree."""
    (tmp_path / "theirs").write_text("theirs")
    os.chown(tmp_path / "theirs", 12_345, 12_345)
    (tmp_path / "dest").mkdir()
    (tmp_path / "dest/linked").hardlink_to(tmp_path / "theirs")
    (tmp_path / "dest/made").write_text("made")
    os.chown(tmp_path / "dest/made", sandbox.CHILD_ID, sandbox.CHILD_ID)
    root = os.open(tmp_path / "dest", os.O_RDONLY | os.O_DIRECTORY)
    ownership.take_over(root, sandbox.CHILD_ID, contained=False)
    os.close(root)
    assert [(tmp_path / name).stat().st_uid for name in ("theirs", "dest/made")] == [12_345, 0]


LOOK = """
import ctypes, json, os, resource, socket, sys, threading
sys.path += {places!r}
from agent.unpack import sandbox
from agent.unpack.limits import Limits
dest = os.open(sys.argv[1], os.O_RDONLY)
status = open("/proc/self/status")
plug = socket.socket()
user = sandbox.child_user()
if user is not None: os.fchown(dest, user, user)
sandbox.confine(dest, Limits(), user)
sandbox.forbid_processes()
def tried(call):
    try: call(); return "done"
    except OSError as exc: return exc.strerror
    except RuntimeError as exc: return str(exc)
found = {{
    "read": tried(lambda: open("/etc/passwd")),
    "write": tried(lambda: open("/tmp/evil-{pid}", "w")),
    "program": tried(lambda: os.execv("/bin/true", ["true"])),
    "fork": tried(os.fork),
    "thread": tried(threading.Thread(target=print).start),
    "connect": tried(lambda: plug.connect(("127.0.0.1", 1))),
    "inside": tried(lambda: os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=dest))),
    "remove": tried(lambda: os.unlink("f", dir_fd=dest)),
    "status": status.read(), "uid": os.getuid(), "groups": os.getgroups(),
}}
print(json.dumps(found))
"""


@needs_landlock
@pytest.mark.parametrize("user", [None, ORDINARY], ids=["as we are", "as an ordinary user"])
def test_the_sandbox_leaves_nothing_but_making_files(user: int | None, for_all: Path) -> None:
    dest = for_all / "dest"
    dest.mkdir(mode=0o700)
    command = [
        find_python(user),
        "-I",
        "-c",
        LOOK.format(places=[str(ROOT), *library_places()], pid=os.getpid()),
    ]
    if user is not None:
        os.chown(dest, user, user)
        command = [*become(user), *command]
    ended = subprocess.run([*command, str(dest)], capture_output=True, check=False, cwd="/")
    assert ended.returncode == 0, ended.stderr.decode()
    found = json.loads(ended.stdout)
    denied = "Permission denied"
    assert {name: found[name] for name in ("read", "write", "program", "remove")} == dict.fromkeys(
        ("read", "write", "program", "remove"), denied
    )
    assert found["inside"] == "done"
    assert found["fork"] == "Resource temporarily unavailable"
    assert found["thread"] == "can't start new thread"
    if landlock.abi() >= 4:
        assert found["connect"] == denied
    status = dict(line.split(":\t", 1) for line in found["status"].splitlines() if ":\t" in line)
    assert status["NoNewPrivs"] == "1"
    assert {status[name] for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {"0" * 16}
    if user is None and os.geteuid() == 0:
        assert (found["uid"], found["groups"]) == (sandbox.CHILD_ID, [])


def test_the_host_is_told_what_the_sandbox_is_worth() -> None:
    told = sandbox.describe()
    assert told.landlock_abi == landlock.abi()
    assert told.own_user is (os.geteuid() != 0 or sandbox.child_user() == sandbox.CHILD_ID)


@as_root
@pytest.mark.parametrize("within", [[], WITHOUT_PRIVILEGES], ids=["by hand", "in a unit without privileges"])
def test_an_ordinary_user_can_run_the_command(for_all: Path, within: list[str]) -> None:
    package, dest = for_all / "package", for_all / "dest"
    package.write_bytes(tgz(file("a/run", mode=0o755), symlink("l", "a/run")))
    dest.mkdir()
    os.chown(dest, ORDINARY, ORDINARY)
    code = (
        f"import sys; sys.path += {[str(ROOT), *library_places()]!r}; from agent.__main__ import main; main()"
    )
    command = [
        *become(ORDINARY),
        *within,
        find_python(ORDINARY),
        "-I",
        "-c",
        code,
        "package",
        "unpack",
        str(package),
        str(dest),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert (ended.returncode, ended.stdout) == (0, "unpacked 3 entries, 8 bytes\n"), ended.stderr
    assert {path.lstat().st_uid for path in dest.rglob("*")} == {ORDINARY}
    assert stat.S_IMODE((dest / "a/run").stat().st_mode) == 0o755
