"""Which release an instance had before its present one, told by its history."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.lineage import HistoryTooShortError, Lineage, Lived, Release, previous_good
from releasehand.model import HistoryAction, HistoryStatus


def digest(version: str) -> str:
    return f"digest of {version}" if version else ""


def lived(action: HistoryAction, version: str, status: HistoryStatus = HistoryStatus.SUCCESS) -> Lived:
    return Lived(version, digest(version), action, status)


def deploy(version: str, status: HistoryStatus = HistoryStatus.SUCCESS) -> Lived:
    return lived(HistoryAction.DEPLOY, version, status)


def rollback(version: str, status: HistoryStatus = HistoryStatus.SUCCESS) -> Lived:
    return lived(HistoryAction.ROLLBACK, version, status)


def revert(version: str) -> Lived:
    return lived(HistoryAction.REVERT, version)


def drift(version: str) -> Lived:
    return lived(HistoryAction.DRIFT, version)


def adopt(version: str) -> Lived:
    return lived(HistoryAction.ADOPT, version)


def find_needed(history: list[Lived], keep: int) -> set[int]:
    lineage = Lineage()
    for place, entry in enumerate(history):
        lineage.add(place, entry)
    return lineage.find_needed(keep)


def previous(*history: Lived) -> str | None:
    found = previous_good(history)
    assert found is None or found == Release(found.version, digest(found.version))
    return found.version if found else None


def test_nothing_comes_before_the_first_release() -> None:
    assert previous() is None
    assert previous(deploy("v1")) is None


def test_the_release_before_the_present_one_is_the_previous() -> None:
    assert previous(deploy("v1"), deploy("v2")) == "v1"
    assert previous(deploy("v1"), deploy("v2"), deploy("v3")) == "v2"


def test_a_rollback_of_a_rollback_goes_back_two_steps() -> None:
    history = [deploy("v1"), deploy("v2"), deploy("v3"), rollback("v2")]
    assert previous(*history) == "v1"
    assert previous(*history, rollback("v1")) is None


def test_what_is_deployed_after_a_rollback_stands_on_its_target() -> None:
    history = [deploy("v1"), deploy("v2"), rollback("v1"), deploy("v3")]
    assert previous(*history) == "v1"


def test_a_rollback_to_a_release_that_was_never_live_here_stands_on_top() -> None:
    assert previous(deploy("v1"), deploy("v2"), rollback("v0")) == "v2"


def test_a_rollback_to_the_present_release_changes_nothing() -> None:
    assert previous(deploy("v1"), deploy("v2"), rollback("v2")) == "v1"


def test_a_redeploy_of_the_present_release_is_no_step() -> None:
    assert previous(deploy("v1"), deploy("v2"), deploy("v2")) == "v1"
    assert previous(deploy("v1"), deploy("v1")) is None


def test_an_older_version_deployed_anew_is_a_step_forward() -> None:
    assert previous(deploy("v1"), deploy("v2"), deploy("v1")) == "v2"
    assert previous(deploy("v1"), deploy("v2"), deploy("v1"), rollback("v2")) == "v1"


def test_a_rollback_takes_the_newest_time_that_its_target_was_live() -> None:
    assert previous(deploy("v1"), deploy("v2"), deploy("v1"), deploy("v3"), rollback("v1")) == "v2"


def test_the_same_version_with_another_digest_is_another_release() -> None:
    first = Lived("v1", "aa", HistoryAction.DEPLOY, HistoryStatus.SUCCESS)
    second = Lived("v1", "bb", HistoryAction.DEPLOY, HistoryStatus.SUCCESS)
    assert previous_good([first, second]) == Release("v1", "aa")


def test_a_digest_that_nobody_knows_is_any_digest() -> None:
    unnamed = Lived("v1", "", HistoryAction.ROLLBACK, HistoryStatus.SUCCESS)
    assert previous_good([deploy("v0"), deploy("v1"), deploy("v2"), unnamed]) == Release("v0", digest("v0"))


@pytest.mark.parametrize(
    "status", [status for status in HistoryStatus if status is not HistoryStatus.SUCCESS]
)
def test_only_what_succeeded_was_good(status: HistoryStatus) -> None:
    history = [deploy("v1"), deploy("v2"), deploy("v3", status), rollback("v1", status)]
    assert previous(*history) == "v1"


def test_a_reverted_deployment_leaves_everything_as_it_was() -> None:
    failed = [deploy("v3", HistoryStatus.FAILED), revert("v2")]
    assert previous(deploy("v1"), deploy("v2"), *failed) == "v1"
    assert previous(deploy("v1"), deploy("v2"), *failed, *failed) == "v1"


def test_the_first_deployment_that_was_reverted_to_nothing_leaves_no_previous() -> None:
    assert previous(deploy("v1", HistoryStatus.FAILED), revert("")) is None


def test_an_unknown_outcome_counts_once_it_is_known_to_be_good() -> None:
    unknown = deploy("v2", HistoryStatus.UNKNOWN)
    assert previous(deploy("v1"), unknown) is None
    assert previous(deploy("v1"), unknown, deploy("v2")) == "v1"


def test_what_was_found_at_the_first_hello_is_where_the_lineage_begins() -> None:
    assert previous(adopt("v1"), deploy("v2")) == "v1"
    assert previous(adopt("v1"), deploy("v1"), deploy("v2")) == "v1"


def test_drift_to_something_new_stands_on_top() -> None:
    assert previous(deploy("v1"), deploy("v2"), drift("hotfix")) == "v2"


def test_drift_back_to_an_older_release_is_a_rollback_by_hand() -> None:
    assert previous(deploy("v1"), deploy("v2"), drift("v1")) is None
    assert previous(deploy("v1"), deploy("v2"), deploy("v3"), drift("v2")) == "v1"


def test_where_everything_was_removed_by_hand_the_newest_good_release_is_the_previous() -> None:
    assert previous(deploy("v1"), deploy("v2"), drift("")) == "v2"
    assert previous(deploy("v1"), drift("")) == "v1"
    assert previous(deploy("v1"), drift(""), deploy("v3", HistoryStatus.FAILED), revert("")) == "v1"


def test_what_is_deployed_where_everything_was_removed_stands_on_what_was_there() -> None:
    assert previous(deploy("v1"), deploy("v2"), drift(""), deploy("v3")) == "v2"
    assert previous(deploy("v1"), deploy("v2"), drift(""), rollback("v2")) == "v1"


HISTORIES = st.lists(
    st.builds(
        lived,
        st.sampled_from(HistoryAction),
        st.sampled_from(["v1", "v2", "v3", "v4", ""]),
        st.sampled_from([HistoryStatus.SUCCESS, *HistoryStatus]),
    ),
    max_size=20,
)


@given(old=HISTORIES, later=HISTORIES)
def test_what_is_needed_of_a_history_leads_wherever_the_whole_of_it_does(
    old: list[Lived], later: list[Lived]
) -> None:
    kept = [old[place] for place in sorted(find_needed(old, keep=len(old) or 1))]
    for length in range(len(later) + 1):
        assert previous_good(kept + later[:length]) == previous_good(old + later[:length])


@given(old=HISTORIES)
def test_two_releases_are_enough_to_go_back_once(old: list[Lived]) -> None:
    needed = find_needed(old, keep=2)
    assert previous_good([old[place] for place in sorted(needed)]) == previous_good(old)
    assert len(needed) <= 3


PARTS = st.lists(
    st.builds(
        lived,
        st.sampled_from(HistoryAction),
        st.sampled_from(["", "v1", "v2", "v3", "v4"]),
        st.sampled_from([HistoryStatus.SUCCESS, HistoryStatus.SUCCESS, HistoryStatus.FAILED]),
    ),
    max_size=14,
)


@settings(max_examples=400)
@given(older=PARTS, newest=PARTS)
def test_the_newest_part_of_a_history_tells_the_same_or_that_it_cannot_tell(
    older: list[Lived], newest: list[Lived]
) -> None:
    try:
        told = previous_good(newest, complete=False)
    except HistoryTooShortError:
        return
    assert told == previous_good([*older, *newest])


def test_two_deployments_tell_whatever_came_before() -> None:
    assert previous_good([deploy("v8"), deploy("v9")], complete=False) == Release("v8", digest("v8"))
    with pytest.raises(HistoryTooShortError):
        previous_good([deploy("v8"), rollback("v1")], complete=False)
