"""Deployments of packages behind presigned URLs, ended in all the ways that there are: what S12 searches."""

import asyncio
import hashlib
import json
import uuid
from dataclasses import dataclass, field, replace
from typing import Any, Final

from aiohttp import web

from releasehand.model import FailureCode, InstanceRollbackParams, RetryFailedParams, Status
from tests.fakes.canary import CANARY, Api, find_in_files, find_in_processes, with_secret
from tests.fakes.origin import Behaviour, Ranged, content, gated, in_turn, redirect, short, status
from tests.fakes.processes import find_marked
from tests.fakes.signing import PACKAGE, SHA256, Keys, signature
from tests.fakes.waiting import until
from tests.faults.world import SERVICE, Host, Package, World

_CODE: Final = FailureCode
_SETTLED_S: Final = 40.0
_HEAVY_BYTES: Final = 200_000


@dataclass
class Stage:
    """One world, what was asked of it, and what its API said."""

    world: World
    api: Api
    deployments: list[str] = field(default_factory=list)
    rollbacks: list[str] = field(default_factory=list)

    def publish(
        self, version: str, behaviour: Behaviour | None = None, *, manner: str = "good", weight_bytes: int = 0
    ) -> Package:
        """A package behind a presigned URL."""
        package = self.world.publish(version, manner=manner, weight_bytes=weight_bytes)
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
        """Where it can be read now, the database of a server not looked at."""
        return [
            *find_in_files(self.world.folder),
            *find_in_processes(find_marked(self.world.folder)),
            *self.api.find(),
        ]

    async def read_everything(self) -> None:
        """Every GET of the API, for all that it was asked for."""
        document = json.loads((await self.api.call("GET", "/openapi.json"))[1])
        names = {
            "deploy_id": self.deployments,
            "rollback_id": self.rollbacks,
            "instance_id": [host.instance for host in self.world.hosts],
            "service": [SERVICE],
            "file": ["nothing.deb"],
        }
        await self.api.read_all(document, names)


def configure(host: Host, *, before: str = "", packages: str = "", after: str = "") -> None:
    """Add to agent.toml of a host that has not been started."""
    file = host.folder / "agent.toml"
    text = file.read_text().replace("[packages]\n", f"[packages]\n{packages}\n")
    file.write_text(before + text + after)


def echo(code: int) -> Behaviour:
    """An answer that repeats what was asked, as stores of objects explain a refusal: in its words and in its
    status line."""

    async def answer(request: web.Request) -> web.StreamResponse:
        asked = f"cannot give {request.url}, {request.raw_path}"
        return web.Response(status=code, reason=asked, text=f"untrusted comment: {asked}\n{asked}\n")

    return answer


