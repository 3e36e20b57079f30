"""S11: no name, number, redirect or resolver that changes its mind leads into the host's own network."""

from tests.fakes.downloads import origin
from tests.unit.test_download_address import names, policy
from tests.unit.test_download_address import (
    test_a_name_that_resolves_otherwise_a_moment_later_gains_nothing as test_s11_rebinding_gains_nothing,
)
from tests.unit.test_download_address import (
    test_a_redirect_into_the_hosts_own_network_is_not_followed as test_s11_no_redirect_to_the_host_itself,
)
from tests.unit.test_download_address import (
    test_an_address_in_the_url_is_refused_before_anything_is_asked as test_s11_no_address_in_the_url,
)
from tests.unit.test_download_address import (
    test_an_old_number_form_is_no_name as test_s11_no_address_in_an_old_form,
)
from tests.unit.test_download_address import (
    test_each_address_that_is_not_the_internets_is_refused_by_its_kind as test_s11_mapped_ipv6_and_all_kinds,
)
from tests.unit.test_download_address import (
    test_no_name_leads_to_a_refused_address as test_s11_no_name_of_such_an_address,
)

__all__ = [
    "names",
    "origin",
    "policy",
    "test_s11_mapped_ipv6_and_all_kinds",
    "test_s11_no_address_in_an_old_form",
    "test_s11_no_address_in_the_url",
    "test_s11_no_name_of_such_an_address",
    "test_s11_no_redirect_to_the_host_itself",
    "test_s11_rebinding_gains_nothing",
]
