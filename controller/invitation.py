"""Makes join tokens, with the command that uses them on a host."""

import base64
import secrets
from typing import Final, Protocol

from controller.config import ControllerConfig, hub_names
from controller.core.audit import Actor
from controller.install import make_command
from controller.pki import Authority
from releasehand.model import JoinTokenParams, JoinTokenResult, JoinTokenSummary
from shared.join_token import SECRET_BYTES, JoinToken, hash_secret

_PADDING: Final = "="


class InvitationStore(Protocol):
    """Where join tokens are recorded, by the digest of their secrets."""

    async def create_join_token(
        self, params: JoinTokenParams, secret_sha256: str, *, actor: Actor
    ) -> JoinTokenSummary:
        """Recorded and audited on return."""
        ...


class Invitations:
    """Of one controller: its hub, and the authority that its hub shows."""

    def __init__(
        self, store: InvitationStore, *, key_hash: str, url: str, install_url: str | None = None
    ) -> None:
        """`key_hash` is of the authority's public key, base64url; hosts find the hub at `url`, and at
        `install_url` what installs an agent, if anything does."""
        self._store, self._url, self._install_url = store, url, install_url
        self._authority_sha256 = base64.urlsafe_b64decode(key_hash + _PADDING)

    async def create(self, params: JoinTokenParams, *, actor: Actor) -> JoinTokenResult:
        """Recorded on return; the secret is in the answer and nowhere else."""
        token = JoinToken(self._authority_sha256, secrets.token_bytes(SECRET_BYTES))
        made = await self._store.create_join_token(params, hash_secret(token.secret_text), actor=actor)
        # printf is the shell's own: the token stands in no list of processes.
        command = f"printf %s {token.text} | releasehand-agent join --url {self._url} --token-file -"
        install = (
            make_command(self._install_url, token.text, named=bool(made.host)) if self._install_url else ""
        )
        return JoinTokenResult(join_token=made, token=token.text, command=command, install_command=install)


def make_invitations(config: ControllerConfig, store: InvitationStore, shown: Authority) -> Invitations:
    """For the hub of this configuration, which shows a certificate of the authority `shown`."""
    return Invitations(store, key_hash=shown.key_hash, url=hub_url(config), install_url=config.install.url)


def hub_url(config: ControllerConfig) -> str:
    """Where hosts find the hub: at the first of its names."""
    name = hub_names(config.hub)[0]
    return f"wss://{f'[{name}]' if ':' in name else name}:{config.hub.port}"
