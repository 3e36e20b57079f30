"""S12: a secret in the URL of a package is found nowhere again, however its deployment ends."""

import asyncio
import hashlib
import json
import tomllib
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest

from releasehand.model import FailureCode, InstanceRollbackParams, RetryFailedParams, Status
from tests.fakes.canary import CANARY, Api, find_in_files, find_in_processes, with_secret
from tests.fakes.origin import Behaviour, Ranged, content, in_turn, redirect, run_origin, short, status
from tests.fakes.processes import HERE, find_marked
from tests.fakes.waiting import until
from tests.faults.world import API_TOKEN, SERVICE, Host, Package, World, run_world

_CODE: Final = FailureCode
_SETTLED_S: Final = 40.0


@dataclass
class Stage:
    """One world, what was asked of it, and what its API said."""

    world: World
    api: Api
    deployments: list[str] = field(default_factory=list)
    rollbacks: list[str] = field(default_factory=list)

    def publish(self, version: str, behaviour: Behaviour | None = None, *, manner: str = "good") -> Package:
        """A package behind a presigned URL."""
        package = self.world.publish(version, manner=manner)
        if behaviour is not None:
            self.world.origin.serve(f"/{version}.tar.gz", behaviour)
        return replace(package, url=with_secret(package.url))

    async def begin(self, package: Package, host: Host, **more: Any) -> str:
        deploy_id = f"{package.version}-{uuid.uuid4().hex[:12]}"
        body = {
            "service": SERVICE,
            "version": package.version,
            "instances": [host.instance],
            "package_url": package.url,
            "package_sha256": package.sha256,
            "deploy_id": deploy_id,
            "retry_count": -1,
            **more,
        }
        code, said = await self.api.call("POST", "/v1/deployment", body)
        assert code == 200, said
        self.deployments.append(deploy_id)
        return deploy_id

    async def ends(self, deploy_id: str, host: Host) -> str:
        """How the host's task ended: a failure code, or else the status."""
        await self.world.client.wait_for_deployment(deploy_id, timeout_s=_SETTLED_S)
        task = await self.world.task(deploy_id, host)
        return task.error_code or task.status

    async def deploy(self, package: Package, host: Host, **more: Any) -> str:
        return await self.ends(await self.begin(package, host, **more), host)

    async def roll_back(self, host: Host, version: str, url: str = "", **more: Any) -> Status:
        params = InstanceRollbackParams(
            instance_id=host.instance, target_version=version, package_url=url, **more
        )
        begun = await self.world.client.rollback_instance(params)
        self.rollbacks.append(begun.rollback_id)
        return (await self.world.client.wait_for_rollback(begun.rollback_id, timeout_s=_SETTLED_S)).status

    def find(self) -> list[str]:
        """Where it can be read now."""
        return [
            *find_in_files(self.world.folder),
            *find_in_processes(find_marked(self.world.folder)),
            *self.api.find(),
        ]


@pytest.mark.slow
@pytest.mark.timeout(300)  # a shared machine may be slow; each wait inside has its own deadline
async def test_s12_a_secret_in_a_url_is_found_nowhere_however_the_deployment_ends(tmp_path: Path) -> None:
    folder = _made(tmp_path / "world")
    async with run_world(folder, hosts=3) as world, run_origin(_made(tmp_path / "elsewhere")) as elsewhere:
        port = tomllib.loads((folder / "controller.toml").read_text())["api"]["port"]
        stage = Stage(world, Api(f"http://{HERE}:{port}", API_TOKEN))
        failing, killed, moved = world.hosts
        _configure(failing, after='[trust]\nverification = "digest"\naccept_sha256_file = true\n')
        _configure(killed, before='log_format = "json"\n')
        for host in (failing, moved):
            host.agent.start()
        killed.armed.start("--kill", "downloading:left:1")
        elsewhere_url = with_secret(elsewhere.url("/there.tar.gz"))
        async with asyncio.TaskGroup() as group:
            group.create_task(_fail_in_every_way(stage, failing, elsewhere_url))
            group.create_task(_be_killed(stage, killed))
            group.create_task(_go_to_and_fro(stage, moved))
        await _outlive_the_controller(stage, killed)
        await _refuse(stage, moved)
        document = json.loads((await stage.api.call("GET", "/openapi.json"))[1])
        names = {
            "deploy_id": stage.deployments,
            "rollback_id": stage.rollbacks,
            "instance_id": [host.instance for host in world.hosts],
            "service": [SERVICE],
        }
        await stage.api.read_all(document, names)
        assert stage.find() == []
        asked = [path for path, _ in [*world.origin.requests, *elsewhere.requests]]
        assert sum(CANARY in path for path in asked) > len(stage.deployments), "the origins need the secret"
    assert find_in_files(folder) == [], "after all has ended"


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _configure(host: Host, *, before: str = "", after: str = "") -> None:
    file = host.folder / "agent.toml"
    file.write_text(before + file.read_text() + after)


