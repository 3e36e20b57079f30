"""The controller's keys, and the one place where the query of a package's URL is read again."""

import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from controller.core.plan import Standing
from shared.logs import get_log
from shared.sealing import KeyFileError, Keyring, SealError, obtain_key, read_key

log = get_log(__name__)

KEY_NAME: Final = "secrets.key"
"""Beside a SQLite database, where no other file is named."""
HOW_TO_MAKE: Final = "make it with (umask 077; openssl rand -hex 32 > FILE)"


def find_default_key_file(database: str) -> Path | None:
    """Where the key is if none is named; None for a database that several controllers may share: they have to
    have the same key."""
    parts = urlsplit(database)
    return None if parts.scheme.startswith("postgres") else Path(parts.path[1:]).parent / KEY_NAME


def load_keyring(database: str, key_file: Path | None, old_key_files: Sequence[Path]) -> Keyring:
    """The keys of `[secrets]`; the first start makes the one that needs no name, in a folder that is there.
    Blocks; raises KeyFileError."""
    if key_file is not None:
        key = read_key(key_file)
    elif (default := find_default_key_file(database)) is not None:
        key = obtain_key(default)
    else:
        raise KeyFileError("secrets.key_file is not set, and every controller of a database needs the same")
    return Keyring(key, [read_key(file) for file in old_key_files])


def find_key_problems(
    database: str, key_file: Path | None, old_key_files: Sequence[Path]
) -> Iterator[tuple[str, str]]:
    """What is wrong with the keys, by the key of the configuration. Makes nothing."""
    if key_file is None and find_default_key_file(database) is None:
        yield (
            "secrets.key_file",
            f"is not set: every controller of a database needs the same key; {HOW_TO_MAKE}",
        )
    named = {"secrets.key_file": key_file} if key_file is not None else {}
    named |= {f"secrets.old_key_files[{number}]": file for number, file in enumerate(old_key_files)}
    for where, file in named.items():
        try:
            read_key(file)
        except KeyFileError as exc:
            yield where, str(exc)


def is_open(file: Path) -> bool:
    """Whether others than its owner may read a key."""
    try:
        return bool(file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
    except OSError:
        return False


def open_url(standing: Standing, keyring: Keyring) -> tuple[str, str]:
    """The whole URL of a task's package; or "" and, in words for people, why it cannot be told.

    A host that has the release needs no URL: a lost key takes nothing from it."""
    task = standing.task
    if task.url_query is None:
        return task.package_url, ""
    if not standing.sealed_query:
        return "", "the query of its package's URL is not kept any more: deploy it again with a fresh URL"
    try:
        return f"{task.package_url}?{keyring.unseal(standing.sealed_query, task.package_url)}", ""
    except SealError as exc:
        log.warning("query of a package's URL is lost", task=task.id, reason=str(exc))
        return "", (
            f"the controller cannot read the query of its package's URL ({exc}): name the key in"
            " secrets.old_key_files, or deploy it again with a fresh URL"
        )
