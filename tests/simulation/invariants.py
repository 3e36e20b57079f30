"""What must hold after every step of the simulation, whatever was done to it: read from the
controller's tables and from what the hosts really did, never from the engine's own functions."""

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from releasehand.model import Phase
from shared.attempt import PAST_NO_RETURN
from tests.simulation.fleet import Fleet
from tests.simulation.host import BOUND_S

OPEN: Final = frozenset({"pending", "in_progress"})
GRACE_S: Final = 30.0
SWEEP_S: Final = 4.0  # a sweep each second, and a database that takes its time


@dataclass
class Promise:
    """An operation that was answered: it must end, and be what was asked for."""

    operation_id: str
    instances: tuple[str, ...]


@dataclass
class Memory:
    """What earlier looks have seen: it must not change any more."""

    promises: dict[str, Promise] = field(default_factory=dict)
    ended_tasks: dict[int, tuple[str, str]] = field(default_factory=dict)
    ended_operations: dict[int, str] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)
    journals_lost: set[str] = field(default_factory=set)
    """Agents that may have forgotten what they have done."""


def find_violations(fleet: Fleet, memory: Memory) -> list[str]:
    """What does not hold now; empty when all is well."""
    tasks = [dict(row) for row in fleet.query("SELECT * FROM task ORDER BY id")]
    operations = [dict(row) for row in fleet.query("SELECT * FROM operation ORDER BY id")]
    instances = [dict(row) for row in fleet.query("SELECT * FROM instance")]
    history = [dict(row) for row in fleet.query("SELECT * FROM version_history WHERE operation_id != ''")]
    return [
        *_tasks(fleet, memory, tasks),
        *_operations(memory, operations, tasks),
        *_deadlines(fleet, tasks),
        *_generations(memory, instances, tasks),
        *_history(tasks, history),
        *_hosts(fleet),
        *_truth(fleet, memory, tasks),
    ]


def _tasks(fleet: Fleet, memory: Memory, tasks: list[dict[str, Any]]) -> list[str]:
    found = []
    holders = Counter(
        task["instance_id"] for task in tasks if task["status"] in OPEN and task["superseded_by"] is None
    )
    found += [f"{name} has {count} open tasks" for name, count in holders.items() if count > 1]
    for task in tasks:
        name, end = _name(task), (task["status"], task["completed_at"])
        if task["status"] in OPEN:
            if not task["waiting_for"]:
                found.append(f"{name} is open and does not say what it waits for")
            if task["completed_at"] is not None:
                found.append(f"{name} is open and has an end")
        else:
            if memory.ended_tasks.setdefault(task["id"], end) != end:
                found.append(f"{name} had ended as {memory.ended_tasks[task['id']]} and now is {end}")
            if task["waiting_for"] is not None or task["completed_at"] is None:
                found.append(f"{name} has ended and waits, or does not say when")
        if task["status"] == "completed" and task["error_code"] is not None:
            found.append(f"{name} is completed with code {task['error_code']}")
        if task["status"] == "failed" and not (task["error_code"] and task["error_message"]):
            found.append(f"{name} failed and does not say why")
    found += [
        f"{memory.ended_tasks[number]} of task {number} is gone"
        for number in memory.ended_tasks.keys() - {task["id"] for task in tasks}
    ]
    return found


def _operations(memory: Memory, operations: list[dict[str, Any]], tasks: list[dict[str, Any]]) -> list[str]:
    found = []
    mine: dict[int, list[dict[str, Any]]] = {}
    for task in tasks:
        mine.setdefault(task["operation"], []).append(task)
    known = {row["operation_id"]: row for row in operations}
    for row in operations:
        statuses = Counter(task["status"] for task in mine.get(row["id"], []))
        expected = _expected_status(statuses)
        if row["status"] != expected:
            found.append(f"{row['operation_id']} is {row['status']} with tasks {dict(statuses)}")
        if sum(statuses.values()) != row["instance_count"]:
            found.append(f"{row['operation_id']} has {dict(statuses)} of {row['instance_count']} tasks")
        if (row["ended_at"] is None) != (row["status"] in OPEN):
            found.append(f"{row['operation_id']} is {row['status']} and ended at {row['ended_at']}")
        if row["status"] not in OPEN and (
            memory.ended_operations.setdefault(row["id"], row["status"]) != row["status"]
        ):
            found.append(f"{row['operation_id']} had ended as {memory.ended_operations[row['id']]}")
    for promise in memory.promises.values():
        if promise.operation_id not in known:
            found.append(f"{promise.operation_id} was accepted and is gone")
            continue
        accepted = mine[known[promise.operation_id]["id"]]
        if sorted(task["instance_id"] for task in accepted) != sorted(promise.instances):
            found.append(f"{promise.operation_id} is not for the instances that were asked for")
    return found


