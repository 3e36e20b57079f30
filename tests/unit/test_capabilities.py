"""What the controller and the log are told of how this host confines what it unpacks."""

import logging

import pytest

from agent.capabilities import describe_sandbox, log_sandbox, with_sandbox
from agent.unpack.sandbox import Sandbox


@pytest.mark.parametrize(
    ("found", "landlock", "user", "mend"),
    [
        (Sandbox(7, own_user=True), "abi 7", "unprivileged", ""),
        (Sandbox(2, own_user=True), "abi 2", "unprivileged", ""),
        (Sandbox(1, own_user=True), "abi 1, which is too old", "unprivileged", "Landlock"),
        (Sandbox(0, own_user=True), "missing", "unprivileged", "Landlock"),
        (Sandbox(7, own_user=False), "abi 7", "root", "SETUID"),
        (Sandbox(0, own_user=False), "missing", "root", "SETUID"),
    ],
)
def test_each_layer_that_is_missing_is_named_with_what_would_mend_it(
    found: Sandbox, landlock: str, user: str, mend: str, caplog: pytest.LogCaptureFixture
) -> None:
    facts = {"unpack_landlock": landlock, "unpack_user": user}
    assert describe_sandbox(found) == facts
    with caplog.at_level(logging.INFO):
        log_sandbox(found)
    [record] = caplog.records
    fields = getattr(record, "fields", {})
    assert record.levelno == (logging.WARNING if mend else logging.INFO)
    assert mend in fields.get("mend", "")
    assert {key: fields[key] for key in facts} == facts


def test_what_was_found_counts_before_what_was_written() -> None:
    written = {"rack": "a7", "unpack_user": "sandboxed"}
    told = with_sandbox(written, Sandbox(3, own_user=True))
    assert told == {"rack": "a7", "unpack_landlock": "abi 3", "unpack_user": "unprivileged"}
