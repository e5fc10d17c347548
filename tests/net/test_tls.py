"""Server credentials, pins, and TLS 1.3 between clients and servers."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import random
import ssl
import stat
import warnings
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from tchat.client.authenticate import Account
from tchat.client.client_id import ClientId
from tchat.client.connector import Connector
from tchat.client.known_servers import KnownServers
from tchat.client.session import Session
from tchat.errors import Code, ProtocolError, Refused, StartupError
from tchat.net.tcp import connect
from tchat.net.tls import (
    CERTIFICATE_FILE,
    KEY_FILE,
    Credentials,
    client_context,
    former_pins_seen,
    load_credentials,
    make_credentials,
    open_tls,
    own_name,
    pin_of,
    pin_seen,
)
from tchat.net.tls_stream import TlsStream
from tests.helpers import GUARD, RawClient, identity_of, running_server
from tests.net.authority import Private, pem_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tchat.net.address import Address

    Stream = TlsStream[trio.SocketStream]


def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def ecdsa_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def certificate_of(key: Private) -> bytes:
    """Return a self-signed certificate, in PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "chat.example.org")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    signed = builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256())
    return signed.public_bytes(Encoding.PEM)


def written(directory: Path, certificate: bytes, key: bytes) -> tuple[Path, Path]:
    """Write a certificate and a key as an operator would provide them."""
    places = directory / "fullchain.pem", directory / "privkey.pem"
    for place, data in zip(places, (certificate, key), strict=True):
        place.write_bytes(data)
    return places


@asynccontextmanager
async def encrypted(
    address: Address, context: ssl.SSLContext | None = None
) -> AsyncIterator[Stream]:
    """Connect over TLS for the length of the block."""
    socket = await connect(address)
    async with socket:
        context = context or client_context(verified=False)
        async with await open_tls(socket, context, address.host) as stream:
            yield stream


async def seen_of(credentials: Credentials) -> bytes:
    """Return the pin that a client sees, once it is welcomed."""
    async with (
        running_server(credentials=credentials) as server,
        encrypted(server.address) as stream,
    ):
        assert (await RawClient(stream).hello("alice")).user == "alice"
        return pin_seen(stream)


# ------------------------------------------------------------------ generated credentials


async def test_a_server_key_is_generated_once(tmp_path: Path) -> None:
    first = make_credentials(tmp_path / "data")
    again = make_credentials(tmp_path / "data")
    assert first.pin == again.pin == await seen_of(again)
    assert first.self_signed
    assert make_credentials(tmp_path / "other").pin != first.pin


def test_key_files_are_private(tmp_path: Path) -> None:
    make_credentials(tmp_path / "data")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()}
    assert modes == {"server-key.pem": 0o600, "server-cert.pem": 0o600}
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_openssl_computes_the_same_pin(tmp_path: Path) -> None:
    pin = make_credentials(tmp_path).pin
    certificate = x509.load_pem_x509_certificate((tmp_path / "server-cert.pem").read_bytes())
    key = certificate.public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert pin == pin_of(certificate) == hashlib.sha256(spki).digest()


async def test_a_renewed_certificate_keeps_the_pin(tmp_path: Path) -> None:
    pin = make_credentials(tmp_path).pin
    before = (tmp_path / "server-cert.pem").read_bytes()
    (tmp_path / "server-cert.pem").unlink()
    again = make_credentials(tmp_path)
    assert (tmp_path / "server-cert.pem").read_bytes() != before
    assert pin == again.pin == await seen_of(again)


