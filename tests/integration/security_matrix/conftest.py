"""What rows about the database begin with, and when a row's tests run.

A row names tests that are at home elsewhere, where the stages run them (those of the store on each engine):
they run again only for who asks for the matrix, by `pytest tests/integration/security_matrix`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.ledger import Ledger, open_ledger

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    asked = [Path(config.invocation_params.dir, name.partition("::")[0]).resolve() for name in config.args]
    if any(path.is_relative_to(_HERE) for path in asked):
        return
    borrowed = [item for item in items if _HERE in item.path.parents and _is_borrowed(item)]
    if borrowed:
        config.hook.pytest_deselected(items=borrowed)
        items[:] = [item for item in items if item not in borrowed]


def _is_borrowed(item: pytest.Item) -> bool:
    assert isinstance(item, pytest.Function)
    return bool(item.function.__module__ != item.module.__name__)


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """A file that is not there yet."""
    return f"sqlite:///{tmp_path}/controller.db"


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[Ledger]:
    async with open_ledger(database_url) as ledger:
        yield ledger
