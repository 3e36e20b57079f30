"""What this host allows a download to be. The host's owner decides, never the controller."""

from dataclasses import dataclass
from pathlib import Path

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
    reserve_bytes: int = 256 * 1024 * 1024
    """Free space that a download must leave on the file system of the packages directory."""
    extra_ca_file: Path | None = None
    """Trusted beside the system's certificate authorities, not instead of them."""
    allowed_hosts: tuple[str, ...] = ()
    """Names that packages may come from, redirects included; empty allows every host."""
