"""gzip and raw deflate, by isal: several times faster than zlib, and as strict about trailers."""

from typing import Final, cast

from isal import igzip_lib, isal_zlib

from agent.unpack.source import Decompressor

InflateError: Final = cast("type[Exception]", igzip_lib.IsalError)  # its stub says an instance

crc32 = isal_zlib.crc32


def start_gzip(_window_bytes: int) -> Decompressor:
    """Make a decompressor for one member. Its window is 32 KiB, whatever may be used."""
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def start_deflate() -> Decompressor:
    """Make a decompressor for deflate data alone (RFC 1951), as zip holds them."""
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE)
