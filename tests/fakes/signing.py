"""Vectors that the C minisign tool made (tests/vectors/minisign/make.sh), and folders of keys for a host."""

import shutil
from pathlib import Path

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "minisign"
PACKAGE = (VECTORS / "web-v1.tar.gz").read_bytes()
SHA256 = "7959fcde48e90e1ff2369550be41623aa2a8ed5ce14710c3d9e8e19ea79cb491"  # as sha256sum prints it


def signature(name: str) -> bytes:
    """The .minisig file of that vector."""
    return (VECTORS / f"{name}.minisig").read_bytes()


def public_key(name: str) -> bytes:
    """The .pub file of that key: release, stranger or revoked."""
    return (VECTORS / f"{name}.pub").read_bytes()


class Keys:
    """`trusted.d` and `revoked.d` of a host in a temporary directory; both are missing at first."""

    def __init__(self, directory: Path) -> None:
        self.trusted_dir, self.revoked_dir = directory / "trusted.d", directory / "revoked.d"

    def trust(self, name: str, *, scope: str = "") -> Path:
        """Trust a key; `scope` goes into its comment."""
        self.trusted_dir.mkdir(exist_ok=True)
        path = self.trusted_dir / f"{name}.pub"
        path.write_bytes(public_key(name).replace(b"minisign public key", scope.encode() or b"a key"))
        return path

    def revoke(self, name: str) -> Path:
        """Revoke a key; whether it is trusted too stays as it is."""
        self.revoked_dir.mkdir(exist_ok=True)
        return Path(shutil.copy(VECTORS / f"{name}.pub", self.revoked_dir))
