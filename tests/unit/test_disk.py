"""File operations that must hold, whatever the disk says."""

import os
from pathlib import Path

import pytest

from agent.disk import empty_directory
from shared.files import replace_file


def test_a_file_that_cannot_be_replaced_leaves_no_draft_behind(tmp_path: Path) -> None:
    place = tmp_path / "note.json"
    place.mkdir()
    with pytest.raises(IsADirectoryError):
        replace_file(place, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["note.json"]


def test_a_tree_deeper_than_any_path_is_emptied(tmp_path: Path) -> None:
    at = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(700):  # 4,200 bytes of path: more than PATH_MAX
        os.mkdir("level", dir_fd=at)
        below = os.open("level", os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=below))
        os.symlink("../..", "link", dir_fd=below)
        os.close(at)
        at = below
    os.close(at)
    empty_directory(tmp_path)
    assert list(tmp_path.iterdir()) == []
