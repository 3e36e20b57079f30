"""Packages come from no address of this host or its network, whatever names and redirects say."""

import ipaddress
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from agent.download import Downloader, DownloadPolicy
from agent.download.address import CheckedResolver, describe_refusal, parse_address, resolve_with_system
from agent.errors import DownloadFailedError, UrlRefusedError
from shared.clock import SystemClock
from tests.fakes import origin as serving
from tests.fakes.connect_proxy import ConnectProxy, run_connect_proxy
from tests.fakes.origin import Origin

HERE = "127.0.0.1"
METADATA = "169.254.169.254"
ONLY_HERE = (ip_network("127.0.0.1/32"),)


@dataclass
class Names:
    """A resolver that answers each question for a name with its next answer, the last for ever."""

    answers: dict[str, list[Sequence[str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def resolve(self, host: str, _port: int) -> Sequence[str]:
        host = host.lower()
        self.asked.append(host)
        if host not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        waiting = self.answers[host]
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]


@pytest.fixture
async def proxy() -> AsyncIterator[ConnectProxy]:
    async with run_connect_proxy() as running:
        yield running


@pytest.fixture
def policy(origin: Origin) -> DownloadPolicy:
    return DownloadPolicy(
        extra_ca_file=origin.ca_file, reserve_bytes=0, allowed_networks=ONLY_HERE, cache_bytes=0
    )


@pytest.fixture
def names() -> Names:
    return Names({"packages.test": [[HERE]], "mirror.test": [[HERE]]})


async def fetch(directory: Path, policy: DownloadPolicy, names: Names, url: str) -> bytes:
    downloader = Downloader(directory / "packages", policy=policy, clock=SystemClock(), resolve=names.resolve)
    try:
        package = await downloader.fetch(url, progress=lambda _done, _total: None)
        try:
            return package.file.read()
        finally:
            package.close()
    finally:
        await downloader.close()


REFUSED = {
    "0.0.0.0": "unspecified",
    "127.0.0.1": "loopback",
    "127.8.9.1": "loopback",
    "169.254.169.254": "link-local",
    "224.0.0.1": "multicast",
    "239.255.255.250": "multicast",
    "255.255.255.255": "reserved",
    "0.1.2.3": "reserved",
    "192.0.2.1": "reserved",
    "240.0.0.1": "reserved",
    "::": "unspecified",
    "::1": "loopback",
    "::ffff:127.0.0.1": "IPv6 form|loopback",
    "::ffff:169.254.169.254": "IPv6 form",
    "::ffff:8.8.8.8": "IPv6 form",
    "::7f00:1": "IPv6 form",
    "64:ff9b::127.0.0.1": "loopback",
    "64:ff9b::a9fe:a9fe": "link-local",
    "2002:7f00:1::": "loopback",
    "fe80::1": "link-local",
    "ff02::1": "multicast",
    "2001:db8::1": "reserved",
}
PRIVATE = [
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "fd00::1",
    "64:ff9b::a00:1",
]
PUBLIC = ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1"]


@pytest.mark.parametrize("address", [*REFUSED, *PRIVATE])
@pytest.mark.parametrize("allow_private", [False, True])
def test_each_address_that_is_not_the_internets_is_refused_by_its_kind(
    address: str, allow_private: bool
) -> None:
    kind = describe_refusal(ipaddress.ip_address(address), allow_private=allow_private, allowed_networks=())
    if address in PRIVATE:
        assert kind == (None if allow_private else "private")
    else:
        assert kind is not None
        assert any(word in kind for word in REFUSED[address].split("|"))


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_good(address: str) -> None:
    assert describe_refusal(ipaddress.ip_address(address), allow_private=False, allowed_networks=()) is None


@pytest.mark.parametrize("address", [*REFUSED, *PRIVATE])
def test_an_address_that_the_host_names_is_good_whatever_it_is(address: str) -> None:
    network = ip_network(address)
    assert (
        describe_refusal(ipaddress.ip_address(address), allow_private=False, allowed_networks=(network,))
        is None
    )


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "1.2.3.4.5", "x.08"]
)
def test_an_old_number_form_is_no_name(host: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        parse_address(host)


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]", "[::1]", "127.0.0.2"]
)
async def test_an_address_in_the_url_is_refused_before_anything_is_asked(
    tmp_path: Path, origin: Origin, policy: DownloadPolicy, names: Names, host: str
) -> None:
    with pytest.raises(UrlRefusedError):
        await fetch(tmp_path, policy, names, origin.url("/p", host))
    assert names.asked == []