def test_a_missing_key_is_not_silently_replaced(tmp_path: Path) -> None:
    make_credentials(tmp_path)
    (tmp_path / "server-key.pem").unlink()
    with pytest.raises(StartupError, match=r"server-key\.pem is missing\. Restore it; or remove"):
        make_credentials(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["server-cert.pem"]
    (tmp_path / "server-cert.pem").unlink()
    make_credentials(tmp_path)


def test_a_key_readable_by_others_is_refused(tmp_path: Path) -> None:
    make_credentials(tmp_path)
    (tmp_path / "server-key.pem").chmod(0o640)
    with pytest.raises(StartupError, match=r"chmod 600 .*server-key"):
        make_credentials(tmp_path)


VERSION = b"\xa0\x03\x02\x01\x02"  # of X.509: 3, which is stored as 2


def test_a_certificate_of_an_unknown_version_is_refused(tmp_path: Path) -> None:
    make_credentials(tmp_path)
    path = tmp_path / "server-cert.pem"
    der = ssl.PEM_cert_to_DER_cert(path.read_text())
    assert der.count(VERSION) == 1
    unknown = der.replace(VERSION, VERSION[:-1] + b"\x05")
    path.write_text(ssl.DER_cert_to_PEM_cert(unknown))
    with pytest.raises(StartupError, match="5 is not a valid X509 version"):
        make_credentials(tmp_path)


def test_a_crash_before_the_certificate_is_healed(tmp_path: Path) -> None:
    """The key is there first, and is kept."""
    pin = make_credentials(tmp_path).pin
    key = (tmp_path / "server-key.pem").read_bytes()
    (tmp_path / "server-cert.pem").unlink()
    assert make_credentials(tmp_path).pin == pin
    assert (tmp_path / "server-key.pem").read_bytes() == key


DAMAGE = {
    "empty": b"",
    "half": b"-----BEGIN PRIVATE KEY-----\nMC4CAQAw",
    "random": random.Random(1).randbytes(100),
}


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("with_certificate", [True, False])
def test_a_damaged_key_is_named_and_kept(
    tmp_path: Path, content: bytes, with_certificate: bool
) -> None:
    make_credentials(tmp_path)
    key, certificate = tmp_path / "server-key.pem", tmp_path / "server-cert.pem"
    key.write_bytes(content)
    if not with_certificate:
        certificate.unlink()
    with pytest.raises(StartupError) as caught:
        make_credentials(tmp_path)
    assert f"{key} is empty" in str(caught.value) or f"{key} is not " in str(caught.value)
    assert f"Restore {key} from a backup; or remove it and {certificate}" in str(caught.value)
    assert key.read_bytes() == content


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_certificate_is_named_and_renewable(tmp_path: Path, content: bytes) -> None:
    pin = make_credentials(tmp_path).pin
    certificate = tmp_path / "server-cert.pem"
    certificate.write_bytes(content)
    with pytest.raises(StartupError) as caught:
        make_credentials(tmp_path)
    assert f"{certificate} is empty" in str(caught.value) or (
        f"{certificate} is not a certificate in PEM format" in str(caught.value)
    )
    assert f"remove {certificate}: the next start makes a new one" in str(caught.value)
    certificate.unlink()
    assert make_credentials(tmp_path).pin == pin


def test_a_certificate_of_another_server_is_named(tmp_path: Path) -> None:
    make_credentials(tmp_path / "one")
    make_credentials(tmp_path / "other")
    (tmp_path / "other" / "server-cert.pem").replace(tmp_path / "one" / "server-cert.pem")
    with pytest.raises(StartupError, match=r"server-cert\.pem does not belong to the key"):
        make_credentials(tmp_path / "one")


# ------------------------------------------------------------------ given credentials


@pytest.mark.parametrize("make", [rsa_key, ecdsa_key, ed25519.Ed25519PrivateKey.generate])
async def test_a_server_presents_its_given_certificate(
    tmp_path: Path, make: Callable[[], Private]
) -> None:
    key = make()
    credentials = load_credentials(*written(tmp_path, certificate_of(key), pem_of(key)))
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert await seen_of(credentials) == credentials.pin == hashlib.sha256(spki).digest()


def refusal(directory: Path, certificate: bytes, key: bytes) -> str:
    """Return why a certificate and a key cannot be used."""
    with pytest.raises(StartupError) as caught:
        load_credentials(*written(directory, certificate, key))
    assert caught.value.code == Code.CANNOT_START
    assert caught.value.sentence.startswith(f"{directory / 'fullchain.pem'} and ")
    return caught.value.sentence


def test_a_certificate_with_another_key_is_refused(tmp_path: Path) -> None:
    sentence = refusal(tmp_path, certificate_of(ecdsa_key()), pem_of(ecdsa_key()))
    assert "fullchain.pem does not belong to the key " in sentence
    assert sentence.endswith("with --cert and --key.")


def test_an_encrypted_key_is_refused_without_a_prompt(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    key = ecdsa_key()
    sentence = refusal(tmp_path, certificate_of(key), pem_of(key, b"a secret"))
    assert "the key is encrypted" in sentence
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("text", [b"", b"no certificate at all\n", b"\xff\xfe\x00"])
def test_files_without_keys_are_refused(tmp_path: Path, text: bytes) -> None:
    key = ecdsa_key()
    refusal(tmp_path, text, pem_of(key))
    refusal(tmp_path, certificate_of(key), text)


def test_missing_files_are_named_in_the_error(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    with pytest.raises(StartupError, match=r"key\.pem cannot be read: No such"):
        load_credentials(certificate, key)


@pytest.mark.parametrize(
    ("begin", "end", "reason"),
    [(-20, -10, "expired on"), (10, 20, "is not valid before"), (-10, 10, "")],
)
async def test_wrong_times_of_a_certificate_are_logged(
    tmp_path: Path, begin: int, end: int, reason: str
) -> None:
    """They are no reason not to start: clients that know the key do not check them."""
    key, day = ecdsa_key(), dt.timedelta(days=1)
    now = dt.datetime.now(dt.UTC)
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority")])
    builder = x509.CertificateBuilder(issuer, own_name(), key.public_key(), 1)
    builder = builder.not_valid_before(now + begin * day).not_valid_after(now + end * day)
    pem = builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
    credentials = load_credentials(*written(tmp_path, pem, pem_of(key)))
    assert credentials.invalidity.startswith(reason)
    async with running_server(credentials=credentials) as server:
        await server.logged("to join: ")
    assert any("clients that check it cannot connect" in one for one in server.console) is bool(
        reason
    )


# ------------------------------------------------------------------ TLS 1.3 and nothing below


async def test_tls_13_is_used_without_session_tickets(tmp_path: Path) -> None:
    async with (
        running_server(credentials=make_credentials(tmp_path)) as server,
        encrypted(server.address) as stream,
    ):
        alice = RawClient(stream)
        await alice.hello("alice")
        assert await alice.before_pong() == []
        assert stream._tls.version() == "TLSv1.3"
        session = stream._tls.session
        assert session is not None
        assert not session.has_ticket


async def test_a_tls_12_client_is_refused(tmp_path: Path) -> None:
    old = client_context(verified=False)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with running_server(credentials=make_credentials(tmp_path)) as server:
        with pytest.raises(trio.BrokenResourceError):
            async with encrypted(server.address, old):
                raise AssertionError("TLS 1.2 was spoken")
        await server.logged("This server speaks TLS 1.3; the client has to speak it, too.")


@pytest.mark.parametrize("verified", [True, False])
async def test_a_client_refuses_a_tls_12_server(tmp_path: Path, verified: bool) -> None:
    credentials = make_credentials(tmp_path)
    credentials.context.minimum_version = ssl.TLSVersion.TLSv1_2
    credentials.context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with running_server(credentials=credentials) as server:
        with pytest.raises(trio.BrokenResourceError):
            async with encrypted(server.address, client_context(verified=verified)):
                raise AssertionError("TLS 1.2 was spoken")


# ------------------------------------------------------------------ TLS against plain


async def ended_by(connector: Connector) -> Refused:
    """Run a session that is refused; return the refusal."""
    session = Session(connector, Account("alice", identity_of("alice"), ClientId()))
    with trio.fail_after(GUARD), pytest.raises(Refused) as caught:
        await session.run()
    return caught.value


async def test_tls_to_a_plain_server_is_explained() -> None:
    known = KnownServers()
    async with running_server() as server:
        refused = await ended_by(Connector(server.address, known))
    assert refused.code == Code.NOT_ENCRYPTED
    assert f"{server.address} does not speak TLS" in refused.sentence
    assert "--no-tls" in refused.sentence
    assert known.find(server.address) is None
    assert not any("fault" in line for line in server.console)


async def test_plain_to_a_tls_server_is_explained(tmp_path: Path) -> None:
    async with running_server(credentials=make_credentials(tmp_path)) as server:
        refused = await ended_by(Connector(server.address, KnownServers(), plain=True))
        await server.logged("refused 127.0.0.1:")
    assert refused.code == Code.NOT_ENCRYPTED
    assert "This server speaks TLS" in refused.sentence
    assert not any("fault" in line for line in server.console)


# ------------------------------------------------------------------ random bytes


@pytest.mark.parametrize("ending", ["close", "reset", "wait"])
@pytest.mark.parametrize(
    "noise",
    [
        b"",
        b"\x00",
        b"\xff" * 9000,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x16\x03\x01\x00\x05hello",
        b"\x15\x03\x03\x00\x02\x02\x31",
        b"\x80\x2e\x01\x00\x02",
    ],
    ids=["nothing", "a byte", "garbage", "http", "half a hello", "nonsense", "alert", "ssl2"],
)
async def test_random_bytes_harm_no_other_connection(
    tmp_path: Path, noise: bytes, ending: str
) -> None:
    async with running_server(credentials=make_credentials(tmp_path)) as server:
        async with encrypted(server.address) as stream, await connect(server.address) as stranger:
            alice = RawClient(stream)
            await alice.hello("alice")
            await stranger.send_all(noise)
            if ending == "close":
                await stranger.send_eof()
            if ending == "reset":
                await trio.aclose_forcefully(stranger)
            assert await alice.before_pong() == []
        await server.logged("alice disconnected")
    assert not any("fault" in line for line in server.console), server.console


async def test_a_lost_connection_after_tls_harms_nobody(tmp_path: Path) -> None:
    async with running_server(credentials=make_credentials(tmp_path)) as server:
        async with encrypted(server.address) as stream:
            await stream.send_all(b"\x00")
            await trio.aclose_forcefully(stream)
        async with encrypted(server.address) as stream:
            alice = RawClient(stream)
            await alice.hello("alice")
            await stream.transport_stream.send_all(b"this is not encrypted")
            assert await alice.until_end() == []
        await server.logged("alice disconnected")
        async with encrypted(server.address) as stream:
            await RawClient(stream).hello("alice")
    assert not any("fault" in line for line in server.console), server.console


class Showing(TlsStream[trio.SocketStream]):
    """A connection to a server that shows a certificate."""

    def __init__(self, certificate: bytes) -> None:
        self._shown = certificate

    def peer_certificate(self) -> bytes:
        return self._shown


def odd_certificate() -> bytes:
    """Return a valid certificate with a country of five letters and a name of an unknown kind."""
    key = ed25519.Ed25519PrivateKey.generate()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        country = x509.NameAttribute(NameOID.COUNTRY_NAME, "Earth", _validate=False)
    name = x509.Name([country])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(dt.datetime(2020, 1, 1)).not_valid_after(dt.datetime(2090, 1, 1))
    address = x509.UnrecognizedExtension(  # a subjectAltName with an x400Address
        x509.ObjectIdentifier("2.5.29.17"), bytes.fromhex("3002a300")
    )
    issuer = x509.IssuerAlternativeName([x509.DirectoryName(name)])
    made = made.add_extension(address, critical=False).add_extension(issuer, critical=False)
    return made.sign(key, None).public_bytes(Encoding.DER)


def test_odd_certificate_of_a_server_is_survived() -> None:
    """The parser has exceptions of its own, and warns on standard error, over the chat."""
    stream = Showing(odd_certificate())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(pin_seen(stream)) == 32
        assert former_pins_seen(stream) == ()


def test_unreadable_certificate_of_a_server_is_refused() -> None:
    with pytest.raises(ProtocolError):
        pin_seen(Showing(b"\x30\x00"))
    assert former_pins_seen(Showing(b"\x30\x00")) == ()


def test_a_pipe_called_a_key_is_refused(tmp_path: Path) -> None:
    """To read it would take forever."""
    make_credentials(tmp_path)
    for name in (KEY_FILE, CERTIFICATE_FILE):
        kept = tmp_path / f"{name}.kept"
        (tmp_path / name).rename(kept)
        os.mkfifo(tmp_path / name)
        with pytest.raises(StartupError, match="is a pipe, a socket or a device, not a file"):
            make_credentials(tmp_path)
        with pytest.raises(StartupError, match="is a pipe"):
            load_credentials(tmp_path / CERTIFICATE_FILE, tmp_path / KEY_FILE)
        kept.rename(tmp_path / name)
