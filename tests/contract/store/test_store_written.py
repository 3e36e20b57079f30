"""What the database writes as JSON is, field by field, what the models say."""

import json
from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import bindparam, select, update

from controller.core.acceptance import WHOLE, InstancePage
from controller.core.instance import judge
from controller.store.engine import Database
from controller.store.instances import VERSION
from controller.store.operations import TASK_STATUS
from controller.store.tables import AGENT, INSTANCE, TASK
from releasehand.model import (
    FailureCode,
    InstanceVersion,
    Phase,
    Presence,
    ServiceState,
    Status,
    TaskResult,
    TaskStatus,
    WaitingFor,
)
from tests.fakes.ledger import Ledger

NAMES = [f"i-{number:02}" for number in range(40)]
WILD = [
    "",
    "cannot download: 503",
    'quotes " and \\ and / and \\" and \\u0041',
    "tab\tand line\nand return\r and bell\x07 and escape\x1b and delete\x7f",
    "Grüße 你好 \u2028\u2029 \U0001f680 e\u0301 \ufeff \uffff",
    '"instances":[]',
    "</script>&<>' OR 1=1 --",
    "x" * 4_000,
]


def choose(values: Any, number: int) -> Any:
    """One of `values` or null, in turn."""
    turn = [None, *values]
    return turn[number % len(turn)]


async def scatter(ledger: Ledger, url: str) -> None:
    """Give each task and instance another mixture of all that can stand in their fields."""
    await ledger.host("host-1", NAMES[:20], "v1")
    await ledger.host("host-2", NAMES[20:], "v1")
    await ledger.deploy("v2", NAMES, "d1")
    times = [ledger.clock.now() + timedelta(microseconds=n) for n in (0, 1, 999, 1_000, 123_999, 999_999)]
    tasks, instances = [], []
    for number, name in enumerate(NAMES):
        tasks.append(
            {
                "name": name,
                "status": list(Status)[number % len(Status)],
                "started_at": choose(times, number),
                "completed_at": choose(times, number // 2),
                "updated_at": times[number % len(times)],
                "error_message": WILD[number % len(WILD)],
                "error_code": choose(FailureCode, number),
                "phase": choose(Phase, number),
                "attempt": number,
                "waiting_for": choose(WaitingFor, number),
                "result": choose(TaskResult, number),
                "bytes_done": 2 ** (number + 10),
                "bytes_total": 2**53 - number,
            }
        )
        instances.append(
            {
                "name": name,
                "active_version": ["", "v1", "v2.0+x"][number % 3],
                "state": list(ServiceState)[number % 4],
                "reason": WILD[number // 3 % len(WILD)],
                "broken": number % 7 == 0,
                "updated_at": times[-1 - number % len(times)],
            }
        )
    database = Database(url)
    try:
        async with database.write() as conn:
            for table, rows in ((TASK, tasks), (INSTANCE, instances)):
                fields: dict[str, Any] = {key: bindparam(f"to_{key}") for key in rows[0] if key != "name"}
                changes = [{f"to_{key}": value for key, value in row.items()} for row in rows]
                await conn.execute(
                    update(table).where(table.c.instance_id == bindparam("to_name")).values(fields), changes
                )
            await conn.execute(
                update(AGENT).where(AGENT.c.agent_id == "host-2").values(presence=Presence.OFFLINE)
            )
    finally:
        await database.close()


async def rows_of(url: str, *columns: Any) -> list[dict[str, Any]]:
    """The columns of all tasks with their instances and agents, in the order of the tasks."""
    database = Database(url)
    joined = TASK.join(INSTANCE, INSTANCE.c.instance_id == TASK.c.instance_id).join(
        AGENT, AGENT.c.agent_id == INSTANCE.c.agent_id
    )
    try:
        async with database.read() as conn:
            rows = await conn.execute(select(*columns).select_from(joined).order_by(TASK.c.id))
            return [dict(row) for row in rows.mappings()]
    finally:
        await database.close()


async def test_each_field_of_a_task_is_written_as_its_model_writes_it(
    ledger: Ledger, database_url: str
) -> None:
    assert set(TASK_STATUS) == set(TaskStatus.model_fields)
    await scatter(ledger, database_url)
    own = [TASK.c[name] for name in TaskStatus.model_fields if name in TASK.c]
    expected = []
    for row in await rows_of(database_url, *own, INSTANCE.c.active_version):
        live = row.pop("active_version")
        blanks = {name: row[name] or "" for name in ("error_code", "phase", "waiting_for", "result")}
        expected.append(TaskStatus(version=live, current_version=live, **row | blanks))
    told = await ledger.store.deploy_status("d1", WHOLE)
    assert json.loads(told.instances) == TypeAdapter(list[TaskStatus]).dump_python(expected, mode="json")
    assert len(expected) == len(NAMES)
    whole = told.read()
    assert whole.progress == told.answer.progress
    assert json.loads(told.to_json()) == whole.model_dump(mode="json")


async def test_each_field_of_an_instance_is_written_as_its_model_writes_it(
    ledger: Ledger, database_url: str
) -> None:
    assert set(VERSION) == set(InstanceVersion.model_fields)
    await scatter(ledger, database_url)
    said = [INSTANCE.c[name] for name in ("instance_id", "active_version", "state", "reason", "broken")]
    expected = []
    for row in await rows_of(database_url, *said, INSTANCE.c.updated_at, AGENT.c.presence):
        version = row["active_version"]
        status, reason = judge(
            version=version,
            state=ServiceState(row["state"]),
            reason=row["reason"],
            broken=row["broken"],
            presence=Presence(row["presence"]),
        )
        expected.append(
            InstanceVersion(
                instance_id=row["instance_id"],
                version=version,
                status=status,
                last_updated=row["updated_at"],
                status_reason=reason,
            )
        )
    told = await ledger.store.service_versions("user", include_stopped=True)
    assert json.loads(told.instances) == TypeAdapter(list[InstanceVersion]).dump_python(expected, mode="json")
    whole = told.read()
    assert json.loads(told.to_json()) == whole.model_dump(mode="json")
    assert told.answer.updated_at == max(one.last_updated for one in expected)
    assert whole.version_summary == {
        version: sum(one.version == version for one in expected) for version in ("", "v1", "v2.0+x")
    }


async def test_no_instance_is_an_empty_list(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a"])
    await ledger.deploy("v2", ["a"], "d1")
    assert (await ledger.store.deploy_status("d1", InstancePage(offset=5))).instances == "[]"
    assert (await ledger.store.service_versions("user", include_stopped=False)).instances == "[]"
