"""What the pages for users tell to type can be typed, and the tutorial shows what is printed."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

import agent.cli.app
import controller.__main__
import releasehand.cli.__main__
from controller.trial import describe

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = (ROOT / "docs" / "tutorial" / "first-steps.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS: dict[str, Typer] = {
    "releasehand": releasehand.cli.__main__.app,
    "releasehand-controller": controller.__main__.app,
    "releasehand-agent": agent.cli.app.app,
}


def commands_of(page: Path) -> list[list[str]]:
    """Every line of the page's shell blocks that calls one of our programs, in words."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        for line in re.findall(r"^\S*releasehand[\w-]* .*$", block.replace("\\\n", " "), re.MULTILINE):
            program, *words = shlex.split(line, comments=True)
            found.append([Path(program).name, *words])
    return found


def reads(program: str, words: list[str]) -> bool:
    """Whether the program knows the command and all its options. Nothing is run: `--help` ends it first."""
    return CliRunner().invoke(PROGRAMS[program], [*words, "--help"]).exit_code == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_is_told_can_be_typed(page: Path) -> None:
    for program, *words in commands_of(page):
        assert reads(program, words), f"{program} {' '.join(words)}"


def test_the_commands_are_found_and_a_wrong_one_is_noticed() -> None:
    assert len(commands_of(ROOT / "docs" / "tutorial" / "first-steps.md")) >= 7
    assert not reads("releasehand", ["deploy", "web", "v1", "--no-such-option"])
    assert not reads("releasehand", ["no-such-command"])


def test_the_tutorial_shows_what_make_run_prints() -> None:
    [shown] = re.findall(r"```\n(A controller to try things with.*?)```", TUTORIAL, re.DOTALL)
    [token] = re.findall(r"  token +(\S+)\n", shown)
    [agent_file] = re.findall(r"--config (\S+)\n", shown)
    printed = describe("http://127.0.0.1:8080", token, Path(agent_file))
    bin_folder = str(Path(sys.executable).parent)
    assert printed.replace(bin_folder, "/home/you/releasehand/.venv/bin").strip() == shown.strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_target_that_is_told_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        told = re.findall(r"^make (\w+)", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(told) <= targets
