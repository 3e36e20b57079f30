"""Telling the kernel to begin writing now what a later syncfs would wait for."""

import ctypes
from typing import Final

_SYNC_FILE_RANGE_WRITE: Final = 2
_LIBC: Final = ctypes.CDLL(None)


def start_writeback(fd: int) -> None:
    """Begin to write the dirty pages of `fd`; returns at once in most cases, and nothing is durable then.

    A hint: where the kernel or the file system will not (sync_file_range(2)), nothing is lost but time.
    """
    everything = ctypes.c_int64(0)
    _LIBC.sync_file_range(fd, everything, everything, ctypes.c_uint(_SYNC_FILE_RANGE_WRITE))
