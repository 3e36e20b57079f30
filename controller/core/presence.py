"""What an agent's `hello` and heartbeats change: whose instances they are, and what is live on them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shared.frames import Active, InstanceState, RefusedInstance


@dataclass(frozen=True, slots=True)
class Known:
    """An instance as recorded."""

    instance_id: str
    agent_id: str
    service: str
    active_version: str
    active_sha256: str
    retired: bool
    busy: bool  # a dispatched task is open: a change of what is live is expected
    moved: bool = False  # to this agent, which has not listed it since: nobody else may have it


@dataclass(frozen=True, slots=True)
class Claims:
    """How the instances in a `hello` are taken."""

    new: list[InstanceState]  # first listed now, or taken over after they were retired or moved
    kept: list[InstanceState]
    drifted: list[InstanceState]  # those of `kept` whose live version changed and nothing explains it
    refused: list[RefusedInstance]
    gone: list[str]  # the agent's own, listed no longer


def settle_claims(
    agent_id: str, listed: Iterable[InstanceState], known: Mapping[str, Known], *, reports_waiting: bool
) -> Claims:
    """Decide for each listed instance (docs/architecture.md «Agent link»): the first agent that
    lists it owns it.

    `known` holds what is recorded of the listed ids and of the agent's own. With `reports_waiting` the agent
    still has to say how it came to what it has, so that nothing counts as drift yet."""
    claims = Claims([], [], [], [], [])
    seen: set[str] = set()
    for state in listed:
        row = known.get(state.instance_id)
        if state.instance_id in seen:
            claims.refused.append(RefusedInstance(instance_id=state.instance_id, reason="listed twice"))
            continue
        seen.add(state.instance_id)
        if row is None or is_free(row, agent_id):
            claims.new.append(state)
        elif row.agent_id != agent_id:
            reason = f"it belongs to agent '{row.agent_id}'; move it or retire it there first"
            claims.refused.append(RefusedInstance(instance_id=state.instance_id, reason=reason))
        else:
            claims.kept.append(state)
            if not reports_waiting and is_drift(row, state.active):
                claims.drifted.append(state)
    for row in known.values():
        if row.agent_id == agent_id and not row.retired and row.instance_id not in seen:
            claims.gone.append(row.instance_id)
    return claims


def is_free(row: Known, agent_id: str) -> bool:
    """A recorded instance that `agent_id` may take over: nobody has it, or it was moved to this agent."""
    if row.agent_id == agent_id:
        return row.moved
    return row.retired and not row.moved


def would_get(row: Known, agent_id: str) -> bool:
    """Whether `agent_id`, which was refused a recorded instance, would have it if it listed it again."""
    return row.retired and (row.agent_id == agent_id or not row.moved)


def is_drift(row: Known, active: Active) -> bool:
    """The host has something else live than is recorded, and no task of ours is at work there."""
    return not row.busy and (row.active_version, row.active_sha256) != (active.version, active.sha256)
