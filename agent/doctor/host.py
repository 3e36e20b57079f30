"""What this host's disks, folders and files are like, for the agent's account."""

import os
import stat
from pathlib import Path

from agent.core.diagnosis import Placed, Space
from agent.core.root_diagnosis import Root
from agent.doctor.account import Account
from agent.instance_config import InstanceSection


def measure_space(path: Path) -> Space:
    """Of the file system of `path`, or of the nearest folder above it that exists. Raises OSError."""
    found = os.statvfs(find_nearest(path))
    return Space(
        str(path),
        found.f_bavail * found.f_frsize,
        found.f_favail if found.f_files else None,
        bool(found.f_flag & os.ST_RDONLY),
    )


def look_at_root(section: InstanceSection, account: Account) -> Root:
    """Raises OSError."""
    nearest = find_nearest(section.root)
    rights = [account.may(flag, nearest) for flag in "wx"]
    return Root(
        instance=section.id,
        path=str(section.root),
        nearest=str(nearest),
        exists=nearest == section.root,
        is_folder=nearest.is_dir(),
        writable=None if None in rights else all(rights),
        account=account.name,
    )


def look_at_file(path: Path) -> Placed:
    """Raises OSError."""
    found = os.stat(path)
    return Placed(str(path), stat.S_IMODE(found.st_mode), found.st_uid)


def find_nearest(path: Path) -> Path:
    """The path itself where there is something, else the nearest folder above it."""
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    return path
