"""What a move of an attempt changes besides its phase: the account of its end, the marks on releases,
the instance."""

from collections.abc import Sequence

from agent.core.record import AttemptRecord
from agent.core.wording import describe_end, shorten
from agent.instance import Instance
from agent.journal import Change, ReleaseMark
from releasehand.model.codes import FailureCode
from releasehand.model.status import Phase, ServiceState
from shared.attempt import PAST_NO_RETURN
from shared.errors import AttemptError
from shared.frames import MAX_MESSAGE_CHARS, AttemptEnd, Kept


async def change_for(instance: Instance, record: AttemptRecord, *, log_tail: str = "") -> Change:
    """The whole change that belongs to `record` having entered its phase; an end is read back from the disk
    here, and a disk that cannot be read does not keep it from being told.

    Raises JournalError."""
    if record.live:
        held_back = await _was_held_back(instance, record)
        return Change(record, releases=() if held_back else _marks_for(record, ()))
    active, kept, trouble = await instance.live_now()
    marks = _marks_for(record, kept)
    seen = await instance.observe()
    unwell = bool(active.release) and seen.state is not ServiceState.RUNNING
    failure = record.failure
    message = describe_end(record, active, trouble)
    broken = _breaks(record, message)
    end = AttemptEnd(
        code=failure.code if failure else None,
        message=message,
        result=record.result if record.phase is Phase.DONE else None,
        active=active,
        state=seen.state,
        reason=shorten(seen.detail, MAX_MESSAGE_CHARS) if unwell else "",
        broken=bool(await instance.journal.broken(instance.id) if broken is None else broken),
        releases=_marked(kept, marks),
        sha256=record.sha256,
        log_tail=log_tail,
    )
    return Change(record.model_copy(update={"end": end}), releases=marks, broken=broken)


def _breaks(record: AttemptRecord, message: str) -> str | None:
    """Why the instance is broken from now on, "" if it is whole, None if this end says nothing about that:
    what an attempt left as it was is not better for it."""
    match record.phase:
        case Phase.DONE:
            return ""
        case Phase.REVERTED if not record.untouched:
            return ""
        case Phase.BROKEN:
            return message
        case _:
            return None


def _marks_for(record: AttemptRecord, kept: Sequence[Kept]) -> tuple[ReleaseMark, ...]:
    target = ReleaseMark(record.target, record.command.version, record.sha256, good=None)
    match record.left, record.phase:
        case Phase.UNPACKING, Phase.STAGED:
            return (target,)
        case Phase.CHECKING, Phase.DONE:
            return (_with(target, good=True),)
        case _, Phase.REVERTING if record.target != record.previous:
            return (_with(target, good=False),)
        case Phase.REVERTING, Phase.REVERTED if not record.untouched:
            previous = [one for one in kept if one.release == record.previous]
            return tuple(
                ReleaseMark(one.release, one.version, one.sha256, good=True, activated=True)
                for one in previous
            )
        case _:
            return ()


async def _was_held_back(instance: Instance, record: AttemptRecord) -> bool:
    """Whether the release was never tried though its activation failed, by a pre-hook, a service that does
    not stop, a full disk: nothing was learned about it, and one that was good may be needed again."""
    if (record.left, record.phase) != (Phase.ACTIVATING, Phase.REVERTING):
        return False
    if record.failure is not None and record.failure.code is FailureCode.HOOK_FAILED:
        return True
    try:
        return await instance.current() != record.target
    except AttemptError:
        return False


def _with(mark: ReleaseMark, *, good: bool) -> ReleaseMark:
    return ReleaseMark(mark.release, mark.version, mark.sha256, good=good, activated=good)


def _marked(kept: Sequence[Kept], marks: tuple[ReleaseMark, ...]) -> list[Kept]:
    """The kept releases as they will be marked by the change that reports them."""
    news = {mark.release: mark.good for mark in marks}
    return [one.model_copy(update={"good": news.get(one.release, one.good)}) for one in kept]


def restarted_service(record: AttemptRecord) -> bool:
    """Whether the attempt that ended stopped or started the service, or meant to."""
    return record.left in PAST_NO_RETURN and not record.untouched
