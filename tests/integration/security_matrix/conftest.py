"""What rows about the database begin with. Their tests run on each engine where they are at home."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.ledger import Ledger, open_ledger


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """A file that is not there yet."""
    return f"sqlite:///{tmp_path}/controller.db"


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[Ledger]:
    async with open_ledger(database_url) as ledger:
        yield ledger
