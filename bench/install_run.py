"""One installation as the agent does it, in a process of its own; prints what it took as JSON.

The calls and their order are those of agent.steps: download, verify, unpack, commit, switch. The clock runs
from the first to the last; the agent is a daemon, so its start is not in it, that of its child is.
"""

import asyncio
import ipaddress
import json
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

from agent.download import Downloader, DownloadPolicy
from agent.switch import InstallRoot, ReleaseMeta
from agent.unpack import unpack
from agent.unpack.process import Standby
from agent.verify import Request, Verification, VerificationPolicy, verify_package
from shared.clock import SystemClock

_CHILD_RSS: list[float] = []


async def install(url: str, ca_file: Path, sha256: str, work: Path) -> dict[str, float]:
    """Install the package at `url` below `work`; return seconds and bytes by name."""
    clock = SystemClock()
    loopback = ipaddress.ip_network("127.0.0.0/8")
    policy = DownloadPolicy(extra_ca_file=ca_file, reserve_bytes=0, allowed_networks=(loopback,))
    downloader = Downloader(work / "packages", policy=policy, clock=clock)
    await downloader.clear()
    root = InstallRoot(work / "root")
    root.prepare()
    rss_before, cpu_before = _peak_rss_bytes("self"), _cpu_s()
    standby = Standby()

    def show(done: int, total: int | None) -> None:
        if total and done >= total // 2:
            standby.begin()

    times = [clock.monotonic()]
    package = await downloader.fetch(url, progress=show, expected_sha256=sha256)
    request = Request(service="bench", version="1", url=url, sha256=sha256)
    trust = VerificationPolicy(verification=Verification.DIGEST)
    await verify_package(package, request, trust, downloader.fetch_sidecar)
    times.append(clock.monotonic())
    staging = await asyncio.to_thread(root.make_staging)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(_watch_child(clock))
        await unpack(package.file, staging.path, standby=standby)
        watching.cancel()
    times.append(clock.monotonic())
    name = root.release_name("1", sha256)
    meta = ReleaseMeta(name=name, version="1", sha256=sha256, size_bytes=package.size_bytes)
    await asyncio.to_thread(root.commit, staging, meta)
    await asyncio.to_thread(root.point_current, name)
    times.append(clock.monotonic())
    cpu = _cpu_s() - cpu_before
    package.close()
    await downloader.close()
    return {
        "wall_s": times[-1] - times[0],
        "download_s": times[1] - times[0],
        "unpack_s": times[2] - times[1],
        "commit_s": times[3] - times[2],
        "cpu_s": cpu,
        "rss_growth_bytes": _peak_rss_bytes("self") - rss_before,
        "child_rss_bytes": max(_CHILD_RSS, default=0.0),
    }


async def _watch_child(clock: SystemClock) -> None:
    """Take down the peak of the child, which is two processes, now and then; getrusage would tell that of the
    agent, of before exec. What the two share is counted twice."""
    while True:
        peaks = [_peak_rss_bytes(one) for child in _children("self") for one in (child, *_children(child))]
        _CHILD_RSS.append(sum(peaks))
        await clock.sleep(0.02)


def _children(process: str) -> list[str]:
    """The children of all threads of `process`; none if it has ended."""
    found = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{process}/task"):
            found += Path(f"/proc/{process}/task/{task}/children").read_text().split()
    return found


def _peak_rss_bytes(process: str) -> float:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0  # it has ended
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)


def _cpu_s() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


if __name__ == "__main__":
    _, asked_url, asked_ca_file, asked_sha256, asked_work = sys.argv
    print(json.dumps(asyncio.run(install(asked_url, Path(asked_ca_file), asked_sha256, Path(asked_work)))))
