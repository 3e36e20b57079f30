"""File operations that must hold, whatever the disk says."""

from pathlib import Path

import pytest

from agent.disk import replace_file


def test_a_file_that_cannot_be_replaced_leaves_no_draft_behind(tmp_path: Path) -> None:
    place = tmp_path / "note.json"
    place.mkdir()
    with pytest.raises(IsADirectoryError):
        replace_file(place, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["note.json"]
