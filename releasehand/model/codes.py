"""Why a task failed: a closed list of stable codes, the same on the wire, in the API and in logs."""

from enum import StrEnum
from typing import Final


class FailureCode(StrEnum):
    """The `error_code` of a task that ended `failed`."""

    # the package, as the agent met it
    URL_REFUSED = "url_refused"  # not https, userinfo in it, a redirect to something else
    DOWNLOAD_FAILED = "download_failed"  # connection refused or cut, DNS, short body
    DOWNLOAD_SERVER_ERROR = "download_server_error"  # the origin answered 5xx, 408 or 429
    DOWNLOAD_REFUSED = "download_refused"  # the origin answered another 4xx
    DOWNLOAD_TOO_SLOW = "download_too_slow"
    DOWNLOAD_TOO_LARGE = "download_too_large"
    TLS_UNTRUSTED = "tls_untrusted"  # the origin's certificate does not verify
    NO_SPACE = "no_space"
    DIGEST_MISMATCH = "digest_mismatch"
    SIGNATURE_REFUSED = "signature_refused"
    ARCHIVE_REFUSED = "archive_refused"
    UNPACK_FAILED = "unpack_failed"
    NO_SOURCE = "no_source"  # nothing kept on the host and no URL known
    # the host
    HOST_ERROR = "host_error"  # a file operation failed for a reason of the host's
    ACTIVATION_FAILED = "activation_failed"
    CHECK_FAILED = "check_failed"
    REVERT_FAILED = "revert_failed"
    CRASH_LOOP = "crash_loop"
    # time and presence
    TIMEOUT = "timeout"
    AGENT_OFFLINE = "agent_offline"
    OUTCOME_UNKNOWN = "outcome_unknown"
    INSTANCE_RETIRED = "instance_retired"
    STALE_COMMAND = "stale_command"  # the host had already accepted something newer


TRANSIENT: Final = frozenset(
    {
        FailureCode.DOWNLOAD_FAILED,
        FailureCode.DOWNLOAD_SERVER_ERROR,
        FailureCode.DOWNLOAD_TOO_SLOW,
        FailureCode.NO_SPACE,
        FailureCode.DIGEST_MISMATCH,  # a torn upload heals; twice in a row is final (controller.core.retry)
    }
)
"""Failures after which the controller may start another attempt. Every other one is final."""
