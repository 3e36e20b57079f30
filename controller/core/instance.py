"""What a caller sees of an instance, and how a host's own word changes what is recorded."""

from releasehand.model import InstanceStatus, Presence, ServiceState


def judge(
    *, version: str, state: ServiceState, reason: str, broken: bool, presence: Presence
) -> tuple[InstanceStatus, str]:
    """The status and, when it is not `running`, why (docs/architecture.md «HTTP API»).

    store.instances.STATUS says the same in SQL; a test crosses all inputs and holds them equal."""
    if presence is Presence.OFFLINE:
        return InstanceStatus.ERROR, "agent_offline"
    if broken:
        return InstanceStatus.ERROR, "broken"
    if not version and reason:
        return InstanceStatus.ERROR, reason  # something may well run: the host cannot tell what is live
    if not version:
        return InstanceStatus.STOPPED, "nothing_installed"
    if state is ServiceState.STOPPED:
        return InstanceStatus.STOPPED, "service_inactive"
    if state is ServiceState.FAILED:
        return InstanceStatus.ERROR, reason or "check_failing"
    return InstanceStatus.RUNNING, ""
