"""Makes this host an agent of a controller: key, request, certificate, and all of it on disk.

The join token is the only thing that the host is given beforehand. It names the authority, so nothing is
told to anybody before they have shown that they are the right one."""

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.enrolment import RefusedError, ask, fetch_authorities
from agent.identity import Expected, IdentityError, Membership, NotJoinedError, read_membership
from agent.keys import describe_authority, find_authority, make_key, make_request
from agent.patience import Patience
from shared.enrolment import JOIN_PATH, Join
from shared.errors import ReleasehandError
from shared.files import place_file
from shared.identity_folder import IdentityFolder
from shared.join_token import JoinToken, show_key_hash
from shared.tls import authority_context


class JoinError(ReleasehandError):
    """This host cannot join as asked; nothing secret was told to anybody. The text says what to do."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to join. `agent_id` "" leaves the name to the token; `again` gives up what the host had."""

    url: str
    token: JoinToken
    agent_id: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """`fresh`: it joined just now; else it had before, and nothing was asked."""

    membership: Membership
    fresh: bool


async def join(state_dir: Path, wish: Wish, patience: Patience) -> Outcome:
    """Join; on disk on return. A controller that is busy is asked again.

    Safe to repeat after a crash or a lost answer: the key is on disk before it is used, and the same token
    and key get the same answer. Raises JoinError, IdentityError, UnansweredError, RefusedError,
    ProtocolError, OSError."""
    folder = IdentityFolder(state_dir)
    if not wish.again and (before := await asyncio.to_thread(_find_membership, state_dir, folder, wish)):
        return Outcome(before, fresh=False)
    shown = await patience.ask(lambda: asyncio.to_thread(fetch_authorities, wish.url))
    authority = find_authority(shown, wish.token)
    if not authority:
        raise JoinError(
            f"cannot join at {wish.url}: the controller there is not the one that made this join token, or"
            f" somebody answers in its place: the token is for {show_key_hash(wish.token.authority_sha256)},"
            f" and it shows {describe_authority(shown)}. The token was not sent. Compare with"
            " `releasehand-controller pki show`"
        )
    key = await asyncio.to_thread(_keep_key, folder)
    question = Join(secret=wish.token.secret_text, csr=make_request(key), agent_id=wish.agent_id)
    try:
        tls = authority_context(authority)
        joined = await patience.ask(lambda: ask(wish.url, JOIN_PATH, question, tls))
    except RefusedError:
        folder.pending_key_file.unlink(missing_ok=True)
        raise
    await asyncio.to_thread(
        folder.write,
        key=key,
        certificate=joined.certificate.encode(),
        authority=joined.authorities.encode(),
        url=wish.url,
    )
    folder.pending_key_file.unlink(missing_ok=True)
    await asyncio.to_thread(_give_to_owner, state_dir, folder)
    return Outcome(await asyncio.to_thread(read_membership, state_dir, Expected()), fresh=True)


def _find_membership(state_dir: Path, folder: IdentityFolder, wish: Wish) -> Membership | None:
    """What the host has joined before; None when it has not, or not to the end. Raises JoinError."""
    with suppress(FileNotFoundError):
        if folder.pending_key_file.read_bytes() != folder.key_file.read_bytes():
            return None  # it was interrupted
    try:
        member = read_membership(state_dir, Expected())
    except NotJoinedError:
        return None
    except IdentityError as exc:
        if folder.pending_key_file.exists():
            return None
        raise JoinError(f"{exc} (releasehand-agent join --again)") from exc
    if member.url.rstrip("/") != wish.url.rstrip("/") or wish.agent_id not in ("", member.agent_id):
        raise JoinError(
            f"cannot join: this host is agent '{member.agent_id}' of {member.url} already; --again gives that"
            " up and joins anew. Where that controller has a new address, write it into agent.toml as"
            " controller.url instead"
        )
    folder.pending_key_file.unlink(missing_ok=True)
    return member


def _keep_key(folder: IdentityFolder) -> bytes:
    """The key to ask with, on disk before anybody hears of it: an answer that is lost was for this one."""
    folder.make()
    place_file(folder.pending_key_file, make_key(), mode=0o600)
    return folder.pending_key_file.read_bytes()


def _give_to_owner(state_dir: Path, folder: IdentityFolder) -> None:
    """An agent that does not run as root must read what root joined with."""
    owner = state_dir.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        for path in (folder.path, *folder.path.iterdir()):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
