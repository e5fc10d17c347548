"""A certificate authority that this system trusts, for tests of CA-verified servers."""

from __future__ import annotations

import datetime as dt
from ipaddress import ip_address
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from tchat.net.tls import load_credentials

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tchat.net.tls import Credentials

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def pem_of(key: Private, password: bytes | None = None) -> bytes:
    secrecy = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secrecy)


class Authority:
    """A certificate authority that this system trusts."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._home = home
        self._home.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "An authority")])
        bundle = home / "bundle.pem"
        bundle.write_bytes(self._signed(self._name, self._key.public_key(), ca=True))
        monkeypatch.setenv("SSL_CERT_FILE", str(bundle))

    def certify(self, *names: str, days: int = 30) -> Credentials:
        """Return credentials for a server with these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        certificate, private = self._home / "fullchain.pem", self._home / "privkey.pem"
        certificate.write_bytes(self._signed(subject, key.public_key(), *names, days=days))
        private.write_bytes(pem_of(key))
        return load_credentials(certificate, private)

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        *names: str,
        ca: bool = False,
        days: int = 30,
    ) -> bytes:
        end = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
        certificate = x509.CertificateBuilder(
            self._name, subject, key, x509.random_serial_number(), end - dt.timedelta(60), end
        )
        own = self._key.public_key()
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca, None), True),
            (x509.SubjectKeyIdentifier.from_public_key(key), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(own), False),
        ]
        if ca:
            usage = x509.KeyUsage(*(n in (5, 6) for n in range(9)))
            extensions.append((usage, True))
        else:
            extensions.append((x509.SubjectAlternativeName([_san(n) for n in names]), False))
        for extension, critical in extensions:
            certificate = certificate.add_extension(extension, critical)
        return certificate.sign(self._key, SHA256()).public_bytes(Encoding.PEM)


def _san(name: str) -> x509.GeneralName:
    return x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
