"""What kind of archive is this? Decided by its first bytes, never by its name.

Decompressors are imported when they are needed: a child reads one archive."""

import os
from collections.abc import Callable
from typing import BinaryIO, Final

from agent.unpack.entry import Reader
from agent.unpack.limits import Limits
from agent.unpack.refusal import RefusedError
from agent.unpack.source import CompressedSource, Compression, Decompressor, PlainSource
from agent.unpack.stream import Stream
from agent.unpack.tar import BLOCK, TarReader

_GZIP: Final = b"\x1f\x8b"
_XZ: Final = b"\xfd7zXZ\0"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE: Final = b"\x2a\x4d\x18"  # behind one byte 0x50 to 0x5f; pzstd starts with such a frame
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_OTHERS: Final = {
    b"BZh": "bzip2 data",
    b"\x04\x22\x4d\x18": "lz4 data",
    b"\x5d\0\0": "lzma data",
    b"LZIP": "lzip data",
    b"\x1f\x9d": "compress data",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"!<arch>\n": "an ar archive",
    b"\xed\xab\xee\xdb": "an RPM package",
    b"PK\x07\x08": "a part of a split zip archive",
    b"\x7fELF": "a program",
    b"#!": "a script",
    b"<": "a web page",
}


def choose_reader(package: BinaryIO, limits: Limits) -> Callable[[], Reader]:
    """Look at the first bytes of `package` and import what reads it; calling the result starts to read.

    Raises RefusedError naming what the package is instead.
    """
    head = os.pread(package.fileno(), BLOCK, 0)
    if head.startswith(_ZIP):
        from agent.unpack.zip import ZipReader  # noqa: PLC0415

        return lambda: ZipReader(package, limits)
    if head[257:262] == b"ustar" or _looks_like_tar(head):
        return lambda: TarReader(Stream(PlainSource(package)), limits)
    compression = _compression(head)
    if compression is None:
        raise RefusedError(f"it is {_describe(head)}; tar, tar.gz, tar.zst, tar.xz and zip are accepted")
    source = CompressedSource(package, compression, limits)
    return lambda: TarReader(Stream(source), limits)


def _compression(head: bytes) -> Compression | None:
    if head.startswith(_GZIP):
        return _gzip()
    if _starts_zstd(head):
        return _zstd()
    if head.startswith(_XZ):
        return _xz()
    return None


def _gzip() -> Compression:
    from agent.unpack.inflate import InflateError, start_gzip  # noqa: PLC0415

    return Compression("gzip", lambda data: data.startswith(_GZIP), start_gzip, InflateError, padding=1)


def _zstd() -> Compression:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415
    except ImportError:  # before Python 3.14
        from backports import zstd  # noqa: PLC0415

    def start(window_bytes: int) -> Decompressor:
        log = window_bytes.bit_length() - 1
        decompressor: Decompressor = zstd.ZstdDecompressor(
            options={zstd.DecompressionParameter.window_log_max: log}
        )
        return decompressor

    return Compression("zstd", _starts_zstd, start, zstd.ZstdError, padding=0)


def _xz() -> Compression:
    import lzma  # noqa: PLC0415

    def start(window_bytes: int) -> Decompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=window_bytes)

    return Compression("xz", lambda data: data.startswith(_XZ[:4]), start, lzma.LZMAError, padding=4)


def _starts_zstd(data: bytes) -> bool:
    return data.startswith(_ZSTD) or (data[1:4] == _ZSTD_SKIPPABLE and 0x50 <= data[0] <= 0x5F)


def _looks_like_tar(head: bytes) -> bool:
    """Tell a tar before ustar (v7), which has no magic: its first header must add up."""
    digits = head[148:156].strip(b" \0")
    if len(head) < BLOCK or not digits or digits.strip(b"01234567"):
        return head == bytes(BLOCK)  # or an archive of nothing but its end mark
    return int(digits, 8) == sum(head) - sum(head[148:156]) + 8 * 0x20


def _describe(head: bytes) -> str:
    if not head:
        return "empty"
    return next((what for magic, what in _OTHERS.items() if head.startswith(magic)), "of an unknown kind")
