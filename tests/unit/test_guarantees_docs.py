"""The page of promises names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "explanation" / "guarantees.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


def names_in(path: Path) -> set[str]:
    """Tests of a module: functions, classes, and machines that were given a name there."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]):
                found.add(name)
            case _:
                pass
    return found


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_promise_names_a_test_that_exists(path: str, name: str) -> None:
    assert name.lower().startswith("test")
    assert name in names_in(ROOT / path)


def test_every_promise_is_held_by_a_test() -> None:
    """Each paragraph that promises is followed by a list; what is no promise stands at the end."""
    promises = PAGE.split("\n## ")[1:-1]
    assert len(promises) > 8
    for promise in promises:
        paragraphs = promise.strip().split("\n\n")[1:]
        for text, held in zip(paragraphs[::2], paragraphs[1::2], strict=True):
            assert not text.startswith("- ")
            assert all(line.startswith("- `tests/") for line in held.splitlines()), text


def test_every_test_is_named_in_a_way_that_is_checked() -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith("- `tests/")]
    assert lines
    assert all(re.fullmatch(r"- `tests/[\w/]+\.py::\w+`", line) for line in lines)
