"""What kind of archive is this? Decided by its first bytes, never by its name."""

from typing import BinaryIO, Final

from agent.unpack.inflate import GzipSource
from agent.unpack.limits import Limits
from agent.unpack.refusal import RefusedError
from agent.unpack.stream import Stream
from agent.unpack.tar import BLOCK, TarReader

_GZIP: Final = b"\x1f\x8b"
_OTHERS: Final = {
    b"\x28\xb5\x2f\xfd": "zstd data",
    b"\xfd7zXZ\0": "xz data",
    b"BZh": "bzip2 data",
    b"\x04\x22\x4d\x18": "lz4 data",
    b"PK\x03\x04": "a zip archive",
    b"PK\x05\x06": "an empty zip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"!<arch>\n": "an ar archive",
    b"\x7fELF": "a program",
    b"<": "a web page",
}


def open_archive(package: BinaryIO, limits: Limits) -> tuple[Stream, TarReader]:
    """Return the stream of contents and the reader of entries for `package`, which is read from its start.

    Raises RefusedError naming what the package is instead.
    """
    package.seek(0)
    head = package.read(BLOCK)
    package.seek(0)
    if head.startswith(_GZIP):
        stream = Stream(GzipSource(package, limits))
        return stream, TarReader(stream, limits)
    raise RefusedError(f"it is {_describe(head)}, and only .tar.gz is accepted")


def _describe(head: bytes) -> str:
    if not head:
        return "empty"
    if head[257:262] == b"ustar":
        return "an uncompressed tar archive"
    return next((what for magic, what in _OTHERS.items() if head.startswith(magic)), "of an unknown kind")
