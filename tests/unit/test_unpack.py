"""Archives that honest tools make must unpack to the tree that GNU tar makes of them."""

# ruff: noqa: ASYNC240 — each test has a loop to itself

import asyncio
import gzip
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import pytest

from agent.disk import empty_directory
from agent.errors import ArchiveRefusedError, HostError, NoSpaceError, UnpackFailedError
from agent.unpack import Limits, UnpackResult, unpack
from tests.fakes.archives import (
    END,
    Member,
    directory,
    file,
    hardlink,
    symlink,
    tgz,
)
from tests.fakes.harmless_tars import HARMLESS, LONG
from tests.fakes.trees import describe_tree

pytestmark = pytest.mark.slow

Unpack = Callable[[bytes], Awaitable[UnpackResult]]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.fixture
def unpack_here(dest: Path, tmp_path: Path) -> Unpack:
    async def run(data: bytes) -> UnpackResult:
        with (tmp_path / "package").open("w+b") as package:
            package.write(data)
            return await unpack(package, dest)

    return run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tree with everything that an honest package holds."""
    root = tmp_path / "source"
    for name, content, mode in (
        ("bin/server", b"#!/bin/sh\n", 0o755),
        ("lib/data.bin", bytes(range(256)) * 9_000, 0o644),
        ("lib/empty", b"", 0o640),
        ("lib/exactly-one-block", b"x" * 512, 0o600),
        ("docs/grüße, 世界 🎉.txt", b"hello\n", 0o444),
        ("docs/-rf", b"a dash\n", 0o644),
        (LONG, b"deep\n", 0o644),
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
    (root / "empty-directory").mkdir()
    (root / "bin/current").symlink_to("server")
    (root / "lib/up").symlink_to("../bin/server")
    (root / "lib/dangling").symlink_to("not-there/yet")
    (root / LONG).with_name("link").symlink_to("../" * 6 + LONG)
    (root / "lib/same").hardlink_to(root / "lib/data.bin")
    return root


def by_gnu_tar(package: bytes, directory: Path) -> Mapping[str, tuple[object, ...]]:
    directory.mkdir()
    subprocess.run(["tar", "-xzf", "-", "-C", directory], input=package, check=True, capture_output=True)
    return describe_tree(directory)


def run(*argv: str | Path, cwd: Path) -> bytes:
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd.parent), "LC_ALL": "C.UTF-8"}
    return subprocess.run(argv, cwd=cwd, env=environment, check=True, capture_output=True).stdout


def python_tar(source: Path, form: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=form) as archive:
        archive.add(source, arcname=".")
    return out.getvalue()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--format=gnu", "."], ["--format=oldgnu", "."], ["--format=pax", "."],
        ["--format=ustar", "bin", "lib", "docs"],
        ["--format=v7", "bin", "lib"], ["--format=pax", "--xattrs", "--acls", "--selinux", "."],
        ["--format=gnu", "--label=my tape", "."],
        ["--blocking-factor=1", "."], ["--blocking-factor=2048", "."],
        ["--numeric-owner", "--owner=123456789", "--group=4000000000", "."], ["--mtime=1969-01-01", "."],
        ["--transform=s,^\\./,package-1.0/,", "."], ["bin", "bin/server", "lib"],
    ],
    ids=" ".join,
)  # fmt: skip
async def test_what_gnu_tar_packs_comes_out_the_same(
    arguments: list[str], source: Path, unpack_here: Unpack, dest: Path
) -> None:
    package = run("tar", "-czf", "-", *arguments, cwd=source)
    if arguments == ["bin", "bin/server", "lib"]:
        with pytest.raises(ArchiveRefusedError, match="'bin/server' is there twice"):
            await unpack_here(package)
        return
    await unpack_here(package)
    assert describe_tree(dest) == by_gnu_tar(package, dest.with_name("gnu"))


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
async def test_what_python_packs_comes_out_the_same(
    form: int, source: Path, unpack_here: Unpack, dest: Path
) -> None:
    if form == tarfile.USTAR_FORMAT:
        shutil.rmtree(source / LONG.partition("/")[0])
        (source / "lib/up").unlink()
    package = python_tar(source, form)
    await unpack_here(package)
    assert describe_tree(dest) == by_gnu_tar(package, dest.with_name("gnu"))


@pytest.mark.parametrize(
    "tool", [["bsdtar", "--format=pax"], ["bsdtar", "--format=gnutar"], ["busybox", "tar"]]
)
async def test_what_other_tars_pack_comes_out_the_same(
    tool: list[str], source: Path, unpack_here: Unpack, dest: Path
) -> None:
    if shutil.which(tool[0]) is None:
        pytest.skip(f"{tool[0]} is not installed")
    package = run(tool[0], *tool[1:], "-czf", "-", ".", cwd=source)
    await unpack_here(package)
    assert describe_tree(dest) == by_gnu_tar(package, dest.with_name("gnu"))


async def test_what_git_archives_comes_out_the_same(source: Path, unpack_here: Unpack, dest: Path) -> None:
    run("git", "init", "--quiet", cwd=source)
    run("git", "add", ".", cwd=source)
    run("git", "-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "all", cwd=source)
    package = run("git", "archive", "--format=tar.gz", "--prefix=thing-1.0/", "HEAD", cwd=source)
    assert b"pax_global_header" in gzip.decompress(package)
    await unpack_here(package)
    assert describe_tree(dest) == by_gnu_tar(package, dest.with_name("gnu"))


async def test_what_npm_packs_comes_out_the_same(source: Path, unpack_here: Unpack, dest: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    (source / "package.json").write_text(
        json.dumps({"name": "thing", "version": "1.0.0", "bin": "bin/server"})
    )
    run("npm", "pack", "--offline", "--ignore-scripts", cwd=source)
    package = (source / "thing-1.0.0.tgz").read_bytes()
    await unpack_here(package)
    assert describe_tree(dest) == by_gnu_tar(package, dest.with_name("gnu"))


@pytest.mark.parametrize("name", HARMLESS)
async def test_strange_but_harmless_comes_out_like_gnu_tar(
    name: str, unpack_here: Unpack, dest: Path
) -> None:
    await unpack_here(HARMLESS[name])
    assert describe_tree(dest) == by_gnu_tar(HARMLESS[name].rstrip(b"\0") + bytes(3), dest.with_name("gnu"))


async def test_modes_are_plain_and_nobody_gains_rights(unpack_here: Unpack, dest: Path) -> None:
    await unpack_here(
        tgz(file("setuid", mode=0o4755), file("world", mode=0o666), file("owner", mode=0o100),
            directory("d", 0o1777),
            file("d/none", mode=0), directory("setgid", 0o2700))
    )  # fmt: skip
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in dest.rglob("*")}
    assert modes == {
        "setuid": 0o755,
        "world": 0o644,
        "owner": 0o755,
        "d": 0o755,
        "none": 0o644,
        "setgid": 0o755,
    }
    assert stat.S_IMODE(dest.stat().st_mode) == 0o700


async def test_a_hard_link_stays_one_file(unpack_here: Unpack, dest: Path) -> None:
    await unpack_here(tgz(file("a/f"), hardlink("b/g", "a/f")))
    assert (dest / "a/f").samefile(dest / "b/g")


async def test_the_result_counts_what_is_there(unpack_here: Unpack) -> None:
    result = await unpack_here(
        tgz(file("a/b/f", b"12345"), directory("a"), symlink("l", "a"), hardlink("h", "a/b/f"))
    )
    assert result == UnpackResult(entries=5, total_bytes=5)


async def test_a_file_larger_than_any_block_comes_out_whole(unpack_here: Unpack, dest: Path) -> None:
    data = os.urandom(1 << 20) * 5 + b"end"
    await unpack_here(tgz(file("big", data), file("after", b"x")))
    assert (dest / "big").read_bytes() == data
    assert (dest / "after").read_bytes() == b"x"


async def test_a_destination_with_something_in_it_is_not_written_to(unpack_here: Unpack, dest: Path) -> None:
    (dest / "mine").write_text("precious")
    with pytest.raises(HostError, match="not empty"):
        await unpack_here(tgz(file("a")))
    assert (dest / "mine").read_text() == "precious"


async def test_the_descriptor_decides_not_the_name(dest: Path, tmp_path: Path) -> None:
    path = tmp_path / "package"
    path.write_bytes(tgz(file("verified")))
    with path.open("rb") as package:
        path.unlink()
        path.write_bytes(tgz(file("swapped")))
        await unpack(package, dest)
    assert [found.name for found in dest.iterdir()] == ["verified"]


async def test_a_child_that_takes_too_long_is_ended(dest: Path, big_package: Path) -> None:
    with big_package.open("rb") as package, pytest.raises(UnpackFailedError, match=r"more than 0\.01 s"):
        await unpack(package, dest, Limits(seconds=0.01))
    assert list(dest.iterdir()) == []
    assert not unpacking_children()


async def test_a_child_that_dies_is_reported_and_leaves_nothing(dest: Path, big_package: Path) -> None:
    with big_package.open("rb") as package:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(fail_to_unpack(package, dest))
            await asyncio.to_thread(wait_for_first_file, dest)
            [child] = unpacking_children()
            os.kill(child, signal.SIGKILL)
    assert "ended by signal 9" in str(task.result())
    assert list(dest.iterdir()) == []


async def fail_to_unpack(package: BinaryIO, dest: Path) -> UnpackFailedError:
    with pytest.raises(UnpackFailedError) as caught:
        await unpack(package, dest)
    return caught.value


async def test_too_little_memory_is_said(dest: Path, tmp_path: Path) -> None:
    path = tmp_path / "package"
    path.write_bytes(tgz(*[file(f"{number:0200}", b"") for number in range(3_000)]))
    with path.open("rb") as package, pytest.raises((ArchiveRefusedError, UnpackFailedError)):
        await unpack(package, dest, Limits(memory_bytes=8 << 20))
    assert list(dest.iterdir()) == []


async def test_a_cancel_ends_the_child_and_leaves_what_was_made_to_us(dest: Path, big_package: Path) -> None:
    with big_package.open("rb") as package:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(unpack(package, dest))
            await asyncio.to_thread(wait_for_first_file, dest)
            task.cancel()
        assert task.cancelled()
        assert package.tell() == 0
    assert not unpacking_children()
    assert (dest.stat().st_uid, dest.stat().st_gid) == (os.geteuid(), os.getegid())
    empty_directory(dest)


@pytest.fixture(scope="module")
def big_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Takes a while: 150 MiB that do not compress. Each is the same, so that it is compressed only once."""
    path = tmp_path_factory.mktemp("big") / "package"
    block = os.urandom(1 << 20)
    packed = gzip.compress(block, compresslevel=1)
    with path.open("wb") as out:
        for number in range(150):
            header = Member(b"%d" % number, block).encode().removesuffix(block)
            out.write(gzip.compress(header) + packed)
        out.write(gzip.compress(END))
    return path


def wait_for_first_file(directory: Path) -> None:
    """Return when something is in `directory`; the test's own timeout bounds it."""
    while not any(directory.iterdir()):
        os.sched_yield()


def unpacking_children() -> list[int]:
    """The unpacking children of this process that still run."""
    numbers = [
        int(child)
        for task in Path("/proc/self/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return [pid for pid in numbers if b"agent.unpack.child" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def test_a_full_disk_is_told_as_such(small_disk: Path, tmp_path: Path) -> None:
    dest = small_disk / "dest"
    dest.mkdir()
    path = tmp_path / "package"
    path.write_bytes(tgz(file("big", os.urandom(4 << 20))))
    with path.open("rb") as package, pytest.raises(NoSpaceError):
        await unpack(package, dest)
    assert list(dest.iterdir()) == []


def test_the_child_starts_without_the_heavy_libraries() -> None:
    code = "import sys, agent.unpack.child; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "agent.unpack.child" in loaded
    assert not {"asyncio", "pydantic", "aiohttp", "ssl"} & set(loaded)
