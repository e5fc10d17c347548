"""Verify all of a server's data: the store, and the server's own keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from tchat.errors import StartupError
from tchat.net.tls import load_credentials, own_name
from tchat.server.operations.backup import KEY_FILES
from tchat.store.sqlite.verify import Verified, verify_data

if TYPE_CHECKING:
    from pathlib import Path


def verify_server(data: Path) -> Verified:
    """Verify the data directory. Raises `StartupError` if it cannot be read at all."""
    found = verify_data(data)
    certificate, key = (data / name for name in KEY_FILES)
    if certificate.exists() or key.exists():
        try:
            load_credentials(certificate, key)
            _check_signature(certificate)
        except StartupError as error:
            found.fault("keys", certificate.name, error.sentence)
        except (InvalidSignature, ValueError, TypeError):
            found.fault("keys", certificate.name, f"{certificate} has changed.")
    return found


def _check_signature(certificate: Path) -> None:
    """Check that a self-signed certificate is as it was signed; others cannot be checked here."""
    leaf = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    # One of the two names is still ours, if the other has changed.
    if leaf.issuer == leaf.subject or own_name() in (leaf.issuer, leaf.subject):
        leaf.verify_directly_issued_by(leaf)
