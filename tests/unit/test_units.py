"""The units in systemd/, judged by systemd itself."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import agent.config
import controller.config
from shared.settings import ConfigError

UNITS: Final = Path(__file__).parents[2] / "systemd"
NAMES: Final = ("releasehand-controller", "releasehand-agent", "releasehand-agent-user")

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed: apt install systemd"
)


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def read_lines(name: str) -> set[str]:
    """What a unit says, without comments."""
    lines = (UNITS / f"{name}.service").read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line and not line.startswith("#")}


@needs_systemd
@pytest.mark.parametrize(
    ("name", "bound"),
    [("releasehand-controller", 1.6), ("releasehand-agent", 2.6), ("releasehand-agent-user", 1.6)],
)
def test_a_unit_exposes_little(name: str, bound: float) -> None:
    judged = analyze(
        "security", "--offline=yes", f"--threshold={round(bound * 10)}", str(UNITS / f"{name}.service")
    )
    assert judged.returncode == 0, judged.stdout[-400:] + judged.stderr


@needs_systemd
@pytest.mark.parametrize("name", NAMES)
def test_systemd_finds_nothing_wrong_with_a_unit(name: str, tmp_path: Path) -> None:
    text = (UNITS / f"{name}.service").read_text(encoding="utf-8")
    unit = tmp_path / f"{name}.service"
    unit.write_text(re.sub(r"/opt/releasehand/bin/\S+", sys.executable, text), encoding="utf-8")
    judged = analyze("verify", "--man=no", str(unit))
    assert (judged.returncode, judged.stdout + judged.stderr) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_a_daemon_tells_systemd_how_it_does_and_is_started_again_whenever_it_ends(name: str) -> None:
    text = (UNITS / f"{name}.service").read_text(encoding="utf-8")
    for line in ("Type=notify", "WatchdogSec=30s", "Restart=always", "StartLimitIntervalSec=0"):
        assert f"\n{line}\n" in text


def test_the_two_agents_differ_in_nothing_but_what_root_is() -> None:
    """They stand side by side to be read whole; a change of one belongs into the other."""
    root, user = (read_lines(name) for name in ("releasehand-agent", "releasehand-agent-user"))
    assert {line.partition("=")[0] for line in root ^ user} == {
        "Description",
        "Conflicts",
        "User",
        "Group",
        "SupplementaryGroups",
        "CapabilityBoundingSet",
        "AmbientCapabilities",
        "PrivateUsers",
        "RemoveIPC",
        "SystemCallFilter",
    }


@pytest.mark.parametrize("name", NAMES)
def test_what_the_comments_of_a_unit_set_are_keys_of_its_daemon(name: str, tmp_path: Path) -> None:
    text = (UNITS / f"{name}.service").read_text(encoding="utf-8")
    environment = dict(re.findall(r"^#   Environment=(RELEASEHAND_\w+)=(\S+)", text, re.MULTILINE))
    credentials = re.findall(r"^#   LoadCredential=(config\.\S+?):", text, re.MULTILINE)
    assert credentials
    for credential in credentials:
        (tmp_path / credential).write_text("x")
    load = controller.config.load_config if "controller" in name else agent.config.load_config
    file = tmp_path / "empty.toml"
    file.touch()
    with pytest.raises(ConfigError) as caught:  # "x" is no good value, and that is all
        load(file, environment | {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert not [problem for problem in caught.value.problems if "unknown key" in problem.what]
    assert not [problem for problem in caught.value.problems if "names no key" in problem.what]


@pytest.mark.parametrize("name", ["releasehand-agent", "releasehand-agent-user"])
def test_stopping_an_agent_touches_no_service_in_its_control_group(name: str) -> None:
    text = (UNITS / f"{name}.service").read_text(encoding="utf-8")
    assert "\nKillMode=process\n" in text
