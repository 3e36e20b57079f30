"""What the repository promises about itself: two wheels, portable lock files, stages that count right."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.fakes.scripts import load_script

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ["requirements.txt", "requirements-dev.txt"]
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
MACHINES = ["x86_64", "aarch64"]


def read_project(folder: str) -> dict[str, Any]:
    """Read a pyproject.toml."""
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text())


DAEMONS = read_project(".")
SMALL = read_project("releasehand")


def read_lock(name: str) -> dict[str, Requirement]:
    """Read the pinned requirements of a lock file by name, without their hashes."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    lines = [
        line.split("--hash", 1)[0].strip() for line in text.splitlines() if re.match(r"[A-Za-z0-9]", line)
    ]
    return {canonicalize_name(pin.name): pin for pin in map(Requirement, lines)}


def build_wheel(folder: Path, destination: Path) -> list[str]:
    """Build the wheel of the project in `folder` and return the names of its files."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(destination)}
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", destination],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    [wheel] = destination.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


STAGES = load_script("stages")


# ----------------------------------------------------------------------------------------- distributions


def test_both_distributions_have_one_version() -> None:
    version = DAEMONS["project"]["version"]
    assert SMALL["project"]["version"] == version
    assert f"releasehand=={version}" in DAEMONS["project"]["dependencies"]


def test_both_distributions_carry_the_same_licence() -> None:
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License" in licence
    assert (ROOT / "releasehand" / "LICENSE").read_text() == licence


def test_the_small_wheel_holds_the_folder_releasehand_alone(tmp_path: Path) -> None:
    names = build_wheel(ROOT / "releasehand", tmp_path)
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "releasehand").rglob("*.py")}
    assert modules <= set(names)
    assert {name.split("/")[0] for name in names} == {
        "releasehand",
        f"releasehand-{SMALL['project']['version']}.dist-info",
    }
    assert "releasehand/py.typed" in names
    assert "releasehand/pyproject.toml" not in names


def test_the_daemons_wheel_holds_the_daemons_and_what_they_share(tmp_path: Path) -> None:
    names = build_wheel(ROOT, tmp_path)
    packages = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert packages == {"controller", "agent", "shared"}


@pytest.mark.parametrize("project", [DAEMONS, SMALL], ids=["daemons", "small"])
def test_every_command_names_a_function_that_is_there(project: dict[str, Any]) -> None:
    for command, target in project["project"]["scripts"].items():
        module, function = target.split(":")
        path = ROOT / (module.replace(".", "/") + ".py")
        assert path.is_file(), f"{command} names {target}, which is not there"
        assert f"def {function}(" in path.read_text()


# ----------------------------------------------------------------------------------------- lock files


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_names_no_place(lock: str) -> None:
    text = (ROOT / lock).read_text()
    for sign in ("/", "@", "--index", "--extra-index", "--find-links", "--trusted-host", "-e "):
        assert sign not in text, f"{lock} holds {sign!r}: it must work with any registry and on any machine"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_in_a_lock_file_has_hashes(lock: str) -> None:
    entries = re.split(r"\n(?=[A-Za-z0-9])", (ROOT / lock).read_text())
    for entry in entries:
        assert re.match(r"[a-z0-9.-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("machine", MACHINES)
def test_the_lock_files_satisfy_what_is_declared(python: str, machine: str) -> None:
    environment = {
        **{key: str(value) for key, value in default_environment().items()},
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": machine,
        "extra": "",
    }
    declared = DAEMONS["project"]["dependencies"] + SMALL["project"]["dependencies"]
    runtime, development = (read_lock(lock) for lock in LOCKS)
    needs = [(runtime, need) for need in declared] + [
        (development, need) for need in DAEMONS["dependency-groups"]["dev"]
    ]
    for lock, text in needs:
        need = Requirement(text)
        if need.name == "releasehand" or (need.marker and not need.marker.evaluate(environment)):
            continue
        pin = lock[canonicalize_name(need.name)]
        [version] = [specifier.version for specifier in pin.specifier]
        assert pin.marker is None or pin.marker.evaluate(environment), f"{pin} is not installed there"
        assert need.specifier.contains(version), f"{text} is pinned to {version}"


def test_development_uses_the_pins_of_run_time() -> None:
    runtime, development = (read_lock(lock) for lock in LOCKS)
    assert {name: str(development[name].specifier) for name in runtime} == {
        name: str(pin.specifier) for name, pin in runtime.items()
    }


# ----------------------------------------------------------------------------------------- stages


def test_counts_are_read_from_what_pytest_reports(tmp_path: Path) -> None:
    (tmp_path / "test_sample.py").write_text(
        "import pytest\n"
        "def test_passes(): pass\n"
        "def test_passes_too(): pass\n"
        "def test_fails(): assert False\n"
        "@pytest.fixture\n"
        "def broken(): raise OSError\n"
        "def test_errs(broken): pass\n"
        "@pytest.mark.skip(reason='no browser')\n"
        "def test_skips(): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=report.xml", "."]
    subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert STAGES.read_counts(tmp_path / "report.xml") == STAGES.Counts(passed=2, failed=2, skipped=1)


def test_a_folder_without_tests_is_said_and_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert STAGES.run_tests(["tests/vectors"]) == STAGES.Counts()
    assert capsys.readouterr().out == "tests/vectors holds no tests\n"


def test_a_pytest_that_ends_without_a_report_counts_as_failed(capfd: pytest.CaptureFixture[str]) -> None:
    assert STAGES.run_pytest(["--no-such-option"]) == STAGES.Counts(failed=1)
    assert "no-such-option" in capfd.readouterr().err


def test_a_tool_that_fails_is_named_and_counted(capfd: pytest.CaptureFixture[str]) -> None:
    counts = STAGES.run_tools([["true"], ["false"], ["true"]])
    assert counts == STAGES.Counts(passed=2, failed=1)
    assert capfd.readouterr().out == "failed: false\n"


def test_the_last_line_is_the_sum_and_later_stages_run_after_a_failure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ticks = iter([0.0, 61.0, 61.0, 63.5])
    stages = [
        STAGES.Stage("first", 60, lambda: STAGES.Counts(passed=3, failed=1)),
        STAGES.Stage("second", 60, lambda: STAGES.Counts(passed=120, skipped=2)),
    ]
    assert STAGES.run_stages(stages, lambda: next(ticks)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "--- first: 3 passed, 1 failed, 0 skipped in 61.0 s (budget 60 s, over budget)" in lines
    assert "--- second: 120 passed, 0 failed, 2 skipped in 2.5 s (budget 60 s)" in lines
    assert lines[-1] == "123 passed, 1 failed, 2 skipped"


def test_going_over_a_budget_is_no_failure() -> None:
    ticks = iter([0.0, 1_000.0])
    assert (
        STAGES.run_stages([STAGES.Stage("slow", 1, lambda: STAGES.Counts(passed=1))], lambda: next(ticks))
        == 0
    )


# ----------------------------------------------------------------------------------------- setting up


def write_program(path: Path, script: str) -> None:
    """Write a shell script that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def set_up(clone: Path, python: Path) -> subprocess.CompletedProcess[str]:
    """Run scripts/venv.sh in `clone` as somebody who is not root and whose interpreter is `python`."""
    write_program(clone / "bin" / "id", "echo 1000")
    (clone / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "venv.sh", clone / "scripts")
    return subprocess.run(
        [clone / "scripts" / "venv.sh"],
        env={"PATH": f"{clone}/bin:{os.environ['PATH']}", "PYTHON": str(python)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_missing_system_package_is_named_in_one_line(tmp_path: Path) -> None:
    python = tmp_path / "python-without-ensurepip"
    write_program(python, f'case "$*" in *ensurepip*) exit 1;; esac; exec {sys.executable} "$@"')
    ended = set_up(tmp_path, python)
    package = f"python3.{sys.version_info.minor}-venv"
    assert (ended.returncode, ended.stderr) == (
        1,
        f"cannot set up: {python} has no ensurepip; install the system package {package}\n",
    )
    assert not (tmp_path / ".venv").exists()


def test_an_interpreter_outside_the_supported_range_is_refused_in_one_line(tmp_path: Path) -> None:
    python = tmp_path / "python3.10"
    write_program(python, "exit 1")
    ended = set_up(tmp_path, python)
    assert ended.returncode == 1
    assert re.fullmatch(r"cannot set up: no \S+ of version 3\.11 to 3\.14 .*\n", ended.stderr)


# ----------------------------------------------------------------------------------------- make


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"make ([\w-]+)", listed)[: len(phony[1].split())] == phony[1].split()
