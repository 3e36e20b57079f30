"""A dry run tells what the call does when it is made right after, and leaves no trace of itself."""

from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.core.refusals import (
    DeployIdConflictError,
    InstanceBusyError,
    RefusalError,
    UnknownInstanceError,
    UnknownServiceError,
)
from controller.core.task import Task
from controller.dispatcher import execute_frame
from controller.store.tables import AGENT, EVENT, HISTORY, INSTANCE, OPERATION, SOURCE, TASK
from releasehand.model import (
    BatchRollbackParams,
    DeployParams,
    DryRunResult,
    FailureCode,
    ForecastCode,
    InstanceForecast,
    InstanceRollbackParams,
    Outlook,
    Presence,
    ServiceState,
    Status,
    Verdict,
    WaitingFor,
)
from shared.frames import InstanceState, Kept
from shared.source import DOWN, AlreadyActive, Fetch, Holding, NoSource, UseKept, plan_start
from tests.fakes.ledger import (
    ACTOR,
    CALLER,
    Host,
    Ledger,
    deployment,
    digest_of,
    listed,
    live,
    statements,
)

TABLES = (AGENT, INSTANCE, OPERATION, TASK, EVENT, HISTORY, SOURCE)
NAMES = ["a", "b", "c", "d"]
VERSIONS = ["v1", "v2", "v3"]
Params = DeployParams | InstanceRollbackParams | BatchRollbackParams
Kind = type[DeployParams] | type[InstanceRollbackParams] | type[BatchRollbackParams]
KINDS: tuple[Kind, ...] = (DeployParams, InstanceRollbackParams, BatchRollbackParams)
DONE_AT_HOST = {AlreadyActive: Outlook.ALREADY_ACTIVE, UseKept: Outlook.FROM_DISK, Fetch: Outlook.DOWNLOAD}


@dataclass(frozen=True)
class Fleet:
    """Hosts as they describe themselves, what was deployed on them since, and what holds some of them."""

    states: list[InstanceState]
    deployed: list[tuple[str, str]]  # version and instance, in order; each came true
    held: list[str]  # on their hosts; the last of them, if `waits`, has not been sent
    waits: bool
    unknown: list[str]
    offline: bool


def kept(version: str, good: bool | None) -> Kept:
    return Kept(release=f"{version}-x", version=version, sha256=digest_of(version), good=good)


@st.composite
def states(draw: st.DrawFn, name: str) -> InstanceState:
    return listed(
        name,
        active=live(draw(st.sampled_from(["", *VERSIONS]))),
        releases=[
            kept(version, draw(st.sampled_from([True, True, False, None])))
            for version in draw(st.lists(st.sampled_from(VERSIONS), unique=True))
        ],
        state=draw(st.sampled_from(ServiceState)),
        broken=draw(st.sampled_from([False, False, False, True])),
    )


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    there = NAMES[: draw(st.integers(1, 3))]
    return Fleet(
        states=[draw(states(name)) for name in there],
        deployed=draw(st.lists(st.tuples(st.sampled_from(VERSIONS), st.sampled_from(there)), max_size=3)),
        held=draw(st.lists(st.sampled_from(there), unique=True, max_size=1)),
        waits=draw(st.booleans()),
        unknown=draw(st.lists(st.sampled_from(there), unique=True, max_size=1)),
        offline=draw(st.booleans()),
    )


@dataclass(frozen=True)
class Ask:
    """A call, but for its names."""

    kind: Kind
    names: list[str]
    said: dict[str, Any]

    def make(self, tag: str) -> Params:
        names, said = [f"{name}-{tag}" for name in self.names], dict(self.said)
        if self.kind is DeployParams:
            return deployment(said.pop("version"), names, f"asked-{tag}", service=f"user-{tag}", **said)
        if self.kind is InstanceRollbackParams:
            return InstanceRollbackParams(instance_id=names[0], **said)
        return BatchRollbackParams(service=f"user-{tag}", instances=names, **said)


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    version = draw(st.sampled_from(VERSIONS))
    sha256 = draw(st.sampled_from(["", digest_of(version), "f" * 64]))
    names = draw(st.lists(st.sampled_from(NAMES[:3]), unique=True, min_size=1) | st.just(["a", "d"]))
    kind: Kind = draw(st.sampled_from(KINDS))
    if kind is DeployParams:
        return Ask(kind, names, {"version": version, "package_sha256": sha256})
    return Ask(
        kind,
        names,
        {
            "target_version": draw(st.sampled_from([version, "previous"])),
            "package_url": draw(st.sampled_from(["", "https://other.example.com/p.zip"])),
            "package_sha256": sha256,
            "force": draw(st.booleans()),
        },
    )


