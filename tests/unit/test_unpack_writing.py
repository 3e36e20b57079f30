"""The writer in a process of its own does what the writer does, and is gone afterwards in every case."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.unpack.writing import WriterProcess

ROOT = Path(__file__).resolve().parents[2]
MIB = 1024 * 1024


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def views(content: bytes, size: int) -> Iterator[memoryview]:
    """`content` in pieces of `size`, none of which is good for longer than until the next."""
    for at in range(0, len(content), size):
        piece = bytearray(content[at : at + size])
        with memoryview(piece) as view:
            yield view
        piece[:] = bytes(len(piece))


def make_files(
    writer: WriterProcess,
    count: int,
    sent: list[int],
    *,
    first: Callable[[], None] = lambda: None,
    last: Callable[[], None] = lambda: None,
) -> None:
    """Files of a MiB each; `sent` gets the number of each that was taken."""
    first()
    for number in range(count):
        writer.make_file(f"file-{number}", views(bytes(MIB), MIB), executable=False)
        sent.append(number)
    last()


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_everything_arrives_in_order(root: int, tmp_path: Path) -> None:
    large, odd = os.urandom(9 * MIB + 5), os.urandom(3 * MIB)
    with WriterProcess(root) as writer:
        writer.make_directory("a/b")
        writer.make_file("a/large", views(large, 700_001), executable=True)
        writer.make_file("a/empty", iter(()), executable=False)
        for number in range(5_000):  # more than one block holds steps for
            writer.make_file(f"a/b/{number}", views(b"%d" % number, 9), executable=False)
        writer.make_file("odd", views(odd, MIB), executable=False)
        writer.make_hardlink("again", "odd")
        writer.make_symlink("link", "a/large")
    assert (tmp_path / "link").read_bytes() == large
    assert (tmp_path / "a/large").stat().st_mode & 0o111
    assert (tmp_path / "a/empty").read_bytes() == b""
    assert (tmp_path / "again").read_bytes() == odd
    assert (tmp_path / "again").stat().st_nlink == 2
    found = {path.name: path.read_bytes() for path in (tmp_path / "a/b").iterdir()}
    assert found == {str(number): b"%d" % number for number in range(5_000)}
    assert not is_running(writer._process)


def test_an_error_of_the_writer_is_raised_by_the_one_who_reads(root: int, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    with pytest.raises(FileExistsError), WriterProcess(root) as writer:
        writer.make_file("there", views(bytes(MIB), MIB), executable=False)
    assert not is_running(writer._process)


def test_an_error_is_raised_before_all_is_read(root: int, tmp_path: Path) -> None:
    (tmp_path / "file-0").touch()
    sent: list[int] = []
    with pytest.raises(FileExistsError), WriterProcess(root) as writer:
        make_files(writer, 100, sent)
    assert len(sent) < 10
    assert not is_running(writer._process)


def test_a_writer_that_was_killed_is_no_success(root: int) -> None:
    for count in (0, 10):
        with pytest.raises(RuntimeError, match="the writing process ended"), WriterProcess(root) as writer:
            make_files(writer, count, [], first=lambda: os.kill(writer._process, signal.SIGKILL))


def test_a_reader_that_gives_up_leaves_no_writer(root: int) -> None:
    def give_up() -> None:
        raise KeyError

    with pytest.raises(KeyError), WriterProcess(root) as writer:
        make_files(writer, 5, [], last=give_up)
    assert not is_running(writer._process)


def test_a_reader_that_is_killed_leaves_no_writer(tmp_path: Path) -> None:
    """The pipe is open as long as one of the two runs."""
    program = (
        "import os, sys; from agent.unpack.writing import WriterProcess\n"
        "with WriterProcess(int(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    ended = subprocess.run(
        [sys.executable, "-c", program, str(fd)],
        pass_fds=(fd,), cwd=ROOT, stdout=subprocess.PIPE, timeout=60, check=False,
    )  # fmt: skip
    os.close(fd)
    assert ended.returncode == -signal.SIGKILL
