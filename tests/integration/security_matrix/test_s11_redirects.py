"""S11: no URL and no redirect leads off verified HTTPS, or carries a name of a user."""

from tests.fakes.downloads import downloader, origin, packages, policy
from tests.unit.test_download import (
    test_a_bad_url_is_refused_before_anything_is_asked as test_s11_userinfo_and_plain_http_are_not_asked,
)
from tests.unit.test_download import (
    test_a_redirect_is_held_to_the_same_rules as test_s11_no_redirect_to_http_or_userinfo,
)
from tests.unit.test_download import test_the_environment_decides_nothing as test_s11_netrc_is_not_read

__all__ = [
    "downloader",
    "origin",
    "packages",
    "policy",
    "test_s11_netrc_is_not_read",
    "test_s11_no_redirect_to_http_or_userinfo",
    "test_s11_userinfo_and_plain_http_are_not_asked",
]
