"""What the doctor makes of facts: how bad they are, and how to mend them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent.core.diagnosis import (
    LOW_INODES,
    Placed,
    Space,
    judge_certificate,
    judge_clock,
    judge_secret,
    judge_space,
    judge_trust,
)
from agent.core.finding import Finding, Level, fine, problem, warning, worst
from agent.core.hook_diagnosis import judge_hooks
from agent.core.root_diagnosis import Root, judge_root
from agent.core.unit_diagnosis import (
    RULES,
    Allowance,
    Unit,
    judge_agent_unit,
    judge_sandboxed_service,
    judge_service_unit,
)

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
END = BEGIN + timedelta(days=30)
AGENT = Unit(
    "releasehand-agent.service",
    "loaded",
    active="active",
    enabled="enabled",
    protect_system="strict",
    protect_home="yes",
    private_tmp=True,
    writable=("/srv", "/var/lib/releasehand-agent", "/run/releasehand-agent"),
)
WEB = Unit("web.service", "loaded", active="active", enabled="enabled")
ROOT = Root("web-1", "/srv/web", "/srv/web", exists=True, is_folder=True, writable=True, account="root")
MAY = Allowance(True, "root")


def levels(found: list[Finding]) -> list[tuple[str, Level]]:
    return [(one.check, one.level) for one in found]


def test_whatever_is_not_well_says_why_and_how_to_mend_it() -> None:
    """Of all that is judged here; fine ones say neither."""
    found = [
        *judge_clock(-400, "ctl", vouched=False),
        judge_certificate(BEGIN, END, END),
        *judge_space(Space("/srv", 0, 0, False), low_bytes=2, needed_bytes=1, what_for="releases"),
        *judge_space(Space("/srv", 0, 0, True), low_bytes=2, needed_bytes=1, what_for="releases"),
        judge_secret(Placed("/key", 0o644, 0), agent_uid=0, is_folder=False),
        *judge_trust(["/x.pub: is broken"], 0, signature_asked=[]),
        *judge_root(replace(ROOT, writable=False), None),
        *judge_service_unit(replace(WEB, load="not-found"), "web-1", MAY),
        *judge_agent_unit(None, runs=False),
        judge_sandboxed_service("web-1", AGENT),
    ]
    assert all(one.why and one.mend and one.level is not Level.OK for one in found)
    assert worst(found) is Level.PROBLEM
    assert worst([]) is worst([fine("a", "b", "c")]) is Level.OK
    assert worst([warning("a", "b", "c", why="d", mend="e"), fine("a", "b", "c")]) is Level.WARNING
    assert worst([problem("a", "b", "c", why="d", mend="e")]) is Level.PROBLEM


@pytest.mark.parametrize(
    ("ahead_s", "level"),
    [(0, Level.OK), (-29, Level.OK), (31, Level.WARNING), (-299, Level.WARNING), (301, Level.PROBLEM)],
)
def test_clocks_may_differ_by_seconds(ahead_s: float, level: Level) -> None:
    [found] = judge_clock(ahead_s, "ctl", vouched=True)
    assert found.level is level


def test_a_clock_tells_its_direction_and_who_said_so() -> None:
    assert judge_clock(None, "ctl", vouched=True) == []
    [ahead] = judge_clock(3600, "ctl", vouched=True)
    [behind] = judge_clock(-3600, "ctl", vouched=False)
    assert ahead.what == "this host's clock is 3,600 s ahead of the controller's"
    assert behind.what.startswith("this host's clock is 3,600 s behind the controller's (by its own word")


@pytest.mark.parametrize(
    ("at", "level"),
    [
        (BEGIN - timedelta(seconds=1), Level.PROBLEM),
        (BEGIN, Level.OK),
        (BEGIN + timedelta(days=20), Level.OK),
        (BEGIN + timedelta(days=23), Level.WARNING),
        (END, Level.PROBLEM),
    ],
)
def test_a_certificate_is_to_be_renewed_before_three_quarters_of_its_life(at: datetime, level: Level) -> None:
    assert judge_certificate(BEGIN, END, at).level is level


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (Space("/srv", 100, None, False), [("disk.space", Level.OK)]),
        (Space("/srv", 15, None, False), [("disk.space", Level.WARNING)]),
        (Space("/srv", 5, None, False), [("disk.space", Level.PROBLEM)]),
        (Space("/srv", 100, 0, False), [("disk.space", Level.OK), ("disk.inodes", Level.PROBLEM)]),
        (
            Space("/srv", 100, LOW_INODES - 1, False),
            [("disk.space", Level.OK), ("disk.inodes", Level.WARNING)],
        ),
        (Space("/srv", 100, None, True), [("disk.read_only", Level.PROBLEM)]),
    ],
)
def test_space_runs_out_in_two_steps(space: Space, expected: list[tuple[str, Level]]) -> None:
    assert levels(judge_space(space, low_bytes=20, needed_bytes=10, what_for="releases")) == expected


@pytest.mark.parametrize(
    ("mode", "owner", "is_folder", "level"),
    [
        (0o600, 7, False, Level.OK),
        (0o640, 7, False, Level.PROBLEM),
        (0o600, 0, False, Level.PROBLEM),
        (0o755, 7, True, Level.OK),
        (0o775, 7, True, Level.PROBLEM),
    ],
)
def test_the_key_is_the_agents_alone(mode: int, owner: int, is_folder: bool, level: Level) -> None:
    assert judge_secret(Placed("/key", mode, owner), agent_uid=7, is_folder=is_folder).level is level


def test_signatures_without_a_key_refuse_every_package() -> None:
    assert levels(judge_trust([], 0, signature_asked=["web"])) == [("trust", Level.PROBLEM)]
    assert levels(judge_trust([], 1, signature_asked=["web"])) == [("trust", Level.OK)]
    assert levels(judge_trust([], 0, signature_asked=[])) == [("trust", Level.OK)]


@pytest.mark.parametrize(
    ("path", "lock"),
    [
        ("/srv/web", ""),
        ("/var/lib/releasehand-agent/x", ""),
        ("/opt/web", "ProtectSystem=strict"),
        ("/srvx", "ProtectSystem=strict"),
        ("/home/me/web", "ProtectHome=yes"),
        ("/tmp/web", "PrivateTmp=yes"),
    ],
)
def test_a_root_must_be_open_in_the_units_sandbox(path: str, lock: str) -> None:
    found = judge_root(replace(ROOT, path=path, nearest=path), AGENT)
    assert levels(found) == [("root.sandbox", Level.PROBLEM) if lock else ("root.write", Level.OK)]
    if lock:
        assert f"has {lock}" in found[0].what
    assert ("ReadWritePaths=" in found[0].mend) is (lock == "ProtectSystem=strict")


@pytest.mark.parametrize(
    ("changes", "path", "is_closed"),
    [
        ({"protect_system": "no"}, "/opt/web", False),
        ({"protect_system": "full"}, "/etc/web", True),
        ({"protect_system": "yes"}, "/etc/web", False),
        ({"protect_system": "yes"}, "/usr/web", True),
        ({"writable": ("/srv", "/home/web")}, "/home/web/root", False),
        ({"unwritable": ("/srv/web",)}, "/srv/web", True),
        ({"unwritable": ("/srv/web",), "writable": ("/srv/web/one",)}, "/srv/web/one", False),
        ({"hidden": ("/srv/web",)}, "/srv/web/one", True),
        ({"writable": ("/",)}, "/opt/web", False),
    ],
)
def test_of_several_rules_of_a_sandbox_the_nearest_counts(
    changes: dict[str, object], path: str, is_closed: bool
) -> None:
    agent = replace(AGENT, **changes)  # type: ignore[arg-type]
    found = judge_root(replace(ROOT, path=path, nearest=path), agent)
    assert (found[0].check == "root.sandbox") is is_closed


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"writable": False}, ("root.write", Level.PROBLEM)),
        ({"writable": None}, ("root.write", Level.WARNING)),
        ({"is_folder": False}, ("root.write", Level.PROBLEM)),
        ({"exists": False, "nearest": "/srv"}, ("root.write", Level.OK)),
    ],
)
def test_a_root_is_to_be_writable_for_the_agents_account(
    changes: dict[str, object], expected: tuple[str, Level]
) -> None:
    assert levels(judge_root(replace(ROOT, **changes), AGENT)) == [expected]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [("unit", Level.OK)]),
        ({"load": "not-found"}, [("unit.exists", Level.PROBLEM)]),
        ({"load": "masked"}, [("unit.exists", Level.PROBLEM)]),
        ({"load": "bad-setting"}, [("unit.exists", Level.PROBLEM)]),
        ({"enabled": "disabled"}, [("unit.enabled", Level.WARNING)]),
        ({"active": "failed", "result": "exit-code"}, [("unit.state", Level.WARNING)]),
        ({"needs_reload": True}, [("unit.reload", Level.WARNING)]),
        ({"active": "inactive"}, [("unit", Level.OK)]),  # nothing is deployed yet
    ],
)
def test_a_services_unit_is_to_be_there_and_to_start(
    changes: dict[str, object], expected: list[tuple[str, Level]]
) -> None:
    assert levels(judge_service_unit(replace(WEB, **changes), "web-1", MAY)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("agent", "service", "expected"),
    [
        ("root", "", []),
        ("root", "shop", []),
        ("releasehand-agent", "shop", []),
        ("releasehand-agent", "", ["unit.account"]),
        ("releasehand-agent", "root", ["unit.account"]),
        ("releasehand-agent", "releasehand-agent", ["unit.account"]),
    ],
)
def test_a_service_is_not_to_run_as_root_from_code_of_another_account(
    agent: str, service: str, expected: list[str]
) -> None:
    found = judge_service_unit(replace(WEB, user=service), "web-1", Allowance(True, agent))
    assert [one.check for one in found if one.level is not Level.OK] == expected


def test_an_account_that_may_not_restart_a_unit_is_told_the_rule() -> None:
    web = replace(WEB, user="shop")
    [found] = judge_service_unit(web, "web-1", Allowance(False, "releasehand-agent"))
    assert (found.check, found.level, found.mend) == ("unit.allowed", Level.PROBLEM, RULES)
    [found] = judge_service_unit(web, "web-1", Allowance(None, "releasehand-agent", "no polkit"))
    assert (found.level, found.why) == (Level.WARNING, "no polkit")


@pytest.mark.parametrize(
    ("unit", "runs", "expected"),
    [
        (AGENT, True, [("agent.unit", Level.OK)]),
        (replace(AGENT, active="inactive", enabled="disabled"), False, [("agent.unit", Level.PROBLEM)]),
        (replace(AGENT, active="failed", result="exit-code"), False, [("agent.unit", Level.PROBLEM)]),
        (replace(AGENT, enabled="disabled"), True, [("agent.unit", Level.WARNING)]),
        (
            replace(AGENT, needs_reload=True),
            True,
            [("agent.unit", Level.OK), ("agent.reload", Level.WARNING)],
        ),
        (None, True, [("agent.unit", Level.OK)]),
        (None, False, [("agent.unit", Level.PROBLEM)]),
    ],
)
def test_the_agent_is_to_run_and_to_start_at_boot(
    unit: Unit | None, runs: bool, expected: list[tuple[str, Level]]
) -> None:
    assert levels(judge_agent_unit(unit, runs=runs)) == expected


# hooks


def test_hooks_are_said_to_run_where_they_do() -> None:
    assert judge_hooks("web-1", "root", AGENT, "").what.endswith("run as root, each as a unit of its own")
    assert judge_hooks("web-1", "shop", AGENT, "").what.endswith(
        "in the sandbox of releasehand-agent.service"
    )
    by_hand = judge_hooks("web-1", "root", None, "there is no bus")  # which nobody needs then
    assert by_hand == fine("hooks", "web-1", "hooks of web-1 run as root")


def test_hooks_that_systemd_cannot_run_are_a_problem_before_a_deployment_is() -> None:
    found = judge_hooks("web-1", "root", AGENT, "the system bus does not answer")
    assert (found.level, found.why) == (
        Level.PROBLEM,
        "the agent has systemd run them, and the system bus does not answer",
    )
    assert "apt-get install dbus" in found.mend
