"""The polkit rule that is made from agent.toml. That polkit obeys it: tests/hosts/test_without_root.py."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.cli.app import app
from agent.cli.polkit import RULES_FILE, write_rules
from agent.service.systemd import CHANGING_VERBS

INSTANCE = """
[[instance]]
id = "{id}"
service = "web"
root = "/srv/{id}"
driver = {driver}
"""


def listed(rules: str, name: str) -> list[str]:
    [found] = re.findall(rf"var {name} = (\[.*?\]);", rules, re.DOTALL)
    units: list[str] = json.loads(found)  # what JSON can say, JavaScript reads alike
    return units


def test_the_rule_names_the_units_of_agent_toml_and_what_the_driver_does_with_them(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    drivers = {
        "web-2": '{ type = "systemd", unit = "web@2.service" }',
        "web-1": '{ type = "systemd", unit = "web@1.service" }',
        "other": '{ type = "systemd", unit = "web@1.service" }',
        "files": '{ type = "none" }',
        "own": '{ type = "command", start = ["./run"] }',
    }
    file.write_text("".join(INSTANCE.format(id=name, driver=driver) for name, driver in drivers.items()))
    ended = CliRunner().invoke(app, ["config", "polkit", "--config", str(file)])
    assert ended.exit_code == 0, ended.output
    assert listed(ended.stdout, "units") == ["web@1.service", "web@2.service"]
    assert listed(ended.stdout, "verbs") == list(CHANGING_VERBS)
    assert RULES_FILE in ended.stdout


def test_an_escaped_name_stays_the_name_that_systemd_knows() -> None:
    assert listed(write_rules([r"web\x2dshop.service"]), "units") == [r"web\x2dshop.service"]


@pytest.mark.parametrize("text", ["", "[[instance]]"])
def test_a_file_that_cannot_be_used_makes_no_rule(tmp_path: Path, text: str) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(text or "nonsense")
    ended = CliRunner().invoke(app, ["config", "polkit", "--config", str(file)])
    assert (ended.exit_code, ended.stdout) == (2, "")
