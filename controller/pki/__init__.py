"""The controller's own certificate authority: agents' certificates and the hub's. Nothing here knows the
store."""

from .authority import Authority, AuthorityError, hash_key, open_authority, read_authority
from .hub_certificate import HubCertificate
from .issue import issue_for_agent, serial_text
from .request import BadRequestError, CertificateRequest, read_request
from .rotation import (
    Authorities,
    begin_rotation,
    finish_rotation,
    is_rotating,
    open_authorities,
    read_hub_authority,
)
from .shown import ShownCertificate, hash_link_key, read_expired, read_link_certificate

__all__ = [
    "Authorities",
    "Authority",
    "AuthorityError",
    "BadRequestError",
    "CertificateRequest",
    "HubCertificate",
    "ShownCertificate",
    "begin_rotation",
    "finish_rotation",
    "hash_key",
    "hash_link_key",
    "is_rotating",
    "issue_for_agent",
    "open_authorities",
    "open_authority",
    "read_authority",
    "read_expired",
    "read_hub_authority",
    "read_link_certificate",
    "read_request",
    "serial_text",
]
