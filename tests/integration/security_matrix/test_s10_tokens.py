"""S10: the database holds nothing that could be used, scopes are asked for on every route, and a revoked
token is out of force at once. Each route with each kind of token: tests/unit/test_api_scopes.py."""

from tests.contract.store.test_store_tokens import (
    test_a_revoked_token_is_out_of_force_and_revoking_again_answers_the_first as test_s10_a_revoked_is_out,
)
from tests.contract.store.test_store_tokens import (
    test_a_token_is_out_of_force_the_moment_it_expires as test_s10_an_expired_token_is_out,
)
from tests.contract.store.test_store_tokens import (
    test_no_row_holds_anything_that_could_be_used as test_s10_a_dump_of_the_database_holds_no_usable_secret,
)
from tests.unit.test_api_scopes import (
    test_every_route_but_the_open_ones_asks_for_one_scope as test_s10_every_route_asks_for_one_scope,
)
from tests.unit.test_api_scopes import (
    test_every_route_of_deploy_scopes_says_how_it_is_limited_to_services as test_s10_every_route_is_limited,
)
from tests.unit.test_join_token import (
    test_what_is_stored_of_a_secret_does_not_hold_it as test_s10_a_join_token_is_not_stored,
)
from tests.unit.test_token_core import test_nobody_gives_more_than_they_have as test_s10_nobody_gives_more

__all__ = [
    "test_s10_a_dump_of_the_database_holds_no_usable_secret",
    "test_s10_a_join_token_is_not_stored",
    "test_s10_a_revoked_is_out",
    "test_s10_an_expired_token_is_out",
    "test_s10_every_route_asks_for_one_scope",
    "test_s10_every_route_is_limited",
    "test_s10_nobody_gives_more",
]
