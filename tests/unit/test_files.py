"""Folders and files that several threads make, and that lie where other accounts may write."""

import threading
from pathlib import Path

import pytest

from shared.files import make_open_directory

THREADS = 4


def test_folders_above_several_instances_are_made_by_all_at_once(tmp_path: Path) -> None:
    """As at the first deployment to a host: each instance has a runner of its own."""
    for run in range(40):
        barrier, failures = threading.Barrier(THREADS), list[OSError]()

        def make(path: Path, barrier: threading.Barrier, failures: list[OSError]) -> None:
            barrier.wait()
            try:
                make_open_directory(path)
            except OSError as exc:
                failures.append(exc)

        paths = [tmp_path / str(run) / "srv" / f"shop-{number}" / "releases" for number in range(THREADS)]
        threads = [threading.Thread(target=make, args=(path, barrier, failures)) for path in paths]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert all(path.stat().st_mode & 0o777 == 0o755 for path in paths)


def test_a_folder_that_a_killed_process_left_half_made_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / ".releases.new").mkdir(mode=0o700)
    make_open_directory(tmp_path / "releases")
    assert [one.name for one in tmp_path.iterdir()] == ["releases"]


def test_a_link_in_the_way_opens_no_other_folder(tmp_path: Path) -> None:
    """An instance's root may be another account's, and the agent may be root."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    root = tmp_path / "root"
    root.mkdir()
    (root / ".releases.new").symlink_to(closed)
    with pytest.raises(NotADirectoryError):
        make_open_directory(root / "releases")
    assert closed.stat().st_mode & 0o777 == 0o700


def test_nothing_that_somebody_put_there_becomes_the_folder(tmp_path: Path) -> None:
    (tmp_path / ".releases.new" / "evil-1.0").mkdir(parents=True)
    with pytest.raises(OSError, match="not empty"):
        make_open_directory(tmp_path / "releases")
    assert not (tmp_path / "releases").exists()
