"""An error of the disk is told to whoever commits a release, whoever else was told of it before."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.disk import Witness
from agent.errors import HostError, NoSpaceError
from agent.switch import InstallRoot, ReleaseMeta

MIB = 1 << 20


def run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, capture_output=True)


@pytest.fixture
def failing_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that takes writes and cannot bring most of them to its disk: that is a file with holes,
    for which there is no room."""
    below, path = tmp_path / "below", tmp_path / "disk"
    below.mkdir()
    path.mkdir()
    image = below / "image"
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    run("mount", "-t", "tmpfs", "-o", f"size={6 * MIB}", "tmpfs", below)
    try:
        image.write_bytes(bytes(3 * MIB))  # room for what the file system itself has to write
        os.truncate(image, 16 * MIB)
        run("mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", "nodiscard", image)
        with (below / "filler").open("wb", buffering=0) as filler:
            assert filler.write(bytes(8 * MIB)) < 8 * MIB
        mounted = subprocess.run(["mount", "-o", "loop", image, path], capture_output=True, check=False)
        if mounted.returncode:
            pytest.skip(f"no loop mount here: {mounted.stderr.decode()}")
        try:
            yield path
        finally:
            run("umount", "--lazy", path)  # a test that failed may still hold it
    finally:
        run("umount", "--lazy", below)


def test_an_error_that_somebody_else_was_told_first_still_stops_a_release(failing_disk: Path) -> None:
    root = InstallRoot(failing_disk / "root")
    root.prepare()
    staging = root.make_staging()
    (staging.path / "weight").write_bytes(os.urandom(8 * MIB))  # as if all were well
    root.describe(staging, ReleaseMeta("v1", "v1", "", 8 * MIB))
    with pytest.raises(OSError, match=r"No space|Input/output"):
        Witness(failing_disk).sync()
    Witness(failing_disk).sync()  # who only looks now is told nothing any more
    with pytest.raises((NoSpaceError, HostError)):
        root.sync(staging)
    staging.witness.close()


def test_a_closed_witness_holds_nothing_and_sees_nothing(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    witness = Witness(tmp_path)
    witness.sync()
    witness.close()
    witness.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    with pytest.raises(OSError, match="Bad file descriptor"):
        witness.sync()
