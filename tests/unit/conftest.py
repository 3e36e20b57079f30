"""What tests of downloading and of unpacking begin with."""

from pathlib import Path

import pytest

from tests.fakes.downloads import downloader, origin, packages, policy

__all__ = ["dest", "downloader", "origin", "packages", "policy"]


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    """An empty directory, its owner's alone, with nothing beside it."""
    path = tmp_path / "dest"
    path.mkdir(mode=0o700)
    return path
