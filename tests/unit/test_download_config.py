"""[packages] of agent.toml: each key reaches the downloader, and what is not right is refused in words."""

from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from agent.config import PackagesSection
from agent.download import DownloadPolicy


def test_each_key_reaches_the_downloader() -> None:
    section = PackagesSection.model_validate(
        {
            "ca_file": "/etc/ca.pem",
            "allowed_hosts": ["Packages.Example.com", ".example.org", "10.0.0.1:8443"],
            "allow_private": True,
            "allowed_networks": ["127.0.0.0/8", "::1/128"],
            "proxy": "http://proxy.example:3128",
            "max_bytes": 1,
            "min_rate_bytes_s": 2,
            "limit_bytes_s": 3,
            "reserve_bytes": 4,
            "cache_bytes": 5,
        }
    )
    assert section.policy() == DownloadPolicy(
        extra_ca_file=Path("/etc/ca.pem"),
        allowed_hosts=("packages.example.com", ".example.org", "10.0.0.1:8443"),
        allow_private=True,
        allowed_networks=(ip_network("127.0.0.0/8"), ip_network("::1/128")),
        proxy="http://proxy.example:3128",
        max_bytes=1,
        min_rate_bytes_s=2,
        limit_bytes_s=3,
        reserve_bytes=4,
        cache_bytes=5,
    )


def test_the_defaults_are_the_downloaders_own() -> None:
    assert PackagesSection().policy() == DownloadPolicy()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("allowed_hosts", ["https://packages.example"], "without scheme"),
        ("allowed_hosts", ["packages.example/path"], "without scheme or path"),
        ("allowed_hosts", ["*.example"], "SUFFIX"),
        ("allowed_hosts", [""], "must be NAME"),
        ("allowed_networks", ["10.0.0.1/8"], "host bits"),
        ("allowed_networks", ["localhost"], "must be a network"),
        ("proxy", "https://proxy.example:3128", "http://HOST:PORT"),
        ("proxy", "proxy.example:3128", "http://HOST:PORT"),
        ("proxy", "http://proxy.example", "http://HOST:PORT"),
        ("proxy", "http://proxy.example:99999", "range"),
        ("proxy", "http://me:secret@proxy.example:3128", "no user"),
        ("proxy", "http://proxy.example:3128/path", "no user, path"),
        ("max_bytes", 0, "greater than 0"),
        ("cache_bytes", -1, "greater than or equal to 0"),
        ("limit_bytes_s", -1, "greater than or equal to 0"),
        ("min_rate_bytes_s", -1, "greater than or equal to 0"),
        ("reserve_bytes", -1, "greater than or equal to 0"),
        ("allow_privat", True, "not permitted"),
    ],
)
def test_what_is_not_right_is_refused_in_words(key: str, value: object, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        PackagesSection.model_validate({key: value})
