"""Packages in the shapes that tools give them beside the usual one: padded, streamed, in many pieces."""

# ruff: noqa: ASYNC221 — each test has a loop to itself

import gzip
import io
import lzma
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import ArchiveRefusedError
from agent.unpack import unpack
from tests.fakes.archives import Member, file, long_name, symlink, tar, tgz
from tests.fakes.zips import Item, zipped

pytestmark = pytest.mark.slow

CONTENT = b"content\n"


class Pipe(io.BytesIO):
    """What Python writes to when it cannot go back."""

    def seekable(self) -> bool:
        return False

    def seek(self, offset: int, whence: int = 0) -> int:
        raise io.UnsupportedOperation

    def tell(self) -> int:
        raise io.UnsupportedOperation


def python_zip(target: io.BytesIO, *, wide: bool = False) -> bytes:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("a", "w", force_zip64=wide) as content:
            content.write(CONTENT)
        archive.writestr("d/", b"")
        archive.writestr("d/stored", CONTENT, compress_type=zipfile.ZIP_STORED)
    return target.getvalue()


def appended_zip() -> bytes:
    target = io.BytesIO()
    for name in ("a", "d/stored"):
        with zipfile.ZipFile(target, "a") as archive:
            archive.writestr(name, CONTENT)
            archive.comment = b"made in two steps"
    return target.getvalue()


def piecewise(compress: Callable[[bytes], bytes]) -> bytes:
    plain = tar(file("a"), file("d/stored"))
    return b"".join(compress(plain[at : at + 700]) for at in range(0, len(plain), 700))


SHAPES = {
    "zip, zeros up to the next block": zipped(Item(b"a"), Item(b"d/stored")).ljust(10_240, b"\0"),
    "zip, a comment and zeros": zipped(Item(b"a"), Item(b"d/stored"), comment=b"why") + bytes(100),
    "zip to a pipe": python_zip(Pipe()),
    "zip to a pipe, wide": python_zip(Pipe(), wide=True),
    "zip, wide": python_zip(io.BytesIO(), wide=True),
    "zip, appended to": appended_zip(),
    "gzip in pieces": piecewise(gzip.compress),
    "xz in pieces": piecewise(lzma.compress),
    "xz without a check": lzma.compress(tar(file("a"), file("d/stored")), check=lzma.CHECK_NONE),
}  # fmt: skip


async def unpack_bytes(data: bytes, tmp_path: Path) -> dict[str, bytes]:
    dest, package = tmp_path / "dest", tmp_path / "package"
    dest.mkdir()
    package.write_bytes(data)
    with package.open("rb") as source:
        await unpack(source, dest)
    return {str(path.relative_to(dest)): path.read_bytes() for path in dest.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", SHAPES)
async def test_an_unusual_shape_holds_the_usual_files(name: str, tmp_path: Path) -> None:
    assert await unpack_bytes(SHAPES[name], tmp_path) == {"a": CONTENT, "d/stored": CONTENT}


@pytest.mark.parametrize("tail", [bytes(100) + b"x", b"x" + bytes(100)])
async def test_something_among_the_zeros_behind_a_zip_is_refused(tail: bytes, tmp_path: Path) -> None:
    with pytest.raises(ArchiveRefusedError, match="does not end with the file"):
        await unpack_bytes(zipped(Item(b"a")) + tail, tmp_path)


async def test_what_bsdtar_streams_as_a_zip_is_read(tmp_path: Path) -> None:
    if shutil.which("bsdtar") is None:
        pytest.skip("bsdtar is not installed")
    (tmp_path / "a").write_bytes(CONTENT)
    made = subprocess.run(
        ["bsdtar", "--format=zip", "-cf", "-", "a"], cwd=tmp_path, capture_output=True, check=True
    ).stdout
    assert await unpack_bytes(made, tmp_path) == {"a": CONTENT}


async def test_files_beside_the_files_of_macos_are_files_like_others(tmp_path: Path) -> None:
    names = ["._a", "a", "__MACOSX/._a"]
    data = tgz(*[file(name) for name in names])
    assert await unpack_bytes(data, tmp_path) == dict.fromkeys(names, CONTENT)


@pytest.mark.parametrize(
    ("kind", "what"), [(b"S", "a sparse file"), (b"D", "a GNU incremental directory")], ids=str
)
async def test_what_is_refused_is_named_even_if_it_has_content(
    kind: bytes, what: str, tmp_path: Path
) -> None:
    with pytest.raises(ArchiveRefusedError, match=what):
        await unpack_bytes(tgz(Member(b"a", b"content", kind=kind)), tmp_path)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (tgz(long_name(b""), file("a")), "a long name is empty"),  # GNU tar takes it for "."
        (tgz(long_name(b"", b"K"), symlink("l", "a"), file("a")), "a long name is empty"),
        (tgz(long_name(b"x", b"K"), Member(b"tape", kind=b"V"), symlink("l", "a")), "before a volume label"),
        (zipped(Item(b"d/.")), "named like a directory"),  # unzip makes a directory and a file in it
    ],
    ids=["long name", "long target", "label", "zip"],
)
async def test_a_name_that_tools_read_in_two_ways_is_refused(data: bytes, why: str, tmp_path: Path) -> None:
    with pytest.raises(ArchiveRefusedError, match=why):
        await unpack_bytes(data, tmp_path)


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress], ids=["gzip", "xz"])
async def test_empty_members_without_end_are_refused_soon(
    compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    with pytest.raises(ArchiveRefusedError, match="more than 10000 empty members"):
        await unpack_bytes(compress(b"") * 500_000, tmp_path)  # each costs as much as the others


async def test_some_empty_members_are_no_hindrance(tmp_path: Path) -> None:
    empty = gzip.compress(b"") * 5_000
    assert await unpack_bytes(empty + tgz(file("a")) + empty, tmp_path) == {"a": CONTENT}


async def test_a_python_archive_with_every_odd_number_is_read(tmp_path: Path) -> None:
    target = io.BytesIO()
    headers = {"comment": "ü", "vendor.key": "1"}
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT, pax_headers=headers) as archive:
        member = tarfile.TarInfo("a")
        member.size, member.mtime, member.uid, member.uname = len(CONTENT), -1.5, 10**9, "ü" * 50
        archive.addfile(member, io.BytesIO(CONTENT))
    assert await unpack_bytes(target.getvalue(), tmp_path) == {"a": CONTENT}
