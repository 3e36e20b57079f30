"""What a journal keeps of the query of a package's URL, which is a credential where the URL is presigned:
while the attempt may still need it, sealed with a key of this host; afterwards nothing."""

import json
from pathlib import Path
from typing import Final

from agent.core.record import AttemptRecord
from agent.journal.tables import JournalError
from shared.logs import get_log
from shared.sealing import KeyFileError, Keyring, SealError, obtain_key
from shared.urls import split_query

log = get_log(__name__)

KEY_NAME: Final = "secrets.key"  # in the agent's state_dir, made when the first query comes
_SEALED: Final = "sealed_query"


class QueryBox:
    """Records to and from the text that the journal keeps. Everything blocks."""

    def __init__(self, key_file: Path) -> None:
        self._key_file = key_file
        self._keyring: Keyring | None = None

    def write(self, record: AttemptRecord) -> str:
        """Raises JournalError where this host's key can be neither read nor made."""
        url, query = split_query(record.command.url)
        if not query:
            return record.model_dump_json()
        command = record.command.model_copy(update={"url": url})
        kept = record.model_copy(update={"command": command}).model_dump_json()
        if not record.live:
            return kept
        sealed = self._open_keyring().seal(query, url)
        return f'{kept.removesuffix("}")},"{_SEALED}":{json.dumps(sealed)}}}'

    def read(self, text: str) -> AttemptRecord:
        """The record with its whole URL; without the query if the key is lost: the origin will say what it
        makes of that. Raises ValidationError."""
        record = AttemptRecord.model_validate_json(text)
        sealed = json.loads(text).get(_SEALED) if f'"{_SEALED}"' in text else None
        if not isinstance(sealed, str):
            return record
        try:
            query = self._open_keyring().unseal(sealed, record.command.url)
        except (SealError, JournalError) as exc:
            log.warning(
                "query of a package's URL is lost", instance_id=record.ref.instance_id, reason=str(exc)
            )
            return record
        url = f"{record.command.url}?{query}"
        return record.model_copy(update={"command": record.command.model_copy(update={"url": url})})

    def _open_keyring(self) -> Keyring:
        if self._keyring is None:
            try:
                self._keyring = Keyring(obtain_key(self._key_file))
            except KeyFileError as exc:
                raise JournalError(f"cannot keep the query of a package's URL: {exc}") from exc
        return self._keyring
