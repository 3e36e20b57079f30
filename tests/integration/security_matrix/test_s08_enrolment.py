"""S8: a token that is used up, too old, revoked or of another host lets nobody in; nor does a request for
another name. Each refusal is audited. Over real links, row by row: tests/integration/test_enrolment.py."""

from tests.contract.store.test_store_enrolment import (
    test_each_refused_join_changes_nothing_and_is_audited as test_s8_each_refused_join_is_audited,
)
from tests.contract.store.test_store_enrolment import (
    test_of_many_that_use_one_token_at_once_one_wins as test_s8_a_token_is_good_once,
)
from tests.integration.test_enrolment import controller
from tests.integration.test_enrolment import (
    test_a_stolen_token_is_of_no_use_on_another_host as test_s8_a_stolen_token_opens_no_other_host,
)
from tests.integration.test_enrolment import (
    test_the_secret_is_not_sent_to_a_controller_with_another_authority as test_s8_the_secret_is_not_sent,
)
from tests.unit.test_enrolment import (
    test_a_request_may_name_the_agent_that_it_is_for as test_s8_a_request_for_another_name_is_refused,
)
from tests.unit.test_enrolment import (
    test_who_may_not_join_is_told_why as test_s8_who_may_not_join_is_told_why,
)
from tests.unit.test_join_token import (
    test_a_token_names_one_key_and_no_other as test_s8_a_token_names_one_authority_and_no_other,
)
from tests.unit.test_pki import (
    test_a_request_gives_its_key_and_nothing_else as test_s8_the_controller_takes_the_public_key_alone,
)

__all__ = [
    "controller",
    "test_s8_a_request_for_another_name_is_refused",
    "test_s8_a_stolen_token_opens_no_other_host",
    "test_s8_a_token_is_good_once",
    "test_s8_a_token_names_one_authority_and_no_other",
    "test_s8_each_refused_join_is_audited",
    "test_s8_the_controller_takes_the_public_key_alone",
    "test_s8_the_secret_is_not_sent",
    "test_s8_who_may_not_join_is_told_why",
]
