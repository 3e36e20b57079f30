"""The packages that hosts may fetch: which files count, when they are read, and what a name cannot reach."""

import hashlib
import os
from pathlib import Path

import pytest

from controller.install import PackageFolder
from controller.install.folder import MAX_PACKAGES

NAME = "releasehand-daemons_0.1.0+py3.11_amd64.deb"


async def test_a_package_is_told_with_all_that_a_host_asks_for(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"a package")
    [found] = await PackageFolder(tmp_path).look()
    assert (found.file, found.version, found.python, found.architecture) == (
        NAME,
        "0.1.0+py3.11",
        "3.11",
        "amd64",
    )
    assert (found.size_bytes, found.sha256) == (9, hashlib.sha256(b"a package").hexdigest())


async def test_a_file_is_read_once_and_again_when_it_was_written_to(tmp_path: Path) -> None:
    file, folder = tmp_path / NAME, PackageFolder(tmp_path)
    file.write_bytes(b"first")
    stamp = file.stat()
    [before] = await folder.look()
    [again] = await folder.look()
    assert again is before
    while file.stat().st_ctime_ns == stamp.st_ctime_ns:  # a tick of the kernel's clock, of some milliseconds
        file.write_bytes(b"other")  # as long as before, and of the same time for people, as rsync makes it
        os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    [after] = await folder.look()
    assert after.sha256 == hashlib.sha256(b"other").hexdigest() != before.sha256


@pytest.mark.parametrize(
    "name",
    [
        "releasehand-daemons_0.1.0_amd64.deb",
        "releasehand-daemons_0.1.0+py3.11_amd64.deb.part",
        "other_0.1.0+py3.11_amd64.deb",
        "releasehand-daemons_0.1.0+py3.11_am'd64.deb",
        "releasehand-daemons_0.1.0 +py3.11_amd64.deb",
        "releasehand-daemons_0.1.0+py3.11_amd64.deb\n",
        "$(id).deb",
    ],
)
async def test_a_file_of_another_name_is_nobody_s_to_fetch(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something")
    folder = PackageFolder(tmp_path)
    assert await folder.look() == []
    assert await folder.open(name) is None


async def test_links_folders_pipes_and_empty_files_are_no_packages(tmp_path: Path) -> None:
    names = [NAME.replace("0.1.0", f"0.{number}") for number in range(4)]
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / names[0]).symlink_to(tmp_path / "secret")
    (tmp_path / names[1]).mkdir()
    os.mkfifo(tmp_path / names[2])
    (tmp_path / names[3]).touch()
    folder = PackageFolder(tmp_path)
    assert await folder.look() == []
    for name in names[:3]:
        assert await folder.open(name) is None


@pytest.mark.parametrize("name", [f"../{NAME}", f"./{NAME}", f"a/../{NAME}", f"/etc/{NAME}", "..", "", NAME])
async def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / NAME).write_bytes(b"outside")
    inside = tmp_path / "install"
    inside.mkdir()
    assert await PackageFolder(inside).open(name) is None


async def test_a_folder_that_is_missing_has_no_package(tmp_path: Path) -> None:
    folder = PackageFolder(tmp_path / "none")
    assert await folder.look() == []
    assert await folder.open(NAME) is None


async def test_there_is_a_bound_on_how_many_are_offered(tmp_path: Path) -> None:
    for number in range(MAX_PACKAGES + 2):
        (tmp_path / NAME.replace("0.1.0", f"0.1.{number:03}")).write_bytes(b"x")
    found = await PackageFolder(tmp_path).look()
    assert len(found) == MAX_PACKAGES
    assert found[0].version == "0.1.000+py3.11"
