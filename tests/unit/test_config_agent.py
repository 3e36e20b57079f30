"""agent.toml: every problem is told at once, with its key; nothing unknown, unsafe or ambiguous passes."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import trustme
from typer.testing import CliRunner

from agent.cli.app import app
from agent.config import AgentConfig, CommandDriver, HttpCheck, SystemdDriver, load_config
from agent.identity import Expected
from shared.settings import ConfigError

INSTANCE = """
[[instance]]
id = "web-{n}"
service = "web"
port = 808{n}
root = "{root}/web-{n}"
driver = {{ type = "systemd", unit = "web-{n}.service" }}
check = {{ type = "http", url = "http://127.0.0.1:808{n}/health", contains = "{{version}}" }}
metadata = {{ zone = "a" }}
"""


@pytest.fixture(scope="session")
def ca_pem() -> bytes:
    return trustme.CA().cert_pem.bytes()


class Files:
    """A directory with a good configuration in it, to be spoiled."""

    def __init__(self, directory: Path, ca_pem: bytes) -> None:
        self.directory = directory
        self.file = directory / "agent.toml"
        (directory / "ca.pem").write_bytes(ca_pem)
        (directory / "other").write_text("no certificate\n")
        self.text = f"""
agent_id = "host-1"
state_dir = "{directory}/state"
log_format = "json"

[controller]
url = "wss://controller.example.com:8443"

