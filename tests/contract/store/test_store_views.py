"""What callers see: versions, instances, history, status pages and figures."""

from datetime import timedelta
from itertools import product

import pytest
from sqlalchemy import select, update

from controller.core.acceptance import WHOLE, InstancePage
from controller.core.instance import judge
from controller.core.refusals import UnknownInstanceError, UnknownOperationError, UnknownServiceError
from controller.store.engine import Database
from controller.store.instances import REASON, STATUS
from controller.store.tables import AGENT, INSTANCE
from releasehand.model import (
    FailureCode,
    InstanceStatus,
    OperationKind,
    Period,
    Presence,
    ServiceState,
    Status,
)
from shared.attempt import Outcome
from tests.fakes.ledger import Host, Ledger, ended, listed

O = Outcome
S = InstanceStatus


async def mixed(ledger: Ledger) -> Host:
    """One running v1, one running v2, one stopped, one empty, one failing, and one on a host that is gone."""
    host = Host(ledger.store, ledger.clock, "host-1")
    await host.greet(
        listed("a-v1", "v1", port=1, metadata={"rack": "7"}),
        listed("b-v2", "v2"),
        listed("c-stopped", "v1", state=ServiceState.STOPPED),
        listed("d-empty", state=ServiceState.STOPPED),
        listed("e-failing", "v2", state=ServiceState.FAILED, reason="check says 503"),
    )
    gone = await ledger.host("host-2", ["f-gone"], "v1")
    presence = {"host-2": (gone.epoch, Presence.OFFLINE)}
    await ledger.store.write_live_state(heartbeats={}, presence=presence, progress=[])
    return host


async def test_the_sql_of_an_instance_s_status_equals_the_rule(ledger: Ledger, database_url: str) -> None:
    await ledger.host("host-1", ["a"])
    database = Database(database_url)
    joined = INSTANCE.join(AGENT, AGENT.c.agent_id == INSTANCE.c.agent_id)
    told = select(STATUS, REASON).select_from(joined)
    inputs = product(("", "v1"), ServiceState, ("", "why"), (False, True), Presence)
    try:
        async with database.write() as conn:
            for version, state, reason, broken, presence in inputs:
                values = {"active_version": version, "state": state, "reason": reason, "broken": broken}
                await conn.execute(update(INSTANCE).values(values))
                await conn.execute(update(AGENT).values(presence=presence))
                row = (await conn.execute(told)).one()
                rule = judge(version=version, state=state, reason=reason, broken=broken, presence=presence)
                assert tuple(row) == rule, values
    finally:
        await database.close()


async def test_versions_leave_out_only_what_is_stopped(ledger: Ledger) -> None:
    await mixed(ledger)
    shown = (await ledger.store.service_versions("user", include_stopped=False)).read()
    assert {one.instance_id: (one.status, one.status_reason) for one in shown.instances} == {
        "a-v1": (S.RUNNING, ""),
        "b-v2": (S.RUNNING, ""),
        "e-failing": (S.ERROR, "check says 503"),
        "f-gone": (S.ERROR, "agent_offline"),
    }
    assert (shown.version_summary, shown.total_instances) == ({"v1": 2, "v2": 2}, 4)
    everything = (await ledger.store.service_versions("user", include_stopped=True)).read()
    assert (everything.version_summary, everything.total_instances) == ({"v1": 3, "v2": 2, "": 1}, 6)


@pytest.mark.parametrize(
    ("status", "version", "names"),
    [
        (None, "", ["a-v1", "b-v2", "c-stopped", "d-empty", "e-failing", "f-gone"]),
        (S.RUNNING, "", ["a-v1", "b-v2"]),
        (S.STOPPED, "", ["c-stopped", "d-empty"]),
        (S.ERROR, "", ["e-failing", "f-gone"]),
        (None, "v1", ["a-v1", "c-stopped", "f-gone"]),
        (S.RUNNING, "v2", ["b-v2"]),
        (S.RUNNING, "v9", []),
    ],
)
async def test_instances_are_filtered_and_paged(
    ledger: Ledger, status: InstanceStatus | None, version: str, names: list[str]
) -> None:
    await mixed(ledger)
    found: list[str] = []
    for offset in range(0, len(names) + 2, 2):
        page = await ledger.store.service_instances(
            "user", status=status, version=version, limit=2, offset=offset
        )
        assert (page.total, page.limit, page.offset) == (len(names), 2, offset)
        found += [one.instance_id for one in page.instances]
    assert found == names


async def test_an_instance_carries_what_its_host_said(ledger: Ledger) -> None:
    await mixed(ledger)
    page = await ledger.store.service_instances("user", status=None, version="", limit=1, offset=0)
    [one] = page.instances
    assert (one.host, one.port, one.metadata, one.agent_id) == ("host-1.example", 1, {"rack": "7"}, "host-1")
    assert one.last_heartbeat == ledger.clock.now()


