"""A key for what tests seal."""

from typing import Final

from shared.sealing import KEY_BYTES, Keyring

KEYRING: Final = Keyring(bytes(KEY_BYTES))