async def test_loopback_and_private_addresses_are_refused_unless_the_host_allows_them(
    tmp_path: Path, origin: Origin, policy: DownloadPolicy, names: Names
) -> None:
    names.answers["packages.test"] = [[HERE, "10.1.2.3"]]
    url = origin.url("/p", "packages.test")
    origin.serve("/p", serving.content(b"x"))
    with pytest.raises(UrlRefusedError, match=r"loopback.*allowed_networks"):
        await fetch(tmp_path, replace(policy, allowed_networks=()), names, url)
    assert origin.requests == []
    assert await fetch(tmp_path, policy, names, url) == b"x"


@pytest.mark.parametrize("address", [*REFUSED, "10.1.2.3"])
async def test_no_name_leads_to_a_refused_address(address: str) -> None:
    names = Names({"evil.example": [[address]]})
    resolver = CheckedResolver(names.resolve, allow_private=False, allowed_networks=())
    with pytest.raises(Exception, match="its address"):
        await resolver.resolve("evil.example", 443)


async def test_of_several_addresses_only_good_ones_are_used() -> None:
    names = Names(
        {"mixed.example": [["10.1.2.3", METADATA, "8.8.8.8", "::1", "fe80::1%eth0", "2606:4700::1111"]]}
    )
    resolver = CheckedResolver(names.resolve, allow_private=False, allowed_networks=())
    assert [one["host"] for one in await resolver.resolve("mixed.example", 443)] == [
        "8.8.8.8",
        "2606:4700::1111",
    ]


async def test_the_hosts_own_resolver_is_asked_for_addresses() -> None:
    assert HERE in await resolve_with_system("localhost", 443)


async def test_a_name_that_resolves_otherwise_a_moment_later_gains_nothing(
    tmp_path: Path, origin: Origin, policy: DownloadPolicy, names: Names
) -> None:
    names.answers["packages.test"] = [[HERE], [METADATA]]
    url = origin.url("/p", "packages.test")
    origin.serve("/p", serving.content(b"x"))
    assert await fetch(tmp_path, policy, names, url) == b"x"
    assert names.asked == ["packages.test"], "the address that was judged is the one that was connected to"
    assert origin.requests[0][1]["Host"] == f"packages.test:{origin.port}"
    with pytest.raises(UrlRefusedError, match="link-local"):
        await fetch(tmp_path, policy, names, url)
    assert len(origin.requests) == 1


@pytest.mark.parametrize(
    "location",
    [
        "http://packages.test/p", "https://127.0.0.2/p", f"https://{METADATA}/latest", "https://[::1]/p",
        "https://[::ffff:127.0.0.1]/p", "https://[::ffff:a9fe:a9fe]/p", "https://2130706433/p", "https://0/p",
        "https://metadata.test/", "https://0.0.0.0/p", "https://user@packages.test/p", "//10.0.0.1/p",
    ],
)  # fmt: skip
async def test_a_redirect_into_the_hosts_own_network_is_not_followed(
    tmp_path: Path, origin: Origin, policy: DownloadPolicy, names: Names, location: str
) -> None:
    names.answers["metadata.test"] = [[METADATA]]
    origin.serve("/p", serving.redirect(location))
    with pytest.raises(UrlRefusedError):
        await fetch(tmp_path, policy, names, origin.url("/p", "packages.test"))
    assert len(origin.requests) == 1


