"""Verify all of a server's data: the store, and the server's own keys."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from tchat.errors import StartupError
from tchat.net.tls import check_credentials, own_name
from tchat.server.operations.backup import KEY_FILES
from tchat.store.sqlite.verify import Verified, verify_data

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.store.sqlite.verify import Remedy


def verify_server(data: Path) -> Verified:
    """Verify the data directory. Raises `StartupError` if it cannot be read at all."""
    found = verify_data(data)
    certificate, key = (data / name for name in KEY_FILES)
    if any(os.path.lexists(path) for path in (certificate, key)):
        try:
            check_credentials(data)
            if certificate.exists():  # otherwise, the next start makes it from the key
                _check_signature(certificate)
        except StartupError as error:
            found.fault("keys", certificate.name, error.sentence)
        except (InvalidSignature, ValueError, TypeError):
            found.fault("keys", certificate.name, f"{certificate} has changed. Restore it.")
    return found


_STEPS: dict[Remedy, str] = {
    "salvage": (
        "Stop the server, then `tchat admin restore BACKUP --data {data}` if a backup is recent"
        " enough; else `tchat admin salvage --data {data}` keeps what can be read."
    ),
    "restore": "Stop the server, and copy server-key.pem and server-cert.pem from a backup.",
    "resend": (
        "Damaged files: whoever has them can send them again; or copy them from the same place in"
        " a backup."
    ),
    "harmless": "What is left is harmless: the server repairs it by itself.",
}


def next_steps(found: Verified, data: Path) -> list[str]:
    """Return what to do about the faults, in sentences, the most important first."""
    remedies = {fault.remedy for fault in found.faults}
    return [_STEPS[one].format(data=data) for one in _STEPS if one in remedies]


def _check_signature(certificate: Path) -> None:
    """Check that a self-signed certificate is as it was signed; others cannot be checked here."""
    leaf = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    # One of the two names is still ours, if the other has changed.
    if leaf.issuer == leaf.subject or own_name() in (leaf.issuer, leaf.subject):
        leaf.verify_directly_issued_by(leaf)
