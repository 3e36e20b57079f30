"""S7: what is unpacked is what was verified, through the same descriptor; its name says nothing."""

from tests.fakes.downloads import downloader, origin, packages, policy
from tests.unit.test_download import (
    test_the_file_that_was_hashed_is_the_file_that_is_read as test_s7_hashed_is_what_is_read,
)
from tests.unit.test_verify_host import host, keys
from tests.unit.test_verify_host import (
    test_what_replaces_the_file_after_the_download_is_not_unpacked as test_s7_a_replaced_file_is_not_unpacked,
)

__all__ = [
    "downloader",
    "host",
    "keys",
    "origin",
    "packages",
    "policy",
    "test_s7_a_replaced_file_is_not_unpacked",
    "test_s7_hashed_is_what_is_read",
]
