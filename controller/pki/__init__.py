"""The controller's own certificate authority: agents' certificates and the hub's. Nothing here knows the
store."""

from .authority import Authority, AuthorityError, hash_key, open_authority, read_authority
from .hub_certificate import HubCertificate
from .issue import issue_for_agent, serial_text
from .request import BadRequestError, read_request

__all__ = [
    "Authority",
    "AuthorityError",
    "BadRequestError",
    "HubCertificate",
    "hash_key",
    "issue_for_agent",
    "open_authority",
    "read_authority",
    "read_request",
    "serial_text",
]
