"""What several tests of unpacking begin with."""

from pathlib import Path

import pytest


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    """An empty directory, its owner's alone, with nothing beside it."""
    path = tmp_path / "dest"
    path.mkdir(mode=0o700)
    return path
