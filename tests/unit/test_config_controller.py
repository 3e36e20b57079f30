"""controller.toml: defaults, the environment over it, and every problem told at once."""

import socket
from pathlib import Path

import pytest
import trustme

from controller.config import (
    ENVIRONMENT_PREFIX,
    ControllerConfig,
    HubSection,
    find_risks,
    hub_names,
    load_config,
    read_api_tokens,
)
from shared.sealing import obtain_key
from shared.settings import ConfigError

SCHEDULER = "0123456789abcdef-scheduler"
GOOD = f"""
database = "sqlite:////srv/x.db"
log_format = "json"
[api]
port = 9000
[api.tokens]
scheduler = "{SCHEDULER}"
[hub]
host = "127.0.0.1"
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "controller.toml"
    file.write_text(text)
    return file


def problems(file: Path | None, **environment: str) -> dict[str, str]:
    """What is wrong, by place; `environment` without its prefix."""
    with pytest.raises(ConfigError) as caught:
        load_config(file, {f"{ENVIRONMENT_PREFIX}__{name}": value for name, value in environment.items()})
    return {problem.where: problem.what for problem in caught.value.problems}


def make_certificate(folder: Path) -> tuple[Path, Path]:
    certificate = trustme.CA().issue_cert("api.example.com")
    cert_file, key_file = folder / "api.pem", folder / "api.key"
    certificate.cert_chain_pems[0].write_to_path(cert_file)
    certificate.private_key_pem.write_to_path(key_file)
    return cert_file, key_file


def test_a_file_is_read_with_its_tokens(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD), {})
    assert (config.database, config.log_format) == ("sqlite:////srv/x.db", "json")
    assert (config.api.host, config.api.port, config.hub.port) == ("127.0.0.1", 9000, 8443)
    assert read_api_tokens(config) == {"scheduler": SCHEDULER}
    assert find_risks(config) == []


def test_the_defaults_are_for_one_machine() -> None:
    config = ControllerConfig()
    assert config.database == "sqlite:////var/lib/releasehand-controller/controller.db"
    assert (config.api.host, config.api.port) == ("127.0.0.1", 8080)
    assert (config.hub.host, config.hub.port) == ("0.0.0.0", 8443)
    assert not config.api.allow_plain_http


def test_the_environment_goes_over_the_file(tmp_path: Path) -> None:
    environment = {"API__PORT": "0", "LOG_FORMAT": "text", "API__TOKENS__OPERATOR": "o" * 20}
    config = load_config(
        write(tmp_path, GOOD), {f"{ENVIRONMENT_PREFIX}__{name}": value for name, value in environment.items()}
    )
    assert (config.api.port, config.log_format) == (0, "text")
    assert read_api_tokens(config) == {"scheduler": SCHEDULER, "operator": "o" * 20}


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    text = """
    databse = "x"
    database = "mysql://h/d"
    log_format = "xml"
    [api]
    host = "10.0.0.1"
    port = 70000
    toknes = {}
    [hub]
    names = ["hub.example:8443", "fe80::1%eth0"]
    [pki]
    directory = "pki"
    agent_certificate_s = 59
    """
    found = problems(write(tmp_path, text), HUB__PORT="x")
    assert set(found) == {
        "databse",
        "database",
        "log_format",
        "api.host",
        "api.port",
        "api.toknes",
        "pki.directory",
        "pki.agent_certificate_s",
        f"hub.port (from {ENVIRONMENT_PREFIX}__HUB__PORT)",
    }
    assert found["api.toknes"] == "unknown key"


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "::", "controller.example.com"])
def test_plain_http_beyond_this_machine_must_be_asked_for(tmp_path: Path, host: str) -> None:
    file = write(tmp_path, GOOD)
    assert "allow_plain_http" in problems(file, API__HOST=host)["api.host"]
    asked = {f"{ENVIRONMENT_PREFIX}__API__HOST": host, f"{ENVIRONMENT_PREFIX}__API__ALLOW_PLAIN_HTTP": "true"}
    [risk] = find_risks(load_config(file, asked))
    assert host in risk


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_addresses_need_no_permission(tmp_path: Path, host: str) -> None:
    environment = {f"{ENVIRONMENT_PREFIX}__API__HOST": host, f"{ENVIRONMENT_PREFIX}__HUB__HOST": host}
    config = load_config(write(tmp_path, GOOD), environment)
    assert (config.api.host, config.hub.host) == (host, host)


def test_the_hub_is_found_by_this_machines_names_unless_others_are_given() -> None:
    own = [socket.gethostname(), "localhost", "127.0.0.1", "::1"]
    assert hub_names(HubSection()) == own
    assert hub_names(HubSection(host="127.0.0.1")) == own
    assert hub_names(HubSection(host="10.1.2.3")) == [*own, "10.1.2.3"]
    assert hub_names(HubSection(host="10.1.2.3", names=("hub.example",))) == ["hub.example"]


@pytest.mark.parametrize(
    "name",
    [
        *("hub.example:8443", "*.example", "hub..example", "-hub.example", "hüb.example", "a" * 64),
        *("fe80::1%eth0", "fe80::1%;id"),
    ],
)
def test_what_no_certificate_can_name_is_refused(tmp_path: Path, name: str) -> None:
    [(where, what)] = problems(write(tmp_path, GOOD + f'names = ["hub.example", "{name}"]\n')).items()
    assert (where, name in what) == ("hub.names", True)


@pytest.mark.parametrize("url", ["https://ctl.example", "https://ctl.example:8443/", "https://[::1]:8080"])
def test_hosts_find_the_api_where_the_configuration_says(tmp_path: Path, url: str) -> None:
    config = load_config(write(tmp_path, GOOD), {f"{ENVIRONMENT_PREFIX}__INSTALL__URL": url})
    assert config.install.url == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "http://ctl.example",
        "ctl.example:8080",
        "https://",
        "https://ctl.example:0",
        "https://ctl.example:http",
        "https://me@ctl.example",
        "https://ctl.example/releasehand",
        "https://ctl.example?a=b",
        "https://ctl.example/#",
        "https://$(id)",
        "https://ctl.example';id;'",
    ],
)
def test_what_may_not_stand_in_a_script_is_no_address_for_hosts(tmp_path: Path, url: str) -> None:
    [where] = problems(write(tmp_path, GOOD), INSTALL__URL=url)
    assert where.startswith("install.url")


@pytest.mark.parametrize(
    "url",
    ["https://[::1];id", "https://[fe80::1%;id]:8080", "https://[fe80::1%eth0]", "https://ctl.example:"],
)
def test_an_address_for_hosts_is_a_host_and_a_port_and_nothing_after_it(tmp_path: Path, url: str) -> None:
    """It stands unquoted in the line that people paste into a shell of root."""
    config = write(tmp_path, GOOD + f'[install]\nurl = "{url}"\n')
    assert list(problems(config)) == ["install.url"]


def test_tokens_may_stand_in_files_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "operator").write_text("operator-0123456789\n")
    text = GOOD + f'[api.token_files]\noperator = "{tmp_path}/operator"\n'
    config = load_config(write(tmp_path, text), {})
    assert read_api_tokens(config) == {"scheduler": SCHEDULER, "operator": "operator-0123456789"}


def test_bad_tokens_are_told_by_name_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe" * 10)
    (tmp_path / "empty").write_text("")
    text = f"""
    [api.tokens]
    short = "s3cr3t"
    spaced = "s3cr3t s3cr3t s3cr3t"
    accented = "s3cr3té-s3cr3té-s3cr3té"
    twin = "{SCHEDULER}"
    scheduler = "{SCHEDULER}"
    [api.token_files]
    binary = "{tmp_path}/binary"
    empty = "{tmp_path}/empty"
    gone = "{tmp_path}/gone"
    short = "{tmp_path}/empty"
    [hub]
    host = "127.0.0.1"
    """
    found = problems(write(tmp_path, text))
    assert set(found) == {
        "api.tokens.short",
        "api.tokens.spaced",
        "api.tokens.accented",
        "api.tokens.scheduler",
        "api.token_files.binary",
        "api.token_files.empty",
        "api.token_files.gone",
        "api.token_files.short",
    }
    assert not any("s3cr3t" in what or SCHEDULER in what for what in found.values())
    assert SCHEDULER not in repr(load_config(write(tmp_path, GOOD), {}))


def test_a_controller_without_callers_is_good_for_tokens_can_be_made(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, '[hub]\nhost = "127.0.0.1"'), {})
    assert (config.api.tokens, config.api.token_files) == ({}, {})


def test_a_certificate_lets_the_api_be_reached_from_beyond_this_machine(tmp_path: Path) -> None:
    cert_file, key_file = make_certificate(tmp_path)
    pair = f'cert_file = "{cert_file}"\nkey_file = "{key_file}"'
    text = GOOD.replace("[api]", f'[api]\nhost = "0.0.0.0"\n{pair}', 1)
    assert not [risk for risk in find_risks(load_config(write(tmp_path, text), {})) if "plain HTTP" in risk]
    assert "together" in problems(write(tmp_path, text.replace("key_file", "#")))["api"]


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///relative.db",
        "sqlite://",
        "sqlite:////etc",
        "mysql://h/d",
        "postgresql://h",
        "postgresql://h:port/d",
        "postgresql+psycopg://h/d",
        "/srv/x.db",
        "",
    ],
)
def test_a_database_that_cannot_be_used_is_refused(tmp_path: Path, url: str) -> None:
    assert "database" in " ".join(problems(write(tmp_path, GOOD), DATABASE=url))


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////srv/x.db",
        "sqlite+aiosqlite:////srv/x.db",
        "postgresql://u@h/d",
        "postgresql+asyncpg://u@/d?host=/run/postgresql",
    ],
)
def test_a_database_is_a_file_or_postgresql(url: str) -> None:
    assert ControllerConfig(database=url).database == url


@pytest.mark.parametrize(
    ("url", "is_risky"),
    [
        ("sqlite:////srv/x.db", False),
        ("postgresql://u@/d?host=/run/postgresql", False),
        ("postgresql://u@127.0.0.1/d", False),
        ("postgresql://u@db.example/d", True),
        ("postgresql://u@db.example/d?ssl=require", True),
        ("postgresql://u@db.example/d?ssl=verify-full", False),
    ],
)
def test_a_database_over_a_network_without_verified_tls_is_a_risk(url: str, is_risky: bool) -> None:
    risks = find_risks(ControllerConfig(database=url))
    assert any("verified TLS" in risk for risk in risks) is is_risky


def test_a_bad_token_is_told_together_with_what_is_wrong_elsewhere(tmp_path: Path) -> None:
    text = GOOD.replace(SCHEDULER, "short").replace('host = "127.0.0.1"', "port = -1")
    assert set(problems(write(tmp_path, text))) == {"api.tokens.scheduler", "hub.port"}


@pytest.mark.parametrize("hub_host", ["127.0.0.1", "0.0.0.0"])
def test_one_port_for_both_is_refused(tmp_path: Path, hub_host: str) -> None:
    found = problems(write(tmp_path, GOOD), HUB__HOST=hub_host, HUB__PORT="9000")
    assert found == {"hub.port": "9000 is api.port too; each needs its own"}


def test_a_variable_with_one_underscore_is_refused_not_ignored(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="RELEASEHAND_CONTROLLER_API_PORT: names no key"):
        load_config(write(tmp_path, GOOD), {"RELEASEHAND_CONTROLLER_API_PORT": "1"})


SHARED = GOOD.replace("sqlite:////srv/x.db", "postgresql://u@127.0.0.1/d")


def test_a_database_that_may_be_shared_needs_a_key_that_is_named(tmp_path: Path) -> None:
    assert "openssl rand -hex 32" in problems(write(tmp_path, SHARED))["secrets.key_file"]
    key = tmp_path / "secrets.key"
    obtain_key(key)
    config = load_config(write(tmp_path, f'{SHARED}[secrets]\nkey_file = "{key}"\n'), {})
    assert config.secrets.key_file == key
    assert find_risks(config) == []


def test_each_key_file_that_is_of_no_use_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.key").write_text("hush-hush")
    keys = f'[secrets]\nkey_file = "{tmp_path}/none.key"\nold_key_files = ["{tmp_path}/bad.key"]\n'
    found = problems(write(tmp_path, GOOD + keys))
    assert "cannot be read" in found["secrets.key_file"]
    assert "64 hexadecimal digits" in found["secrets.old_key_files[0]"]
    assert "hush-hush" not in str(found)


def test_a_key_that_others_may_read_is_a_risk(tmp_path: Path) -> None:
    key = tmp_path / "secrets.key"
    obtain_key(key)
    key.chmod(0o640)
    [risk] = find_risks(load_config(write(tmp_path, f'{GOOD}[secrets]\nkey_file = "{key}"\n'), {}))
    assert str(key) in risk


def test_looking_at_a_configuration_makes_no_key(tmp_path: Path) -> None:
    load_config(write(tmp_path, GOOD.replace("/srv", str(tmp_path))), {})
    assert [path.name for path in tmp_path.iterdir()] == ["controller.toml"]
