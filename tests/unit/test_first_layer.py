"""The strict reader and the writer hold without any sandbox: no Landlock, no user of its own, no limits of
the kernel (S2)."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.unpack import Limits
from agent.unpack.child import unpack
from agent.unpack.formats import choose_reader
from agent.unpack.refusal import RefusedError
from agent.unpack.writer import Writer
from tests.fakes import harmless_tars, harmless_zips, hostile_tars, hostile_zips
from tests.fakes.hostile_tars import SMALL

HOSTILE = {f"tar: {name}": case for name, case in hostile_tars.CORPUS.items()}
HOSTILE |= {f"zip: {name}": case for name, case in hostile_zips.CORPUS.items()}
HARMLESS = {f"tar: {name}": data for name, data in harmless_tars.HARMLESS.items()}
HARMLESS |= {f"zip: {name}": data for name, (data, _) in harmless_zips.HARMLESS.items()}


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A place around the destination that must be the same afterwards, to the byte and the nanosecond."""
    (tmp_path / "evil").write_bytes(b"precious")
    (tmp_path / "package").touch()
    (tmp_path / "dest").mkdir(mode=0o700)
    before = snapshot(tmp_path)
    yield tmp_path
    assert snapshot(tmp_path) == before


def snapshot(root: Path) -> list[object]:
    found = (root / "evil").lstat()
    names = sorted(path.name for path in (root, *root.iterdir(), *root.parent.iterdir()))
    return [names, found.st_mode, found.st_nlink, found.st_mtime_ns, (root / "evil").read_bytes()]


def unpack_unconfined(data: bytes, place: Path, limits: Limits) -> None:
    (place / "package").write_bytes(data)
    dest = os.open(place / "dest", os.O_RDONLY | os.O_DIRECTORY)
    writer = Writer(dest)
    try:
        with (place / "package").open("rb", buffering=0) as package:
            unpack(choose_reader(package, limits)(), writer, limits)
    finally:
        writer.close()
        os.close(dest)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_by_the_first_layer_alone(name: str, outside: Path) -> None:
    data, reason = HOSTILE[name]
    with pytest.raises(RefusedError) as caught:
        unpack_unconfined(data, outside, SMALL)
    assert reason in str(caught.value)
    made = [*(outside / "dest").rglob("*")]
    assert [path for path in made if path.is_symlink()] == []
    assert [path for path in made if not (path.is_file() or path.is_dir())] == []


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_archive_needs_no_sandbox_to_be_unpacked(name: str, outside: Path) -> None:
    unpack_unconfined(HARMLESS[name], outside, Limits())
    assert [*(outside / "dest").rglob("*")]