async def fail_in_every_way(stage: Stage, host: Host, untrusted: str) -> None:
    """Each code that an origin, or what it serves, can lead to, and a hook that shows all it was given."""
    closed = host.folder / "closed"
    hook = f"""[[instance.pre_hook]]
command = ["/bin/sh", "-c", 'env; test ! -e "$0"', "{closed}"]
"""
    trust = '[trust]\nverification = "digest"\naccept_sha256_file = true\n'
    configure(host, packages=f"max_bytes = {1 << 45}", after=hook + trust)
    host.armed.start("--impatient")
    await host.armed.ready()
    origin = stage.world.origin
    there = f"{origin.url('/anywhere.tar.gz')}?X-Signature={CANARY}"
    ways: dict[FailureCode, Behaviour] = {
        _CODE.DOWNLOAD_REFUSED: echo(403),
        _CODE.DOWNLOAD_SERVER_ERROR: echo(503),
        _CODE.DOWNLOAD_FAILED: short(b"begun", 1_000),
        _CODE.DOWNLOAD_TOO_SLOW: gated(b"begun", asyncio.Event(), stated=1_000),
        _CODE.DOWNLOAD_TOO_LARGE: short(b"begun", 1 << 46),
        _CODE.NO_SPACE: short(b"begun", 1 << 44),
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
    origin.serve("/v2.1.tar.gz.sha256", echo(200))
    assert await stage.deploy(stage.publish("v2.1"), host, package_sha256="") == _CODE.DIGEST_MALFORMED
    bare = b"no archive"
    odd = replace(stage.publish("v2.2", content(bare)), sha256=hashlib.sha256(bare).hexdigest())
    assert await stage.deploy(odd, host) == _CODE.ARCHIVE_REFUSED
    assert await stage.deploy(stage.publish("v2.3", manner="sick"), host) == _CODE.CHECK_FAILED
    closed.touch()
    hooked = stage.publish("v2.4")
    assert await stage.deploy(hooked, host) == _CODE.HOOK_FAILED
    _, log = await stage.api.call("GET", f"/v1/deployment/{stage.deployments[-1]}/events")
    assert "RELEASEHAND_VERSION=v2.4" in log, "what the hook was given"
    tools = host.packages.rename(host.folder / "aside")
    host.packages.touch()
    assert await stage.deploy(stage.publish("v2.5"), host) == _CODE.HOST_ERROR
    host.packages.unlink()
    tools.rename(host.packages)
    held = stage.publish("v2.6", Ranged(b"x" * 1_000, hold_at=0))
    assert await stage.deploy(held, host, timeout=1) in {_CODE.TIMEOUT, _CODE.DOWNLOAD_TOO_SLOW}


async def fail_where_keys_are_pinned(stage: Stage, host: Host) -> None:
    """Each code that a signature can lead to, at last with a good one a package that takes too long."""
    keys = Keys(host.folder)
    keys.trust("release")
    keys.revoke("revoked")
    folders = f"""trusted_dir = "{keys.trusted_dir}"\nrevoked_dir = "{keys.revoked_dir}"\n"""
    since = 'verification = "signature"\nmin_signed_time = 2026-01-01T00:00:00Z\n'
    configure(host, after=f"[trust]\n{folders}{since}\n[unpack]\ntimeout_s = 0.001\n")
    host.agent.start()
    await host.agent.ready()
    good = signature("good")
    tricks: list[tuple[FailureCode, Behaviour]] = [
        (_CODE.SIGNATURE_MISSING, echo(404)),
        (_CODE.DOWNLOAD_SERVER_ERROR, echo(500)),
        (_CODE.DOWNLOAD_FAILED, short(good[:9], len(good))),
        (_CODE.SIGNATURE_MALFORMED, echo(200)),
        (_CODE.SIGNATURE_LEGACY, content(signature("legacy"))),
        (_CODE.SIGNATURE_UNTRUSTED_KEY, content(signature("stranger"))),
        (_CODE.SIGNATURE_REVOKED_KEY, content(signature("revoked"))),
        (_CODE.SIGNATURE_INVALID, content(signature("other-bytes"))),
        (_CODE.SIGNATURE_COMMENT_INVALID, content(signature("other-version").replace(b"=v0 ", b"=v1 "))),
        (_CODE.SIGNATURE_COMMENT_MALFORMED, content(signature("other-form"))),
        (_CODE.SIGNATURE_WRONG_SERVICE, content(signature("other-service"))),
        (_CODE.SIGNATURE_WRONG_VERSION, content(signature("other-version"))),
        (_CODE.SIGNATURE_TOO_OLD, content(signature("old"))),
        (_CODE.UNPACK_FAILED, content(good)),
    ]
    url = stage.world.origin.serve("/signed.tar.gz", content(PACKAGE))
    signed = Package("v1", with_secret(url), SHA256, PACKAGE)
    for code, sidecar in tricks:
        stage.world.origin.serve("/signed.tar.gz.minisig", sidecar)
        assert await stage.deploy(signed, host) == code
    keys.trust("release", scope="services=api")
    stage.world.origin.serve("/signed.tar.gz.minisig", content(good))
    assert await stage.deploy(signed, host) == _CODE.SIGNATURE_KEY_OUT_OF_SCOPE
    (keys.trusted_dir / "odd.pub").write_text("no key")
    assert await stage.deploy(signed, host) == _CODE.TRUST_UNREADABLE


async def be_killed(stage: Stage, host: Host) -> None:
    """By a kill of the agent when it has downloaded."""
    configure(host, before='log_format = "json"\n')
    host.armed.start("--kill", "downloading:left:1")
    first = stage.publish("v3.0")
    await host.armed.ready()
    deploy_id = await stage.begin(first, host, retry_count=3)
    await host.armed.ended()
    assert find_in_files(host.folder) == [], "what a killed agent has written down"
    host.armed.start("--eager")
    await host.armed.ready()
    assert await stage.ends(deploy_id, host) == Status.COMPLETED


async def outlive_the_controller(stage: Stage, host: Host) -> None:
    """By a kill of the controller amid a download, when the child that is to unpack stands by already; and by
    the end of an agent, or of an instance, that has not begun."""
    second = stage.publish("v3.1", weight_bytes=_HEAVY_BYTES)
    held = Ranged(second.content, hold_at=len(second.content) * 3 // 4)
    stage.world.origin.serve("/v3.1.tar.gz", held)
    deploy_id = await stage.begin(second, host)
    await until(
        lambda: [child for child in host.armed.process.children() if "unpack" in str(child.cmdline())]
    )
    assert stage.find() == [], "amid a download"
    await stage.world.controller.kill()
    await stage.world.start_controller()
    held.gate.set()
    assert await stage.ends(deploy_id, host) == Status.COMPLETED
    await host.armed.kill()
    assert await stage.deploy(stage.publish("v3.2"), host, timeout=1) == _CODE.AGENT_OFFLINE
    deploy_id = await stage.begin(stage.publish("v3.3"), host)
    await stage.api.call("DELETE", f"/v1/instance/{host.instance}")
    assert await stage.ends(deploy_id, host) == _CODE.INSTANCE_RETIRED


async def go_to_and_fro(stage: Stage, host: Host) -> None:
    """By a retry, a redirect, a cancel, rollbacks to what is kept, recorded or named, and a new try."""
    host.agent.start()
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


async def refuse(stage: Stage, host: Host) -> None:
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
