"""What an agent's `hello` and heartbeats change: whose instances they are, and what drifted."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.presence import Claims, Known, is_drift, settle_claims
from shared.frames import Active, InstanceState

LIVE = Active(release="v1-aa", version="v1", sha256="aa")


def state(instance_id: str = "user-1", active: Active = LIVE) -> InstanceState:
    return InstanceState(instance_id=instance_id, service="user", active=active)


def known(instance_id: str = "user-1", **said: Any) -> Known:
    values: dict[str, Any] = {
        "instance_id": instance_id,
        "agent_id": "agent-1",
        "service": "user",
        "active_version": "v1",
        "active_sha256": "aa",
        "retired": False,
        "busy": False,
    }
    return Known(**(values | said))


def settle(listed: list[InstanceState], *rows: Known, reports_waiting: bool = False) -> Claims:
    return settle_claims(
        "agent-1", listed, {row.instance_id: row for row in rows}, reports_waiting=reports_waiting
    )


def test_the_first_agent_that_lists_an_instance_owns_it() -> None:
    assert settle([state()]) == Claims(new=[state()], kept=[], drifted=[], refused=[], gone=[])


def test_its_owner_keeps_it() -> None:
    assert settle([state()], known()) == Claims(new=[], kept=[state()], drifted=[], refused=[], gone=[])


def test_another_agents_claim_is_refused_for_that_instance_alone() -> None:
    claims = settle([state("user-1"), state("user-2")], known("user-1", agent_id="agent-2"))
    assert [refused.instance_id for refused in claims.refused] == ["user-1"]
    assert "agent-2" in claims.refused[0].reason
    assert claims.new == [state("user-2")]
    assert not claims.kept
    assert not claims.gone


def test_what_its_owner_lists_no_longer_is_gone() -> None:
    claims = settle([state("user-2")], known("user-1"), known("user-2"))
    assert claims.gone == ["user-1"]
    assert claims.kept == [state("user-2")]


def test_an_agent_with_nothing_left_loses_everything_and_nobody_elses() -> None:
    claims = settle([], known("user-1"), known("user-2", agent_id="agent-2"))
    assert claims.gone == ["user-1"]


def test_what_is_retired_already_is_not_gone_again() -> None:
    assert settle([], known(retired=True)).gone == []


def test_a_retired_instance_comes_back_with_its_owner() -> None:
    assert settle([state()], known(retired=True)).kept == [state()]


def test_a_retired_instance_is_free_for_another_agent() -> None:
    claims = settle([state()], known(agent_id="agent-2", retired=True))
    assert claims.new == [state()]
    assert not claims.refused


def test_a_moved_instance_is_its_new_owners_alone() -> None:
    mine, others = known(retired=True, moved=True), known(agent_id="agent-2", retired=True, moved=True)
    assert settle([state()], mine) == Claims(new=[state()], kept=[], drifted=[], refused=[], gone=[])
    assert [refused.instance_id for refused in settle([state()], others).refused] == ["user-1"]
    assert settle([], mine).gone == []


def test_an_instance_listed_twice_counts_once() -> None:
    other = Active(release="v9-zz", version="v9", sha256="zz")
    claims = settle([state(), state(active=other)])
    assert claims.new == [state()]
    assert [(refused.instance_id, refused.reason) for refused in claims.refused] == [
        ("user-1", "listed twice")
    ]


@pytest.mark.parametrize(
    "found",
    [
        Active(release="v2-bb", version="v2", sha256="bb"),
        Active(release="v1-bb", version="v1", sha256="bb"),
        Active(),
    ],
)
def test_another_live_release_that_nothing_explains_is_drift(found: Active) -> None:
    claims = settle([state(active=found)], known())
    assert claims.kept == claims.drifted == [state(active=found)]


def test_a_release_that_appears_where_nothing_was_is_drift() -> None:
    assert settle([state()], known(active_version="", active_sha256="")).drifted == [state()]


def test_while_a_task_is_at_work_a_change_is_expected() -> None:
    assert not settle([state(active=Active())], known(busy=True)).drifted
    assert not is_drift(known(busy=True), Active())


def test_with_reports_on_their_way_nothing_counts_as_drift_yet() -> None:
    claims = settle([state(active=Active())], known(), reports_waiting=True)
    assert claims.kept
    assert not claims.drifted


def test_the_name_of_the_directory_is_no_drift() -> None:
    assert not is_drift(known(), Active(release="renamed", version="v1", sha256="aa"))


NAMES = st.sampled_from(["user-1", "user-2", "user-3", "user-4"])
ROWS = st.builds(
    known, NAMES, agent_id=st.sampled_from(["agent-1", "agent-2"]), retired=st.booleans(), busy=st.booleans()
)


@given(st.lists(NAMES.map(state), max_size=6), st.lists(ROWS, max_size=4), st.booleans())
def test_every_listed_instance_gets_exactly_one_answer(
    listed: list[InstanceState], rows: list[Known], waiting: bool
) -> None:
    claims = settle(listed, *rows, reports_waiting=waiting)
    taken = [one.instance_id for one in claims.new + claims.kept]
    refused = [one.instance_id for one in claims.refused]
    assert sorted(taken + refused) == sorted(one.instance_id for one in listed)
    assert len(taken) == len(set(taken))
    assert not set(taken) & set(claims.gone)
    assert all(one in claims.kept for one in claims.drifted)


@given(st.lists(ROWS, max_size=4))
def test_an_agent_never_touches_what_another_owns(rows: list[Known]) -> None:
    by_name = {row.instance_id: row for row in rows}
    claims = settle([state(name) for name in by_name], *rows)
    taken = claims.new + claims.kept
    for name in claims.gone + [one.instance_id for one in taken]:
        assert by_name[name].agent_id == "agent-1" or by_name[name].retired
