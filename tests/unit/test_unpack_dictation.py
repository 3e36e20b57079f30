"""Two processes make what one would, and both are gone afterwards in every case."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.unpack.dictation import Dictation

ROOT = Path(__file__).resolve().parents[2]
MIB = 1024 * 1024
LARGE, ODD = bytes(range(251)) * 38_000, bytes(range(256)) * 12_288

# What follows runs in a process of its own: afterwards that may start no other one.
PROGRAM = """
import os, signal, sys
from tests.unit import test_unpack_dictation as here
from agent.unpack.dictation import write_by_dictation
root = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
try:
    print(write_by_dictation(getattr(here, sys.argv[2]), root))
except OSError as exc:
    print(type(exc).__name__)
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("alone")
"""


def views(content: bytes, size: int) -> Iterator[memoryview]:
    """`content` in pieces of `size`, none of which is good for longer than until the next."""
    for at in range(0, len(content), size):
        piece = bytearray(content[at : at + size])
        with memoryview(piece) as view:
            yield view
        piece[:] = bytes(len(piece))


def read_everything(writer: Dictation) -> dict[str, int]:
    writer.make_directory("a/b")
    writer.make_file("a/large", views(LARGE, 700_001), executable=True)
    writer.make_file("a/empty", iter(()), executable=False)
    for number in range(5_000):  # more than one block holds steps for
        writer.make_file(f"a/b/{number}", views(b"%d" % number, 9), executable=False)
    writer.make_file("odd", views(ODD, MIB), executable=False)
    writer.make_hardlink("again", "odd")
    writer.make_symlink("link", "a/large")
    return {"done": 1}


def read_much(writer: Dictation) -> dict[str, int]:
    for number in range(100):
        writer.make_file(f"file-{number}", views(bytes(MIB), MIB), executable=False)
    return {"done": 1}


def read_and_refuse(writer: Dictation) -> dict[str, int]:
    writer.make_file("file", views(bytes(3 * MIB), MIB), executable=False)
    return {"refused": 1}


def read_and_die(writer: Dictation) -> dict[str, int]:
    writer.make_file("file", views(bytes(9 * MIB), MIB), executable=False)
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def read_and_fail(_: Dictation) -> dict[str, int]:
    raise LookupError("a mistake of ours")


def read_and_kill_the_writer(_: Dictation) -> dict[str, int]:
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()
    return {}


def run(place: Path, what: str) -> subprocess.CompletedProcess[str]:
    """Returns when nobody holds the pipe any more, so when both have ended."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(place), what],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_everything_arrives_in_order(tmp_path: Path) -> None:
    assert run(tmp_path, "read_everything").stdout == "{'done': 1}\nalone\n"
    assert (tmp_path / "link").read_bytes() == LARGE
    assert (tmp_path / "a/large").stat().st_mode & 0o111
    assert (tmp_path / "a/empty").read_bytes() == b""
    assert (tmp_path / "again").read_bytes() == ODD
    assert (tmp_path / "again").stat().st_nlink == 2
    found = {path.name: path.read_bytes() for path in (tmp_path / "a/b").iterdir()}
    assert found == {str(number): b"%d" % number for number in range(5_000)}


def test_an_error_of_the_writer_ends_the_reader(tmp_path: Path) -> None:
    (tmp_path / "file-3").touch()
    assert run(tmp_path, "read_much").stdout == "FileExistsError\nalone\n"
    assert not (tmp_path / "file-99").exists()


def test_the_readers_verdict_is_returned(tmp_path: Path) -> None:
    assert run(tmp_path, "read_and_refuse").stdout == "{'refused': 1}\nalone\n"


@pytest.mark.parametrize(
    ("what", "code", "words"),
    [
        ("read_and_die", -signal.SIGKILL, ""),
        ("read_and_fail", 1, "LookupError: a mistake of ours\n"),
        ("read_and_kill_the_writer", -signal.SIGKILL, ""),
    ],
)
def test_neither_outlives_the_other(tmp_path: Path, what: str, code: int, words: str) -> None:
    ended = run(tmp_path, what)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert ended.stderr.endswith(words)
