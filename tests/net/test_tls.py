"""What a server shows of itself: TLS 1.3 and nothing below, by its own key or by a given one."""

from __future__ import annotations

import datetime as dt
import hashlib
import ssl
import stat
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from tchat.client.authenticate import Account
from tchat.client.client_id import ClientId
from tchat.client.connector import Connector
from tchat.client.known_servers import KnownServers
from tchat.client.session import Session
from tchat.errors import Code, Refused, StartupError
from tchat.net.address import connect
from tchat.net.tls import (
    Credentials,
    client_context,
    load_credentials,
    make_credentials,
    open_tls,
    pin_of,
    pin_seen,
)
from tests.helpers import GUARD, RawClient, identity_of, running_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tchat.net.address import Address
    from tchat.net.tls_stream import TlsStream

    Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    Stream = TlsStream[trio.SocketStream]


def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def ecdsa_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def certificate_of(key: Private) -> bytes:
    """Return a certificate that a key gave itself, in PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "chat.example.org")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    signed = builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256())
    return signed.public_bytes(Encoding.PEM)


def pem_of(key: Private, password: bytes | None = None) -> bytes:
    secrecy = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secrecy)


def written(directory: Path, certificate: bytes, key: bytes) -> tuple[Path, Path]:
    """Write a certificate and a key as an operator would have them."""
    places = directory / "fullchain.pem", directory / "privkey.pem"
    for place, data in zip(places, (certificate, key), strict=True):
        place.write_bytes(data)
    return places


class Authority:
    """A certificate authority, which this system trusts."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._home = home
        self._home.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "An authority")])
        bundle = home / "bundle.pem"
        bundle.write_bytes(self._signed(self._name, self._key.public_key(), ca=True))
        monkeypatch.setenv("SSL_CERT_FILE", str(bundle))

    def certify(self, *names: str, days: int = 30) -> Credentials:
        """Return credentials for a server of these names."""
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
    """Return the pin that a client sees, once it has been welcome."""
    async with (
        running_server(credentials=credentials) as server,
        encrypted(server.address) as stream,
    ):
        assert (await RawClient(stream).hello("alice")).user == "alice"
        return pin_seen(stream)


# ------------------------------------------------------------------ credentials of its own


async def test_a_server_makes_its_key_at_first_and_has_it_ever_after(tmp_path: Path) -> None:
    first = make_credentials(tmp_path / "data")
    again = make_credentials(tmp_path / "data")
    assert first.pin == again.pin == await seen_of(again)
    assert first.self_signed
    assert make_credentials(tmp_path / "other").pin != first.pin


def test_the_files_are_for_their_owner_only(tmp_path: Path) -> None:
    make_credentials(tmp_path / "data")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()}
    assert modes == {"server-key.pem": 0o600, "server-cert.pem": 0o600}
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_a_pin_is_the_digest_of_the_public_key_as_others_compute_it(tmp_path: Path) -> None:
    pin = make_credentials(tmp_path).pin
    certificate = x509.load_pem_x509_certificate((tmp_path / "server-cert.pem").read_bytes())
    key = certificate.public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert pin == pin_of(certificate) == hashlib.sha256(spki).digest()


async def test_a_new_certificate_for_the_same_key_keeps_the_pin(tmp_path: Path) -> None:
    pin = make_credentials(tmp_path).pin
    before = (tmp_path / "server-cert.pem").read_bytes()
    (tmp_path / "server-cert.pem").unlink()
    again = make_credentials(tmp_path)
    assert (tmp_path / "server-cert.pem").read_bytes() != before
    assert pin == again.pin == await seen_of(again)


