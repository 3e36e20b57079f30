"""What tests of downloading begin with: an origin, and a downloader that trusts it."""

from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from agent.download import Downloader, DownloadPolicy
from shared.clock import SystemClock
from tests.fakes.origin import Origin, run_origin


@pytest.fixture
async def origin(tmp_path: Path) -> AsyncIterator[Origin]:
    async with run_origin(tmp_path) as running:
        yield running


@pytest.fixture
def policy(origin: Origin) -> DownloadPolicy:
    return DownloadPolicy(
        extra_ca_file=origin.ca_file, reserve_bytes=0, allowed_networks=(ip_network("127.0.0.0/8"),)
    )


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Where packages come to lie."""
    return tmp_path / "packages"


@pytest.fixture
async def downloader(packages: Path, policy: DownloadPolicy) -> AsyncIterator[Downloader]:
    made = Downloader(packages, policy=policy, clock=SystemClock())
    yield made
    await made.close()
