"""What the contract tests share."""

from pathlib import Path

import pytest

from tests.contract import scenario
from tests.contract.scenario import Record
from tests.contract.stage import run_stage


@pytest.fixture(scope="session")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """What every function said in every state, from one run of the scenario."""
    folder: Path = tmp_path_factory.mktemp("scenario")
    with run_stage(folder, scenario.make_fleet()) as stage:
        return scenario.play(stage)
