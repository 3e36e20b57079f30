"""The folder in which a host keeps what it joined with."""

from pathlib import Path
from typing import Final

from shared.files import replace_file, sync_directory

FOLDER_NAME: Final = "identity"


class IdentityFolder:
    """`identity/` in an agent's state directory. Everything here blocks and raises OSError."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / FOLDER_NAME
        self.key_file = self.path / "agent.key"
        self.certificate_file = self.path / "agent.pem"
        self.authority_file = self.path / "ca.pem"
        self.url_file = self.path / "controller.url"
        self.pending_key_file = self.path / "join.key"
        """The key that a join is under way with. It becomes the agent's when that has ended well."""

    def write(self, *, key: bytes, certificate: bytes, authority: bytes, url: str) -> None:
        """Keep what a host joined with; on disk on return, and safe to repeat.

        The certificate comes last: without it the host has not joined. A crash in between leaves at most a
        new key beside an old certificate, which is found when they are read."""
        self.keep_key(key)
        replace_file(self.authority_file, authority)
        replace_file(self.url_file, f"{url}\n".encode())
        self.replace_certificate(certificate)

    def keep_key(self, key: bytes) -> None:
        """Keep a key, for nobody but its owner; on disk on return."""
        self.make()
        replace_file(self.key_file, key, mode=0o600)

    def make(self) -> None:
        """Make the folder, for nobody but its owner, unless it exists."""
        if not self.path.is_dir():
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_directory(self.path.parent)

    def remove(self) -> None:
        """Forget all of it; on disk on return, and safe to repeat. The certificate goes first: from then on
        the host has not joined."""
        files = (self.certificate_file, self.key_file, self.pending_key_file, self.url_file)
        for file in (*files, self.authority_file):
            file.unlink(missing_ok=True)
        if self.path.is_dir():
            sync_directory(self.path)

    def renew(self, certificate: bytes, authority: bytes) -> None:
        """Keep a newer certificate of the same key, and the authorities that count by now; on disk on return.

        The authorities come first: after a crash in between, the old certificate still opens a link."""
        replace_file(self.authority_file, authority)
        self.replace_certificate(certificate)

    def replace_certificate(self, certificate: bytes) -> None:
        """Keep a newer certificate of the same key; on disk on return, and a reader sees the old one or the
        new one."""
        replace_file(self.certificate_file, certificate)