async def test_what_nobody_lists_is_unknown(ledger: Ledger) -> None:
    await mixed(ledger)
    with pytest.raises(UnknownServiceError):
        await ledger.store.service_versions("nothing", include_stopped=True)
    with pytest.raises(UnknownServiceError):
        await ledger.store.service_instances("nothing", status=None, version="", limit=1, offset=0)
    with pytest.raises(UnknownInstanceError):
        await ledger.store.version_history("nobody", limit=1, offset=0)
    with pytest.raises(UnknownOperationError):
        await ledger.store.deploy_status("nothing", WHOLE)
    with pytest.raises(UnknownOperationError):
        await ledger.store.rollback_status("nothing", WHOLE)


async def test_a_service_whose_instances_are_all_stopped_lists_none(ledger: Ledger) -> None:
    host = Host(ledger.store, ledger.clock, "host-1")
    await host.greet(listed("a", "v1", state=ServiceState.STOPPED))
    shown = (await ledger.store.service_versions("user", include_stopped=False)).read()
    assert (shown.instances, shown.version_summary, shown.total_instances) == ([], {}, 0)


async def test_history_is_paged_newest_first(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v0")
    for n in range(1, 6):
        ledger.clock.advance(1)
        await ledger.install(host, f"v{n}", "a")
    pages = [await ledger.store.version_history("a", limit=2, offset=offset) for offset in (0, 2, 4, 6)]
    assert [[entry.version for entry in page.history] for page in pages] == [
        ["v5", "v4"],
        ["v3", "v2"],
        ["v1", "v0"],
        [],
    ]
    assert {page.total for page in pages} == {6}
    newest, oldest = pages[0].history[0], pages[2].history[1]
    assert (newest.deploy_id, newest.timestamp, oldest.deploy_id) == ("d-v5", ledger.clock.now(), "")


async def test_a_status_answer_is_paged_and_counts_everything(ledger: Ledger) -> None:
    host = await ledger.host("host-1", [f"i-{n}" for n in range(5)], "v1")
    accepted = await ledger.deploy("v2", [f"i-{n}" for n in range(5)], "d1")
    first, second, *_ = await ledger.dispatch(accepted.task_ids[:2])
    await host.work(first)
    await host.work(second, [O.OK, O.FAILED], ended("v1", FailureCode.ARCHIVE_REFUSED))

    async def names(**page: object) -> list[str]:
        status = (await ledger.store.deploy_status("d1", InstancePage(**page))).read()  # type: ignore[arg-type]
        assert (status.progress.total, status.progress.completed, status.progress.pending) == (5, 1, 3)
        return [one.instance_id for one in status.instances]

    assert len(await names()) == 5
    assert await names(limit=2, offset=1) == ["i-1", "i-2"]
    assert await names(offset=3) == ["i-3", "i-4"]
    assert await names(status=Status.FAILED) == ["i-1"]
    assert await names(status=Status.PENDING, limit=1, offset=1) == ["i-3"]


async def test_a_status_answer_shows_the_live_version_whatever_the_target(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    task = await ledger.start("v2", "a", deploy_id="d1")
    one = await ledger.instance("d1", "a")
    assert (one.version, one.current_version, one.target_version) == ("v1", "v1", "v2")
    assert one.started_at == ledger.clock.now()
    await host.work(task)
    await ledger.install(host, "v3", "a")
    assert (await ledger.instance("d1", "a")).version == "v3"


async def test_figures_count_what_ended_within_the_period(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    assert (await ledger.store.system_stats(Period.DAY)).deployments.success_rate == 0.0
    await ledger.install(host, "v2", "a")
    ledger.clock.advance(timedelta(hours=2).total_seconds())
    bad = await ledger.start("v3", "a")
    await host.work(bad, [O.OK, O.FAILED], ended("v2", FailureCode.ARCHIVE_REFUSED))
    await ledger.deploy("v4", ["a"])
    await ledger.cancel("d-v4")
    await ledger.deploy("v5", ["a"])  # open: it does not count
    counts = {}
    for period in Period:
        deployments = (await ledger.store.system_stats(period)).deployments
        counts[period] = (deployments.total, deployments.success, deployments.failed, deployments.cancelled)
        assert deployments.success_rate == (0.0 if period is Period.HOUR else 0.5)
    assert counts == {
        Period.HOUR: (2, 0, 1, 1),
        Period.DAY: (3, 1, 1, 1),
        Period.WEEK: (3, 1, 1, 1),
        Period.MONTH: (3, 1, 1, 1),
    }
    ledger.clock.advance(timedelta(days=7).total_seconds() - 7_200)
    assert (await ledger.store.system_stats(Period.WEEK)).deployments.total == 2
    ledger.clock.advance(timedelta(days=23).total_seconds() + 7_200)
    assert (await ledger.store.system_stats(Period.MONTH)).deployments.total == 0


async def test_figures_tell_rollbacks_from_deployments_and_count_instances(ledger: Ledger) -> None:
    host = await mixed(ledger)
    accepted = await ledger.roll_back("a-v1", "v0")
    [task] = await ledger.dispatch(accepted.task_ids)
    await host.work(task)
    stats = await ledger.store.system_stats(Period.DAY)
    assert (stats.rollbacks.total, stats.rollbacks.success_rate, stats.deployments.total) == (1, 1.0, 0)
    assert (stats.instances.total, stats.instances.healthy, stats.instances.unhealthy) == (6, 2, 4)
    assert task.kind is OperationKind.ROLLBACK
