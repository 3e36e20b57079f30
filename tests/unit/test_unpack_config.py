"""[unpack] of agent.toml: each key reaches what unpacks, and what is not right is refused in words."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from agent.config import UnpackSection, load_config, read_config
from agent.errors import ArchiveRefusedError
from agent.unpack import Limits, unpack
from shared.settings import ConfigError
from tests.fakes.archives import file, hardlink, long_name, tgz

AGENT = """
agent_id = "host-1"
{unpack}
[[instance]]
id = "web-1"
service = "web"
root = "/srv/web-1"
driver = {{ type = "command", start = ["true"] }}
"""


def test_each_key_reaches_what_unpacks() -> None:
    section = UnpackSection.model_validate(
        {
            "max_bytes": 1,
            "max_entries": 2,
            "max_depth": 3,
            "max_ratio": 4,
            "timeout_s": 5,
            "memory_bytes": 1 << 29,
        }
    )
    own = Limits(total_bytes=1, entries=2, depth=3, ratio=4, seconds=5, memory_bytes=1 << 29)
    assert section.limits() == own


def test_the_defaults_are_those_of_unpacking() -> None:
    assert UnpackSection().limits() == Limits()
    assert Limits().entries == 100_000


def test_more_entries_may_have_more_links() -> None:
    assert UnpackSection(max_entries=1_000_000).limits().link_bytes == 10 * Limits().link_bytes


async def test_the_least_memory_and_the_greatest_depth_are_enough_to_unpack(tmp_path: Path) -> None:
    limits = UnpackSection(max_depth=100, memory_bytes=256 << 20, max_bytes=1 << 50).limits()
    deep, other = "/".join(["d"] * 99 + ["f"]), "/".join(["e"] * 99 + ["f"])
    far = (long_name(other.encode()), long_name(deep.encode(), b"K"), hardlink("link", "file"))
    (tmp_path / "package").write_bytes(tgz(long_name(deep.encode()), file("file"), *far))
    (tmp_path / "dest").mkdir()
    with (tmp_path / "package").open("rb") as package:
        await unpack(package, tmp_path / "dest", limits)
    assert (tmp_path / "dest" / deep).samefile(tmp_path / "dest" / other)


async def test_a_limit_of_the_configuration_refuses_a_package(tmp_path: Path) -> None:
    (tmp_path / "package").write_bytes(tgz(file("a/b/c")))
    (tmp_path / "dest").mkdir()
    with (tmp_path / "package").open("rb") as package, pytest.raises(ArchiveRefusedError, match="2 levels"):
        await unpack(package, tmp_path / "dest", UnpackSection(max_depth=2).limits())


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("max_bytes", 0, "greater than 0"),
        ("max_bytes", (1 << 50) + 1, "less than or equal to"),
        ("max_entries", 0, "greater than 0"),
        ("max_entries", 10_000_001, "less than or equal to"),
        ("max_depth", 101, "less than or equal to 100"),
        ("max_ratio", 0, "greater than 0"),
        ("timeout_s", 0, "greater than 0"),
        ("timeout_s", float("inf"), "finite number"),
        ("memory_bytes", 1 << 20, "greater than or equal to 268435456"),
        ("max_files", 1, "not permitted"),
    ],
)
def test_what_is_not_right_is_refused_in_words(key: str, value: object, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        UnpackSection.model_validate({key: value})


def test_all_problems_of_the_table_are_told_at_once(tmp_path: Path) -> None:
    agent = tmp_path / "agent.toml"
    agent.write_text(
        AGENT.format(folder=tmp_path, unpack="[unpack]\nmax_bytes = -1\nmax_depth = 1000\nx = 1")
    )
    with pytest.raises(ConfigError) as caught:
        read_config(agent, {})
    assert [one.where for one in caught.value.problems] == [
        "unpack.max_bytes",
        "unpack.max_depth",
        "unpack.x",
    ]


def test_rules_can_be_read_by_one_who_may_not_read_what_the_file_names(tmp_path: Path) -> None:
    agent = tmp_path / "agent.toml"
    tables = '[unpack]\nmax_bytes = 7\n[packages]\nca_file = "/nowhere/ca.pem"'
    agent.write_text(AGENT.format(folder=tmp_path, unpack=tables))
    assert read_config(agent, {}).unpack.max_bytes == 7
    with pytest.raises(ConfigError, match=r"packages\.ca_file"):
        load_config(agent, {})
