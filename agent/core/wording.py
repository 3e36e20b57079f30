"""What people read about the end of an attempt: what happened, why, and what is live now."""

from releasehand.model.codes import FailureCode
from releasehand.model.status import Phase
from shared.frames import MAX_MESSAGE_CHARS, Active

from .record import AttemptRecord, Failure


def describe_end(record: AttemptRecord, active: Active, trouble: str) -> str:
    """`active` was read back after the end; `trouble` says why it could not be, "" if it could."""
    why = record.failure.message if record.failure else ""
    live = f"what is live cannot be told: {trouble}" if trouble else _live(active, record)
    match record.phase:
        case Phase.DONE if record.left in {Phase.QUEUED, Phase.VERIFYING}:
            text = f"{record.command.version} was live and good already; nothing was restarted"
        case Phase.DONE:
            text = f"{record.command.version} is live"
        case Phase.CANCELLED:
            text = f"cancelled before anything was changed; {live}"
        case Phase.BROKEN:
            text = f"{why}; a person must look at this host; {live}"
        case _:
            text = f"{why}; {live}"
    return shorten(text, MAX_MESSAGE_CHARS)


def describe_broken(cause: Failure | None, revert: Failure) -> Failure:
    """Both failures in one: why the attempt had to be taken back, and why that did not work."""
    first = f"{cause.message}; " if cause else ""
    message = f"{first}going back to the previous release failed too: {revert.message}"
    return Failure(code=FailureCode.REVERT_FAILED, message=message)


def shorten(text: str, most: int) -> str:
    """`text`, at most `most` characters of it: the middle goes, since causes stand at the end."""
    if len(text) <= most:
        return text
    half = (most - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def _live(active: Active, record: AttemptRecord) -> str:
    name = active.version or active.release
    if not name:
        return "nothing is live"
    again = record.phase is Phase.REVERTED and not record.untouched
    return f"{name} is live again" if again else f"{name} is still live"
