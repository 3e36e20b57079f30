"""Whatever an archive asks for, the two processes of the child together stay within 64 MB beyond what a bare
interpreter needs (S3)."""

import gzip
import json
import lzma
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import pytest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from agent.unpack import Limits
from agent.unpack.process import library_places
from tests.fakes.archives import END, Member, file, long_name, pax, symlink, tar
from tests.fakes.zips import Item, zipped

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 64_000_000
FEW = Limits()

# Each reads what it used itself: getrusage would tell the most that any ancestor used before it started us.
MEASURED = """
import sys; sys.path += {places!r}
status = open("/proc/self/status", "rb", buffering=0)  # or a second look would show the first
def peak():
    status.seek(0)
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith(b"VmHWM"))
import json, os
bare = peak()
from agent.unpack.child import answer
from agent.unpack.limits import Limits
order = json.loads(sys.argv[1])
before = peak()
said = answer(order["package"], order["destination"], Limits(**order["limits"]), None)
writer = peak() - before
import resource  # the process that read was its child, which began as a copy of it
reader = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 - bare
print(json.dumps([said, reader, writer]), flush=True)
os._exit(0)
"""


def alike(member: Member, names: Iterable[bytes]) -> bytes:
    """Headers that differ in their names alone, all as long as that of `member`: quicker than one by one."""
    header = member.encode()
    length, total = len(member.name), int(header[148:154], 8) - sum(member.name)
    middle, rest = header[length:148], header[156:]
    return b"".join([name + middle + b"%06o\0 " % (total + sum(name)) + rest for name in names])


def odd_links(count: int) -> bytes:
    """Symlinks, none of which has to be made if the last one leads out. What their paths look like is kept
    too, and one character of each makes the others take four bytes in a str."""
    odd = "e\u0301\U0001f600".encode()
    first = Member(odd + bytes(45), kind=b"2", target=odd + b"b" * 58)
    return alike(first, (odd + b"%045d" % number for number in range(count)))


OUT = symlink("out", "..").encode() + END


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, 1)


def xz(dictionary_bytes: int, size_mib: int) -> bytes:
    finder = {"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": dictionary_bytes}
    packer = lzma.LZMACompressor(filters=[finder])
    return packed(packer, size_mib, END)


def zstd_long(window_log: int, size_mib: int, then: bytes = END) -> bytes:
    packer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: window_log})
    return packed(packer, size_mib, then)


def packed(packer: lzma.LZMACompressor | zstd.ZstdCompressor, size_mib: int, then: bytes) -> bytes:
    """One large file, to fill a window, and what follows it."""
    head = Member(b"big", b"", size=size_mib << 20).encode()
    data = [packer.compress(part) for part in (head, *[bytes(1 << 20)] * size_mib, then)]
    return b"".join(data) + packer.flush()


def gzip_of_zeros(size_mib: int) -> bytes:
    head = Member(b"big", b"", size=size_mib << 20).encode()
    return gzipped(head) + b"".join([gzipped(bytes(1 << 20))] * size_mib) + gzipped(END)


GREEDY: dict[str, Callable[[], bytes]] = {
    "the largest window, then the most links": lambda: zstd_long(25, 33, odd_links(FEW.entries - 10) + OUT),
    "long links": lambda: gzipped(
        b"".join(tar(*long_link(number), end=b"") for number in range(FEW.link_bytes // 2_048)) + OUT
    ),
    "long names of files": lambda: gzipped(
        b"".join(tar(long_name(b"d/" * 20 + b"%0200d" % n), file("f"), end=b"") for n in range(3_000)) + END
    ),
    "directories": lambda: gzipped(
        alike(symlink("000000/a/b/c/d/e", "f"), (b"%06d/a/b/c/d/e" % number for number in range(15_000)))
        + OUT
    ),
    "an endless extended header": lambda: gzipped(tar(Member(b"x", kind=b"x", size=1 << 40))),
    "large extended headers": lambda: gzipped(
        (pax(("comment", b"c" * 60_000), kind=b"g").encode() * 8 + file("f").encode()) * 20 + END
    ),
    "an overlong name of GNU": lambda: gzipped(tar(long_name(b"n" * 60_000), file("a"))),
    "xz -9": lambda: xz(64 << 20, 40),
    "xz -8": lambda: xz(32 << 20, 40),
    "zstd --long=27": lambda: zstd_long(27, 40),
    "gzip of zeros": lambda: gzip_of_zeros(300),
    "a zip of many": lambda: zipped(*[Item(b"%d/" % n, b"", mode=0o40755) for n in range(5_000)]),
    "a zip with long comments": lambda: zipped(
        *[Item(b"%d" % n, b"", listed={"comment": b"c" * 60_000}) for n in range(300)]
    ),
    "a zip of zeros": lambda: zipped(Item(b"a", bytes(20 << 20))),
}


def long_link(number: int) -> tuple[Member, ...]:
    path = b"%0250d/" * 4 % (1, 2, 3, number) + b"f"
    return long_name(path), long_name(path, b"K"), symlink("link", "target")


@cache
def code() -> str:
    return MEASURED.format(places=[str(ROOT), *library_places()])


@pytest.mark.parametrize("name", GREEDY)
def test_the_child_stays_small(name: str, tmp_path: Path) -> None:
    (tmp_path / "package").write_bytes(GREEDY[name]())
    (tmp_path / "dest").mkdir()
    package, dest = os.open(tmp_path / "package", os.O_RDONLY), os.open(tmp_path / "dest", os.O_RDONLY)
    order = json.dumps({"package": package, "destination": dest, "limits": FEW._asdict()})
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code(), order],
        pass_fds=(package, dest), capture_output=True, text=True, check=False,
    )  # fmt: skip
    os.close(package)
    os.close(dest)
    assert ended.returncode == 0, ended.stderr
    said, reader, writer = json.loads(ended.stdout)
    assert said.keys() <= {"done", "refused"}, said
    assert reader + writer <= MOST_BYTES, f"{reader / 1e6:.1f} + {writer / 1e6:.1f} MB: {said}"
