import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.disk import Witness, empty_directory, remove_directory
from agent.errors import BrokenLinkError, DigestMismatchError, HostError, NoSpaceError
from agent.switch import CurrentLink, InstallRoot, KeptRelease, ReleaseMeta
from agent.verify import verify_digest
from shared.files import replace_file

SHA = "3f9ac2d41b7e" + "0" * 52


@pytest.fixture
def root(tmp_path: Path) -> InstallRoot:
    made = InstallRoot(tmp_path / "srv/shop/shop-1")
    made.prepare()
    return made


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "small"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield path
    subprocess.run(["umount", path], check=True)


def install(root: InstallRoot, version: str, sha256: str = SHA) -> str:
    staging = root.make_staging()
    (staging.path / "VERSION").write_text(version)
    name = root.release_name(version, sha256)
    root.commit(staging, ReleaseMeta(name, version, sha256, 7))
    return name


def test_a_root_is_prepared_and_prepared_again(root: InstallRoot) -> None:
    root.prepare()
    assert sorted(path.name for path in root.path.iterdir()) == [".staging", "releases"]
    assert stat.S_IMODE((root.path / ".staging").stat().st_mode) == 0o700
    assert root.current() is None
    assert root.releases() == []
    assert root.free_bytes() > 0


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_what_is_made_can_be_read_by_every_service_and_written_by_none(tmp_path: Path, umask: int) -> None:
    """Units give the agent a umask that is for its secrets."""
    before = os.umask(umask)
    try:
        InstallRoot(tmp_path / "srv/shop/shop-1").prepare()
    finally:
        os.umask(before)
    made = [tmp_path / place for place in ("srv", "srv/shop", "srv/shop/shop-1", "srv/shop/shop-1/releases")]
    assert [stat.S_IMODE(path.stat().st_mode) for path in made] == [0o755] * 4


def test_what_an_owner_made_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "shop/releases").mkdir(parents=True)
    for name, mode in (("shop", 0o710), ("shop/releases", 0o750)):
        (tmp_path / name).chmod(mode)
    InstallRoot(tmp_path / "shop").prepare()
    assert stat.S_IMODE((tmp_path / "shop").stat().st_mode) == 0o710
    assert stat.S_IMODE((tmp_path / "shop/releases").stat().st_mode) == 0o750


def test_a_committed_release_is_listed_with_what_is_known_of_it(root: InstallRoot) -> None:
    name = install(root, "v1.2.3")
    assert name == "v1.2.3-3f9ac2d41b7e"
    assert root.releases() == [KeptRelease(name, "v1.2.3", SHA, 7)]
    path = root.release_path(name)
    assert (path / "VERSION").read_text() == "v1.2.3"
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert list((root.path / ".staging").iterdir()) == []


def test_staging_is_fresh_empty_and_ours_alone(root: InstallRoot) -> None:
    first, second = root.make_staging().path, root.make_staging().path
    assert first != second
    assert list(first.iterdir()) == []
    assert stat.S_IMODE(first.stat().st_mode) == 0o700


def test_a_release_is_never_written_over(root: InstallRoot) -> None:
    name = install(root, "v1")
    staging = root.make_staging()
    (staging.path / "other").write_text("x")
    with pytest.raises(HostError, match="there already"):
        root.commit(staging, ReleaseMeta(name, "v1", SHA, 7))
    assert (root.release_path(name) / "VERSION").exists()
    assert (staging.path / "other").exists()


def test_the_same_package_again_gets_a_name_of_its_own(root: InstallRoot) -> None:
    names = [install(root, "v1") for _ in range(3)]
    assert names == [f"v1-{SHA[:12]}", f"v1-{SHA[:12]}-2", f"v1-{SHA[:12]}-3"]
    assert {release.version for release in root.releases()} == {"v1"}
    assert root.release_name("v2", "") == "v2"


def test_current_is_what_was_pointed_at(root: InstallRoot) -> None:
    one, two = install(root, "v1"), install(root, "v2")
    for name in (one, two, two, one):
        root.point_current(name)
        assert root.current() == name
        assert (root.path / "current").readlink() == Path("releases") / name
    root.point_current(None)
    root.point_current(None)
    assert root.current() is None


