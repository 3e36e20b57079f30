"""TLS contexts of both daemons: they trust exactly what they are given, and nothing of the system's."""

import ssl
from pathlib import Path


def client_context(ca_file: Path) -> ssl.SSLContext:
    """Trust exactly the certificates in `ca_file` (PEM); host names are checked; TLS 1.2 at least.

    Raises OSError when the file cannot be read and ssl.SSLError when it holds no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies peer and name by default
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cafile=ca_file)
    return context


def authority_context(pem: str) -> ssl.SSLContext:
    """The same for authorities that are at hand as text; TLS 1.3 alone. Raises ssl.SSLError when they are of
    no use."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=pem)
    return context


def link_context(ca_file: Path, cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """The same with an agent's certificate to show; TLS 1.3 alone.

    Raises OSError when a file cannot be read and ssl.SSLError when they are of no use together."""
    context = client_context(ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certfile=cert_file, keyfile=key_file)
    return context


def server_context(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """Present the chain in `cert_file` with the key in `key_file` (both PEM); TLS 1.2 at least.

    Raises OSError when a file cannot be read and ssl.SSLError when the two do not match."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certfile=cert_file, keyfile=key_file)
    return context
