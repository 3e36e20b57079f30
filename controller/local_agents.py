"""Agents of this very machine: who can open the database and read the authority's key may let them in without
a join token."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from controller.core.audit import Actor
from controller.core.enrolment import Term
from controller.pki import Authority, hash_key, issue_for_agent
from controller.store import Store
from shared.identity_folder import IdentityFolder


async def enrol_here(
    store: Store,
    authority: Authority,
    state_dirs: Mapping[str, Path],
    *,
    url: str,
    life: timedelta,
    actor: Actor,
) -> None:
    """Give each agent, by id, a key and a certificate in its state directory; on disk and recorded on return.

    `url` is where they find the hub. What they had before is revoked. Raises OSError."""
    term = Term(life, authority.ends_at, authority.key_hash)
    for agent_id, state_dir in state_dirs.items():
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key()
        given = await store.enrol(agent_id, hash_key(public), term, actor=actor)
        await asyncio.to_thread(
            IdentityFolder(state_dir).write,
            key=key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
            certificate=issue_for_agent(authority, given, public).encode(),
            authority=authority.pem,
            url=url,
        )
