"""The status of an operation, derived from its tasks and from nothing else."""

from collections.abc import Mapping

from releasehand.model import OPEN, Progress, Status


def derive_status(counts: Mapping[Status, int]) -> Status:
    """`pending` until the first task starts; `in_progress` while any is open; then `completed` only if every
    task completed, `cancelled` if a cancel took effect on at least one, else `failed`
    (docs/architecture.md «Task»)."""
    if any(counts.get(status, 0) for status in OPEN):
        return Status.IN_PROGRESS if _any_started(counts) else Status.PENDING
    if counts.get(Status.CANCELLED, 0):
        return Status.CANCELLED
    return Status.FAILED if counts.get(Status.FAILED, 0) else Status.COMPLETED


def _any_started(counts: Mapping[Status, int]) -> bool:
    return any(count for status, count in counts.items() if status is not Status.PENDING)


def progress(counts: Mapping[Status, int]) -> Progress:
    """`pending` counts all open tasks; `in_progress` says how many of them were dispatched."""
    in_progress = counts.get(Status.IN_PROGRESS, 0)
    return Progress(
        total=sum(counts.values()),
        completed=counts.get(Status.COMPLETED, 0),
        failed=counts.get(Status.FAILED, 0),
        cancelled=counts.get(Status.CANCELLED, 0),
        pending=counts.get(Status.PENDING, 0) + in_progress,
        in_progress=in_progress,
    )
