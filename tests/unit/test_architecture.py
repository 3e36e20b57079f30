"""docs/architecture.md keeps step with the code: its diagrams, its frames, its tables, the paths it names."""

import re
from pathlib import Path
from typing import get_args

import pytest

from controller.core import task
from controller.store.tables import TASK
from releasehand.model import WaitingFor
from shared import attempt
from shared.frames import AgentFrame, ControllerFrame
from tests.fakes.scripts import load_script

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


DIAGRAMS = load_script("diagrams")


@pytest.mark.parametrize("path", DIAGRAMS.DOCUMENTS, ids=lambda path: path.name)
def test_the_document_is_up_to_date(path: Path) -> None:
    written = path.read_text(encoding="utf-8")
    assert DIAGRAMS.render(written, DIAGRAMS.DOCUMENTS[path]) == written, "run make docs"


def test_drawing_twice_changes_nothing_and_leaves_the_text_alone() -> None:
    emptied = re.sub(r"(made by make docs -->\n).*?(<!-- end -->)", r"\1\2", DOCUMENT, flags=re.DOTALL)
    assert emptied != DOCUMENT
    assert DIAGRAMS.render(emptied) == DOCUMENT


def test_a_document_that_lost_a_diagram_is_refused() -> None:
    with pytest.raises(DIAGRAMS.UnknownDiagramError):
        DIAGRAMS.render(DOCUMENT.replace("<!-- task: made by make docs -->", ""))


@pytest.mark.parametrize("draw", ["attempt", "task"])
def test_every_listed_move_is_an_arrow(draw: str) -> None:
    drawn = DIAGRAMS.DIAGRAMS[draw]()
    listed = list(attempt.TRANSITIONS.items()) if draw == "attempt" else list(task.TRANSITIONS.items())
    for (state, event), to in listed:
        assert re.search(rf"^    {state} --> {to}: (\w+, )*{event}(, \w+)*$", drawn, re.MULTILINE)


def test_every_frame_is_in_the_table_with_its_side() -> None:
    section = DOCUMENT.split("## Agent link")[1].split("\n## ")[0]
    sides = {
        frame.model_fields["type"].default: {"agent"} if frame in get_args(AgentFrame) else set()
        for frame in get_args(AgentFrame) + get_args(ControllerFrame)
    }
    for frame in get_args(ControllerFrame):
        sides[frame.model_fields["type"].default].add("controller")
    listed = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", section, re.MULTILINE))
    assert listed == {name: "both" if len(side) == 2 else side.pop() for name, side in sides.items()}


def test_every_table_of_the_database_is_named() -> None:
    section = DOCUMENT.split("## Storage")[1].split("\n## ")[0]
    listed = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    assert listed == set(TASK.metadata.tables)


@pytest.mark.parametrize("word", WaitingFor)
def test_every_word_for_waiting_is_explained(word: WaitingFor) -> None:
    assert f"`{word}`" in DOCUMENT


PATHS = sorted(
    set(re.findall(r"`((?:releasehand|shared|controller|agent|tests)/[a-z_/]*(?:\.py)?)`", DOCUMENT))
)


@pytest.mark.parametrize("path", PATHS)
def test_every_path_that_is_named_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", DOCUMENT)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
