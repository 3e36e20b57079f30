"""Whatever an archive asks for, the child stays within 80 MB beyond what a bare interpreter needs (S3)."""

import gzip
import io
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
from agent.unpack.parent import library_places
from tests.fakes.archives import END, Member, file, long_name, pax, symlink, tar
from tests.fakes.zips import Item, zipped

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 80_000_000
FEW = Limits()

# Reads what it used itself: getrusage would tell the most that any ancestor used before it started us.
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
said = answer(order["package"], order["destination"], Limits(**order["limits"]), None)
import resource  # the process that read was its child, which began as a copy of it
read = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(json.dumps([said, max(read, peak()), bare]), flush=True)
os._exit(0)
"""


def many(make: Callable[[int], Member], count: int) -> bytes:
    return gzip.compress(b"".join(make(number).encode() for number in range(count)) + END, 1)


def zeros(count: int) -> Iterable[bytes]:
    return (bytes(1 << 20) for _ in range(count))


def xz_9(size_mib: int) -> bytes:
    packer = lzma.LZMACompressor(filters=[{"id": lzma.FILTER_LZMA2, "preset": 9, "mf": lzma.MF_HC3}])
    head = Member(b"big", b"", size=size_mib << 20).encode()
    return (
        packer.compress(head)
        + b"".join(map(packer.compress, zeros(size_mib)))
        + packer.compress(END)
        + packer.flush()
    )


def zstd_long(window_log: int, size_mib: int) -> bytes:
    packer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: window_log})
    head = Member(b"big", b"", size=size_mib << 20).encode()
    return (
        packer.compress(head)
        + b"".join(map(packer.compress, zeros(size_mib)))
        + packer.compress(END)
        + packer.flush()
    )


def gzip_zeros(size_mib: int) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as packed:
        packed.write(Member(b"big", b"", size=size_mib << 20).encode())
        for block in zeros(size_mib):
            packed.write(block)
        packed.write(END)
    return out.getvalue()


def full_window_then_names() -> bytes:
    """The largest window and the most names at once."""
    packer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 25})
    big = Member(b"big", os.urandom(1 << 20) * 33)
    return packer.compress(big.encode()) + packer.compress(names(FEW.entries - 10)) + packer.flush()


def names(count: int) -> bytes:
    """The last link leads out, so that none of them has to be made."""
    inside = b"".join(symlink(f"{number:075}", "b" * 80).encode() for number in range(count))
    return inside + symlink("out", "..").encode() + END


GREEDY: dict[str, Callable[[], bytes]] = {
    "a full window, then names": full_window_then_names,
    "names beyond ASCII": lambda: many(lambda n: file(f"{n}-世界-é", b""), 10_000),
    "directories": lambda: many(lambda n: Member(b"%d/a/b/c/d/e" % n, kind=b"5"), 2_000),
    "links": lambda: many(lambda n: symlink(f"{n:050}", "b" * 90), 10_000),
    "an endless extended header": lambda: gzip.compress(tar(Member(b"x", kind=b"x", size=1 << 40))),
    "large extended headers": lambda: many(lambda _: pax(("comment", b"c" * 60_000), kind=b"g"), 300),
    "long names of GNU": lambda: gzip.compress(tar(long_name(b"n" * 60_000), file("a"))),
    "xz -9": lambda: xz_9(80),
    "zstd --long=27": lambda: zstd_long(27, 200),
    "zstd --long=25": lambda: zstd_long(25, 200),
    "gzip of zeros": lambda: gzip_zeros(300),
    "a zip of many": lambda: zipped(*[Item(b"%d" % n, b"") for n in range(5_000)]),
    "a zip with long comments": lambda: zipped(
        *[Item(b"%d" % n, b"", listed={"comment": b"c" * 60_000}) for n in range(300)]
    ),
    "a zip of zeros": lambda: zipped(Item(b"a", bytes(100 << 20))),
}


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
    said, peak, bare = json.loads(ended.stdout)
    assert said.keys() <= {"done", "refused"}, said
    assert peak - bare <= MOST_BYTES, f"{(peak - bare) / 1e6:.1f} MB: {said}"