def test_a_reader_never_misses_current(root: InstallRoot) -> None:
    names = [install(root, "v1"), install(root, "v2")]
    root.point_current(names[0])
    missed: list[Exception] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                (root.path / "current/VERSION").read_text()
            except OSError as exc:
                missed.append(exc)

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(100):
        root.point_current(names[turn % 2])
    stop.set()
    reader.join()
    assert missed == []


def test_current_is_not_pointed_at_nothing(root: InstallRoot) -> None:
    with pytest.raises(HostError, match="no such release"):
        root.point_current("v9")
    assert root.current() is None


def test_a_crash_between_link_and_rename_does_not_matter(root: InstallRoot) -> None:
    name = install(root, "v1")
    (root.path / ".current.new").symlink_to("releases/half")
    root.point_current(name)
    assert root.current() == name
    (root.path / ".current.new").symlink_to("releases/half")
    root.clear_staging()
    assert not os.path.lexists(root.path / ".current.new")


@pytest.mark.parametrize(
    "target",
    [
        "releases/missing",
        "/etc",
        "../elsewhere",
        "releases",
        "releases/..",
        "releases/.hidden",
        ".staging/x",
        "releases/a/b",
    ],
)
def test_a_current_that_names_no_release_is_told(root: InstallRoot, target: str) -> None:
    (root.path / "releases/.hidden").mkdir()
    (root.path / "releases/a/b").mkdir(parents=True)
    (root.path / "current").symlink_to(target)
    assert root.current_link() == CurrentLink(None, target, valid=False)
    with pytest.raises(BrokenLinkError, match=target):
        root.current()


def test_a_current_that_is_a_directory_is_told_and_left_alone(root: InstallRoot) -> None:
    (root.path / "current").mkdir()
    assert not root.current_link().valid
    with pytest.raises(HostError):
        root.point_current(install(root, "v1"))
    assert (root.path / "current").is_dir()


def test_a_release_that_others_made_is_listed_by_its_name(root: InstallRoot) -> None:
    for name in (f"v1.0-rc-1-{SHA[:12]}", f"v2-{SHA[:12]}-7", "by-hand", "damaged"):
        (root.path / "releases" / name).mkdir()
    (root.path / "releases/.damaged.json").write_text('{"version": 3')
    (root.path / "releases/file").write_text("no release")
    (root.path / "releases/link").symlink_to("by-hand")
    assert [(kept.version, kept.sha256) for kept in root.releases()] == [
        ("by-hand", ""),
        ("damaged", ""),
        ("v1.0-rc-1", ""),
        ("v2", ""),
    ]


def test_a_removed_release_is_gone_with_its_note(root: InstallRoot) -> None:
    one, two = install(root, "v1"), install(root, "v2")
    root.remove_release(one)
    root.remove_release(one)
    assert [kept.name for kept in root.releases()] == [two]
    assert sorted(path.name for path in (root.path / "releases").iterdir()) == sorted([two, f".{two}.json"])
    assert list((root.path / ".staging").iterdir()) == []


def test_the_active_release_is_not_removed(root: InstallRoot) -> None:
    name = install(root, "v1")
    root.point_current(name)
    with pytest.raises(HostError, match="active"):
        root.remove_release(name)
    assert root.current() == name


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../x", "a\0b"])
def test_what_is_no_name_never_becomes_a_path(root: InstallRoot, name: str) -> None:
    for use in (root.release_path, root.point_current, root.remove_release):
        with pytest.raises(ValueError, match="not the name"):
            use(name)


def test_clearing_leaves_releases_and_takes_the_rest(root: InstallRoot) -> None:
    name = install(root, "v1")
    (root.make_staging().path / "half").write_text("x")
    (root.path / "releases/.v0-gone.json").write_text("{}")
    (root.path / "releases/.v0-gone.json.new").write_text("{")
    root.clear_staging()
    root.clear_staging()
    assert list((root.path / ".staging").iterdir()) == []
    assert sorted(path.name for path in (root.path / "releases").iterdir()) == sorted([name, f".{name}.json"])