def test_a_key_that_is_missing_is_not_made_anew_behind_the_operators_back(tmp_path: Path) -> None:
    make_credentials(tmp_path)
    (tmp_path / "server-key.pem").unlink()
    with pytest.raises(StartupError, match=r"server-key\.pem is missing\. Restore it; or remove"):
        make_credentials(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["server-cert.pem"]
    (tmp_path / "server-cert.pem").unlink()
    make_credentials(tmp_path)


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    make_credentials(tmp_path)
    (tmp_path / "server-key.pem").chmod(0o640)
    with pytest.raises(StartupError, match=r"chmod 600 .*server-key"):
        make_credentials(tmp_path)


# ------------------------------------------------------------------ credentials that are given


@pytest.mark.parametrize("make", [rsa_key, ecdsa_key, ed25519.Ed25519PrivateKey.generate])
async def test_a_server_shows_the_certificate_it_was_given(
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


def test_a_certificate_and_the_key_of_another_are_refused(tmp_path: Path) -> None:
    sentence = refusal(tmp_path, certificate_of(ecdsa_key()), pem_of(ecdsa_key()))
    assert "MISMATCH" in sentence


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_password(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    key = ecdsa_key()
    sentence = refusal(tmp_path, certificate_of(key), pem_of(key, b"a secret"))
    assert "the key is encrypted" in sentence
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("text", [b"", b"no certificate at all\n", b"\xff\xfe\x00"])
def test_files_that_hold_something_else_are_refused(tmp_path: Path, text: bytes) -> None:
    key = ecdsa_key()
    refusal(tmp_path, text, pem_of(key))
    refusal(tmp_path, certificate_of(key), text)


def test_files_that_are_not_there_are_refused_by_name(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    with pytest.raises(StartupError, match=r"cert\.pem and .*key\.pem cannot be used: No such"):
        load_credentials(certificate, key)


# ------------------------------------------------------------------ TLS 1.3 and nothing below


async def test_both_sides_speak_tls_13_and_leave_nothing_to_resume_by(tmp_path: Path) -> None:
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


async def test_a_client_that_knows_tls_12_at_most_is_refused(tmp_path: Path) -> None:
    old = client_context(verified=False)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with running_server(credentials=make_credentials(tmp_path)) as server:
        with pytest.raises(trio.BrokenResourceError):
            async with encrypted(server.address, old):
                raise AssertionError("TLS 1.2 was spoken")
        await server.logged("This server speaks TLS 1.3; the client has to speak it, too.")


@pytest.mark.parametrize("verified", [True, False])
async def test_a_client_does_not_speak_tls_12_either(tmp_path: Path, verified: bool) -> None:
    credentials = make_credentials(tmp_path)
    credentials.context.minimum_version = ssl.TLSVersion.TLSv1_2
    credentials.context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with running_server(credentials=credentials) as server:
        with pytest.raises(trio.BrokenResourceError):
            async with encrypted(server.address, client_context(verified=verified)):
                raise AssertionError("TLS 1.2 was spoken")


# ------------------------------------------------------------------ one speaks TLS and one does not


async def ended_by(connector: Connector) -> Refused:
    """Run a session that comes to nothing; return why."""
    session = Session(connector, Account("alice", identity_of("alice"), ClientId()))
    with trio.fail_after(GUARD), pytest.raises(Refused) as caught:
        await session.run()
    return caught.value


async def test_tls_to_a_server_in_the_clear_is_named() -> None:
    known = KnownServers()
    async with running_server() as server:
        refused = await ended_by(Connector(server.address, known))
    assert refused.code == Code.NOT_ENCRYPTED
    assert f"{server.address} does not speak TLS" in refused.sentence
    assert "--no-tls" in refused.sentence
    assert known.find(server.address) is None
    assert not any("fault" in line for line in server.console)


async def test_no_tls_to_a_server_that_speaks_it_is_named(tmp_path: Path) -> None:
    async with running_server(credentials=make_credentials(tmp_path)) as server:
        refused = await ended_by(Connector(server.address, KnownServers(), plain=True))
        await server.logged("refused 127.0.0.1:")
    assert refused.code == Code.NOT_ENCRYPTED
    assert "This server speaks TLS" in refused.sentence
    assert not any("fault" in line for line in server.console)


# ------------------------------------------------------------------ noise at the door


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
async def test_noise_at_the_door_harms_nobody(tmp_path: Path, noise: bytes, ending: str) -> None:
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


async def test_one_who_breaks_off_behind_the_handshake_harms_nobody(tmp_path: Path) -> None:
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
