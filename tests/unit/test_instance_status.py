"""What a caller sees of an instance: every combination of what is known of it."""

from itertools import product

import pytest

from controller.core.instance import judge
from releasehand.model import InstanceStatus, Presence, ServiceState

EVERYTHING = list(product(["", "v1"], ServiceState, ["", "connection refused"], [False, True], Presence))


def look(
    version: str = "v1",
    state: ServiceState = ServiceState.RUNNING,
    reason: str = "",
    *,
    broken: bool = False,
    presence: Presence = Presence.ONLINE,
) -> tuple[InstanceStatus, str]:
    return judge(version=version, state=state, reason=reason, broken=broken, presence=presence)


@pytest.mark.parametrize(("version", "state", "reason", "broken", "presence"), EVERYTHING)
def test_whatever_is_not_running_says_why_and_running_says_nothing(
    version: str, state: ServiceState, reason: str, broken: bool, presence: Presence
) -> None:
    status, why = look(version, state, reason, broken=broken, presence=presence)
    assert (status is InstanceStatus.RUNNING) == (not why)


@pytest.mark.parametrize(("version", "state", "reason", "broken", "presence"), EVERYTHING)
def test_running_means_online_or_suspect_whole_installed_and_not_known_to_be_down(
    version: str, state: ServiceState, reason: str, broken: bool, presence: Presence
) -> None:
    status, _ = look(version, state, reason, broken=broken, presence=presence)
    up = state in (ServiceState.RUNNING, ServiceState.UNKNOWN)
    assert (status is InstanceStatus.RUNNING) == (
        up and bool(version) and not broken and presence is not Presence.OFFLINE
    )


def test_an_agent_that_is_offline_hides_everything_else() -> None:
    assert look(presence=Presence.OFFLINE, broken=True) == (InstanceStatus.ERROR, "agent_offline")


def test_a_suspect_agent_changes_nothing_yet() -> None:
    assert look(presence=Presence.SUSPECT) == (InstanceStatus.RUNNING, "")


def test_a_broken_instance_is_an_error_even_with_nothing_installed() -> None:
    assert look("", broken=True) == (InstanceStatus.ERROR, "broken")


def test_nothing_installed_and_an_inactive_service_are_stopped() -> None:
    assert look("", ServiceState.FAILED) == (InstanceStatus.STOPPED, "nothing_installed")
    assert look(state=ServiceState.STOPPED) == (InstanceStatus.STOPPED, "service_inactive")


def test_a_host_that_cannot_tell_what_is_live_is_an_error_with_its_reason() -> None:
    reason = "cannot use current: it names '/etc', which is no release here"
    assert look("", reason=reason) == (InstanceStatus.ERROR, reason)


def test_a_failing_check_is_an_error_with_the_hosts_own_reason() -> None:
    assert look(state=ServiceState.FAILED, reason="HTTP 503") == (InstanceStatus.ERROR, "HTTP 503")
    assert look(state=ServiceState.FAILED) == (InstanceStatus.ERROR, "check_failing")


def test_without_a_driver_something_installed_is_running() -> None:
    assert look(state=ServiceState.UNKNOWN) == (InstanceStatus.RUNNING, "")
