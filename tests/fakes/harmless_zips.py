"""Strange zip archives that must be unpacked, each with the files that are in it."""

from collections.abc import Mapping
from typing import Final

from tests.fakes.zips import (
    FAT,
    MAX_32,
    Item,
    describe,
    extra,
    unicode_path,
    wide,
    with_wide_end,
    zipped,
)

CONTENT: Final = b"content\n"
A, B = Item(b"a"), Item(b"b")

HARMLESS: Final[Mapping[str, tuple[bytes, Mapping[str, object]]]] = {
    "stored": (zipped(Item(b"a", method=0)), {"a": CONTENT}),
    "directories": (zipped(Item(b"d/", b"", 0, 0o040755), Item(b"d/a")), {"d/a": CONTENT}),
    "a directory that deflates nothing": (
        zipped(Item(b"d/", b"", mode=0o040755), Item(b"d/a")),
        {"d/a": CONTENT},
    ),
    "no directory entries": (zipped(Item(b"d/e/a")), {"d/e/a": CONTENT}),
    "a comment": (zipped(A, comment=b"c0ffee"), {"a": CONTENT}),
    "listed in another order": (zipped(A, B, order=[1, 0]), {"a": CONTENT, "b": CONTENT}),
    "a descriptor": (zipped(Item(b"a", descriptor=describe(A.content)), B), {"a": CONTENT, "b": CONTENT}),
    "a descriptor without signature": (
        zipped(Item(b"a", descriptor=describe(A.content, signature=False)), B),
        {"a": CONTENT, "b": CONTENT},
    ),
    "a wide descriptor": (zipped(Item(b"a", descriptor=describe(A.content, wide=True))), {"a": CONTENT}),
    "a stated size before a descriptor": (
        zipped(Item(b"a", descriptor=describe(A.content), local={"size": 8})),
        {"a": CONTENT},
    ),
    "ZIP64 sizes": (
        zipped(
            Item(
                b"a",
                extra=wide(8, 10),
                local={"size": MAX_32, "packed": MAX_32},
                listed={"size": MAX_32, "packed": MAX_32},
            )
        ),
        {"a": CONTENT},
    ),
    "ZIP64 in its own header alone": (
        zipped(Item(b"a", local={"size": MAX_32, "packed": MAX_32, "extra": wide(8, 10)})),
        {"a": CONTENT},
    ),
    "ZIP64 end": (with_wide_end(A), {"a": CONTENT}),
    "ZIP64 end beside a true one": (with_wide_end(A, entries=1), {"a": CONTENT}),
    "UTF-8": (zipped(Item("grüße".encode(), flags=1 << 11)), {"grüße": CONTENT}),
    "UTF-8 unsaid": (zipped(Item("grüße".encode())), {"grüße": CONTENT}),
    "code page 437": (zipped(Item(b"gr\x81\xe1e", host=FAT)), {"grüße": CONTENT}),
    "a UTF-8 name beside another": (
        zipped(Item(b"gr\x81\xe1e", host=FAT, extra=unicode_path(b"gr\x81\xe1e", "grüße"))),
        {"grüße": CONTENT},
    ),
    "unknown extra fields": (
        zipped(Item(b"a", extra=extra(0xCAFE, b"") + extra(0x5455, b"12345"))),
        {"a": CONTENT},
    ),
    "zipalign's padding": (zipped(Item(b"a", extra=b"\0\0\0")), {"a": CONTENT}),
    "a mode of no system of ours": (zipped(Item(b"a", host=FAT, mode=0o100755)), {"a": CONTENT}),
}
