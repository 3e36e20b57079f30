"""The import contracts of pyproject.toml: the tree keeps them, and each one bites."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

# (the contract, the file that breaks it, its content)
VIOLATIONS = [
    ("distributions", "releasehand/errors.py", "import shared"),
    ("distributions", "shared/config.py", "import agent"),
    ("distributions", "agent/peer.py", "import controller"),
    ("distributions", "controller/peer.py", "import agent"),
    ("controller", "controller/core/plan.py", "from controller import store"),
    ("controller", "controller/store/wake.py", "from controller import dispatcher"),
    ("controller", "controller/recorder.py", "from controller import dispatcher"),
    ("controller", "controller/sweeper.py", "from controller.api import routes"),
    ("controller", "controller/hub/links.py", "from controller import web"),
    ("controller", "controller/api/routes.py", "from controller import app"),
    ("agent", "agent/core/resume.py", "from agent import journal"),
    ("agent", "agent/journal.py", "from agent import executor"),
    ("agent", "agent/download.py", "from agent import verify"),
    ("agent", "agent/executor.py", "from agent import uplink"),
    ("agent", "agent/uplink.py", "from agent import daemon"),
    ("models-only", "agent/call.py", "from releasehand.client import Client"),
    ("models-only", "shared/call.py", "import releasehand"),
    ("models-only", "controller/call.py", "from releasehand.cli import deploy"),
    *(
        ("pure-cores", f"{package}/purity_{library}.py", f"import {library}")
        for package in ("controller/core", "agent/core")
        for library in ("asyncio", "os", "socket", "subprocess", "aiohttp", "websockets", "sqlmodel", "time")
    ),
    ("pure-cores", "agent/core/indirect.py", "from shared import disk"),
    ("pure-cores", "shared/session.py", "import asyncio"),
    ("pure-cores", "shared/source.py", "import socket"),
    ("shipped-alone", "controller/seeds.py", "from tests import fakes"),
    ("shipped-alone", "agent/story.py", "import demo"),
]

# Modules that the violations import and that break nothing themselves.
SCENERY = {
    **{f"{package}/__init__.py": "" for package in ("releasehand", "shared", "controller", "agent")},
    **{f"controller/{part}/__init__.py": "" for part in ("core", "store", "api", "hub", "web")},
    **{f"controller/{part}.py": "" for part in ("dispatcher", "recorder", "sweeper", "app")},
    **{f"agent/{part}.py": "" for part in ("journal", "download", "verify", "executor", "uplink", "daemon")},
    "agent/core/__init__.py": "",
    "releasehand/client.py": "",
    "releasehand/cli/__init__.py": "",
    "releasehand/model.py": "",
    "shared/disk.py": "import os",
    "shared/session.py": "",
    "shared/source.py": "",
}


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts over the packages in `tree`."""
    linter = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [linter, "--no-logo", "--no-cache"],
        cwd=tree,
        env={"PYTHONPATH": str(tree), "COLUMNS": "300"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def write_tree(tree: Path, files: dict[str, str]) -> None:
    """Write `files` and the contracts into the empty folder `tree`."""
    shutil.copy(ROOT / "pyproject.toml", tree)
    for name, content in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")


def test_the_tree_keeps_every_import_contract() -> None:
    linted = lint_imports(ROOT)
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_a_tree_without_violations_passes(tmp_path: Path) -> None:
    write_tree(tmp_path, SCENERY)
    linted = lint_imports(tmp_path)
    assert f"Contracts: {len(CONTRACTS)} kept, 0 broken." in linted.stdout, linted.stdout + linted.stderr


def test_every_violation_is_found(tmp_path: Path) -> None:
    """All violations stand in one tree: building the graph costs a second, and a hit names its own import."""
    breaking = {file: line for _, file, line in VIOLATIONS}
    assert len(breaking) == len(VIOLATIONS), "of two violations in one file one would overwrite the other"
    write_tree(tmp_path, SCENERY | breaking)
    report = lint_imports(tmp_path).stdout
    for contract, file, line in VIOLATIONS:
        importer = file.removesuffix(".py").replace("/", ".")
        assert re.search(rf"^-?\s+{re.escape(importer)} -> ", report, re.MULTILINE), (
            f"{contract}: {file}: {line}"
        )
    for contract in CONTRACTS:
        assert f"{contract['name']} BROKEN" in report, contract["id"]


@pytest.mark.parametrize("identifier", [contract["id"] for contract in CONTRACTS])
def test_every_contract_has_a_violation_to_prove_it(identifier: str) -> None:
    assert identifier in {contract for contract, _, _ in VIOLATIONS}


def test_an_agent_is_spared_the_models_that_it_has_no_use_for() -> None:
    code = "import sys, agent.daemon; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if name.startswith("releasehand.model.")}
    assert loaded == {f"releasehand.model.{name}" for name in ("codes", "fields", "status")}
