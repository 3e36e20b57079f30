"""Lists of operations, services, instances and agents: filtered, paged, counted."""

from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from controller.core.lists import AgentFilter, InstanceFilter, LogPage, OperationFilter, Page
from controller.core.refusals import UnknownOperationError
from releasehand.model import (
    EventKind,
    EventOutcome,
    FailureCode,
    InstanceStatus,
    OperationKind,
    Presence,
    RollbackType,
    ServiceState,
    Status,
)
from shared.attempt import Outcome
from tests.fakes.ledger import Host, Ledger, ended, listed

O = Outcome
ALL = Page(limit=1_000)


async def operations(ledger: Ledger) -> None:
    """Six deployments and two rollbacks of two services, one each minute."""
    host = await ledger.host("host-1", ["a", "b"], "v1")
    shop = await ledger.host("host-2", ["c"], "v1", service="shop")
    for n in range(3):
        ledger.clock.advance(60)
        await ledger.install(host, f"v{n + 2}", "a")
    ledger.clock.advance(60)
    bad = await ledger.start("v9", "b", deploy_id="d-bad", retry_count=-1)
    await host.work(bad, [O.OK, O.FAILED], ended("v1", FailureCode.ARCHIVE_REFUSED))
    ledger.clock.advance(60)
    await ledger.deploy("v2", ["c"], "d-shop", service="shop")
    await ledger.cancel("d-shop")
    ledger.clock.advance(60)
    await ledger.deploy("v2", ["c"], "d-open", service="shop")
    ledger.clock.advance(60)
    for task in await ledger.dispatch((await ledger.roll_back("a", "previous")).task_ids):
        await host.work(task)
    ledger.clock.advance(60)
    await ledger.roll_back_batch("v1", ["b"])
    assert shop.epoch == 1


async def deploy_ids(ledger: Ledger, wanted: OperationFilter, page: Page = ALL) -> list[str]:
    found = await ledger.store.list_deployments(wanted, page)
    assert (found.limit, found.offset) == (page.limit, page.offset)
    assert found.total >= len(found.deployments)
    return [one.deploy_id for one in found.deployments]


async def test_deployments_are_listed_newest_first_and_filtered(ledger: Ledger) -> None:
    await operations(ledger)
    newest_first = ["d-open", "d-shop", "d-bad", "d-v4", "d-v3", "d-v2"]
    assert await deploy_ids(ledger, OperationFilter()) == newest_first
    assert await deploy_ids(ledger, OperationFilter(service="shop")) == ["d-open", "d-shop"]
    assert await deploy_ids(ledger, OperationFilter(service="nobody-s")) == []
    for status, names in {
        Status.PENDING: ["d-open"],
        Status.CANCELLED: ["d-shop"],
        Status.FAILED: ["d-bad"],
        Status.COMPLETED: ["d-v4", "d-v3", "d-v2"],
        Status.IN_PROGRESS: [],
    }.items():
        assert await deploy_ids(ledger, OperationFilter(status=status)) == names
    assert await deploy_ids(ledger, OperationFilter(service="user", status=Status.FAILED)) == ["d-bad"]


async def test_since_counts_and_until_does_not(ledger: Ledger) -> None:
    await operations(ledger)
    shop = next(
        one.started_at
        for one in (await ledger.store.list_deployments(OperationFilter(), ALL)).deployments
        if one.deploy_id == "d-shop"
    )
    assert await deploy_ids(ledger, OperationFilter(since=shop)) == ["d-open", "d-shop"]
    assert await deploy_ids(ledger, OperationFilter(until=shop)) == ["d-bad", "d-v4", "d-v3", "d-v2"]
    minute = OperationFilter(since=shop, until=shop + timedelta(minutes=1))
    assert await deploy_ids(ledger, minute) == ["d-shop"]


async def test_pages_of_deployments_follow_each_other_and_count_all(ledger: Ledger) -> None:
    await operations(ledger)
    found: list[str] = []
    for offset in range(0, 8, 2):
        page = await ledger.store.list_deployments(OperationFilter(), Page(2, offset))
        assert page.total == 6
        found += [one.deploy_id for one in page.deployments]
    assert found == ["d-open", "d-shop", "d-bad", "d-v4", "d-v3", "d-v2"]


async def test_a_summary_says_what_the_status_says(ledger: Ledger) -> None:
    await operations(ledger)
    for one in (await ledger.store.list_deployments(OperationFilter(), ALL)).deployments:
        told = await ledger.status(one.deploy_id)
        same = {"deploy_id", "service", "version", "status", "started_at", "updated_at", "completed_at"}
        assert one.model_dump(include={*same, "cancelled_at"}) == told.model_dump(
            include={*same, "cancelled_at"}
        )
        assert one.total_instances == told.progress.total