def _expected_status(statuses: Counter[str]) -> str:
    if statuses["in_progress"] or (statuses["pending"] and len(+statuses) > 1):
        return "in_progress"
    if statuses["pending"]:
        return "pending"
    if statuses["cancelled"]:
        return "cancelled"
    return "failed" if statuses["failed"] else "completed"


def _deadlines(fleet: Fleet, tasks: list[dict[str, Any]]) -> list[str]:
    """Nothing is open past its bound, unless the controller, or its database, is or was away just then."""
    if not fleet.controller.runs or fleet.clock.monotonic() - fleet.untroubled_since < GRACE_S:
        return []
    found = []
    now = fleet.clock.now()
    for task in tasks:
        if task["status"] not in OPEN:
            continue
        bound_s = GRACE_S if task["attempt"] else 0.0
        if task["phase"] in PAST_NO_RETURN:
            bound_s += 2 * BOUND_S
        if now > _at(task["deadline_at"]) + timedelta(seconds=bound_s + SWEEP_S):
            found.append(f"{_name(task)} is open at {now}, past its bound: {task}")
    return found


def _generations(memory: Memory, instances: list[dict[str, Any]], tasks: list[dict[str, Any]]) -> list[str]:
    found = []
    for row in instances:
        before = memory.generations.get(row["instance_id"], 0)
        if row["generation"] < before:
            found.append(f"{row['instance_id']} went back from generation {before} to {row['generation']}")
        memory.generations[row["instance_id"]] = row["generation"]
    used = Counter((task["instance_id"], task["generation"]) for task in tasks)
    found += [f"generation {pair} was given out {count} times" for pair, count in used.items() if count > 1]
    return found


def _history(tasks: list[dict[str, Any]], history: list[dict[str, Any]]) -> list[str]:
    """One entry for each ended task that was dispatched; a second one for what was unknown and then told."""
    found = []
    entries: dict[tuple[str, str], list[str]] = {}
    for row in history:
        if row["action"] != "revert":
            entries.setdefault((row["operation_id"], row["instance_id"]), []).append(row["status"])
    for task in tasks:
        got = entries.get((task["operation_id"], task["instance_id"]), [])
        if task["status"] in OPEN or not task["attempt"]:
            wanted: list[list[str]] = [[]]
        elif task["error_code"] == "outcome_unknown":
            wanted = [["unknown"], ["unknown", "success"], ["unknown", "failed"], ["unknown", "cancelled"]]
        else:
            wanted = [[{"completed": "success"}.get(task["status"], task["status"])]]
        if got not in wanted:
            found.append(f"{_name(task)} is {task['status']} and its history says {got}")
    return found


def _hosts(fleet: Fleet) -> list[str]:
    found = []
    for host in fleet.hosts.values():
        for name, activations in host.ledger.activations.items():
            for (ref, boot), count in Counter((one.ref, one.boot) for one in activations).items():
                if count > 1:
                    found.append(f"{name} was activated {count} times by {ref} in boot {boot}")
            order = [(one.ref.generation, one.ref.attempt) for one in activations]
            if order != sorted(order):
                found.append(f"{name} was activated by older commands after newer ones: {order}")
    return found


