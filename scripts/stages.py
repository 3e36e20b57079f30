"""Runs the stages of `make test` and `make check` and sums them up.

Each stage prints a line of its own with its counts, the time it took and its budget; going over the budget is
printed and is no failure. All stages run even when an earlier one failed, so that one run shows everything.
The last line is the sum: `123 passed, 0 failed, 2 skipped`. The exit code is 0 only if nothing failed.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent
TYPED_FOLDERS = ("releasehand", "shared", "controller", "agent", "tests", "demo", "scripts", "bench")
NO_TESTS_COLLECTED = 5  # pytest's exit code


@dataclass(frozen=True)
class Counts:
    """How many tests or checks ended in which way."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


@dataclass(frozen=True)
class Stage:
    """A named part of the run with the time it should take at most."""

    title: str
    budget_s: int
    run: Callable[[], Counts]


def read_counts(report: Path) -> Counts:
    """Read the counts of a JUnit report; an error in a fixture counts as failed.

    Raises OSError or ParseError when pytest left no whole report."""
    totals = Counts()
    for suite in ET.parse(report).getroot().iter("testsuite"):  # noqa: S314 - written by our own pytest
        tests, failed, skipped = (
            int(suite.get("tests", 0)),
            int(suite.get("failures", 0)) + int(suite.get("errors", 0)),
            int(suite.get("skipped", 0)),
        )
        totals += Counts(tests - failed - skipped, failed, skipped)
    return totals


def has_tests(folder: Path) -> bool:
    """Tell whether pytest would find a test file below `folder`."""
    return any(folder.rglob("test_*.py"))


def run_tools(commands: Sequence[Sequence[str]]) -> Counts:
    """Run each command in turn; one that exits with 0 counts as passed."""
    counts = Counts()
    for command in commands:
        ok = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=False).returncode == 0
        if not ok:
            say(f"failed: {' '.join(map(str, command))}")
        counts += Counts(passed=int(ok), failed=int(not ok))
    return counts


def run_tests(folders: Sequence[str], *, workers: int = 0, marked: str = "") -> Counts:
    """Run pytest over those of `folders` that hold tests; 0 workers means in one process.

    With `marked`, only the tests whose marks fit that expression."""
    filled = [folder for folder in folders if has_tests(ROOT / folder)]
    for folder in folders:
        if folder not in filled:
            say(f"{folder} holds no tests")
    spread = ["-n", str(workers), "--dist", "loadfile"] if workers else []
    chosen = ["-m", marked] if marked else []
    return run_pytest([*spread, *chosen, *filled]) if filled else Counts()


def run_pytest(arguments: Sequence[str]) -> Counts:
    """Run pytest with `arguments`.

    One that fails without naming a failed test (a crash, a collection that broke) counts as one failure."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *arguments]
        code = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=False).returncode
        try:
            counts = read_counts(report)
        except (OSError, ET.ParseError):
            counts = Counts()
    if code not in {0, NO_TESTS_COLLECTED} and not counts.failed:
        counts += Counts(failed=1)
    return counts


def lint() -> Counts:
    """Check style, format, import contracts and types over the whole tree."""
    tools = Path(sys.executable).parent
    typed = [folder for folder in TYPED_FOLDERS if any((ROOT / folder).rglob("*.py"))]
    return run_tools(
        [
            [f"{tools}/ruff", "check", "--quiet", "."],
            [f"{tools}/ruff", "format", "--quiet", "--check", "."],
            [f"{tools}/lint-imports", "--no-logo"],
            [f"{tools}/mypy", *typed],
        ]
    )


STAGES = {
    "lint": Stage("lint and types", 60, lint),
    # Tests wait for disks, children and daemons: with a third worker no core is idle meanwhile.
    "unit": Stage("unit and contract", 90, lambda: run_tests(["tests/unit", "tests/contract"], workers=3)),
    "unit-only": Stage("unit", 30, lambda: run_tests(["tests/unit"], workers=2, marked="not slow")),
    "integration": Stage("integration", 150, lambda: run_tests(["tests/integration"], workers=3)),
    "faults": Stage("faults", 120, lambda: run_tests(["tests/faults"], workers=3)),
    "browser": Stage("browser", 90, lambda: run_tests(["tests/browser"])),
}


def keep_bytecode() -> None:
    """Let what is started here keep compiled modules, even where the surroundings (a container, as a rule)
    say otherwise: pytest takes seconds to rewrite the asserts of all tests, in each worker and stage anew."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def say(line: str) -> None:
    """Print `line` at once, so that it stands in order with what the tools print."""
    print(line, flush=True)


def run_stage(stage: Stage, monotonic: Callable[[], float]) -> Counts:
    """Run one stage between its opening and its closing line."""
    say(f"--- {stage.title}")
    started = monotonic()
    counts = stage.run()
    took_s = monotonic() - started
    over = ", over budget" if took_s > stage.budget_s else ""
    say(f"--- {stage.title}: {counts} in {took_s:.1f} s (budget {stage.budget_s} s{over})\n")
    return counts


def run_stages(stages: Sequence[Stage], monotonic: Callable[[], float] = time.monotonic) -> int:
    """Run all `stages` and print the sum as the last line; returns the exit code."""
    total = Counts()
    for stage in stages:
        total += run_stage(stage, monotonic)
    say(str(total))
    return 1 if total.failed else 0


if __name__ == "__main__":
    unknown = [name for name in sys.argv[1:] if name not in STAGES]
    if unknown or len(sys.argv) == 1:
        sys.exit(f"cannot run {' '.join(unknown) or 'nothing'}: stages are {', '.join(STAGES)}")
    keep_bytecode()
    sys.exit(run_stages([STAGES[name] for name in sys.argv[1:]]))
