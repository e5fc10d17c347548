"""TLS 1.3 for both sides, with keys instead of names.

A server makes a key and a certificate for it on first start. The certificate says nothing that
anybody checks; the key does. A client knows a server by its pin, the SHA-256 of its public key
(SubjectPublicKeyInfo, RFC 5280), so a certificate may be renewed and a key may not. A server with
a certificate that the system's authorities vouch for can be known by its host name instead.

Connections are not resumed and there is no early data, so no session tickets are sent: what
cannot be replayed needs no care.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from tchat.errors import Code, ProtocolError, StartupError
from tchat.net.keyfiles import read_or_make
from tchat.net.tls_stream import TlsStream

if TYPE_CHECKING:
    from pathlib import Path

    import trio
    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

    Stream = TlsStream[trio.SocketStream]

_MADE = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
_NEVER = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)  # RFC 5280, 4.1.2.5

BUSY_ALERT = b"\x15\x03\x03\x00\x02\x02\x31"
"""A fatal alert, access_denied (RFC 8446, section 6): what a server that has no room for another
handshake can still say, before any."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a server shows: a TLS context, its pin (32 bytes), and whether it vouches for itself."""

    context: ssl.SSLContext
    pin: bytes
    self_signed: bool


def pin_of(certificate: x509.Certificate) -> bytes:
    """Return the SHA-256 of a certificate's public key."""
    key = certificate.public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()


def make_credentials(directory: Path) -> Credentials:
    """Return the credentials kept in `directory`, new ones at first. Raises `StartupError`."""
    key, certificate = directory / "server-key.pem", directory / "server-cert.pem"
    if certificate.exists() and not key.exists():
        raise StartupError(
            Code.CANNOT_START,
            f"{key} is missing. Restore it; or remove {certificate} for a new key, which every"
            " client will refuse until its user accepts it.",
        )
    private = read_or_make(key, _new_key, "The server's key")
    if not certificate.exists():
        try:
            made = _self_signed(private)
        except (ValueError, TypeError) as error:
            raise StartupError(
                Code.CANNOT_START, f"{key} does not hold a private key in PEM, or an encrypted one."
            ) from error
        read_or_make(certificate, lambda: made, "The certificate", secret=False)
    return load_credentials(certificate, key)


def load_credentials(certificate: Path, key: Path) -> Credentials:
    """Return credentials from two PEM files. Raises `StartupError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
        leaf = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
        pin = pin_of(leaf)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise StartupError(
            Code.CANNOT_START, f"{certificate} and {key} cannot be used: {reason}."
        ) from error
    return Credentials(context, pin, leaf.issuer == leaf.subject)


def client_context(*, verified: bool) -> ssl.SSLContext:
    """Return a context for a client: checked by the system's authorities, or by a pin later."""
    context = ssl.create_default_context() if verified else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if not verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def accept_tls(stream: trio.SocketStream, credentials: Credentials) -> Stream:
    """Return the stream encrypted, as a server. Raises `trio.BrokenResourceError`."""
    encrypted = TlsStream(stream, credentials.context, server_side=True)
    await encrypted.do_handshake()
    return encrypted


async def open_tls(stream: trio.SocketStream, context: ssl.SSLContext, host: str) -> Stream:
    """Return the stream encrypted, as a client. Raises `trio.BrokenResourceError`."""
    name = host.partition("%")[0].rstrip(".")  # no scope of an IPv6 address, no root dot
    encrypted = TlsStream(stream, context, server_hostname=name)
    await encrypted.do_handshake()
    return encrypted


def pin_seen(stream: trio.abc.Stream) -> bytes:
    """Return the pin of the server at the other end, from this side's own TLS state.

    Empty if the stream is not encrypted. Raises `ProtocolError` for a certificate that is none.
    """
    if not isinstance(stream, TlsStream):
        return b""
    try:
        return pin_of(x509.load_der_x509_certificate(stream.peer_certificate()))
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise ProtocolError(
            Code.HANDSHAKE, "The server's certificate cannot be understood."
        ) from error


def _new_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


def _self_signed(pem: bytes) -> bytes:
    key: CertificateIssuerPrivateKeyTypes = load_pem_private_key(pem, None)  # type: ignore[assignment]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tchat")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(_MADE).not_valid_after(_NEVER)
    return builder.sign(key, None).public_bytes(Encoding.PEM)


def _no_password() -> str:
    # Without this, OpenSSL would ask on the terminal, and a service would hang.
    raise ValueError("the key is encrypted, and nobody is there to type its password")