async def settle_down(ledger: Ledger, fleet: Fleet, tag: str) -> None:
    service, host = f"user-{tag}", Host(ledger.store, ledger.clock, f"host-{tag}")
    tagged = [
        state.model_copy(update={"instance_id": f"{state.instance_id}-{tag}", "service": service})
        for state in fleet.states
    ]
    await host.greet(*tagged)
    for number, (version, name) in enumerate(fleet.deployed):
        task = await ledger.start(version, f"{name}-{tag}", deploy_id=f"past-{number}-{tag}", service=service)
        await host.work(task)
    for name in fleet.unknown:
        await ledger.start("v9", f"{name}-{tag}", deploy_id=f"lost-{tag}", service=service, timeout=1)
        await ledger.expire_after(60)
    for name in fleet.held:
        said = {"deploy_id": f"holder-{tag}", "service": service}
        if name in fleet.unknown or fleet.waits:
            await ledger.deploy("v8", [f"{name}-{tag}"], **said)
        else:
            await ledger.start("v8", f"{name}-{tag}", **said)
    presence = {host.agent_id: (host.epoch, Presence.OFFLINE)} if fleet.offline else {}
    await ledger.store.write_live_state(heartbeats={}, presence=presence, progress=[])


async def accept(ledger: Ledger, params: Params) -> None:
    store = ledger.store
    match params:
        case DeployParams():
            await store.accept_deployment(params, actor=ACTOR)
        case InstanceRollbackParams():
            await store.accept_instance_rollback(params, actor=ACTOR, idempotency_key=None)
        case BatchRollbackParams():
            await store.accept_batch_rollback(params, actor=ACTOR, idempotency_key=None)


async def snapshot(ledger: Ledger) -> dict[str, list[dict[str, Any]]]:
    return {table.name: await ledger.rows(table) for table in TABLES}


async def holdings(ledger: Ledger) -> dict[str, Holding]:
    """What each host has, from what it said last."""
    return {
        row["instance_id"]: Holding(
            live(row["active_version"]),
            [Kept.model_validate(one) for one in row["releases"]],
            broken=row["broken"],
            down=row["state"] in DOWN,
        )
        for row in await ledger.rows(INSTANCE)
    }


async def check(ledger: Ledger, fleet: Fleet, params: Params) -> None:
    before = await snapshot(ledger)
    told = await ledger.store.foresee(params, caller=CALLER)
    assert await snapshot(ledger) == before
    forecasts = {one.instance_id: one for one in told.instances}
    have = await holdings(ledger)
    refusal: RefusalError | None = None
    try:
        await accept(ledger, params)
    except RefusalError as exc:
        refusal = exc
    if refusal is not None:
        assert (told.verdict, told.reason) == (Verdict.REFUSED, str(refusal))
        assert blamed(refusal) == {name for name, one in forecasts.items() if one.code in told_of(refusal)}
        return
    assert told.verdict is Verdict.STARTS
    made = await newest_tasks(ledger)
    assert {task.instance_id for task in made} == set(forecasts)
    for task in await ledger.dispatch([task.id for task in made], connected=not fleet.offline):
        compare(forecasts[task.instance_id], task, have[task.instance_id], ledger)


def blamed(error: RefusalError) -> set[str]:
    match error:
        case UnknownInstanceError(instances=instances):
            return set(instances)
        case InstanceBusyError(holders=holders):
            return {holder.instance_id for holder in holders}
        case _:
            raise error


def told_of(error: RefusalError) -> set[ForecastCode]:
    unknown = isinstance(error, UnknownInstanceError)
    return {ForecastCode.UNKNOWN_INSTANCE if unknown else ForecastCode.INSTANCE_BUSY}


async def newest_tasks(ledger: Ledger) -> list[Task]:
    rows = await ledger.rows(TASK)
    newest = max(row["operation"] for row in rows)
    return await ledger.tasks([row["id"] for row in rows if row["operation"] == newest])


def compare(forecast: InstanceForecast, task: Task, holding: Holding, ledger: Ledger) -> None:
    """What the host decides when it gets the command is what was told, and so is what the task waits for."""
    assert forecast.target_version == task.target_version
    if not task.is_open:
        assert (forecast.outcome, forecast.code) == (Outlook.IMPOSSIBLE, ForecastCode.NO_SOURCE)
        assert task.error_code is FailureCode.NO_SOURCE
        assert forecast.reason == task.error_message
        return
    sent = replace(task, attempt=max(1, task.attempt))  # it is the same command when it is sent later
    decided = plan_start(execute_frame(sent, ledger.clock.now(), sent.package_url), holding)
    if isinstance(decided, NoSource):
        assert (forecast.outcome, forecast.code) == (Outlook.IMPOSSIBLE, ForecastCode.NO_SOURCE)
        return
    assert forecast.outcome is DONE_AT_HOST[type(decided)]
    assert (forecast.code, forecast.reason) == ("", "")
    assert forecast.waiting_for == task.waiting_for


