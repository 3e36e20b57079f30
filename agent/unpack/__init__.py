"""Unpack a verified package into a fresh directory, in a child process that a hostile archive cannot leave.

Layers, each with its own file: `formats` chooses by magic bytes, `source`/`stream` give decompressed bytes,
`tar` and `zip` give entries, `tree` decides whether an entry may exist, `writer` makes it. `child` puts them
together inside a `sandbox`; `parent` runs the child, a `process`.
"""

from typing import TYPE_CHECKING, BinaryIO

from agent.unpack.limits import Limits, UnpackResult

if TYPE_CHECKING:  # the child imports this package too, and starts for each package
    from pathlib import Path

    from agent.unpack.process import Standby

__all__ = ["Limits", "UnpackResult", "unpack"]


async def unpack(
    package: BinaryIO,
    destination: "Path",
    limits: Limits | None = None,
    *,
    standby: "Standby | None" = None,
) -> UnpackResult:
    """Unpack `package`, read from its first byte through its descriptor, into the empty directory
    `destination`.

    Nothing is synced: durability is the caller's (agent.switch: a witness from before, one syncfs). After
    any error, and after a cancel, the child and all it started are gone. After an error `destination` is
    empty, so it is safe to repeat; after a cancel it holds what was made by then, for to empty a large tree
    takes its time. The file position of `package` is left at the start. All that a successful call made
    belongs to this process's user and group, whoever the child ran as. The child is taken from `standby`, if
    there is one.

    Raises ArchiveRefusedError (the archive's fault), UnpackFailedError (the child died or ran out of time),
    NoSpaceError, HostError.
    """
    # Imported here because the child must start without asyncio and pydantic.
    from agent.unpack.parent import unpack_in_child  # noqa: PLC0415

    return await unpack_in_child(package, destination, limits or Limits(), standby)