[packages]
ca_file = "{directory}/ca.pem"
allowed_hosts = ["packages.example.com"]
max_bytes = 1000000
{INSTANCE.format(n=1, root=directory)}
activate_timeout_s = 30
{INSTANCE.format(n=2, root=directory)}
"""

    def change(self, old: str, new: str) -> None:
        assert old in self.text
        self.text = self.text.replace(old, new, 1)

    def load(self, environment: Mapping[str, str] | None = None) -> AgentConfig:
        self.file.write_text(self.text)
        return load_config(self.file, environment or {})

    def problems(self, environment: Mapping[str, str] | None = None) -> dict[str, str]:
        with pytest.raises(ConfigError) as caught:
            self.load(environment)
        return {problem.where: problem.what for problem in caught.value.problems}


@pytest.fixture
def files(tmp_path: Path, ca_pem: bytes) -> Files:
    return Files(tmp_path, ca_pem)


def test_a_whole_file_is_read(files: Files) -> None:
    config = files.load()
    assert config.agent_id == "host-1"
    assert config.log_format == "json"
    assert config.packages.ca_file == files.directory / "ca.pem"
    assert config.packages.allowed_hosts == ("packages.example.com",)
    first, second = config.instance
    assert (first.id, first.port, first.activate_timeout_s, first.revert_timeout_s) == (
        "web-1",
        8081,
        30,
        120,
    )
    assert first.driver == SystemdDriver(type="systemd", unit="web-1.service")
    assert isinstance(first.check, HttpCheck)
    assert first.check.contains == "{version}"
    assert first.metadata == {"zone": "a"}
    assert second.id == "web-2"
    assert config.expected_identity() == Expected("host-1", "wss://controller.example.com:8443")


def test_the_environment_comes_after_the_file(files: Files) -> None:
    config = files.load(
        {
            "RELEASEHAND_AGENT__AGENT_ID": "host-2",
            "RELEASEHAND_AGENT__CONTROLLER__URL": "wss://other.example.com",
            "RELEASEHAND_AGENT__INSTANCE__1__PORT": "9999",
            "RELEASEHAND_AGENT__PACKAGES__ALLOWED_HOSTS": '["a.example.com", "b.example.com"]',
            "RELEASEHAND_AGENT__INSTANCE__0__DRIVER": '{"type": "command", "start": ["./run", "--fast"]}',
            "RELEASEHAND_OTHER": "is none of ours",
            "PATH": "/bin",
        }
    )
    assert config.agent_id == "host-2"
    assert config.controller.url == "wss://other.example.com"
    assert config.instance[1].port == 9999
    assert config.packages.allowed_hosts == ("a.example.com", "b.example.com")
    assert config.instance[0].driver == CommandDriver(type="command", start=("./run", "--fast"))


def test_all_problems_are_told_at_once_each_with_its_key(files: Files) -> None:
    files.change('agent_id = "host-1"', 'agent_id = "../host"\ncolour = "red"')
    files.change("port = 8081", "port = 70000")
    files.change('unit = "web-1.service"', 'unit = "web-1.socket"')
    files.change("activate_timeout_s = 30", "activate_timeout_s = 0")
    files.change('id = "web-2"', 'id = "web-1"')
    files.change("max_bytes = 1000000", "max_bytes = 0")
    problems = files.problems()
    assert set(problems) == {
        "agent_id",
        "colour",
        "instance[0].port",
        "instance[0].driver.unit",
        "instance[0].activate_timeout_s",
        "instance[1].id",
        "packages.max_bytes",
    }
    assert problems["colour"] == "unknown key"
    assert problems["instance[1].id"] == "is that of instance[0] too; each needs its own"


@pytest.mark.parametrize(
    ("old", "new", "where", "words"),
    [
        ('url = "wss://', 'url = "ws://', "controller.url", "must be wss"),
        ('url = "wss://', 'url = "https://', "controller.url", "must be wss"),
        ('url = "wss://', 'url = "wss://user:pass@', "controller.url", "no user"),
        ('example.com:8443"', 'example.com:8443/?token=x"', "controller.url", "no user, query"),
        ('example.com:8443"', 'example.com:0"', "controller.url", "port 0"),
        ('example.com:8443"', 'example.com:99999"', "controller.url", "range"),
        ("ca.pem", "missing.pem", "packages.ca_file", "cannot be read"),
        ("ca.pem", "other", "packages.ca_file", "no certificate"),
        ('/web-2"', '/web-1"', "instance[1].root", "is the root of instance[0]"),
        ('/web-2"', '/web-1/../web-1"', "instance[1].root", "is the root of instance[0]"),
        ('/web-2"', '/web-1/inner"', "instance[1].root", "inside or around the root of instance[0]"),
        ('root = "', 'root = "srv', "instance[0].root", "absolute"),
        ('type = "systemd"', 'type = "docker"', "instance[0].driver", "docker"),
        ('type = "http"', 'type = "icmp"', "instance[0].check", "icmp"),
        ('service = "web"', 'service = "we b"', "instance[0].service", "name"),
        ('log_format = "json"', 'log_format = "xml"', "log_format", "text"),
        ('state_dir = "', 'state_dir = "var', "state_dir", "absolute"),
    ],
)
def test_what_is_not_right_is_refused_in_words(
    files: Files, old: str, new: str, where: str, words: str
) -> None:
    files.change(old, new)
    problems = files.problems()
    assert list(problems) == [where]
    assert words in problems[where]


def test_who_the_agent_is_and_where_its_controller_is_may_be_left_to_joining(files: Files) -> None:
    files.change('agent_id = "host-1"\n', "")
    files.change('[controller]\nurl = "wss://controller.example.com:8443"\n', "")
    assert files.load().expected_identity() == Expected()


def test_an_empty_ca_file_is_none(files: Files) -> None:
    files.change(f'ca_file = "{files.directory}/ca.pem"', 'ca_file = ""')
    assert files.load().packages.ca_file is None


def test_a_problem_in_the_environment_names_its_variable(files: Files) -> None:
    problems = files.problems(
        {
            "RELEASEHAND_AGENT__INSTANCE__0__PORT": "many",
            "RELEASEHAND_AGENT__INSTANCE__7__PORT": "1",
            "RELEASEHAND_AGENT__PACKAGES__ALLOWED_HOSTS": "[broken",
            "RELEASEHAND_AGENT__COLOUR": "red",
            "RELEASEHAND_AGENT__AGENT_ID__INNER__DEEP": "x",
        }
    )
    assert "instance[0].port (from RELEASEHAND_AGENT__INSTANCE__0__PORT)" in problems
    assert "no element" in problems["RELEASEHAND_AGENT__INSTANCE__7__PORT"]
    assert "not JSON" in problems["RELEASEHAND_AGENT__PACKAGES__ALLOWED_HOSTS"]
    assert problems["colour (from RELEASEHAND_AGENT__COLOUR)"] == "unknown key"


@pytest.mark.parametrize("text", ["agent_id = ", "\0", "a = 1\na = 2"])
def test_a_file_that_is_no_toml_is_told(files: Files, text: str) -> None:
    files.text = text
    [(where, what)] = files.problems().items()
    assert where == str(files.file)
    assert "is not TOML" in what


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load_config(tmp_path / "missing.toml", {})


# the command line


def test_config_check_says_fine(files: Files) -> None:
    files.load()
    result = CliRunner().invoke(app, ["config", "check", "--config", str(files.file)])
    assert result.exit_code == 0
    assert "fine; agent host-1 with 2 instance(s)" in result.output


@pytest.mark.parametrize("text", ["", "instance = []", "# nothing but words"])
def test_an_agent_may_have_no_instance_and_is_told_so(tmp_path: Path, text: str) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(text)
    assert load_config(file, {}).instance == ()
    result = CliRunner().invoke(app, ["config", "check", "--config", str(file)])
    assert result.exit_code == 0
    assert "fine; an agent with no instance as yet" in result.output


@pytest.mark.parametrize("command", [["config", "check"], ["run"]])
def test_every_problem_is_printed_and_the_exit_code_is_2(files: Files, command: list[str]) -> None:
    files.change("port = 8081", "port = 70000")
    files.change('id = "web-2"', 'id = "web-1"')
    files.file.write_text(files.text)
    result = CliRunner().invoke(app, [*command, "--config", str(files.file)])
    assert result.exit_code == 2
    assert "instance[0].port: " in result.output
    assert "instance[1].id: " in result.output
    assert "Traceback" not in result.output


def test_the_version_is_told_without_a_configuration() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("releasehand-agent ")
