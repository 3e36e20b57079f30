"""`config show` and `config schema`: what is in effect and why, and what an editor is told."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

import agent.cli.app
import controller.__main__
from agent.config import AgentConfig
from controller.config import ControllerConfig
from shared.settings import read_written
from shared.settings_page import MASK, write_page
from shared.settings_schema import make_schema

APPS = {"agent": agent.cli.app.app, "controller": controller.__main__.app}
AGENT = r"""
state_dir = "/var/lib/other"
metadata = { rack = "a\u001b[2J7", "a.key" = "say \"hi\"\n" }
[trust]
accept_sha256_file = true
verification = "digest"
[trust.service.web]
verification = "signature"
[[instance]]
id = "web-1"
service = "web"
root = "/srv/web"
driver = { type = "command", start = ["./run", "-\u202e"], environment = { DB_PASSWORD = "hunter2" } }
pre_hook = [{ command = ["./migrate"] }]
[[instance]]
id = "web-2"
service = "web"
root = "/srv/web2"
driver = { type = "systemd", unit = "web.service" }
check = { type = "tcp", port = 80 }
"""
CONTROLLER = """
database = "postgresql://releasehand:hunter2@db.example/releasehand?ssl=verify-full"
[api]
host = "127.0.0.1"
[api.tokens]
ci = "a-token-of-ci-hunter2"
"""


def shown(daemon: str, file: Path, **environment: str) -> str:
    result = CliRunner().invoke(APPS[daemon], ["config", "show", "--config", str(file)], env=environment)
    assert result.exit_code == 0, result.output
    return result.output


def without_secrets(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: MASK if key == "DB_PASSWORD" else without_secrets(one) for key, one in tree.items()}
    return [without_secrets(one) for one in tree] if isinstance(tree, list) else tree


def test_what_is_shown_is_the_configuration_itself(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(AGENT)
    page = shown("agent", file)
    expected = AgentConfig.model_validate(without_secrets(tomllib.loads(AGENT)))
    assert AgentConfig.model_validate(tomllib.loads(page)) == expected
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_each_key_tells_where_it_is_from(tmp_path: Path) -> None:
    file, credentials = tmp_path / "agent.toml", tmp_path / "credentials"
    file.write_text(AGENT)
    credentials.mkdir()
    (credentials / "config.instance.1.port").write_text("81")
    page = shown(
        "agent", file, CREDENTIALS_DIRECTORY=str(credentials), RELEASEHAND_AGENT__UNPACK__MAX_DEPTH="50"
    )
    lines = page.splitlines()
    assert 'state_dir = "/var/lib/other"  # file' in lines
    assert "port = 81  # credential config.instance.1.port" in lines
    assert "max_depth = 50  # RELEASEHAND_AGENT__UNPACK__MAX_DEPTH" in lines
    assert "max_ratio = 1000" in lines
    assert "# agent_id: not set" in lines
    assert str(file) in lines[0]


@pytest.mark.parametrize(("daemon", "text"), [("agent", AGENT), ("controller", CONTROLLER)])
def test_no_secret_is_shown(daemon: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / "file.toml"
    file.write_text(text)
    if daemon == "agent":
        page = shown(daemon, file)
    else:
        settings = ControllerConfig.model_validate(tomllib.loads(text))
        page = write_page(settings, read_written(file=file, environment={}, prefix="X"))
        assert f"postgresql://releasehand:{MASK}@db.example/releasehand?ssl=verify-full" in page
    assert "hunter2" not in page
    assert MASK in page


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://releasehand@db.example/releasehand?password=hunter2&ssl=verify-full",
        "postgresql://db.example/releasehand?ssl=verify-full&user=releasehand&PassWord=hunter2",
        "postgresql://releasehand:12/hunter2@db.example/releasehand",
    ],
)
def test_no_way_of_writing_a_database_shows_its_password(url: str, tmp_path: Path) -> None:
    file = tmp_path / "controller.toml"
    file.write_text(f'database = "{url}"\n')
    settings = ControllerConfig(database=url)
    page = write_page(settings, read_written(file=file, environment={}, prefix="X"))
    assert "hunter2" not in page
    assert MASK in page
    assert "db.example" in page


def test_what_only_looks_like_an_address_is_shown_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    hook = 'pre_hook = [{ command = ["/bin/sh", "-c", "curl http://[$HOST]/drain"] }]'
    file.write_text(
        f'[[instance]]\nid = "a"\nservice = "s"\nroot = "/srv/a"\ndriver = {{ type = "none" }}\n{hook}\n'
    )
    assert "curl http://[$HOST]/drain" in shown("agent", file)


def test_a_file_that_cannot_be_used_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("surprise = 1\n")
    result = CliRunner().invoke(APPS["agent"], ["config", "show", "--config", str(file)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "surprise: unknown key" in result.stderr


def validator_of(daemon: str) -> jsonschema.Draft202012Validator:
    result = CliRunner().invoke(APPS[daemon], ["config", "schema"])
    assert result.exit_code == 0, result.output
    schema = json.loads(result.output)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize(("daemon", "text"), [("agent", AGENT), ("controller", CONTROLLER)])
def test_an_editor_takes_what_the_daemon_takes(daemon: str, text: str) -> None:
    validator_of(daemon).validate(tomllib.loads(text))


@pytest.mark.parametrize(
    ("daemon", "wrong"),
    [
        ("agent", {"surprise": 1}),
        ("agent", {"unpack": {"max_depth": 101}}),
        ("agent", {"instance": [{"id": "a", "service": "b", "root": "/c", "driver": {"type": "magic"}}]}),
        ("agent", {"instance": [{"id": "a"}]}),
        ("controller", {"api": {"port": "many"}}),
        ("controller", {"hub": {"surprise": 1}}),
    ],
)
def test_an_editor_marks_what_is_wrong(daemon: str, wrong: dict[str, Any]) -> None:
    assert not validator_of(daemon).is_valid(wrong)


@pytest.mark.parametrize("model", [AgentConfig, ControllerConfig])
def test_an_editor_tells_what_each_key_means(model: type[AgentConfig] | type[ControllerConfig]) -> None:
    schema = make_schema(model, "a file")
    told = [schema, *schema["$defs"].values()]
    untold = {
        f"{one['title']}.{name}"
        for one in told
        for name, key in one.get("properties", {}).items()
        if "description" not in key and "$ref" not in key and name not in {"type", "service"}
    }
    assert untold <= {
        "AgentConfig.instance",
        "InstanceSection.driver",
        "InstanceSection.check",
        "a file.instance",
    }


@pytest.mark.parametrize("daemon", ["agent", "controller"])
def test_a_file_that_the_account_may_not_read_is_told_with_what_to_do(daemon: str, tmp_path: Path) -> None:
    file = tmp_path / "daemon.toml"
    file.touch(mode=0)
    # Root reads everything, unless it lost its capabilities.
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    argv = [*drop, sys.executable, "-m", daemon, "config", "check", "--config", str(file)]
    ran = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert f"{file}: this account may not read it: run this as root" in ran.stderr


@pytest.mark.parametrize("daemon", ["agent", "controller"])
def test_a_file_that_is_not_there_is_told_with_what_to_do(daemon: str, tmp_path: Path) -> None:
    file = tmp_path / "none.toml"
    result = CliRunner().invoke(APPS[daemon], ["config", "check", "--config", str(file)])
    assert result.exit_code == 2
    assert f"{file}: there is no such file: write it, or name another" in result.stderr
