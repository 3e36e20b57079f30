"""The controller's keys, as its configuration names them."""

from controller.config import ControllerConfig
from controller.sealing import load_keyring
from controller.store.engine import make_directory
from shared.sealing import Keyring


def open_keyring(config: ControllerConfig) -> Keyring:
    """The keys of `[secrets]`; the first start makes the database's folder, and the key that needs no name in
    it. Blocks; raises KeyFileError, StoreUnavailableError."""
    make_directory(config.database)
    return load_keyring(config.database, config.secrets.key_file, config.secrets.old_key_files)
