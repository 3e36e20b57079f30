"""Is this the package that was asked for? Called before any byte of it is decompressed."""

import hmac

from agent.errors import DigestMismatchError


def verify_digest(download_sha256: str, expected_sha256: str) -> None:
    """Compare two SHA-256 digests in hex, whatever their case; "" expects nothing and passes.

    Raises DigestMismatchError. Whether a missing digest is acceptable is the policy's question, not asked
    here.
    """
    if not expected_sha256:
        return
    actual, expected = download_sha256.lower(), expected_sha256.lower()
    if not hmac.compare_digest(actual.encode(), expected.encode()):
        raise DigestMismatchError(expected, actual)
