"""Archives that must be refused, each with nothing outside touched and nothing left inside."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import ArchiveRefusedError
from agent.unpack import unpack
from tests.fakes.archives import pax_record, tar, tgz
from tests.fakes.hostile_tars import CORPUS, OK, SMALL

pytestmark = pytest.mark.slow


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A place around the destination that must be the same afterwards, to the byte and the nanosecond."""
    (tmp_path / "evil").write_bytes(b"precious")
    (tmp_path / "dest").mkdir(mode=0o700)
    before = snapshot(tmp_path)
    yield tmp_path
    assert snapshot(tmp_path) == before


def snapshot(root: Path) -> list[object]:
    found: list[object] = []
    for path in [root / "evil", Path("/tmp/evil")]:
        if path.exists():
            stat = path.lstat()
            found.append((str(path), stat.st_mode, stat.st_nlink, stat.st_mtime_ns, path.read_bytes()))
    return [*found, sorted(path.name for path in root.iterdir())]


@pytest.mark.parametrize("name", CORPUS)
async def test_a_hostile_archive_is_refused_and_leaves_nothing(name: str, outside: Path) -> None:
    data, reason = CORPUS[name]
    with (outside.parent / f"{outside.name}.package").open("w+b") as package:
        package.write(data)
        with pytest.raises(ArchiveRefusedError) as caught:
            await unpack(package, outside / "dest", SMALL)
        assert package.tell() == 0
    assert reason in caught.value.reason
    assert str(caught.value).isprintable()
    assert list((outside / "dest").iterdir()) == []


def test_the_corpus_is_what_it_says() -> None:
    assert gzip.decompress(tgz(OK)) == tar(OK)
    assert pax_record("path", b"a" * 90) == b"99 path=" + b"a" * 90 + b"\n"
    assert len(CORPUS) > 120
