"""S4: with a pinned key, what is not signed as the host asks is refused before a decompressor runs."""

from tests.unit.test_minisign import (
    test_a_legacy_signature_that_says_prehashed_is_no_signature_of_the_hash as test_s4_relabelled_legacy_one,
)
from tests.unit.test_minisign import (
    test_a_signature_of_the_c_tool_verifies as test_s4_vectors_of_c_minisign_pass,
)
from tests.unit.test_verify_host import host, keys
from tests.unit.test_verify_host import (
    test_a_digest_from_the_controller_is_no_signature as test_s4_a_digest_of_the_controller_is_no_signature,
)
from tests.unit.test_verify_host import (
    test_a_package_with_a_good_signature_is_installed as test_s4_a_good_signature_is_installed,
)
from tests.unit.test_verify_host import (
    test_keys_that_cannot_be_read_refuse_the_package as test_s4_keys_that_cannot_be_read_open_nothing,
)
from tests.unit.test_verify_host import (
    test_with_a_pinned_key_nothing_else_is_unpacked as test_s4_nothing_else_reaches_a_decompressor,
)

__all__ = [
    "host",
    "keys",
    "test_s4_a_digest_of_the_controller_is_no_signature",
    "test_s4_a_good_signature_is_installed",
    "test_s4_keys_that_cannot_be_read_open_nothing",
    "test_s4_nothing_else_reaches_a_decompressor",
    "test_s4_relabelled_legacy_one",
    "test_s4_vectors_of_c_minisign_pass",
]