def _truth(fleet: Fleet, memory: Memory, tasks: list[dict[str, Any]]) -> list[str]:
    """What is recorded as the end of a task is what its host did."""
    found = []
    ends: dict[tuple[int, int], Phase] = {}
    activated: set[tuple[int, int]] = set()
    for host in fleet.hosts.values():
        ends |= host.ledger.ends
        for one in (one for some in host.ledger.activations.values() for one in some):
            activated.add((one.ref.task, one.ref.attempt))
    for task in tasks:
        if task["agent_id"] in memory.journals_lost:
            continue
        number, status = (task["id"], task["attempt"]), task["status"]
        end = ends.get(number)
        if status == "completed" and end is not Phase.DONE:
            found.append(f"{_name(task)} is completed, but its host says {end}")
        if status == "cancelled" and end in {Phase.DONE, Phase.REVERTED, Phase.BROKEN}:
            found.append(f"{_name(task)} is cancelled, but its host says {end}")
        if not task["attempt"] and any(seen == task["id"] for seen, _ in ends if ends[seen, _] is Phase.DONE):
            found.append(f"{_name(task)} was never sent, but a host has done it")
        late = [attempt for seen, attempt in activated if seen == task["id"] and attempt > task["attempt"]]
        if late:
            found.append(f"{_name(task)} has no attempt {late}, but a host has activated it")
        if (
            status == "failed"
            and task["error_code"] not in {"outcome_unknown", "instance_retired"}
            and (end is Phase.DONE)
        ):
            found.append(f"{_name(task)} is failed ({task['error_code']}), but its host has done it")
    return found


def find_differences(fleet: Fleet) -> list[str]:
    """What is still recorded otherwise than it is, where everything has been well for long enough."""
    found = []
    owner = {name: host for host in fleet.hosts.values() for name in host.instances}
    for row in fleet.query("SELECT * FROM instance WHERE retired_at IS NULL"):
        real = owner[row["instance_id"]].active_on_disk(row["instance_id"])
        if row["active_version"] != real:
            found.append(f"{row['instance_id']} is recorded with {row['active_version']!r} and has {real!r}")
        if row["unknown_task"] is not None:
            found.append(f"{row['instance_id']} is still held by an unknown outcome")
    listed = {
        row["instance_id"] for row in fleet.query("SELECT instance_id FROM instance WHERE retired_at IS NULL")
    }
    found += [f"{name} is not listed" for name in owner if name not in listed]
    for row in fleet.query("SELECT * FROM agent"):
        host = fleet.hosts[row["agent_id"]]
        if row["presence"] != "online":
            found.append(f"agent {row['agent_id']} is recorded as {row['presence']}")
        if host.journal is not None and (row["incarnation"], row["last_n"]) != (
            host.journal.incarnation,
            host.journal.last_n,
        ):
            found.append(
                f"reports of {row['agent_id']} are not all recorded: {row['last_n']} of {host.journal.last_n}"
            )
    for row in fleet.query("SELECT * FROM task WHERE status IN ('pending', 'in_progress')"):
        found.append(f"{_name(dict(row))} is still open: {json.dumps(dict(row), default=str)}")
    return found


def find_gaps_in_log(fleet: Fleet) -> list[str]:
    """Where the release log does not tell each phase of each attempt from its start to its end, or each end
    once; for when no task is open."""
    found = []
    open_phase: dict[tuple[int, int], str] = {}
    counts: Counter[tuple[str, int]] = Counter()
    for row in fleet.query("SELECT * FROM event WHERE operation IS NOT NULL ORDER BY id"):
        number = (row["task"], row["attempt"])
        if row["task"] is not None:
            counts[row["event"], row["task"]] += 1
        match row["event"]:
            case "phase_started":
                if number in open_phase:
                    found.append(f"{number} starts {row['phase']} in its {open_phase[number]}")
                open_phase[number] = row["phase"]
            case "phase_ended":
                if open_phase.pop(number, None) != row["phase"]:
                    found.append(f"{number} ends {row['phase']}, which had not started")
            case _:
                pass
    found += [f"{number} never ends its {phase}" for number, phase in open_phase.items()]
    for task in fleet.query("SELECT id, attempt FROM task"):
        told = {name: counts[name, task["id"]] for name in ("accepted", "dispatched", "ended")}
        if told != {"accepted": 1, "dispatched": task["attempt"], "ended": 1}:
            found.append(f"task {task['id']} with {task['attempt']} attempts is told as {told}")
    return found


def _name(task: dict[str, Any]) -> str:
    return f"task {task['id']} ({task['operation_id']} of {task['instance_id']}, attempt {task['attempt']})"


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
