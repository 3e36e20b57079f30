"""What this host allows a download to be. The host's owner decides, never the controller."""

from dataclasses import dataclass
from pathlib import Path

from agent.download.address import Network

_MIB = 1024**2
_GIB = 1024**3


@dataclass(frozen=True)
class DownloadPolicy:
    """Bounds and trust of every download of one agent."""

    max_bytes: int = 4 * _GIB
    min_rate_bytes_s: int = 1024
    """Averaged over each `rate_window_s`; a download that stays below is given up."""
    rate_window_s: float = 60.0
    connect_timeout_s: float = 10.0
    """For name, TCP and TLS together."""
    read_timeout_s: float = 30.0
    """Without a single byte."""
    reserve_bytes: int = 256 * _MIB
    """Free space that a download must leave on the file system of the packages directory."""
    extra_ca_file: Path | None = None
    """Trusted beside the system's certificate authorities, not instead of them."""
    allowed_hosts: tuple[str, ...] = ()
    """Where packages may come from, redirects included: `name`, `name:port`, `.suffix` for every name below
    it; empty allows every host."""
    allow_private: bool = False
    """Whether origins may have addresses of private ranges."""
    allowed_networks: tuple[Network, ...] = ()
    """Addresses that are good whatever range they are of, loopback included."""
    proxy: str = ""
    """http://host:port of a proxy that every request goes through by CONNECT; "" for none."""
    cache_bytes: int = _GIB
    """Complete packages that are kept for the next instance that wants them; 0 keeps none."""
    limit_bytes_s: int = 0
    """What all downloads together may take of the network; 0 for no limit."""
