"""Every compression is read alike: by its magic, member by member, to its very end, in little memory."""

# ruff: noqa: ASYNC240 — each test has a loop to itself

import gzip
import lzma
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from agent.errors import ArchiveRefusedError
from agent.unpack import Limits, unpack
from tests.fakes.archives import END, Member, file, tar, tgz
from tests.fakes.unpacking import unpack_bytes

pytestmark = pytest.mark.slow

TAR = tar(file("a", b"x" * 10_000), file("b", random.Random(1).randbytes(10_000)))
HALF = len(TAR) // 2
SKIPPABLE = b"\x5a\x2a\x4d\x18" + (7).to_bytes(4, "little") + b"skipped"
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstd.compress,
    "xz": partial(lzma.compress, preset=0),  # more costs the time of a window that these bytes do not fill
}
# An xz stream whose dictionary is as large as xz -9 makes it, made in a third of its time.
LZMA_9 = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 64 << 20}]


def zstd_long(data: bytes, window_log: int) -> bytes:
    options: dict[int, int] = {
        zstd.CompressionParameter.window_log: window_log,
        zstd.CompressionParameter.content_size_flag: 0,
    }
    packer = zstd.ZstdCompressor(options=options)
    return packer.compress(data) + packer.flush()


CHECKED = zstd.compress(TAR, options={zstd.CompressionParameter.checksum_flag: 1})  # as the zstd command does


def turn_a_bit(data: bytes) -> bytes:
    return data[:9_000] + bytes([data[9_000] ^ 0x10]) + data[9_001:]


HARMLESS = {
    "plain": TAR,
    "plain before ustar": tar(Member(b"a", b"x" * 10_000, magic=b"")),
    **{name: pack(TAR) for name, pack in PACKERS.items()},
    **{f"{name} in two members": pack(TAR[:HALF]) + pack(TAR[HALF:]) for name, pack in PACKERS.items()},
    **{f"{name} with an empty member": pack(TAR) + pack(b"") for name, pack in PACKERS.items()},
    "zstd behind a skippable frame": SKIPPABLE + zstd.compress(TAR),
    "zstd around a skippable frame": zstd.compress(TAR[:HALF])
    + SKIPPABLE
    + zstd.compress(TAR[HALF:])
    + SKIPPABLE,
    "zstd with a check sum": CHECKED,
    "zstd --long": zstd_long(TAR, 27),
    "xz -9": lzma.compress(TAR, filters=LZMA_9),
    "xz -6": lzma.compress(TAR, preset=6),
    "xz without check sums": lzma.compress(TAR, check=lzma.CHECK_NONE, preset=0),
    "xz and its padding": lzma.compress(TAR, preset=0) + bytes(8),
    "xz by x86": lzma.compress(TAR, filters=[{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2}]),
}
DAMAGED = {
    **{f"{name} cut": (pack(TAR)[:-300], f"its {name} data is cut off") for name, pack in PACKERS.items()},
    **{
        f"{name} cut by one byte": (pack(TAR)[:-1], f"its {name} data is cut off")
        for name, pack in PACKERS.items()
    },
    **{
        f"{name} with a tail": (pack(TAR) + b"tail", f"behind its {name} data")
        for name, pack in PACKERS.items()
    },
    **{
        f"{name} with a bit turned": (turn_a_bit(pack(TAR)), "")
        for name, pack in PACKERS.items()
        if name != "zstd"
    },
    "zstd with a bit turned": (turn_a_bit(CHECKED), "its zstd data is damaged"),
    "zstd check sum": (CHECKED[:-1] + b"\x99", "zstd data is damaged"),
    "zstd with zeros behind": (zstd.compress(TAR) + bytes(8), "there is something behind its zstd data"),
    "xz with three zeros behind": (lzma.compress(TAR) + bytes(3), "followed by 3 zeros"),
    "zstd window": (zstd_long(tar(file("a", bytes(40 << 20))), 27), "needs a window of more than"),
    "zstd window beyond all": (zstd_long(TAR, 28), "its zstd data is damaged"),
    "xz dictionary": (
        lzma.compress(tar(file("a", bytes(40 << 20))), filters=LZMA_9),
        "needs a window of more than",
    ),
    "xz of text": (lzma.compress(b"this is no archive" * 100), "a header holds the checksum"),
    "zstd of nothing": (zstd.compress(b""), "the end mark is missing"),
    "a skippable frame alone": (SKIPPABLE, "the end mark is missing"),
    "bzip2": (b"BZh91AY&SY", "it is bzip2 data"),
    "a script": (b"#!/bin/sh\n" + TAR, "it is a script"),
    "gzip in gzip": (gzip.compress(gzip.compress(TAR)), "a header"),
    "plain tar cut": (TAR[: -len(END)], "the end mark is missing"),
    "plain tar with a tail": (TAR + b"x" * 512, "there is something behind its end"),
}


@pytest.mark.parametrize("name", HARMLESS)
async def test_every_compression_comes_out_the_same(name: str, dest: Path) -> None:
    await unpack_bytes(HARMLESS[name], dest)
    assert (dest / "a").read_bytes() == b"x" * 10_000


@pytest.mark.parametrize("name", DAMAGED)
async def test_damaged_data_is_refused_and_leaves_nothing(name: str, dest: Path) -> None:
    data, reason = DAMAGED[name]
    with pytest.raises(ArchiveRefusedError) as caught:
        await unpack_bytes(data, dest)
    assert reason in caught.value.reason
    assert list(dest.iterdir()) == []


@pytest.mark.parametrize(
    ("tool", "command"),
    [
        ("gzip", ["gzip", "-9"]),
        ("zstd", ["zstd", "-19"]),
        ("zstd", ["zstd", "--fast=3", "-T2"]),
        ("xz", ["xz", "-T2"]),
    ],
    ids=" ".join,
)
async def test_what_the_tools_pack_comes_out(tool: str, command: list[str], dest: Path) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    content = os.urandom(2_000_000) + bytes(3_000_000)
    packed = subprocess.run(  # noqa: ASYNC221
        [*command, "-c"], input=tar(file("big", content)), check=True, capture_output=True
    ).stdout
    await unpack_bytes(packed, dest)
    assert (dest / "big").read_bytes() == content


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
async def test_a_bomb_is_stopped_by_its_ratio(pack: Callable[[bytes], bytes], dest: Path) -> None:
    limits = Limits(ratio=100, ratio_from_bytes=1 << 20)
    with pytest.raises(ArchiveRefusedError, match="grows to more than 100 times its size"):
        await unpack_bytes(pack(tar(file("zeros", bytes(20 << 20)))), dest, limits)


async def test_the_same_bytes_unpack_whatever_the_package_is_called(dest: Path) -> None:
    path = dest.with_name("package.zip")
    path.write_bytes(tgz(file("a")))
    with path.open("rb") as package:
        await unpack(package, dest)
    assert [found.name for found in dest.iterdir()] == ["a"]
