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
    # whether it is the right one, decided before a byte of it is decompressed
    DIGEST_MISMATCH = "digest_mismatch"
    DIGEST_MISSING = "digest_missing"  # the host wants one, and nobody gave any
    DIGEST_MALFORMED = "digest_malformed"  # URL.sha256 holds no digest
    SIGNATURE_MISSING = "signature_missing"
    SIGNATURE_MALFORMED = "signature_malformed"  # URL.minisig is cut short, or something else
    SIGNATURE_LEGACY = "signature_legacy"  # made without prehashing
    SIGNATURE_UNTRUSTED_KEY = "signature_untrusted_key"
    SIGNATURE_KEY_OUT_OF_SCOPE = "signature_key_out_of_scope"  # trusted here, for other services
    SIGNATURE_REVOKED_KEY = "signature_revoked_key"
    SIGNATURE_INVALID = "signature_invalid"  # not over this package
    SIGNATURE_COMMENT_INVALID = "signature_comment_invalid"  # the signed comment was changed
    SIGNATURE_COMMENT_MALFORMED = "signature_comment_malformed"  # signed, but not in the form we read
    SIGNATURE_WRONG_SERVICE = "signature_wrong_service"
    SIGNATURE_WRONG_VERSION = "signature_wrong_version"
    SIGNATURE_TOO_OLD = "signature_too_old"  # signed before the host's min_signed_time
    TRUST_UNREADABLE = "trust_unreadable"  # the keys on the host cannot be read
    # the rest of its way
    ARCHIVE_REFUSED = "archive_refused"
    UNPACK_FAILED = "unpack_failed"
    NO_SOURCE = "no_source"  # nothing kept on the host and no URL known
    # the host
    HOST_ERROR = "host_error"  # a file operation failed for a reason of the host's
    ACTIVATION_FAILED = "activation_failed"
    CHECK_FAILED = "check_failed"
    HOOK_FAILED = "hook_failed"  # a command that the host's owner put around activations
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
