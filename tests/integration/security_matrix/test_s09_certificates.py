"""S9: no certificate, one of another authority, past its end, of a server, of another agent, revoked or given
to nobody: no link; nor by TLS 1.2, nor for a client that does not know the authority."""

from tests.contract.store.test_store_enrolment import (
    test_no_session_is_opened_by_a_certificate_that_does_not_count as test_s9_a_revoked_serial_is_refused,
)
from tests.integration.test_controller_hub import (
    test_a_certificate_lets_in_its_own_agent_only as test_s9_another_agents_certificate,
)
from tests.integration.test_controller_hub import (
    test_who_shows_no_certificate_is_refused_with_words as test_s9_no_certificate,
)
from tests.integration.test_link_certificates import (
    test_a_certificate_of_another_authority_is_refused as test_s9_another_authority,
)
from tests.integration.test_link_certificates import (
    test_a_certificate_past_its_end_or_before_its_begin_is_refused as test_s9_an_expired_certificate,
)
from tests.integration.test_link_certificates import (
    test_a_certificate_that_was_given_to_nobody_opens_no_link as test_s9_an_unknown_serial,
)
from tests.integration.test_link_certificates import (
    test_a_client_that_does_not_know_the_authority_refuses_the_hub as test_s9_a_client_without_the_authority,
)
from tests.integration.test_link_certificates import (
    test_a_recorded_serial_with_another_key_opens_no_link as test_s9_a_recorded_serial_with_another_key,
)
from tests.integration.test_link_certificates import (
    test_a_servers_certificate_lets_no_agent_in as test_s9_a_servers_certificate,
)
from tests.integration.test_link_certificates import (
    test_tls_1_2_is_refused as test_s9_tls_1_2,
)

__all__ = [
    "test_s9_a_client_without_the_authority",
    "test_s9_a_recorded_serial_with_another_key",
    "test_s9_a_revoked_serial_is_refused",
    "test_s9_a_servers_certificate",
    "test_s9_an_expired_certificate",
    "test_s9_an_unknown_serial",
    "test_s9_another_agents_certificate",
    "test_s9_another_authority",
    "test_s9_no_certificate",
    "test_s9_tls_1_2",
]
