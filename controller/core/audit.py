"""Who does something, and what is written down of it: every change has an entry, also a refused one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from releasehand.model import ActorKind, AuditAction, AuditOutcome, Request

Objects = Mapping[str, str | int | Sequence[str]]
"""What an action is about, by its own word: `{"deploy_id": "d-1", "instances": ["a", "b"]}`."""

MAX_TEXT_CHARS: Final = 256
MAX_MESSAGE_CHARS: Final = 1_000
MAX_NAMES: Final = 100


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody who does something. `name` is the token's, the agent's id or the local account's, "" for a
    stranger; `address` is without the port; `request_id` is "" where there is no request."""

    name: str
    kind: ActorKind
    address: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One attempt to change something, as it ended. No secret belongs in it.

    `code` and `message` say why it was refused or failed. Texts may come from strangers: `bounded` cuts
    them, and the store makes them safe to show."""

    at: datetime
    actor: Actor
    action: AuditAction
    outcome: AuditOutcome = AuditOutcome.ACCEPTED
    objects: Objects = field(default_factory=dict)
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What of the audit is wanted: from `since` on, before `until`. "" and None let everything through."""

    actor: str = ""
    action: AuditAction | None = None
    outcome: AuditOutcome | None = None
    since: datetime | None = None
    until: datetime | None = None


_TOLD: Final = (
    *("service", "version", "target_version", "deploy_id", "instance_id", "instances", "force"),
    *("agent_id", "name", "scopes", "services", "ttl", "host", "max_uses", "reason"),
)
"""The fields of bodies that say what a call is about. A package's URL is none of them: its query is a
credential."""


def describe(body: Request | None, **more: str) -> dict[str, str | int | Sequence[str]]:
    """What a call is about: what its body names, and `more`; what says nothing is left out."""
    found: dict[str, str | int | Sequence[str]] = {name: value for name, value in more.items() if value}
    for name in _TOLD:
        if value := getattr(body, name, None):
            found[name] = int(value) if isinstance(value, bool) else value
    if isinstance(instances := found.get("instances"), list):
        found["instance_count"] = len(instances)
    return found


def bounded(objects: Objects) -> dict[str, str | int | list[str]]:
    """`objects` with no text and no list longer than is kept."""
    return {name[:MAX_TEXT_CHARS]: _cut(value) for name, value in objects.items()}


def _cut(value: str | int | Sequence[str]) -> str | int | list[str]:
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        return value[:MAX_TEXT_CHARS]
    return [name[:MAX_TEXT_CHARS] for name in value[:MAX_NAMES]]
