"""TLS 1.3 contexts and certificates for both sides, and the server's pin.

This module extracts the pin; the caller decides whether to trust it.

On its first start, a server generates a key and a certificate for it. Clients do not check the
contents of the certificate, only its key. They identify a server by its *pin*, the SHA-256 of its
public key (SubjectPublicKeyInfo, RFC 5280), so a certificate may be renewed, but the key may not
change. If a certificate authority of the system has signed the certificate, a client can identify
the server by its host name instead.

TLS session resumption and early data are disabled, and no session tickets are sent, so nothing can
be replayed.

Both sides agree on keys with X25519 only. OpenSSL 3 also offers finite-field groups by default; a
made-up key of 8192 bits then costs whoever gets it 130 ms (the D(HE)at attack), and X25519 0.2 ms.
A hello without an X25519 key gets an alert, or a HelloRetryRequest if it says that it supports
X25519; neither needs a computation. The ciphers are the three of RFC 8446 that OpenSSL enables:
AES-128 and AES-256 with GCM, and ChaCha20-Poly1305. They cost about the same.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ssl
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import trio
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from tchat.errors import Code, ProtocolError, StartupError
from tchat.links import check_file
from tchat.net.key_chain import EXTENSION, former_pins, from_extension, read_chain, to_extension
from tchat.net.keyfiles import new_private_key, read_or_make
from tchat.net.tls_stream import TlsStream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

S = TypeVar("S", bound=trio.abc.Stream)

KEY_FILE, CERTIFICATE_FILE = "server-key.pem", "server-cert.pem"
"""The names of the files with a server's own key and certificate, in its data directory."""

_GROUP = "X25519"
_MADE = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
_NEVER = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)  # RFC 5280, 4.1.2.5

BUSY_ALERT = b"\x15\x03\x03\x00\x02\x02\x31"
"""A fatal alert, access_denied (RFC 8446, section 6), unencrypted.

A server that has no capacity for another handshake sends it instead of the handshake.
"""

_BUSY = "TLSV1_ALERT_ACCESS_DENIED"
# OpenSSL's reasons when the other side, a client or a server, does not speak TLS 1.3.
_NOT_TLS_CLIENT = {
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
    "UNSUPPORTED_PROTOCOL",
}
_NOT_TLS_SERVER = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}


class NotTls(trio.BrokenResourceError):
    """The other side does not speak TLS 1.3."""


class ServerBusy(trio.BrokenResourceError):
    """The server answered with `BUSY_ALERT`."""


_NOT_VALID_NOW = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


class Untrusted(trio.BrokenResourceError):
    """The server's certificate is not signed by a certificate authority of the system.

    `by_date` says that it is not valid now, which may be the fault of this machine's clock.
    """

    by_date = False


@dataclass(frozen=True, slots=True)
class Credentials:
    """A server's TLS context, its pin (32 bytes), and whether its certificate is self-signed.

    `invalidity` says why clients refuse the certificate that check it, such as after it expired.
    `serial` is held by the one handshake that computes now (see `TlsStream.do_handshake`).
    """

    context: ssl.SSLContext
    pin: bytes
    self_signed: bool
    invalidity: str = field(default="", compare=False)
    serial: trio.Lock = field(default_factory=trio.Lock, compare=False, repr=False)


# Importing `cryptography.x509` takes a tenth of a program's start, and is useless without TLS.


def own_name() -> x509.Name:
    """Return the issuer and subject of the certificates that servers generate."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tchat")])


def pin_of(certificate: x509.Certificate) -> bytes:
    """Return the pin of a certificate: the SHA-256 of its public key."""
    key = certificate.public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()


def _pin_of_private(pem: bytes) -> bytes:
    """Return the pin of a private key. Raises ValueError or TypeError."""
    public = load_pem_private_key(pem, None).public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()


def make_credentials(directory: Path) -> Credentials:
    """Load the credentials in `directory`, or generate them if there are none.

    Raises `StartupError`.
    """
    key, certificate = directory / KEY_FILE, directory / CERTIFICATE_FILE
    _check_present(key, certificate)
    lost, renew = _advice(key, certificate)
    private = read_or_make(key, new_private_key, "The server's key", advice=lost)
    _remove_certificate_of_former_key(certificate, private)
    if not certificate.exists():
        try:
            made = _self_signed(private)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise StartupError(
                Code.CANNOT_START,
                f"{key} is not an unencrypted private key in PEM format, or is damaged. {lost}",
            ) from error
        read_or_make(certificate, lambda: made, "The certificate", secret=False)
    return _load(certificate, key, lost, renew)


def check_credentials(directory: Path) -> None:
    """Raise `StartupError` as `make_credentials` would, and make nothing."""
    key, certificate = directory / KEY_FILE, directory / CERTIFICATE_FILE
    _check_present(key, certificate)
    lost, renew = _advice(key, certificate)
    if certificate.exists():
        _load(certificate, key, lost, renew)
    elif key.exists() and (fault := _fault_of_key(key)) is not None:
        raise StartupError(Code.CANNOT_START, f"The server's key cannot be used: {fault}. {lost}")


def _check_present(key: Path, certificate: Path) -> None:
    """Raise `StartupError` if one is no file, or if there is a certificate without its key."""
    for path in (key, certificate):
        check_file(path)
    if certificate.exists() and not key.exists():
        raise StartupError(
            Code.CANNOT_START,
            f"{key} is missing. Restore it; or remove {certificate} to get a new key, which every"
            " client will refuse until its user accepts it.",
        )


def _advice(key: Path, certificate: Path) -> tuple[str, str]:
    """Return what to do about a server's own key, and about its own certificate."""
    lost = (
        f"Restore {key} from a backup; or remove it and {certificate}: the next start then makes a"
        " new key, which every client refuses until its user accepts it."
    )
    renew = (
        f"If the key is right, remove {certificate}: the next start makes a new one from the key,"
        " and clients notice nothing."
    )
    return lost, renew


