"""Log records as entries of systemd's journal, with their fields beside the text: the protocol of
https://systemd.io/JOURNAL_NATIVE_PROTOCOL/."""

import array
import errno
import fcntl
import logging
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Final

JOURNAL: Final = "/run/systemd/journal/socket"
PREFIX: Final = "RELEASEHAND_"
_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG_PRIORITY: Final = 7
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_FULL: Final = frozenset({errno.EAGAIN, errno.ENOBUFS})


def is_stderr_of_journal(environment: Mapping[str, str], stderr: int = 2) -> bool:
    """Whether systemd has tied this descriptor to the journal, and nobody has redirected it since
    (systemd.exec(5), JOURNAL_STREAM)."""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(stderr)
    except OSError:
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


class JournalHandler(logging.Handler):
    """Sends each record as one datagram. Never waits: a journal that takes nothing loses lines, and is told
    how many with the next one that it takes."""

    def __init__(self, identifier: str, *, address: str = JOURNAL) -> None:
        """Raises OSError where there is no journal. `identifier` is what journalctl shows as the program."""
        super().__init__()
        self._identifier = identifier
        self._lost = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.setblocking(False)
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise
        self._address = address

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._lost:
                words = f"{self._lost} log lines were lost: the journal took nothing"
                self._send(encode_entry(self._entry(words, logging.WARNING)))
                self._lost = 0
            self._send(encode_entry(self._entry_of(record)))
        except OSError as exc:
            self._lost += 1
            if exc.errno not in _FULL:
                self._reconnect()  # journald was restarted
        except Exception:  # noqa: BLE001 - logging's own convention: a log line never ends its caller
            self.handleError(record)

    def close(self) -> None:
        self._socket.close()
        super().close()

    def _reconnect(self) -> None:
        try:
            self._socket.connect(self._address)
        except OSError:
            return  # tried again with the next line

    def _entry_of(self, record: logging.LogRecord) -> Iterator[tuple[str, str]]:
        yield from self._entry(self.format(record), record.levelno)
        yield "LOGGER", record.name
        if record.exc_info and record.exc_text:
            yield "TRACEBACK", record.exc_text
        for key, value in getattr(record, "fields", {}).items():
            yield PREFIX + "".join(c if c.isascii() and c.isalnum() else "_" for c in key.upper()), str(value)

    def _entry(self, words: str, level: int) -> Iterator[tuple[str, str]]:
        yield "MESSAGE", words
        yield (
            "PRIORITY",
            str(next((given for least, given in _PRIORITIES if level >= least), _DEBUG_PRIORITY)),
        )
        yield "SYSLOG_IDENTIFIER", self._identifier

    def _send(self, entry: bytes) -> None:
        try:
            self._socket.send(entry)
        except OSError as exc:
            if exc.errno != errno.EMSGSIZE:
                raise
            self._send_as_file(entry)

    def _send_as_file(self, entry: bytes) -> None:
        """What is too long for a datagram goes as a sealed file in memory."""
        file = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with os.fdopen(file, "wb", closefd=False) as out:
                out.write(entry)
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)  # the journal wants them all
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]).tobytes())
            self._socket.sendmsg([b""], [rights])
        finally:
            os.close(file)


def encode_entry(fields: Iterator[tuple[str, str]]) -> bytes:
    """Fields as the journal reads them; a value with a newline carries its length."""
    parts = []
    for name, value in fields:
        key, raw = name.encode("ascii"), value.encode("utf-8", "backslashreplace")
        if b"\n" in raw:
            parts.append(key + b"\n" + struct.pack("<Q", len(raw)) + raw + b"\n")
        else:
            parts.append(key + b"=" + raw + b"\n")
    return b"".join(parts)
