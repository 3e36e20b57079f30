"""The databases that the store's contract is tested on, each real."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.ledger import Ledger, open_ledger


@pytest.fixture(params=["sqlite"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database. Another engine is one more parameter here; no test knows which one it runs on."""
    return {"sqlite": f"sqlite:///{tmp_path}/controller.db"}[request.param]


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[Ledger]:
    async with open_ledger(database_url) as ledger:
        yield ledger