tags = count(1)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(fleet=fleets(), ask=asks())
async def test_what_is_told_is_what_happens(ledger: Ledger, fleet: Fleet, ask: Ask) -> None:
    tag = str(next(tags))  # one database for all: each fleet has names of its own
    await settle_down(ledger, fleet, tag)
    await check(ledger, fleet, ask.make(tag))


# the parts one by one


async def foresee(ledger: Ledger, params: Params, key: str | None = None) -> DryRunResult:
    return await ledger.store.foresee(params, caller=CALLER, idempotency_key=key)


async def test_a_repeated_call_is_told_as_one_and_its_conflict_is_raised(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a"], "v1")
    await ledger.deploy("v2", ["a"], "d1")
    told = await foresee(ledger, deployment("v2", ["a"], "d1"))
    assert (told.verdict, told.operation_id, told.instances) == (Verdict.REPEATS, "d1", [])
    with pytest.raises(DeployIdConflictError, match="version"):
        await foresee(ledger, deployment("v3", ["a"], "d1"))


async def test_a_dry_run_uses_neither_id_nor_key(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a"], "v1")
    rollback = InstanceRollbackParams(instance_id="a", target_version="v0")
    for _ in range(2):
        assert (await foresee(ledger, deployment("v2", ["a"], "d1"))).verdict is Verdict.STARTS
        assert (await foresee(ledger, rollback, "key-1")).verdict is Verdict.STARTS
    assert not (await ledger.roll_back("a", "v3", "key-1")).repeated
    assert (await foresee(ledger, deployment("v2", ["a"], "d1"))).verdict is Verdict.REFUSED


async def test_an_unknown_service_is_refused_as_the_call_would_be(ledger: Ledger) -> None:
    with pytest.raises(UnknownServiceError):
        await foresee(ledger, deployment("v2", ["a"], "d1"))


async def test_every_member_is_told_apart_with_its_reason(ledger: Ledger) -> None:
    host = Host(ledger.store, ledger.clock, "host-1")
    await host.greet(
        listed("kept", "v2", releases=[kept("v1", True)]),
        listed("there", "v1", releases=[kept("v1", True)]),
        listed("bare", "v2"),
        listed("busy", "v2"),
    )
    await ledger.deploy("v3", ["busy"], "holder")
    names = ["kept", "there", "bare", "busy", "nobody"]
    told = await foresee(ledger, BatchRollbackParams(service="user", target_version="v1", instances=names))
    assert {one.instance_id: (str(one.outcome), str(one.code)) for one in told.instances} == {
        "kept": ("from_disk", ""),
        "there": ("already_active", ""),
        "bare": ("impossible", "no_source"),
        "busy": ("impossible", "instance_busy"),
        "nobody": ("impossible", "unknown_instance"),
    }
    assert (told.verdict, told.total_instances) == (Verdict.REFUSED, 5)
    assert told.outcomes == {"from_disk": 1, "already_active": 1, "impossible": 3}
    assert all(one.reason for one in told.instances if one.outcome is Outlook.IMPOSSIBLE)


async def test_a_forced_rollback_is_told_to_wait_for_what_it_supersedes(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a"], "v1")
    await ledger.start("v2", "a")
    params = InstanceRollbackParams(
        instance_id="a", target_version="v0", force=True, package_url="https://other.example.com/v0.zip"
    )
    told = await foresee(ledger, params)
    assert [(one.outcome, one.waiting_for) for one in told.instances] == [
        (Outlook.DOWNLOAD, WaitingFor.BEHIND_OTHER_TASK)
    ]
    assert (await ledger.instance("d-v2", "a")).status is Status.IN_PROGRESS


async def test_thousands_of_instances_are_foreseen_in_a_handful_of_statements(ledger: Ledger) -> None:
    names = [f"i-{n:05}" for n in range(3_000)]
    await ledger.host("host-1", names, "v1")
    params = BatchRollbackParams(service="user", target_version="previous", instances=names)
    with statements() as seen:
        told = await foresee(ledger, params)
    assert told.outcomes == {"impossible": 3_000}
    assert len(seen) <= 10
