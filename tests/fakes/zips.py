"""Zip archives made byte by byte, so that they can say what no honest tool would."""

import struct
import zlib
from dataclasses import dataclass, field

MAX_16, MAX_32 = 0xFFFF, 0xFFFFFFFF
UNIX, FAT = 3, 0


@dataclass
class Item:
    """One entry. `local` and `listed` overwrite fields of its two headers; `packed` what it is packed to."""

    name: bytes
    content: bytes = b"content\n"
    method: int = 8
    mode: int = 0o100644
    host: int = UNIX
    flags: int = 0
    extra: bytes = b""
    packed: bytes | None = None
    descriptor: bytes | None = None
    behind: bytes = b""
    local: dict[str, int | bytes] = field(default_factory=dict)
    listed: dict[str, int | bytes] = field(default_factory=dict)

    def pack(self) -> bytes:
        if self.packed is not None:
            return self.packed
        return deflate(self.content) if self.method == 8 else self.content

    def fields(self) -> dict[str, int | bytes]:
        return {
            "name": self.name,
            "flags": self.flags,
            "method": self.method,
            "crc32": zlib.crc32(self.content),
            "packed": len(self.pack()),
            "size": len(self.content),
            "extra": self.extra,
        }

    def encode(self) -> bytes:
        what = self.fields()
        if self.descriptor is not None:
            what |= {"crc32": 0, "packed": 0, "size": 0, "flags": self.flags | 8}
        what |= self.local
        name, extra = what["name"], what["extra"]
        assert isinstance(name, bytes)
        assert isinstance(extra, bytes)
        header = struct.pack(
            "<4sHHHHHIIIHH", b"PK\3\4", 20, what["flags"], what["method"], 0, 0x21,
            what["crc32"], what["packed"], what["size"], len(name), len(extra),
        )  # fmt: skip
        return header + name + extra + self.pack() + (self.descriptor or b"") + self.behind

    def list(self, offset: int) -> bytes:
        what = self.fields() | {"offset": offset, "disk": 0, "comment": b""}
        if self.descriptor is not None:
            what |= {"flags": self.flags | 8}
        what |= self.listed
        name, extra, comment = what["name"], what["extra"], what["comment"]
        assert isinstance(name, bytes)
        assert isinstance(extra, bytes)
        assert isinstance(comment, bytes)
        header = struct.pack(
            "<4sHHHHHHIIIHHHHHII", b"PK\1\2", self.host << 8 | 30, 20, what["flags"], what["method"], 0, 0x21,
            what["crc32"], what["packed"], what["size"], len(name), len(extra), len(comment), what["disk"],
            0, self.mode << 16, what["offset"],
        )  # fmt: skip
        return header + name + extra + comment


def deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def describe(content: bytes, *, signature: bool = True, wide: bool = False) -> bytes:
    """A data descriptor."""
    sizes = struct.pack("<QQ" if wide else "<II", len(deflate(content)), len(content))
    return b"PK\7\10" * signature + struct.pack("<I", zlib.crc32(content)) + sizes


def extra(kind: int, data: bytes) -> bytes:
    return struct.pack("<HH", kind, len(data)) + data


def wide(*numbers: int) -> bytes:
    """A ZIP64 extra field."""
    return extra(1, struct.pack(f"<{len(numbers)}Q", *numbers))


def end(entries: int, length: int, start: int, *, comment: bytes = b"", disk: int = 0) -> bytes:
    return struct.pack(
        "<4sHHHHIIH", b"PK\5\6", disk, disk, entries, entries, length, start, len(comment)
    ) + comment  # fmt: skip


def wide_end(entries: int, length: int, start: int, *, at: int | None = None) -> bytes:
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, length, start)
    return record + struct.pack("<4sIQI", b"PK\6\7", 0, start + length if at is None else at, 1)


def zipped(*items: Item, comment: bytes = b"", order: list[int] | None = None) -> bytes:
    """An archive of `items`; `order` is that of the directory."""
    body, offsets = b"", []
    for item in items:
        offsets.append(len(body))
        body += item.encode()
    listed = [item.list(offset) for item, offset in zip(items, offsets, strict=True)]
    directory = b"".join(listed[number] for number in order or range(len(items)))
    return body + directory + end(len(items), len(directory), len(body), comment=comment)


def unicode_path(raw: bytes, name: str) -> bytes:
    return extra(0x7075, b"\x01" + struct.pack("<I", zlib.crc32(raw)) + name.encode())


def with_wide_end(*items: Item, at: int | None = None, **narrow: int) -> bytes:
    data = zipped(*items)
    _, _, _, _, entries, length, start, _ = struct.unpack("<4sHHHHIIH", data[-22:])
    told = {"entries": MAX_16, "length": MAX_32, "start": MAX_32} | narrow
    narrow_end = end(told["entries"], told["length"], told["start"])
    return data[:-22] + wide_end(entries, length, start, at=at) + narrow_end
