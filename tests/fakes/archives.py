"""Tar archives made byte by byte, so that they can say what no honest tool would."""

import gzip
import io
from dataclasses import dataclass

BLOCK = 512
END = bytes(2 * BLOCK)


@dataclass
class Member:
    """One header and what follows it. `fields` overwrites parts of the header, before the checksum."""

    name: bytes
    content: bytes = b""
    kind: bytes = b"0"
    mode: int = 0o644
    target: bytes = b""
    size: int | None = None
    magic: bytes = b"ustar\x0000"
    prefix: bytes = b""
    fields: tuple[tuple[int, bytes], ...] = ()
    checksum: int | None = None
    padding: bytes = b"\0"

    def encode(self) -> bytes:
        header = bytearray(BLOCK)
        size = len(self.content) if self.size is None else self.size
        for at, field in (
            (0, self.name[:100]),
            (100, b"%07o\0" % self.mode),
            (108, b"%07o\0" % 0),
            (116, b"%07o\0" % 0),
            (124, b"%011o\0" % size),
            (136, b"%011o\0" % 0),
            (148, b" " * 8),
            (156, self.kind),
            (157, self.target[:100]),
            (257, self.magic),
            (345, self.prefix),
            *self.fields,
        ):
            header[at : at + len(field)] = field
        total = sum(header) if self.checksum is None else self.checksum
        header[148:156] = b"%06o\0 " % total
        return bytes(header) + self.content + self.padding * (-len(self.content) % BLOCK)


def file(name: str, content: bytes = b"content\n", mode: int = 0o644) -> Member:
    return Member(name.encode(), content, mode=mode)


def directory(name: str, mode: int = 0o755) -> Member:
    return Member(name.encode(), kind=b"5", mode=mode)


def symlink(name: str, target: str) -> Member:
    return Member(name.encode(), kind=b"2", target=target.encode())


def hardlink(name: str, target: str) -> Member:
    return Member(name.encode(), kind=b"1", target=target.encode())


def long_name(name: bytes, kind: bytes = b"L") -> Member:
    return Member(b"././@LongLink", name + b"\0", kind=kind, magic=b"ustar  \0")


def pax(*records: tuple[str, bytes], kind: bytes = b"x") -> Member:
    return Member(b"PaxHeaders/0", b"".join(pax_record(*record) for record in records), kind=kind)


def pax_record(key: str, value: bytes) -> bytes:
    body = b" " + key.encode() + b"=" + value + b"\n"
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def tar(*members: Member, end: bytes = END) -> bytes:
    return b"".join(member.encode() for member in members) + end


def tgz(*members: Member, end: bytes = END) -> bytes:
    return compress(tar(*members, end=end))


def compress(data: bytes) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", mtime=0, compresslevel=6) as file:
        file.write(data)
    return out.getvalue()
