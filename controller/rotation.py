"""Puts a new authority in the place of the old one, as an administrator asks for it (controller.pki.rotation
says how)."""

import asyncio
from typing import Final

from controller.administration import open_desk
from controller.config import ControllerConfig
from controller.core.audit import AuditEntry
from controller.pki import AuthorityError, begin_rotation, finish_rotation, read_authority
from releasehand.model import AuditAction

SHOWN: Final = 10


async def rotate(config: ControllerConfig, *, finish: bool, force: bool) -> str:
    """What was done, and what to do next. A controller that runs goes by it from its next start on.

    With `finish` the old authority is dropped, which is refused while an agent knows no other, unless
    `force` is given. Raises AuthorityError, StoreUnavailableError, OSError."""
    directory = config.pki.directory
    async with open_desk(config) as desk:
        if finish and not force:
            authority = await asyncio.to_thread(read_authority, directory, desk.now)
            if behind := await desk.store.find_agents_without(authority.key_hash):
                names = ", ".join(behind[:SHOWN]) + (" …" if len(behind) > SHOWN else "")
                raise AuthorityError(
                    f"cannot finish: {len(behind)} agent(s) have no certificate of the new one: {names};"
                    " they get one within five minutes of connecting to a controller that was restarted"
                    " since; else revoke them, or shut them out with --force"
                )
        step = finish_rotation if finish else begin_rotation
        authority = await asyncio.to_thread(step, directory, desk.now)
        objects = {"step": "finish" if finish else "begin", "key_hash": authority.key_hash}
        await desk.store.audit(
            AuditEntry(desk.now, desk.actor, AuditAction.ROTATE_AUTHORITY, objects=objects)
        )
    if finish:
        return f"the authority is now {authority.key_hash} alone: restart the controller"
    return (
        f"authority {authority.key_hash} signs beside the old one: restart the controller; agents get a"
        " certificate of it within five minutes of connecting; then: pki rotate --finish"
    )
