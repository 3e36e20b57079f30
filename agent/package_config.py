"""The tables of agent.toml about packages: where they may come from, and what unpacking one may use."""

import ipaddress
import re
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from agent.download.address import Network
from agent.download.policy import DownloadPolicy
from agent.instance_config import AbsolutePath, Seconds, Section
from agent.unpack.limits import Limits

MAX_BYTES: Final = 1 << 50  # the kernel counts up to 1 << 63
MAX_DEPTH: Final = 100  # the child has a descriptor for each part of a path, twice for a hard link
MIN_MEMORY_BYTES: Final = 256 << 20
_ALLOWED_HOST: Final = re.compile(r"\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(:[0-9]{1,5})?|\[?[0-9A-Fa-f:.]+\]?")
_DEFAULT: Final = Limits()


def _check_allowed_host(text: str) -> str:
    if not _ALLOWED_HOST.fullmatch(text):
        raise ValueError("must be NAME, NAME:PORT or .SUFFIX, without scheme or path")
    return text.lower()


def _check_proxy(url: str) -> str:
    parts = urlsplit(url)
    if url and (parts.scheme != "http" or not parts.hostname or not parts.port):
        raise ValueError("must be http://HOST:PORT; what goes through it is HTTPS all the same")
    if parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("must carry no user, path, query or fragment")
    return url


def _read_network(value: object) -> object:
    """Refuses host bits: whoever wrote them meant one address, or another network."""
    if not isinstance(value, str):
        return value
    try:
        return ipaddress.ip_network(value)
    except ValueError as exc:
        raise ValueError(f"must be a network like 10.0.0.0/8: {exc}") from exc


class PackagesSection(Section):
    """Where packages may come from, how large and how slow they may be, and what is kept of them."""

    ca_file: AbsolutePath | None = None
    """Trusted for origins beside the system's authorities."""
    allowed_hosts: tuple[Annotated[str, AfterValidator(_check_allowed_host)], ...] = ()
    """`name`, `name:port` or `.suffix`; empty for every host. Redirects are held to it too."""
    allow_private: bool = False
    """Whether origins may have private addresses (RFC 1918, RFC 6598, fc00::/7)."""
    allowed_networks: tuple[Annotated[Network, BeforeValidator(_read_network)], ...] = ()
    """Addresses that are good whatever range they are of, loopback included."""
    proxy: Annotated[str, AfterValidator(_check_proxy)] = ""
    """http://HOST:PORT; "" for none. The environment's proxies are not looked at."""
    max_bytes: int = Field(default=4 << 30, gt=0)
    """The largest package."""
    min_rate_bytes_s: int = Field(default=1024, ge=0)
    """A download that stays below it for a minute is given up."""
    limit_bytes_s: int = Field(default=0, ge=0)
    """What all downloads together may take; 0 for no limit."""
    reserve_bytes: int = Field(default=256 << 20, ge=0)
    """What a download must leave free on the file system of state_dir."""
    cache_bytes: int = Field(default=1 << 30, ge=0)
    """Complete packages kept below state_dir for the next instance; 0 keeps none."""

    @model_validator(mode="before")
    @classmethod
    def _empty_is_none(cls, values: object) -> object:
        if isinstance(values, dict) and values.get("ca_file") == "":
            return {**values, "ca_file": None}
        return values

    def policy(self) -> DownloadPolicy:
        """The same as the downloader takes it."""
        return DownloadPolicy(
            max_bytes=self.max_bytes,
            min_rate_bytes_s=self.min_rate_bytes_s,
            reserve_bytes=self.reserve_bytes,
            extra_ca_file=self.ca_file,
            allowed_hosts=self.allowed_hosts,
            allow_private=self.allow_private,
            allowed_networks=self.allowed_networks,
            proxy=self.proxy,
            cache_bytes=self.cache_bytes,
            limit_bytes_s=self.limit_bytes_s,
        )


class UnpackSection(Section):
    """How much unpacking one package may use. One that needs more is refused, whatever it says of itself."""

    max_bytes: int = Field(default=_DEFAULT.total_bytes, gt=0, le=MAX_BYTES)
    """All files of a package together."""
    max_entries: int = Field(default=_DEFAULT.entries, gt=0, le=10_000_000)
    """Files, directories and links, and the directories that only paths name."""
    max_depth: int = Field(default=_DEFAULT.depth, gt=0, le=MAX_DEPTH)
    """Parts of one path."""
    max_ratio: int = Field(default=_DEFAULT.ratio, gt=0, le=1_000_000)
    """Bytes that may come out for one byte of the package; not looked at below 256 MiB."""
    timeout_s: Seconds = _DEFAULT.seconds
    """How long it may take."""
    memory_bytes: int = Field(default=_DEFAULT.memory_bytes, ge=MIN_MEMORY_BYTES, le=MAX_BYTES)
    """Address space of the process that unpacks; it uses far less."""

    def limits(self) -> Limits:
        """The same as unpacking takes it."""
        limits = _DEFAULT.allowing(total_bytes=self.max_bytes, entries=self.max_entries)
        return limits._replace(
            depth=self.max_depth, ratio=self.max_ratio, seconds=self.timeout_s, memory_bytes=self.memory_bytes
        )