def test_a_tree_deeper_than_any_path_is_deleted(root: InstallRoot) -> None:
    here = os.open(root.make_staging().path, os.O_RDONLY)
    for _ in range(3_000):
        os.mkdir("d" * 50, dir_fd=here)
        deeper = os.open("d" * 50, os.O_RDONLY, dir_fd=here)
        os.close(os.open("file", os.O_CREAT, dir_fd=here))
        os.close(here)
        here = deeper
    os.close(here)
    root.clear_staging()
    assert list((root.path / ".staging").iterdir()) == []


def test_deleting_follows_no_link(root: InstallRoot, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    (precious / "deep").mkdir(parents=True)
    (precious / "deep/file").write_text("x")
    staging = root.make_staging()
    (staging.path / "link").symlink_to(precious)
    (staging.path / "sub").mkdir()
    (staging.path / "sub/link").symlink_to(precious, target_is_directory=True)
    root.clear_staging()
    assert (precious / "deep/file").read_text() == "x"
    outside = tmp_path / "outside"
    outside.symlink_to(precious)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        empty_directory(outside)
    assert (precious / "deep/file").exists()


def test_a_missing_directory_counts_as_removed(tmp_path: Path) -> None:
    remove_directory(tmp_path / "never")


def test_a_replaced_file_is_whole_and_has_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, b"one", mode=0o600)
    replace_file(path, b"two", mode=0o600)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_sync_is_not_taken_for_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Witness(tmp_path / "missing")
    Witness(tmp_path).sync()


def test_a_full_disk_is_told_as_such_and_commits_nothing(small_disk: Path) -> None:
    root = InstallRoot(small_disk / "root")
    root.prepare()
    staging = root.make_staging()
    with (staging.path / "filler").open("wb", buffering=0) as filler:
        assert filler.write(bytes(1 << 20)) < 1 << 20
    with pytest.raises(NoSpaceError):
        root.commit(staging, ReleaseMeta("v1", "v1", SHA, 1))
    root.clear_staging()
    assert root.releases() == []
    assert install(root, "v1") == f"v1-{SHA[:12]}"


def test_a_missing_root_is_a_host_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"cannot use .*nowhere.*ENOENT"):
        InstallRoot(tmp_path / "nowhere").releases()


def test_contents_are_durable_before_they_are_reachable(root: InstallRoot) -> None:
    """The order that survives a power cut: note, syncfs, rename, fsync; then link, rename, fsync. What the
    syncfs is asked through is open before there is anything to write."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    code = f"""
from pathlib import Path
from agent.switch import InstallRoot, ReleaseMeta
root = InstallRoot(Path({str(root.path)!r}))
root.commit(root.make_staging(), ReleaseMeta("v1", "v1", {SHA!r}, 1))
root.point_current("v1")
"""
    calls = "trace=openat,mkdir,syncfs,rename,symlink,fsync"
    command = ["strace", "-qq", "-y", "-e", calls, sys.executable, "-c", code]
    traced = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    steps = [
        re.sub(r"0x\w+|release-\w+", "_", line) for line in traced.splitlines() if str(root.path) in line
    ]
    short = [
        (line.partition("(")[0], line.rpartition(str(root.path))[2].split('"')[0].split(">")[0])
        for line in steps
    ]
    assert [step for step in short if step[0] != "openat" or step[1] == "/.staging"] == [
        ("openat", "/.staging"),
        ("mkdir", "/.staging/_"),
        ("rename", "/releases/.v1.json"),
        ("syncfs", "/.staging"),
        ("rename", "/releases/v1"),
        ("fsync", "/releases"),
        ("symlink", "/.current.new"),
        ("rename", "/current"),
        ("fsync", ""),
    ]


def test_a_digest_is_compared_whatever_its_case() -> None:
    verify_digest(SHA, SHA.upper())
    verify_digest(SHA, "")
    with pytest.raises(DigestMismatchError) as caught:
        verify_digest(SHA, "0" * 64)
    assert (caught.value.expected, caught.value.actual) == ("0" * 64, SHA)