async def test_rollbacks_are_listed_by_their_type_too(ledger: Ledger) -> None:
    await operations(ledger)

    async def types(**wanted: Any) -> list[RollbackType]:
        found = await ledger.store.list_rollbacks(OperationFilter(**wanted), ALL)
        assert found.total == len(found.rollbacks)
        return [one.rollback_type for one in found.rollbacks]

    assert await types() == [RollbackType.BATCH, RollbackType.INSTANCE]
    assert await types(rollback_type=RollbackType.INSTANCE) == [RollbackType.INSTANCE]
    assert await types(status=Status.COMPLETED) == [RollbackType.INSTANCE]
    assert await types(service="shop") == []
    [batch, single] = (await ledger.store.list_rollbacks(OperationFilter(), ALL)).rollbacks
    assert (batch.target_version, single.target_version, single.total_instances) == ("v1", "previous", 1)


# ------------------------------------------------------------------------ services, instances and agents


async def fleet(ledger: Ledger) -> Host:
    """Three hosts, one of them offline; `shop` runs on one, `user` on all three."""
    host = Host(ledger.store, ledger.clock, "web-1")
    await host.greet(
        listed("a", "v1"),
        listed("b", "v2", state=ServiceState.STOPPED),
        listed("c", "v1", service="shop", metadata={"rack": "7"}),
        listed("d"),
    )
    gone = await ledger.host("web-2", ["e"], "v2")
    await ledger.host("Db-1", ["f"], "v1")
    await ledger.store.write_live_state(
        heartbeats={}, presence={"web-2": (gone.epoch, Presence.OFFLINE)}, progress=[]
    )
    return host


async def test_services_are_counted_by_status_and_version(ledger: Ledger) -> None:
    await fleet(ledger)
    found = await ledger.store.list_services("", ALL)
    assert [one.model_dump() for one in found.services] == [
        {
            "service": "shop",
            "total_instances": 1,
            "running": 1,
            "stopped": 0,
            "error": 0,
            "version_summary": {"v1": 1},
        },
        {
            "service": "user",
            "total_instances": 5,
            "running": 2,
            "stopped": 2,
            "error": 1,
            "version_summary": {"": 1, "v1": 2, "v2": 2},
        },
    ]
    assert found.total == 2
    second = await ledger.store.list_services("", Page(1, 1))
    assert ([one.service for one in second.services], second.total) == (["user"], 2)
    assert [one.service for one in (await ledger.store.list_services("SE", ALL)).services] == ["user"]
    for no_wildcard in ("%", "_", "s%r"):
        assert (await ledger.store.list_services(no_wildcard, ALL)).total == 0


async def test_a_service_whose_instances_are_all_retired_is_listed_no_more(ledger: Ledger) -> None:
    host = await fleet(ledger)
    await host.greet(listed("a", "v1"))
    found = await ledger.store.list_services("", ALL)
    assert [(one.service, one.total_instances) for one in found.services] == [("user", 3)]


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (InstanceFilter(), ["a", "b", "c", "d", "e", "f"]),
        (InstanceFilter(service="user"), ["a", "b", "d", "e", "f"]),
        (InstanceFilter(agent_id="web-1"), ["a", "b", "c", "d"]),
        (InstanceFilter(service="user", agent_id="web-1"), ["a", "b", "d"]),
        (InstanceFilter(status=InstanceStatus.ERROR), ["e"]),
        (InstanceFilter(status=InstanceStatus.STOPPED), ["b", "d"]),
        (InstanceFilter(version="v1"), ["a", "c", "f"]),
        (InstanceFilter(version="v1", service="shop"), ["c"]),
        (InstanceFilter(agent_id="nobody"), []),
    ],
    ids=str,
)
async def test_instances_of_all_services_are_filtered_and_paged(
    ledger: Ledger, wanted: InstanceFilter, names: list[str]
) -> None:
    await fleet(ledger)
    found: list[str] = []
    for offset in range(0, len(names) + 2, 2):
        page = await ledger.store.list_instances(wanted, Page(2, offset))
        assert page.total == len(names)
        found += [one.instance_id for one in page.instances]
    assert found == names


