"""The packages that are installed: 200 MB in one file and in 20,000, half of it random and half text; and a
large one, all random."""

import io
import random
import subprocess
import tarfile
from pathlib import Path
from typing import IO, Final, cast

CASES: Final = ("one.tar.gz", "many.tar.gz", "one.tar.zst", "many.tar.zst")
_TOTAL_BYTES: Final = 200_000_000
_FILES: Final = 20_000
_FILES_A_DIRECTORY: Final = 200
_PIECE_BYTES: Final = _TOTAL_BYTES // _FILES
_PIECE_OF_LARGE_BYTES: Final = 1024 * 1024
_QUICK_PACKER: Final = ["zstd", "-1", "-q", "-c"]
_PACKERS: Final = {".gz": ["gzip", "-6"], ".zst": ["zstd", "-3"]}


def make_packages(directory: Path) -> None:
    """Write all CASES into `directory`: the same bytes on every machine, packed by the usual tools."""
    chance = random.Random(20_000)
    words = [bytes(chance.choices(b"etaoinshrdlu", k=chance.randint(2, 9))) for _ in range(5_000)]
    text = b" ".join(chance.choices(words, k=200_000))
    pieces = [_piece(chance, text) for _ in range(_FILES)]
    with tarfile.open(directory / "one.tar", "w") as archive:
        _add(archive, "application/data.bin", b"".join(pieces))
    with tarfile.open(directory / "many.tar", "w") as archive:
        for number, piece in enumerate(pieces):
            name = f"application/part-{number // _FILES_A_DIRECTORY:03}/file-{number:05}.txt"
            _add(archive, name, piece)
    for name in ("one.tar", "many.tar"):
        for suffix, packer in _PACKERS.items():
            with (directory / name).open("rb") as plain, (directory / (name + suffix)).open("wb") as packed:
                subprocess.run([*packer, "-c"], stdin=plain, stdout=packed, check=True)
        (directory / name).unlink()


def make_large_package(directory: Path, size: int) -> Path:
    """Write a package of one file of `size` bytes that do not compress into `directory`; return its path."""
    package = directory / "large.tar.zst"
    chance = random.Random(2)
    header = tarfile.TarInfo("application/data.bin")
    header.size = size
    with package.open("wb") as packed:
        packer = subprocess.Popen(_QUICK_PACKER, stdin=subprocess.PIPE, stdout=packed)
        with packer, cast("IO[bytes]", packer.stdin) as archive:
            archive.write(header.tobuf(tarfile.USTAR_FORMAT))
            for at in range(0, size, _PIECE_OF_LARGE_BYTES):
                archive.write(chance.randbytes(min(_PIECE_OF_LARGE_BYTES, size - at)))
            archive.write(bytes(-size % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE))
    if packer.returncode:
        raise subprocess.CalledProcessError(packer.returncode, _QUICK_PACKER)
    return package


def _piece(chance: random.Random, text: bytes) -> bytes:
    half = _PIECE_BYTES // 2
    start = chance.randrange(len(text) - half)
    return chance.randbytes(half) + text[start : start + half]


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
