"""The controller's store at work, for power cuts: python -m tests.powercut.ledger --serve

An order names a database and a file; deployments are accepted and cancelled by several callers at once, and
each answer that a scheduler would have got is a line of that file."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Final

from controller.core.audit import Actor
from controller.store import Store, open_store
from releasehand.model import ActorKind, DeployParams, OperationKind, ServiceState
from shared.clock import SystemClock
from shared.frames import Active, Hello, InstanceState
from tests.fakes.keys import KEYRING
from tests.fakes.ledger import NO_KEY, enrol
from tests.faults.forks import serve

CALLERS: Final = 6
ACTOR: Final = Actor("scheduler", ActorKind.CALLER)
_SERVICE: Final = "user"


def main(path: Path) -> int:
    """Work until killed."""
    order = json.loads(path.read_bytes())
    asyncio.run(work(order["url"], Path(order["answers"]), order["name"]))
    return 0


async def work(url: str, answers: Path, name: str) -> None:
    store = await open_store(url, SystemClock(), KEYRING)
    instances = [
        InstanceState(
            instance_id=f"{name}-{number}",  # those of the last time may have been left busy
            service=_SERVICE,
            port=8080,
            active=Active(),
            state=ServiceState.STOPPED,
        )
        for number in range(CALLERS)
    ]
    hello = Hello(
        agent_id="agent-1",
        agent_version="1",
        host="host",
        boot_id="boot",
        incarnation="one",
        last_n=0,
        instances=instances,
    )
    await store.greet(hello, await enrol(store, hello.agent_id), NO_KEY)
    with answers.open("a", buffering=1) as file:

        async def call(number: int) -> None:
            count = 0
            while True:
                count += 1
                deploy_id = f"{name}-{number}-{count}"
                await _deploy(store, f"{name}-{number}", deploy_id)
                file.write(f"{deploy_id} pending\n")
                await store.cancel(OperationKind.DEPLOYMENT, deploy_id, actor=ACTOR)
                file.write(f"{deploy_id} cancelled\n")

        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                group.create_task(call(number))


async def _deploy(store: Store, instance: str, deploy_id: str) -> None:
    params = DeployParams(
        service=_SERVICE,
        version="v1",
        instances=[instance],
        package_url="https://packages.example.com/v1.tar.gz",
        deploy_id=deploy_id,
    )
    await store.accept_deployment(params, actor=ACTOR)


if __name__ == "__main__":
    assert sys.argv[1:] == ["--serve"], "see tests.powercut.ledger_cuts"
    serve(main)