async def test_an_instance_of_the_list_says_what_its_service_says_of_it(ledger: Ledger) -> None:
    await fleet(ledger)
    [one] = (await ledger.store.list_instances(InstanceFilter(service="shop"), ALL)).instances
    [same] = (
        await ledger.store.service_instances("shop", status=None, version="", limit=1, offset=0)
    ).instances
    assert one.model_dump(exclude={"service", "last_updated"}) == same.model_dump()
    assert (one.service, one.last_updated, one.metadata) == ("shop", ledger.clock.now(), {"rack": "7"})


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (AgentFilter(), ["Db-1", "web-1", "web-2"]),
        (AgentFilter(status=Presence.ONLINE), ["Db-1", "web-1"]),
        (AgentFilter(status=Presence.OFFLINE), ["web-2"]),
        (AgentFilter(name="WEB"), ["web-1", "web-2"]),
        (AgentFilter(name="db-1.EX"), ["Db-1"]),
        (AgentFilter(name="web", status=Presence.SUSPECT), []),
        (AgentFilter(name="_eb"), []),
    ],
    ids=str,
)
async def test_agents_are_found_by_presence_and_part_of_a_name(
    ledger: Ledger, wanted: AgentFilter, names: list[str]
) -> None:
    await fleet(ledger)
    page = await ledger.store.list_agents(wanted, ALL)
    assert ([one.agent_id for one in page.agents], page.total) == (names, len(names))


async def test_an_agent_tells_its_presence_and_how_many_instances_it_has(ledger: Ledger) -> None:
    host = await fleet(ledger)
    ledger.clock.advance(60)
    gone = (await ledger.store.list_agents(AgentFilter(name="web-2"), ALL)).agents[0]
    assert (gone.status, gone.total_instances) == (Presence.OFFLINE, 1)
    assert gone.status_since == ledger.clock.now() - timedelta(seconds=60)
    await host.greet(listed("a", "v1"))
    one = (await ledger.store.list_agents(AgentFilter(name="web-1"), ALL)).agents[0]
    assert (one.host, one.version, one.total_instances) == ("web-1.example", "0.1.0", 1)
    assert (one.first_seen, one.last_heartbeat) == (gone.status_since, ledger.clock.now())


# -------------------------------------------------------------------------------------------- release logs


async def test_a_log_is_read_page_by_page_without_a_gap(ledger: Ledger) -> None:
    await operations(ledger)
    whole = await ledger.store.release_log(OperationKind.DEPLOYMENT, "d-bad", LogPage(limit=100))
    assert (whole.deploy_id, whole.rollback_id, whole.status) == ("d-bad", "", Status.FAILED)
    assert not whole.has_more
    for limit in (1, 3, len(whole.events)):
        page = await ledger.store.release_log(OperationKind.DEPLOYMENT, "d-bad", LogPage(limit=limit))
        found = page.events
        while page.has_more:
            following = LogPage(after=page.next_after, limit=limit)
            page = await ledger.store.release_log(OperationKind.DEPLOYMENT, "d-bad", following)
            found = found + page.events
        assert found == whole.events
    after = whole.next_after
    nothing = await ledger.store.release_log(OperationKind.DEPLOYMENT, "d-bad", LogPage(after=after))
    assert (nothing.events, nothing.next_after) == ([], after)
    kinds = [event.kind for event in whole.events]
    assert kinds[:3] == [EventKind.ACCEPTED, EventKind.ACCEPTED, EventKind.DISPATCHED]
    assert (kinds[-1], whole.events[-1].outcome) == (EventKind.ENDED, EventOutcome.FAILED)
    assert [event.id for event in whole.events] == sorted({event.id for event in whole.events})


async def test_a_log_of_one_instance_has_its_events_alone(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a", "b"], "v1")
    accepted = await ledger.roll_back_batch("v0", ["a", "b"])
    for task in await ledger.dispatch(accepted.task_ids):
        tail = ended("v1", FailureCode.HOST_ERROR, log_tail="one\ntwo")
        await host.work(task, [O.OK, O.FAILED], tail)
    rollback_id = accepted.result.rollback_id
    for name, limit in product(("a", "b"), (2, 100)):
        page = LogPage(instance_id=name, limit=limit)
        log = await ledger.store.release_log(OperationKind.ROLLBACK, rollback_id, page)
        assert log.rollback_id == rollback_id
        assert {event.instance_id for event in log.events} == {name}
    whole = await ledger.store.release_log(OperationKind.ROLLBACK, rollback_id, LogPage(instance_id="b"))
    tails = [event for event in whole.events if event.kind is EventKind.LOG_TAIL]
    assert [(event.log_tail, event.message, event.phase) for event in tails] == [
        ("one\ntwo", "", "downloading")
    ]
    none = await ledger.store.release_log(OperationKind.ROLLBACK, rollback_id, LogPage(instance_id="z"))
    assert none.events == []


async def test_a_log_of_nothing_is_refused(ledger: Ledger) -> None:
    await operations(ledger)
    for kind, name in ((OperationKind.DEPLOYMENT, "nothing"), (OperationKind.ROLLBACK, "d-bad")):
        with pytest.raises(UnknownOperationError):
            await ledger.store.release_log(kind, name, LogPage())
