"""One download in a process of its own, to be killed or to be measured:
`python -m tests.fakes.fetching URL CA_FILE DIRECTORY [SHA256]`.
 Prints the growth of its peak memory in bytes, and the digest."""

import asyncio
import resource
import sys
from ipaddress import ip_network
from pathlib import Path

from agent.download import Downloader, DownloadPolicy
from shared.clock import SystemClock


def peak_bytes() -> int:
    """The most memory this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def fetch(url: str, ca_file: str, directory: str, sha256: str = "") -> None:
    policy = DownloadPolicy(
        extra_ca_file=Path(ca_file), reserve_bytes=0, allowed_networks=(ip_network("127.0.0.0/8"),)
    )
    downloader = Downloader(Path(directory), policy=policy, clock=SystemClock())
    before = peak_bytes()
    package = await downloader.fetch(url, progress=lambda _done, _total: None, expected_sha256=sha256)
    package.close()
    await downloader.close()
    sys.stdout.write(f"{peak_bytes() - before} {package.sha256}\n")


if __name__ == "__main__":
    asyncio.run(fetch(*sys.argv[1:]))
