"""Looks at a controller by its API, once or until it tells what is waited for."""

import asyncio
from collections.abc import Callable

from releasehand import Client
from releasehand.model import Status
from shared.clock import SystemClock


async def reason_of(client: Client, instance_id: str) -> str:
    page = await client.get_service_instances("user")
    return next(one.status_reason for one in page.instances if one.instance_id == instance_id)


async def until_reason(client: Client, instance_id: str, reason: str, nudge: Callable[[], None]) -> None:
    async with asyncio.timeout(10):
        while await reason_of(client, instance_id) != reason:
            nudge()
            await SystemClock().sleep(0.02)


async def until_ended(client: Client, deploy_id: str, status: Status) -> None:
    async with asyncio.timeout(60):
        while (await client.get_deployment_status(deploy_id)).status is not status:
            await SystemClock().sleep(0.05)