def _remove_certificate_of_former_key(certificate: Path, private: bytes) -> None:
    """Remove a certificate if it is of a former key of this server, so that a new one is made.

    A rotation replaces the private key, and only then this removes the certificate; so a crash
    between the two is as if it had come after both.
    """
    chain = read_chain(private)
    if not chain:
        return
    from cryptography import x509

    with suppress(OSError, ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        shown = pin_of(x509.load_pem_x509_certificate(certificate.read_bytes()))
        if shown in former_pins(chain, _pin_of_private(private)):
            certificate.unlink()


def load_credentials(certificate: Path, key: Path) -> Credentials:
    """Load credentials from two PEM files. Raises `StartupError`."""
    advice = "Give a certificate and its private key, both in PEM format, with --cert and --key."
    for path in (certificate, key):
        check_file(path)
    return _load(certificate, key, advice, advice)


def _load(certificate: Path, key: Path, if_key: str, if_certificate: str) -> Credentials:
    """Load credentials. The error ends with what to do about the file that is at fault."""
    from cryptography import x509

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context)
    context.num_tickets = 0
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
        leaf = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
        pin = pin_of(leaf)
    except (OSError, ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        general = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        fault, advice = _fault_of_key(key), if_key
        if fault is None:
            fault, advice = _fault_of_certificate(certificate, key) or str(general), if_certificate
        raise StartupError(
            Code.CANNOT_START, f"{certificate} and {key} cannot be used: {fault}. {advice}"
        ) from error
    is_self_signed = leaf.issuer == leaf.subject
    return Credentials(context, pin, is_self_signed, "" if is_self_signed else _invalidity(leaf))


def _fault_of_key(key: Path) -> str | None:
    """Return what is wrong with the file of a private key, if anything is."""
    try:
        pem = key.read_bytes()
        if not pem.strip():
            return f"{key} is empty"
        load_pem_private_key(pem, None)
    except OSError as error:
        return f"{key} cannot be read: {error.strerror}"
    except TypeError:
        return (
            f"the key is encrypted; remove its passphrase: openssl pkey -in {key} -out"
            f" {key}.decrypted"
        )
    except (ValueError, UnsupportedAlgorithm):
        return f"{key} is not a private key in PEM format, or is damaged"
    return None


def _fault_of_certificate(certificate: Path, key: Path) -> str | None:
    """Return what is wrong with the file of a certificate for a valid key, if anything is."""
    from cryptography import x509

    try:
        pem = certificate.read_bytes()
        if not pem.strip():
            return f"{certificate} is empty"
        if pin_of(x509.load_pem_x509_certificates(pem)[0]) != _pin_of_private(key.read_bytes()):
            return f"the certificate {certificate} does not belong to the key {key}"
    except OSError as error:
        return f"{certificate} cannot be read: {error.strerror}"
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        sentence = f"{certificate} is not a certificate in PEM format, or is damaged"
        return f"{sentence}: {error}" if isinstance(error, x509.InvalidVersion) else sentence
    return None


def _invalidity(leaf: x509.Certificate) -> str:
    """Return why clients that check the times of a certificate refuse it; empty if they do not."""
    now = dt.datetime.now(dt.UTC)
    if now > leaf.not_valid_after_utc:
        return f"expired on {leaf.not_valid_after_utc:%Y-%m-%d}"
    if now < leaf.not_valid_before_utc:
        return f"is not valid before {leaf.not_valid_before_utc:%Y-%m-%d}"
    return ""


def client_context(*, verified: bool) -> ssl.SSLContext:
    """Return a client's TLS context.

    If `verified`, the handshake verifies the certificate with the system's certificate authorities;
    otherwise it accepts any certificate, and the caller has to compare the pin.
    """
    context = ssl.create_default_context() if verified else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _restrict(context)
    if not verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _restrict(context: ssl.SSLContext) -> None:
    """Allow TLS 1.3 only, and one group for key exchange."""
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # OpenSSL 1.1.1 has no finite-field groups in TLS 1.3, and its function behind this method does
    # not know X25519: keep its defaults, which begin with X25519.
    if ssl.OPENSSL_VERSION_INFO >= (3, 0):
        context.set_ecdh_curve(_GROUP)


async def accept_tls(stream: S, credentials: Credentials) -> TlsStream[S]:
    """Perform the handshake as a server, and return the encrypted stream.

    Raises `NotTls` or another `trio.BrokenResourceError`.
    """
    encrypted = TlsStream(stream, credentials.context, server_side=True)
    try:
        await encrypted.do_handshake(credentials.serial)
    except trio.BrokenResourceError as error:
        if _reason(error) in _NOT_TLS_CLIENT:
            raise NotTls(str(error)) from error.__cause__
        raise
    return encrypted


async def open_tls(stream: S, context: ssl.SSLContext, host: str) -> TlsStream[S]:
    """Perform the handshake as a client, and return the encrypted stream.

    Raises `NotTls`, `ServerBusy`, `Untrusted`, or another `trio.BrokenResourceError`.
    """
    name = host.partition("%")[0].rstrip(".")  # without an IPv6 zone, or the dot of the DNS root
    encrypted = TlsStream(stream, context, server_hostname=name)
    try:
        await encrypted.do_handshake()
    except trio.BrokenResourceError as error:
        cause, reason = error.__cause__, _reason(error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            untrusted = Untrusted(cause.verify_message)
            untrusted.by_date = cause.verify_code in _NOT_VALID_NOW
            raise untrusted from cause
        if reason == _BUSY:
            raise ServerBusy(str(error)) from cause
        if reason in _NOT_TLS_SERVER:
            raise NotTls(str(error)) from cause
        raise
    return encrypted


def _reason(error: trio.BrokenResourceError) -> str | None:
    """Return OpenSSL's name of a failure, as reported by the `ssl` module."""
    return error.__cause__.reason if isinstance(error.__cause__, ssl.SSLError) else None


def pin_seen(stream: trio.abc.Stream) -> bytes:
    """Return the pin of the server at the other end, from this side's own TLS state.

    It is empty without TLS. Raises `ProtocolError` if the certificate cannot be parsed.
    """
    if not isinstance(stream, TlsStream):
        return b""
    try:
        with _untrusted():
            return pin_of(_certificate_of(stream))
    except _Unreadable as error:
        raise ProtocolError(Code.HANDSHAKE, "The server's certificate cannot be parsed.") from error


def former_pins_seen(stream: trio.abc.Stream) -> tuple[bytes, ...]:
    """Return the pins of the former keys of the server at the other end, the oldest first.

    Its certificate proves that each of them was replaced by the next one (see `key_chain`). There
    are none without TLS, without such a proof, or if the proof is not valid.
    """
    if not isinstance(stream, TlsStream):
        return ()
    from cryptography import x509

    with suppress(_Unreadable), _untrusted():
        certificate = _certificate_of(stream)
        oid = x509.ObjectIdentifier(EXTENSION)
        found = certificate.extensions.get_extension_for_oid(oid).value
        if isinstance(found, x509.UnrecognizedExtension):
            return former_pins(from_extension(found.value), pin_of(certificate))
    return ()


class _Unreadable(Exception):
    """A certificate, or a part of it, is not valid or not supported."""


@contextmanager
def _untrusted() -> Iterator[None]:
    """Raise `_Unreadable` for whatever is wrong with a certificate from the network.

    The parser has a dozen exceptions without a common base, and prints warnings about oddities,
    which would be printed into the middle of the chat.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except Exception as error:
            raise _Unreadable from error


def _certificate_of(stream: TlsStream[trio.SocketStream]) -> x509.Certificate:
    from cryptography import x509

    return x509.load_der_x509_certificate(stream.peer_certificate())


def _self_signed(pem: bytes) -> bytes:
    from cryptography import x509

    key: CertificateIssuerPrivateKeyTypes = load_pem_private_key(pem, None)  # type: ignore[assignment]
    name = own_name()
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(_MADE).not_valid_after(_NEVER)
    if chain := read_chain(pem):
        value = to_extension(chain)
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(EXTENSION), value)
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, None).public_bytes(Encoding.PEM)


def _no_password() -> str:
    # Without this callback, OpenSSL would prompt on the terminal, and a service would hang.
    raise ValueError("the key is encrypted; remove its passphrase")
