"""Where settings come from: the file, over it systemd's credentials, over them the environment."""

from pathlib import Path

import pytest

import agent.config
import controller.config
from shared.settings import ConfigError, read_written

TOKEN = "0123456789-of-a-credential"
CONTROLLER = """
log_format = "json"
[api]
port = 9000
"""
AGENT = """
[[instance]]
id = "web-1"
service = "web"
root = "/srv/web-1"
driver = { type = "systemd", unit = "web.service" }
"""


def give(folder: Path, **credentials: str | bytes) -> dict[str, str]:
    """The environment of a service that has these; `__` in a name stands for a dot."""
    folder = folder / "credentials"
    folder.mkdir()
    for name, content in credentials.items():
        raw = content.encode() if isinstance(content, str) else content
        (folder / name.replace("__", ".")).write_bytes(raw)
    return {"CREDENTIALS_DIRECTORY": str(folder)}


def load_controller(folder: Path, environment: dict[str, str]) -> controller.config.ControllerConfig:
    file = folder / "controller.toml"
    file.write_text(CONTROLLER)
    return controller.config.load_config(file, environment)


def problems(folder: Path, environment: dict[str, str]) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load_controller(folder, environment)
    return {problem.where: problem.what for problem in caught.value.problems}


def test_a_credential_sets_its_key_of_the_controllers_configuration(tmp_path: Path) -> None:
    key = tmp_path / "secrets.key"
    key.write_text("0f" * 32)
    credentials = {
        "config__database": "postgresql://releasehand:pass@localhost/releasehand\n",
        "config__api__tokens__ci": f"{TOKEN}\n",
        "config__api__port": "9001",
        "config__hub__names": '["hub.example"]',
    }
    environment = give(tmp_path, **credentials) | {"RELEASEHAND_CONTROLLER__SECRETS__KEY_FILE": str(key)}
    config = load_controller(tmp_path, environment)
    assert config.database == "postgresql://releasehand:pass@localhost/releasehand"
    assert (config.api.port, config.log_format, config.hub.names) == (9001, "json", ("hub.example",))
    assert controller.config.read_api_tokens(config) == {"ci": TOKEN}


def test_a_credential_sets_its_key_of_the_agents_configuration(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(AGENT)
    environment = give(tmp_path, config__agent_id="host-1", config__instance__0__port="8081")
    config = agent.config.load_config(file, environment)
    assert (config.agent_id, config.instance[0].port) == ("host-1", 8081)


def test_the_environment_goes_over_credentials(tmp_path: Path) -> None:
    environment = give(tmp_path, config__api__port="9001", config__log_format="text")
    config = load_controller(tmp_path, environment | {"RELEASEHAND_CONTROLLER__API__PORT": "9002"})
    assert (config.api.port, config.log_format) == (9002, "text")


def test_other_credentials_are_left_alone(tmp_path: Path) -> None:
    environment = give(tmp_path, token="x", configuration="y", agent__key=b"\xff\x00")
    assert load_controller(tmp_path, environment).api.port == 9000


def test_what_is_wrong_with_a_credential_is_told_by_its_name_and_without_its_content(tmp_path: Path) -> None:
    credentials: dict[str, str | bytes] = {
        "config__databse": "s3cr3t",
        "config__database": "mysql://s3cr3t@h/d",
        "config__api__tokens__ci": "s3cr3t",
        "config__api__tokens__dotted__name": "s3cr3t-s3cr3t-s3cr3t",
        "config__api__port__x": "s3cr3t",
        "config__hub": "{s3cr3t",
        "config__log_format": b"s3cr3t\xff",
        "config__": "s3cr3t",
    }
    found = problems(tmp_path, give(tmp_path, **credentials))
    assert set(found) == {
        "databse (from credential config.databse)",
        "database (from credential config.database)",
        "api.tokens.dotted",
        "credential config.api.port.x",
        "credential config.hub",
        "credential config.log_format",
        "credential config.",
    }
    assert found["databse (from credential config.databse)"] == "unknown key"
    assert not any("s3cr3t" in what for what in found.values())


def test_a_token_of_a_credential_that_is_too_short_is_told(tmp_path: Path) -> None:
    found = problems(tmp_path, give(tmp_path, config__api__tokens__ci="s3cr3t"))
    assert list(found) == ["api.tokens.ci"]


def test_credentials_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    found = problems(tmp_path, {"CREDENTIALS_DIRECTORY": str(tmp_path / "gone")})
    assert list(found) == ["CREDENTIALS_DIRECTORY"]


def test_each_value_is_known_by_where_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(AGENT)
    environment = give(tmp_path, config__controller__url="wss://a:1", config__packages__proxy="http://p:1")
    environment |= {
        "RELEASEHAND_AGENT__PACKAGES": '{"allow_private": true}',
        "RELEASEHAND_AGENT__INSTANCE__0__PORT": "8081",
    }
    written = read_written(file=file, environment=environment, prefix="RELEASEHAND_AGENT")
    assert written.problems == []
    expected: dict[tuple[str | int, ...], str] = {
        ("controller", "url"): "credential config.controller.url",
        ("packages", "allow_private"): "RELEASEHAND_AGENT__PACKAGES",
        ("packages", "proxy"): "",  # the variable says the whole table anew
        ("instance", 0, "port"): "RELEASEHAND_AGENT__INSTANCE__0__PORT",
        ("instance", 0, "id"): str(file),
        ("instance", 1, "id"): "",
        ("state_dir",): "",
    }
    assert {path: written.origin_of(path) for path in expected} == expected


NAMES = [f"hub-{number}.example" for number in range(12)]


def test_a_list_of_more_than_ten_is_made_by_variables(tmp_path: Path) -> None:
    names = {f"RELEASEHAND_CONTROLLER__HUB__NAMES__{number}": name for number, name in enumerate(NAMES)}
    config = load_controller(tmp_path, names | {"RELEASEHAND_CONTROLLER__HUB__NAMES": "[]"})
    assert list(config.hub.names) == NAMES


def test_a_list_of_more_than_ten_is_made_by_credentials(tmp_path: Path) -> None:
    names = {f"config__hub__names__{number}": name for number, name in enumerate(NAMES)}
    config = load_controller(tmp_path, give(tmp_path, config__hub__names="[]", **names))
    assert list(config.hub.names) == NAMES


def test_an_element_of_a_list_whose_number_is_endless_is_told(tmp_path: Path) -> None:
    endless = "RELEASEHAND_CONTROLLER__HUB__NAMES__" + "9" * 5000
    found = problems(tmp_path, {"RELEASEHAND_CONTROLLER__HUB__NAMES": "[]", endless: "a"})
    assert list(found) == [endless]
