"""Zip archives that hide something, lie, lead out or have two readings are refused."""

# ruff: noqa: ASYNC240 — each test has a loop to itself

from pathlib import Path

import pytest

from agent.errors import ArchiveRefusedError
from tests.fakes.hostile_tars import SMALL
from tests.fakes.hostile_zips import CORPUS
from tests.fakes.unpacking import unpack_bytes

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", CORPUS)
async def test_a_hostile_zip_is_refused_and_leaves_nothing(name: str, dest: Path) -> None:
    data, reason = CORPUS[name]
    before = sorted(dest.parent.iterdir())
    with pytest.raises(ArchiveRefusedError) as caught:
        await unpack_bytes(data, dest, SMALL)
    assert reason in caught.value.reason
    assert str(caught.value).isprintable()
    assert list(dest.iterdir()) == []
    assert sorted(dest.parent.iterdir()) == sorted({*before, dest.with_name("package")})
