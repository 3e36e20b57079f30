"""What is remembered beside a partial file, so that a later fetch can tell whether it may go on with it."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.files import replace_file

MAX_RECORD_BYTES: Final = 16 * 1024
_STRONG_AFTER: Final = timedelta(seconds=60)  # RFC 9110 8.8.2.2: a younger time may stand for two contents
_MAX_VALIDATOR_CHARS: Final = 1024


class PartialRecord(BaseModel):
    """Which bytes the partial file holds the beginning of. `url` has no query: those can be credentials."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    sha256: str
    """What was expected, "" if nothing was."""
    etag: str = ""
    """A strong one, with its quotes."""
    last_modified: str = ""
    """Kept only when it is old enough to be a strong validator."""
    length_bytes: int | None = None

    @property
    def if_range(self) -> str:
        """The If-Range that makes a resume safe, "" for none (RFC 9110 13.1.5)."""
        return self.etag or self.last_modified

    @property
    def resumable(self) -> bool:
        """Whether a mix of two contents would be noticed: by the origin beforehand, or by the digest."""
        return bool(self.if_range or self.sha256)

    def described(self, headers: Mapping[str, str], length_bytes: int | None) -> "PartialRecord":
        """The same, with what an answer that sends the whole package says of it."""
        etag, modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
        return PartialRecord(
            url=self.url,
            sha256=self.sha256,
            etag=etag if etag.startswith('"') and _is_plain(etag) else "",
            last_modified=modified if _is_strong(modified, headers.get("Date", "")) else "",
            length_bytes=length_bytes,
        )


def read_record(path: Path) -> PartialRecord | None:
    """Return the record in `path`; None if there is none or it cannot be read. Blocks."""
    try:
        with path.open("rb") as file:
            return PartialRecord.model_validate_json(file.read(MAX_RECORD_BYTES))
    except (OSError, ValidationError):
        return None


def write_record(path: Path, record: PartialRecord) -> None:
    """Survives the end of this process. After a power cut it may be gone, and so may the partial file's
    bytes: the digest tells. Blocks; raises OSError."""
    replace_file(path, record.model_dump_json().encode(), mode=0o600, durable=False)


def _is_plain(value: str) -> bool:
    """Whether it can be written down and sent back as it came: a header may hold any byte."""
    return len(value) <= _MAX_VALIDATOR_CHARS and value.isascii() and value.isprintable()


def _is_strong(modified: str, date: str) -> bool:
    if not _is_plain(modified):
        return False
    try:
        changed, sent = parsedate_to_datetime(modified), parsedate_to_datetime(date)
    except ValueError:
        return False
    return _aware(sent) - _aware(changed) >= _STRONG_AFTER


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