@pytest.mark.parametrize(
    ("allowed", "host", "good"),
    [
        (("packages.test",), "packages.test", True),
        (("PACKAGES.test",), "Packages.TEST", True),
        (("packages.test",), "mirror.test", False),
        ((".test",), "mirror.test", True),
        (("test",), "mirror.test", False),
        ((".packages.test",), "packages.test", False),
        ((".ages.test",), "packages.test", False),
        (("packages.test:1",), "packages.test", False),
    ],
)
async def test_hosts_are_allowed_by_name_or_suffix(
    tmp_path: Path,
    origin: Origin,
    policy: DownloadPolicy,
    names: Names,
    allowed: tuple[str, ...],
    host: str,
    good: bool,
) -> None:
    origin.serve("/p", serving.content(b"x"))
    policy = replace(policy, allowed_hosts=allowed)
    if good:
        assert await fetch(tmp_path, policy, names, origin.url("/p", host)) == b"x"
    else:
        with pytest.raises(UrlRefusedError, match="allowed_hosts"):
            await fetch(tmp_path, policy, names, origin.url("/p", host))
        assert (origin.requests, names.asked) == ([], [])


async def test_a_redirect_leaves_the_allowed_hosts_as_little(
    tmp_path: Path, origin: Origin, policy: DownloadPolicy, names: Names
) -> None:
    origin.serve("/p", serving.redirect(origin.url("/q", "mirror.test")))
    origin.serve("/q", serving.content(b"x"))
    url = origin.url("/p", "packages.test")
    both = replace(policy, allowed_hosts=(f"packages.test:{origin.port}", "mirror.test"))
    assert await fetch(tmp_path, both, names, url) == b"x"
    with pytest.raises(UrlRefusedError, match=r"mirror\.test is not among"):
        await fetch(tmp_path, replace(policy, allowed_hosts=("packages.test",)), names, url)


async def test_a_name_that_does_not_resolve_is_transient(
    tmp_path: Path, origin: Origin, policy: DownloadPolicy, names: Names
) -> None:
    names.answers["empty.test"] = [[]]
    for host in ("gone.test", "empty.test"):
        with pytest.raises(DownloadFailedError, match="does not resolve"):
            await fetch(tmp_path, policy, names, origin.url("/p", host))


# ------------------------------------------------------------------------------------------------ proxy


async def test_a_proxy_is_asked_for_the_name_and_sees_no_request(
    tmp_path: Path, origin: Origin, policy: DownloadPolicy, names: Names, proxy: ConnectProxy
) -> None:
    origin.serve("/p", serving.redirect(origin.url("/q", "mirror.test")))
    origin.serve("/q", serving.content(b"x"))
    behind = replace(policy, proxy=proxy.url, allowed_networks=())
    assert await fetch(tmp_path, behind, names, origin.url("/p", "packages.test") + "?token=CANARY") == b"x"
    assert proxy.asked == [f"packages.test:{origin.port}", f"mirror.test:{origin.port}"]
    assert "CANARY" not in "".join(proxy.headers)
    assert names.asked == [], "only the proxy resolves names"


@pytest.mark.parametrize(
    "host", [METADATA, "[::1]", "127.0.0.1", "localhost", "a.localhost", "10.0.0.1", "127.1"]
)
async def test_a_proxy_is_not_asked_for_what_is_refused_by_itself(
    tmp_path: Path, origin: Origin, policy: DownloadPolicy, names: Names, proxy: ConnectProxy, host: str
) -> None:
    behind = replace(policy, proxy=proxy.url, allowed_networks=())
    with pytest.raises(UrlRefusedError):
        await fetch(tmp_path, behind, names, origin.url("/p", host))
    assert proxy.asked == []


@pytest.mark.parametrize("answer", ["403 Forbidden", "407 Proxy Authentication Required", "502 Bad Gateway"])
async def test_a_proxy_that_refuses_is_named_with_its_answer(
    tmp_path: Path, origin: Origin, policy: DownloadPolicy, names: Names, proxy: ConnectProxy, answer: str
) -> None:
    proxy.answer = answer
    behind = replace(policy, proxy=proxy.url)
    with pytest.raises(DownloadFailedError, match=f"the proxy http://127.0.0.1.* answered {answer[:3]}"):
        await fetch(tmp_path, behind, names, origin.url("/p", "packages.test"))


async def test_a_proxy_that_is_not_there_is_transient(
    tmp_path: Path, origin: Origin, policy: DownloadPolicy, names: Names, unused_tcp_port: int
) -> None:
    behind = replace(policy, proxy=f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(DownloadFailedError, match="cannot be reached"):
        await fetch(tmp_path, behind, names, origin.url("/p", "packages.test"))
