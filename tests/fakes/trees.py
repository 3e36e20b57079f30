"""What a directory holds, told so that two of them can be compared."""

import stat
from collections.abc import Mapping
from pathlib import Path


def describe_tree(root: Path) -> Mapping[str, tuple[object, ...]]:
    """Kind, content and executable bit of everything below `root`."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        name, mode = str(path.relative_to(root)), path.lstat().st_mode
        if stat.S_ISLNK(mode):
            found[name] = ("link", str(path.readlink()))
        elif stat.S_ISDIR(mode):
            found[name] = ("directory",)
        else:
            assert stat.S_ISREG(mode)
            found[name] = ("file", path.read_bytes(), bool(mode & 0o111))
    return found
