"""Puts a new authority in the place of the old one, in two steps with time between them.

First both count: the new one signs agents' certificates, the hub keeps the old one's, and each agent learns
of both with its next certificate. When all have, the old one goes. A crash between any two files leaves a
folder that can be used, and each step is safe to repeat."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization

from shared.files import replace_file, sync_directory

from .authority import (
    CERTIFICATE_NAME,
    KEY_NAME,
    Authority,
    AuthorityError,
    make_key,
    open_authority,
    read_authority,
    sign_itself,
)

OLD_KEY_NAME: Final = "ca-old.key"
NEW_KEY_NAME: Final = "ca-new.key"


@dataclass(frozen=True, slots=True)
class Authorities:
    """Who signs agents' certificates, and whose certificate the hub shows and join tokens name. They are two
    during a rotation alone."""

    signing: Authority
    shown: Authority


def open_authorities(directory: Path, now: datetime) -> Authorities:
    """Those in `directory`, where one is made if there is none; on disk on return. Blocks. Raises
    AuthorityError."""
    signing = open_authority(directory, now)
    return Authorities(signing, read_hub_authority(directory, now) if is_rotating(directory) else signing)


def is_rotating(directory: Path) -> bool:
    """Whether two authorities count."""
    return (directory / OLD_KEY_NAME).exists()


def read_hub_authority(directory: Path, now: datetime) -> Authority:
    """The one whose certificate the hub shows, and join tokens name: the one that all agents know. Raises
    AuthorityError."""
    return read_authority(directory, now, key_name=OLD_KEY_NAME if is_rotating(directory) else KEY_NAME)


def begin_rotation(directory: Path, now: datetime) -> Authority:
    """Make a new authority beside the present one; from the controller's next start on it signs agents'
    certificates. Raises AuthorityError, OSError."""
    if is_rotating(directory):
        raise AuthorityError(f"cannot rotate {directory}: that was begun already; end it with --finish")
    old = read_authority(directory, now)
    key = make_key(directory / NEW_KEY_NAME)
    if all(one.public_key() != key.public_key() for one in old.trusted):
        both = sign_itself(key, now).public_bytes(serialization.Encoding.PEM) + old.pem
        replace_file(directory / CERTIFICATE_NAME, both)
    (directory / OLD_KEY_NAME).hardlink_to(directory / KEY_NAME)
    (directory / NEW_KEY_NAME).rename(directory / KEY_NAME)
    sync_directory(directory)
    return read_authority(directory, now)


def finish_rotation(directory: Path, now: datetime) -> Authority:
    """Drop the old authority and its key; who knows no other is shut out from the controller's next start on.
    Raises AuthorityError, OSError."""
    authority = read_authority(directory, now)
    if not is_rotating(directory) and not authority.others:
        raise AuthorityError(f"cannot finish: no rotation was begun in {directory}")
    (directory / OLD_KEY_NAME).unlink(missing_ok=True)
    sync_directory(directory)
    replace_file(directory / CERTIFICATE_NAME, Authority(authority.certificate, authority.key).pem)
    return read_authority(directory, now)
