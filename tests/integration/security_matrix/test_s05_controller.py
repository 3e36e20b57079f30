"""S5: a controller that may send anything makes an agent run, write and fetch nothing that the host's owner
has not allowed.

Here the agent's engine gets the frames, with its real downloader and verification. Ten thousand frames over a
real link to a real agent: tests/faults/test_hostile_peers.py (`make faults`; `make test` sends a sample)."""

import random
from ipaddress import ip_network
from pathlib import Path
from typing import Final

from agent.download import Downloader, DownloadPolicy
from releasehand.model import FailureCode, OperationKind, Phase
from shared.clock import SystemClock
from shared.errors import ProtocolError
from shared.frames import Cancel, Execute, Ref, decode_from_controller
from tests.fakes.host import INSTANCE, SERVICE, Host, package_of
from tests.fakes.origin import content, run_origin
from tests.fakes.signing import Keys
from tests.fakes.waiting import until
from tests.faults.nonsense import to_agent
from tests.faults.world import Package

FRAMES: Final = 100
SEED: Final = 5
NEWEST: Final = 10**6  # no generation of the nonsense is higher


async def test_s5_a_hostile_controller_makes_the_host_run_and_write_nothing(tmp_path: Path) -> None:
    Keys(tmp_path).trust("release")
    dice = random.Random(SEED)
    async with run_origin(tmp_path) as origin:
        policy = DownloadPolicy(
            extra_ca_file=origin.ca_file,
            reserve_bytes=0,
            allowed_networks=(ip_network("127.0.0.0/8"),),
            allowed_hosts=("localhost",),
        )
        unsigned = Package("v1", origin.serve("/v1.tar.gz", content(package_of("v1"))), "", package_of("v1"))
        host = Host(tmp_path)
        host.real_fetcher = Downloader(tmp_path / "packages", policy=policy, clock=SystemClock())
        outside = look_around(tmp_path)
        async with host.boot():
            accepted = 0
            for _ in range(FRAMES):
                try:
                    frame = decode_from_controller(to_agent(dice, INSTANCE, unsigned))
                except ProtocolError:
                    continue
                if isinstance(frame, Execute):
                    await host.executor.execute(frame)
                elif isinstance(frame, Cancel):
                    await host.executor.cancel(frame.ref)
                accepted += 1
            end = await host.carry_out(right_but_unsigned(unsigned))
            await until(lambda: not host.executor.unfinished)
            entered = {move.entered for move in await host.moves()}
        await host.real_fetcher.close()
    assert accepted > FRAMES // 10
    assert end.end is not None
    assert end.end.code is FailureCode.SIGNATURE_MISSING
    assert entered.isdisjoint({Phase.UNPACKING, Phase.ACTIVATING, Phase.DONE})
    assert host.service.restarts == []
    assert (host.current, host.left_over()) == ("", [])
    assert list((host.root / "releases").iterdir()) == []
    assert look_around(tmp_path) == outside
    assert {path.partition("?")[0] for path, _ in origin.requests} <= {"/v1.tar.gz", "/v1.tar.gz.minisig"}


def right_but_unsigned(package: Package) -> Execute:
    """All that a controller can say rightly."""
    return Execute(
        ref=Ref(instance_id=INSTANCE, generation=NEWEST, task=NEWEST, attempt=1),
        kind=OperationKind.DEPLOYMENT,
        operation_id="d-1",
        service=SERVICE,
        version="v1",
        url=package.url,
        seconds_left=300,
        force=True,
    )


def look_around(folder: Path) -> set[Path]:
    """Everything but what the agent keeps for itself and the instance's own root."""
    own = ("srv", "packages", "agent.db", "agent.db-wal", "agent.db-shm")
    return {path for path in folder.rglob("*") if path.relative_to(folder).parts[0] not in own}
