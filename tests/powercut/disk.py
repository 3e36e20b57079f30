"""A file system whose power can be cut: ext4 in a file, and what the kernel offers to test recovery with."""

import fcntl
import os
import struct
import subprocess
import uuid
from pathlib import Path
from typing import Final

SHUTDOWN: Final = 0x8004587D  # FS_IOC_SHUTDOWN, linux/fs.h: nothing reaches the disk from now on
NO_LOG_FLUSH: Final = 2  # not even what the file system's own journal still holds in memory
_SIZE_BYTES: Final = 512 * 1024 * 1024


def cut_power(mount: Path) -> None:
    """What is not on the disk now never will be. Everything below `mount` fails from here on."""
    fd = os.open(mount, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        os.close(fd)


class Disk:
    """Mounted at `mount` in this process' own namespace of mounts, which ends with it."""

    def __init__(self, folder: Path, name: str) -> None:
        """Make and mount it. Raises CalledProcessError where that is impossible."""
        self._image, self.mount = folder / f"{name}.img", folder / name
        self.mount.mkdir()
        with self._image.open("wb") as file:
            file.truncate(_SIZE_BYTES)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        self._mount()

    def power_up(self) -> str:
        """Mount it again after a cut, which plays its journal back; returns what fsck complains of, "" for
        nothing. No process may use it any more."""
        self.unmount()
        self._mount()
        self.unmount()
        looked = subprocess.run(
            ["e2fsck", "-f", "-n", str(self._image)], capture_output=True, text=True, check=False
        )
        self._mount()
        return "" if looked.returncode == 0 else f"{looked.stdout}{looked.stderr}"

    def unmount(self) -> None:
        _run("umount", str(self.mount))

    def _mount(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self.mount))


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, text=True)


class Boots:
    """Which boot of the host this is, as the kernel tells it to the processes of this namespace."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "boot_id"
        self.begin()
        _run("mount", "--bind", str(self._file), "/proc/sys/kernel/random/boot_id")

    def begin(self) -> None:
        """Another boot."""
        self._file.write_text(f"{uuid.uuid4()}\n")
