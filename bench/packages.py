"""The packages that are installed: 200 MB in one file and in 20,000, half of it random and half text."""

import io
import random
import subprocess
import tarfile
from pathlib import Path
from typing import Final

CASES: Final = ("one.tar.gz", "many.tar.gz", "one.tar.zst", "many.tar.zst")
_TOTAL_BYTES: Final = 200_000_000
_FILES: Final = 20_000
_FILES_A_DIRECTORY: Final = 200
_PIECE_BYTES: Final = _TOTAL_BYTES // _FILES
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


def _piece(chance: random.Random, text: bytes) -> bytes:
    half = _PIECE_BYTES // 2
    start = chance.randrange(len(text) - half)
    return chance.randbytes(half) + text[start : start + half]


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
