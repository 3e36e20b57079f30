"""docs/reference/configuration.md keeps step with the files' models, and its examples are good files."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import agent.config
import controller.config
from agent.config import find_trust_problems
from shared.settings import load_settings
from tests.fakes.scripts import load_script

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```toml (\w+)\n(.*?)```", DOCUMENT, re.DOTALL)
LOADERS: dict[str, Callable[[Path, dict[str, str]], Any]] = {
    "controller": controller.config.load_config,
    "agent": agent.config.load_config,
}


REFERENCE = load_script("reference")


def test_the_document_is_up_to_date() -> None:
    assert REFERENCE.render(DOCUMENT) == DOCUMENT, "run make docs"


def test_every_key_of_both_files_has_a_row() -> None:
    for name, top in REFERENCE.FILES.items():
        block = DOCUMENT.split(f"<!-- {name}: made by make docs -->")[1].split("<!-- end -->")[0]
        for table in REFERENCE.find_tables(REFERENCE.Table("", top)):
            text = block.split(f"### {table.heading}\n")[1].split("\n### ")[0]
            keys = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
            nested = [one.path for one in REFERENCE.find_tables(table)]
            path = f"{table.path}." if table.path else ""
            for key in table.model.model_fields:
                assert key == "type" or key in keys or any(one.startswith(path + key) for one in nested)


def test_a_key_without_words_is_refused() -> None:
    class Bare(BaseModel):
        told: int = 1
        """What it is."""
        untold: int = 2

    with pytest.raises(REFERENCE.UndescribedKeyError, match=r"Bare\.untold"):
        REFERENCE.write_table(REFERENCE.Table("bare", Bare))


def test_a_document_that_lost_a_file_is_refused() -> None:
    with pytest.raises(REFERENCE.UndescribedKeyError):
        REFERENCE.render(DOCUMENT.replace("<!-- agent: made by make docs -->", ""))


@pytest.mark.parametrize(("daemon", "text"), EXAMPLES, ids=[f"{n}-{d}" for n, (d, _) in enumerate(EXAMPLES)])
def test_an_example_is_a_good_file(daemon: str, text: str, tmp_path: Path) -> None:
    """As `config check` reads it: with the files that it names, below another root."""
    (tmp_path / "tokens").mkdir()
    token = "a-token-of-the-scheduler\n"
    (tmp_path / "tokens" / "scheduler").write_text(token, encoding="ascii")
    file = tmp_path / f"{daemon}.toml"
    file.write_text(text.replace("/etc/releasehand", str(tmp_path)), encoding="utf-8")
    config = LOADERS[daemon](file, {})
    if daemon == "agent":
        assert find_trust_problems(config) == []


def test_both_files_have_an_example() -> None:
    assert {daemon for daemon, _ in EXAMPLES} == set(LOADERS)


@pytest.mark.parametrize("name", LOADERS)
def test_the_variable_shown_sets_the_key_that_is_told(name: str, tmp_path: Path) -> None:
    [(prefix, variable, value, key)] = re.findall(
        rf"^\| {name} \| `(\w+)` \| `(\w+)=(\w+)` is `(\w+)` of ", DOCUMENT, re.MULTILINE
    )
    assert prefix == {"controller": controller.config, "agent": agent.config}[name].ENVIRONMENT_PREFIX
    file = tmp_path / "file.toml"
    file.write_text(next(text for daemon, text in EXAMPLES if daemon == name), encoding="utf-8")
    config = load_settings(REFERENCE.FILES[name], file=file, environment={variable: value}, prefix=prefix)
    found = config.api if isinstance(config, controller.config.ControllerConfig) else config.instance[0]
    assert getattr(found, key) == int(value)
