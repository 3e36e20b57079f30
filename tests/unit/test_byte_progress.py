"""Byte progress on its way into the tables: several downloads at once, some of them over."""

from pathlib import Path

from controller.core.acceptance import WHOLE
from controller.core.audit import Actor
from controller.store import open_store
from releasehand.model import ActorKind, DeployParams
from shared.frames import Hello, InstanceState
from tests.fakes.clock import FakeClock
from tests.fakes.keys import KEYRING
from tests.fakes.ledger import NO_KEY, enrol


async def test_bytes_of_open_tasks_are_kept_and_those_of_unknown_ones_dropped(tmp_path: Path) -> None:
    store = await open_store(f"sqlite:///{tmp_path}/controller.db", FakeClock(), KEYRING)
    try:
        listed = [InstanceState(instance_id=name, service="web", port=80) for name in ("web-1", "web-2")]
        await store.greet(
            Hello(
                agent_id="host",
                agent_version="1",
                host="host",
                boot_id="b",
                incarnation="i",
                last_n=0,
                instances=listed,
            ),
            await enrol(store, "host"),
            NO_KEY,
        )
        accepted = await store.accept_deployment(
            DeployParams(
                service="web",
                version="v1",
                instances=["web-1", "web-2"],
                package_url="https://packages.example.com/web.tar.gz",
                deploy_id="d",
            ),
            actor=Actor("somebody", ActorKind.CALLER),
        )
        first, second = accepted.task_ids
        unknown = second + 1_000
        await store.write_live_state(
            heartbeats={}, presence={}, progress=[(first, 0, 5, 10), (second, 0, 7, 10), (unknown, 0, 9, 10)]
        )
        status = (await store.deploy_status("d", WHOLE)).read()
    finally:
        await store.close()
    assert [(task.bytes_done, task.bytes_total) for task in status.instances] == [(5, 10), (7, 10)]
