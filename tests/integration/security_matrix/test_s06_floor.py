"""S6: what was signed before the host's time is refused; what the host keeps and has run is not. The time
stands in the host's own configuration: no restart, no power cut and no command moves it."""

from tests.unit.test_signed import (
    test_the_floor_is_a_time_of_signing as test_s6_the_floor_is_a_time_of_signing,
)
from tests.unit.test_verify_host import host, keys
from tests.unit.test_verify_host import (
    test_a_rollback_to_a_kept_release_asks_for_no_signature as test_s6_a_kept_release_may_be_gone_back_to,
)
from tests.unit.test_verify_host import (
    test_a_signature_from_before_the_hosts_time_is_too_old as test_s6_what_was_signed_earlier_is_refused,
)

__all__ = [
    "host",
    "keys",
    "test_s6_a_kept_release_may_be_gone_back_to",
    "test_s6_the_floor_is_a_time_of_signing",
    "test_s6_what_was_signed_earlier_is_refused",
]