async def _fail_in_every_way(stage: Stage, host: Host, untrusted: str) -> None:
    """Each code that an origin, or what it serves, can lead to."""
    await host.agent.ready()
    origin = stage.world.origin
    there = f"{origin.url('/anywhere.tar.gz')}?X-Signature={CANARY}"
    ways: dict[FailureCode, Behaviour] = {
        _CODE.DOWNLOAD_REFUSED: status(403),
        _CODE.DOWNLOAD_SERVER_ERROR: status(503),
        _CODE.DOWNLOAD_FAILED: short(b"begun", 1_000),
        _CODE.DOWNLOAD_TOO_LARGE: short(b"begun", 1 << 40),
        _CODE.DIGEST_MISMATCH: content(b"another package"),
        _CODE.TLS_UNTRUSTED: redirect(untrusted),
        _CODE.URL_REFUSED: redirect(there.replace("https:", "http:")),
    }
    for number, (code, behaviour) in enumerate(ways.items()):
        package = stage.publish(f"v0.{number}", behaviour)
        assert await stage.deploy(package, host) == code
    for number, location in enumerate(
        [
            f"https://user:{CANARY}@localhost:{origin.port}/x.tar.gz",
            f"https://elsewhere.test/x.tar.gz?X-Signature={CANARY}",
            f"https://[{CANARY}/x.tar.gz",
            f"//localhost:{CANARY}/x.tar.gz",
        ]
    ):
        package = stage.publish(f"v1.{number}", redirect(location))
        assert await stage.deploy(package, host) == _CODE.URL_REFUSED
    nothing = stage.publish("v2.0")
    assert await stage.deploy(nothing, host, package_sha256="") == _CODE.DIGEST_MISSING
    origin.serve("/v2.1.tar.gz.sha256", content(b"no digest\n"))
    assert await stage.deploy(stage.publish("v2.1"), host, package_sha256="") == _CODE.DIGEST_MALFORMED
    bare = b"no archive"
    odd = replace(stage.publish("v2.2", content(bare)), sha256=hashlib.sha256(bare).hexdigest())
    assert await stage.deploy(odd, host) == _CODE.ARCHIVE_REFUSED
    assert await stage.deploy(stage.publish("v2.3", manner="sick"), host) == _CODE.CHECK_FAILED


async def _be_killed(stage: Stage, host: Host) -> None:
    """By a kill of the agent when it has downloaded."""
    first = stage.publish("v3.0")
    await host.armed.ready()
    deploy_id = await stage.begin(first, host, retry_count=3)
    await host.armed.ended()
    assert find_in_files(host.folder) == [], "what a killed agent has written down"
    host.armed.start("--eager")
    await host.armed.ready()
    assert await stage.ends(deploy_id, host) == Status.COMPLETED


async def _outlive_the_controller(stage: Stage, host: Host) -> None:
    """By a kill of the controller amid a download."""
    second = stage.publish("v3.1")
    held = Ranged(second.content, hold_at=100)
    stage.world.origin.serve("/v3.1.tar.gz", held)
    deploy_id = await stage.begin(second, host)
    await until(lambda: held.sent_bytes)
    assert find_in_files(stage.world.folder) == [], "amid a download"
    await stage.world.controller.kill()
    await stage.world.start_controller()
    held.gate.set()
    assert await stage.ends(deploy_id, host) == Status.COMPLETED


async def _go_to_and_fro(stage: Stage, host: Host) -> None:
    """By a retry, a redirect, a cancel, rollbacks to what is kept, recorded or named, and a new try."""
    await host.agent.ready()
    good = stage.publish("v4.0")
    elsewhere = stage.world.origin.serve("/there.tar.gz", content(good.content))
    stage.world.origin.serve("/v4.0.tar.gz", in_turn(status(503), redirect(with_secret(elsewhere))))
    assert await stage.deploy(good, host, retry_count=3) == Status.COMPLETED
    held = stage.publish("v4.1", Ranged(b"x" * 1_000, hold_at=100))
    deploy_id = await stage.begin(held, host)
    await until(lambda: any("/v4.1" in path for path, _ in stage.world.origin.requests))
    await stage.api.call("POST", f"/v1/deployment/{deploy_id}/cancel")
    assert await stage.ends(deploy_id, host) == Status.CANCELLED
    other = stage.publish("v4.2")
    assert await stage.deploy(other, host) == Status.COMPLETED
    assert await stage.roll_back(host, "v4.0") is Status.COMPLETED
    assert await stage.roll_back(host, "v4.2", other.url, force=True) is Status.COMPLETED
    again = stage.publish("v4.3")
    stage.world.origin.serve("/v4.3.tar.gz", in_turn(status(403), content(again.content)))
    deploy_id = await stage.begin(again, host)
    assert await stage.ends(deploy_id, host) == _CODE.DOWNLOAD_REFUSED
    retried = await stage.world.client.retry_failed(deploy_id, RetryFailedParams(deploy_id="v4.3-again"))
    stage.deployments.append(retried.deploy_id)
    assert await stage.ends(retried.deploy_id, host) == Status.COMPLETED


async def _refuse(stage: Stage, host: Host) -> None:
    """What is never accepted: a user in the URL, plain HTTP, a path that is no path."""
    good = stage.publish("v9")
    body = {
        "service": SERVICE,
        "version": "v9",
        "instances": [host.instance],
        "package_url": good.url,
        "deploy_id": "refused",
    }
    bad: list[dict[str, Any]] = [
        {"package_url": good.url.replace("https://", f"https://user:{CANARY}@")},
        {"package_url": good.url.replace("https:", "http:")},
        {"package_url": f"{good.url} and words"},
        {"package_url": f"{good.url}#{CANARY}"},
        {"package_url": [good.url]},
        {"instances": ["nobody"]},
        {"timeout": -1},
        {"wish": good.url},
    ]
    for wrong in bad:
        code, _ = await stage.api.call("POST", "/v1/deployment", body | wrong)
        assert 400 <= code < 500
