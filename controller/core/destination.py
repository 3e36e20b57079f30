"""Where an operation takes each of its instances, and from where: for what is accepted and for what is only
asked about alike."""

from collections.abc import Mapping
from dataclasses import dataclass

from releasehand.model import PREVIOUS, OperationKind, Presence, WaitingFor

from .acceptance import Order
from .lineage import Release


@dataclass(frozen=True, slots=True)
class Source:
    """Where a version was last deployed from."""

    package_url: str
    query_row: int | None  # where the rest of the URL is stored
    sha256: str


@dataclass(frozen=True, slots=True)
class Target:
    """What one instance's task is to install, and from where."""

    version: str
    package_url: str
    query_row: int | None
    package_sha256: str  # which release is meant; "" leaves it to the version
    source_sha256: str  # what a download from `package_url` must have; "" if nobody knows


def asks_for_previous(order: Order) -> bool:
    """Whether the history of each instance says where it goes."""
    return order.version == PREVIOUS


def asks_for_sources(order: Order) -> bool:
    """Whether it matters where its versions were last deployed from."""
    return order.kind is OperationKind.ROLLBACK and not order.package_url


def choose_releases(order: Order, previous: Mapping[str, Release]) -> Mapping[str, Release]:
    """The release that each instance is to have. `previous` holds each one's own, if the order asks for it;
    an instance that it leads nowhere is left out."""
    if asks_for_previous(order):
        return previous
    return dict.fromkeys(order.instances, Release(order.version, order.package_sha256))


def choose_targets(
    order: Order, releases: Mapping[str, Release], recorded: Mapping[str, Source]
) -> dict[str, Target]:
    """Where each instance finds its release (docs/architecture.md «A deployment, in one direction»).
    `recorded` holds sources by version."""
    chosen = {release: _choose(order, release, recorded) for release in set(releases.values())}
    return {name: chosen[release] for name, release in releases.items()}


def _choose(order: Order, release: Release, recorded: Mapping[str, Source]) -> Target:
    digest = order.package_sha256 or release.sha256
    if order.package_url:
        return Target(release.version, order.package_url, order.query_row, digest, digest)
    known = recorded.get(release.version)
    if known is None or (digest and known.sha256 and known.sha256 != digest):
        return Target(release.version, "", None, digest, digest)  # recorded is another release of that name
    return Target(release.version, known.package_url, known.query_row, digest, digest or known.sha256)


def describe_dead_end(instance_id: str) -> str:
    """Why an instance that `previous` leads nowhere fails."""
    return f"instance '{instance_id}' has no previous good version to go back to"


def first_wait(presence: Presence, *, behind: bool) -> WaitingFor:
    """What a task says until the dispatcher has looked at it, which may be after a restart."""
    if behind:
        return WaitingFor.BEHIND_OTHER_TASK
    return WaitingFor.AGENT_WORKING if presence is Presence.ONLINE else WaitingFor.AGENT_OFFLINE
