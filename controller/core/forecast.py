"""What a call that starts work would do, told by the rules that do it: those of acceptance here, those of the
host in shared.source."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from releasehand.model import (
    DryRunResult,
    ForecastCode,
    InstanceForecast,
    OperationKind,
    Outlook,
    Presence,
    Verdict,
    WaitingFor,
)
from shared.source import AlreadyActive, Fetch, Holding, NoSource, UseKept, plan_start

from .acceptance import Order
from .destination import Target, describe_dead_end, first_wait
from .refusals import Holder, InstanceBusyError, UnknownInstanceError

_OUTLOOKS: Final[Mapping[type[AlreadyActive | UseKept | Fetch], Outlook]] = {
    AlreadyActive: Outlook.ALREADY_ACTIVE,
    UseKept: Outlook.FROM_DISK,
    Fetch: Outlook.DOWNLOAD,
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instance that a call names, as its host last described it."""

    holding: Holding
    presence: Presence
    outcome_unknown: bool  # its host has not spoken since a task of it ended unknown


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a forecast depends on beside the call. Each mapping is by instance; who is missing among the
    candidates is unknown, who is missing among the targets has no previous release."""

    service: str
    candidates: Mapping[str, Candidate]
    holders: Mapping[str, Holder]
    behind: Collection[str]  # those whose held task would have to end first, if it were superseded
    targets: Mapping[str, Target]


@dataclass(frozen=True, slots=True)
class _Wish:
    """A command that was not given."""

    kind: OperationKind
    version: str
    url: str
    sha256: str
    force: bool


def foresee(order: Order, situation: Situation) -> DryRunResult:
    """What would happen to each instance as things stand now. Of a call that would be refused, it tells what
    would happen without the instances that it is refused for."""
    instances = [_foresee(order, name, situation) for name in order.instances]
    refusal = _refusal(order, situation)
    return DryRunResult(
        verdict=Verdict.REFUSED if refusal else Verdict.STARTS,
        reason=refusal,
        service=situation.service,
        target_version=order.version,
        total_instances=len(instances),
        outcomes=dict(Counter(str(one.outcome) for one in instances)),
        instances=instances,
    )


def foresee_repeat(order: Order, service: str, operation_id: str) -> DryRunResult:
    """The call was made before: it would be answered again, and start nothing."""
    return DryRunResult(
        verdict=Verdict.REPEATS,
        reason=f"{order.kind} '{operation_id}' was started by the same call",
        service=service,
        target_version=order.version,
        operation_id=operation_id,
        total_instances=0,
        outcomes={},
        instances=[],
    )


def _refusal(order: Order, situation: Situation) -> str:
    """The words with which the call would be refused, "" if it would not: acceptance raises the same in the
    same order."""
    if missing := [name for name in order.instances if name not in situation.candidates]:
        return str(UnknownInstanceError(missing, order.service))
    if situation.holders and not order.force:
        return str(InstanceBusyError(list(situation.holders.values())))
    return ""


def _foresee(order: Order, name: str, situation: Situation) -> InstanceForecast:
    candidate, target = situation.candidates.get(name), situation.targets.get(name)
    holder = situation.holders.get(name)
    if candidate is None:
        return _impossible(name, order.version, ForecastCode.UNKNOWN_INSTANCE, "no agent lists it")
    version = target.version if target else order.version
    if holder is not None and not order.force:
        reason = f"held by {holder.kind} '{holder.operation_id}'"
        return _impossible(name, version, ForecastCode.INSTANCE_BUSY, reason)
    if target is None:
        return _impossible(name, version, ForecastCode.NO_SOURCE, describe_dead_end(name))
    wish = _Wish(order.kind, target.version, target.package_url, target.package_sha256, order.force)
    source = plan_start(wish, candidate.holding)
    if isinstance(source, NoSource):
        reason = "its host keeps no good release of this version, and no URL of it is known"
        return _impossible(name, version, ForecastCode.NO_SOURCE, reason)
    return InstanceForecast(
        instance_id=name,
        outcome=_OUTLOOKS[type(source)],
        target_version=version,
        waiting_for=_first_hold(order, candidate, behind=name in situation.behind),
    )


def _first_hold(order: Order, candidate: Candidate, *, behind: bool) -> WaitingFor:
    """As core.plan would hold it."""
    if not behind and candidate.outcome_unknown and not order.force:
        return WaitingFor.AGENT_OFFLINE
    return first_wait(candidate.presence, behind=behind)


def _impossible(name: str, version: str, code: ForecastCode, reason: str) -> InstanceForecast:
    return InstanceForecast(
        instance_id=name, outcome=Outlook.IMPOSSIBLE, target_version=version, code=code, reason=reason
    )
