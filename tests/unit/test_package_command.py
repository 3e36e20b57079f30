"""`releasehand-agent package …`: its exit codes, what it says and what it leaves."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agent.cli.app import app
from tests.fakes.archives import file, symlink, tgz

pytestmark = pytest.mark.slow

GOOD = tgz(file("bin/run", mode=0o755), file("README"))
EVIL = tgz(file("first"), symlink("out", "../../etc"))

AGENT = """
agent_id = "host-1"
[unpack]
max_entries = 2
[[instance]]
id = "web-1"
service = "web"
root = "/srv/web-1"
driver = { type = "command", start = ["true"] }
"""


def run(*arguments: str | Path) -> Result:
    """In this process: a start of its own is the first test's."""
    typed = ["package", *map(str, arguments)]
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, typed, catch_exceptions=False)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    path = tmp_path / "package.tar.gz"
    path.write_bytes(GOOD)
    return path


def test_a_package_is_unpacked_into_a_new_directory(package: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "agent", "package", "unpack", str(package), f"{tmp_path}/dest"]
    environment = {"PATH": os.environ["PATH"]}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "unpacked 3 entries, 16 bytes\n", "")
    assert (tmp_path / "dest/bin/run").stat().st_mode & 0o777 == 0o755


def test_a_destination_may_be_a_link_to_a_directory(package: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "dest").symlink_to("real")
    assert run("unpack", package, tmp_path / "dest").exit_code == 0
    assert (tmp_path / "real/README").is_file()


def test_a_refusal_gives_its_code_and_reason_and_leaves_nothing(package: Path, tmp_path: Path) -> None:
    package.write_bytes(EVIL)
    ended = run("unpack", package, tmp_path / "dest")
    assert ended.exit_code == 1
    assert ended.stderr.startswith("archive_refused: cannot accept the archive: the link 'out' leads out")
    assert list((tmp_path / "dest").iterdir()) == []


@pytest.mark.parametrize(
    ("option", "most", "reason"),
    [("--limit-bytes", "15", "more than 15 bytes"), ("--limit-entries", "2", "more than 2 entries")],
)
def test_limits_can_be_lowered(option: str, most: str, reason: str, package: Path, tmp_path: Path) -> None:
    ended = run("unpack", package, tmp_path / "dest", option, most)
    assert ended.exit_code == 1
    assert reason in ended.stderr
    assert list((tmp_path / "dest").iterdir()) == []


def test_the_limits_of_a_configuration_count_and_an_option_counts_before_them(
    package: Path, tmp_path: Path
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(AGENT)
    refused = run("unpack", package, tmp_path / "dest", "--config", config)
    assert refused.exit_code == 1
    assert "more than 2 entries" in refused.stderr
    assert run("verify", package, "--config", config).stderr == refused.stderr
    ended = run("unpack", package, tmp_path / "dest", "--config", config, "--limit-entries", "3")
    assert (ended.exit_code, ended.stderr) == (0, "")


def test_a_configuration_that_is_not_right_is_told_with_all_its_problems(
    package: Path, tmp_path: Path
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(AGENT.replace("max_entries = 2", "max_entries = 0\nmax_depth = 0"))
    ended = run("unpack", package, tmp_path / "dest", "--config", config)
    assert ended.exit_code == 2
    assert [line.split(":")[0].strip() for line in ended.stderr.splitlines()[1:]] == [
        "unpack.max_entries",
        "unpack.max_depth",
    ]


def test_a_destination_that_holds_something_keeps_it(package: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    dest.mkdir()
    (dest / "mine").write_text("precious")
    ended = run("unpack", package, dest)
    assert ended.exit_code == 1
    assert ended.stderr == f"host_error: cannot use {dest}: it is not empty\n"
    assert (dest / "mine").read_text() == "precious"


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    ended = run("unpack", tmp_path / "missing", tmp_path / "dest")
    assert ended.exit_code == 1
    assert ended.stderr.startswith(f"host_error: cannot use {tmp_path / 'missing'}: No such file")


def test_a_file_is_verified_by_its_digest_and_by_unpacking_it(package: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(GOOD).hexdigest()
    before = sorted(tmp_path.iterdir())
    ended = run("verify", package, "--sha256", digest)
    assert (ended.exit_code, ended.stdout) == (0, f"accepted: sha256 {digest}, 3 entries, 16 bytes\n")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("content", "code"), [(GOOD + b"x", "digest_mismatch"), (GOOD, "")], ids=["changed", "as it was"]
)
def test_a_changed_file_is_told_by_its_digest(content: bytes, code: str, package: Path) -> None:
    package.write_bytes(content)
    ended = run("verify", package, "--sha256", hashlib.sha256(GOOD).hexdigest())
    assert ended.exit_code == (1 if code else 0)
    assert ended.stderr.startswith(code)


def test_a_hostile_file_does_not_verify(package: Path) -> None:
    package.write_bytes(EVIL)
    ended = run("verify", package)
    assert ended.exit_code == 1
    assert ended.stderr.startswith("archive_refused: ")


@pytest.mark.parametrize("url", ["http://localhost/package", "https://127.0.0.1:1/package"])
def test_a_url_is_held_to_the_rules_of_a_download(url: str) -> None:
    ended = run("verify", url)
    assert ended.exit_code == 1
    assert ended.stderr.startswith("url_refused: ")


def test_a_digest_that_is_none_is_wrong_use(package: Path) -> None:
    ended = run("verify", package, "--sha256", "abc")
    assert ended.exit_code == 2
    assert "64 hexadecimal digits" in ended.stderr
