"""A server rotates its key: clients that know a former key follow, and nobody else's are taken."""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import tchat
from tchat.core.fingerprints import pin_text, read_pin
from tchat.core.protocol.handshake import Proof, Welcome
from tchat.errors import Code, Refused, StartupError
from tchat.net.key_chain import MAX_LINKS, chain_block, extend_chain, pin_of_key, read_chain
from tchat.net.tls import CERTIFICATE_FILE, KEY_FILE, make_credentials
from tchat.server.control import perform
from tchat.server.operations.key_rotation import rotate_key
from tchat.server.operations.verification import verify_server
from tchat.store.open import open_store
from tchat.testing import open_server
from tests.client.known_servers_file import File
from tests.helpers import GUARD, hello_of, identity_of, raw_client, running_server
from tests.net.authority import pem_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.helpers import RunningServer


@asynccontextmanager
async def server_in(data: Path, port: int = 0) -> AsyncIterator[RunningServer]:
    """Run a server with TLS and a log on disk in a directory."""
    async with open_store(data) as store:
        credentials = make_credentials(data)
        async with running_server(store, credentials=credentials, port=port, data=data) as server:
            yield server


async def make_directory(data: Path) -> None:
    """Make a data directory with a key, as a server does that has stopped."""
    async with open_store(data):
        make_credentials(data)


async def rotate(data: Path) -> bytes:
    """Rotate the key as the operator does; return the new pin."""
    return read_pin(str((await perform(data, "rotate-key"))["pin"]))


async def visit(address: object, home: Path, pin: bytes | None = None, user: str = "alice") -> str:
    """Log in from a directory; return the line of the server in its known servers."""
    expected = None if pin is None else pin_text(pin)
    with trio.fail_after(GUARD):
        async with tchat.connect(str(address), user=user, home=home, pin=expected):
            pass
    (line,) = File(home / "known_servers").entries
    return line


async def refused(address: object, home: Path, pin: bytes | None = None) -> str:
    with pytest.raises(Refused) as caught:
        await visit(address, home, pin)
    assert caught.value.code == Code.SERVER_CHANGED
    return caught.value.sentence


# ------------------------------------------------------------------ clients follow


@pytest.mark.parametrize("rotations", [1, 3])
async def test_a_known_client_follows_and_is_told(
    tmp_path: Path, rotations: int, caplog: pytest.LogCaptureFixture
) -> None:
    data, home = tmp_path / "data", tmp_path / "home"
    async with server_in(data) as server:
        await visit(server.address, home)
        first = make_credentials(data).pin
        for _ in range(rotations):
            new = await rotate(data)
        caplog.clear()
        line = await visit(server.address, home)
        assert line == f"{server.address} {pin_text(new)} {pin_text(first)}"
        notices = [record.getMessage() for record in caplog.records]
        assert [one for one in notices if f"has a new key, {pin_text(new)}" in one]
        caplog.clear()
        assert await visit(server.address, home) == line
        assert not [one for one in caplog.records if "new key" in one.getMessage()]


async def test_pins_given_before_the_rotation_hold(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with server_in(data) as server:
        old = make_credentials(data).pin
        new = await rotate(data)
        entries = {
            await visit(server.address, tmp_path / "with the old pin", old),
            await visit(server.address, tmp_path / "with the new pin", new, "bob"),
            await visit(server.address, tmp_path / "with none", user="carol"),
        }
        assert entries == {f"{server.address} {pin_text(new)} {pin_text(old)}"}
        assert pin_text(bytes(32)) in await refused(server.address, tmp_path / "x", bytes(32))


async def test_the_name_is_kept_with_the_identity_alone(tmp_path: Path) -> None:
    data, home = tmp_path / "data", tmp_path / "home"
    async with server_in(data) as server:
        await visit(server.address, home)
        await rotate(data)
        (tmp_path / "copy").mkdir()
        shutil.copy(home / "identity", tmp_path / "copy")
        await visit(server.address, tmp_path / "copy")
        await server.end()
        assert not [line for line in server.console if "refused" in line]


async def test_an_open_connection_stays_and_reconnects(tmp_path: Path) -> None:
    async with open_server(tmp_path) as server, server.connect("alice") as alice:
        group = await alice.join("ops", create=True)
        await rotate(tmp_path / "server")
        assert (await group.say("still here")).seq
        async with server.connect("bob") as bob:
            assert bob.user == "bob"


async def test_a_handshake_survives_a_rotation(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with server_in(data) as server, raw_client(server.address, tls=True) as raw:
        hello = hello_of("alice", raw.client)
        await raw.send(hello)
        proof = await raw.proof(hello, identity_of("alice"))
        assert isinstance(proof, Proof)
        await rotate(data)
        await raw.send(proof)
        assert isinstance(await raw.receive(), Welcome)


async def test_a_stopped_server_rotates_too(tmp_path: Path) -> None:
    data, home = tmp_path / "data", tmp_path / "home"
    async with server_in(data) as server:
        await visit(server.address, home)
        port = server.address.port
    new = await rotate(data)
    assert verify_server(data).faults == []
    async with server_in(data, port) as server:
        assert pin_text(new) in await visit(server.address, home)


# ------------------------------------------------------------------ nobody else is followed


async def test_a_key_that_was_not_signed_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with server_in(tmp_path / "data") as server:
        await visit(server.address, home)
        port = server.address.port
    rotate_key(tmp_path / "data")
    await make_directory(tmp_path / "evil")
    rotate_key(tmp_path / "evil")
    # A thief of the certificate has the chain, but no key that it leads to.
    chain = read_chain((tmp_path / "data" / KEY_FILE).read_bytes())
    assert chain
    text = (tmp_path / "data" / KEY_FILE).read_bytes().partition(b"-----BEGIN TCHAT")[1:]
    key = (tmp_path / "evil" / KEY_FILE).read_bytes().partition(b"-----BEGIN TCHAT")[0]
    (tmp_path / "evil" / KEY_FILE).write_bytes(key + b"".join(text))
    (tmp_path / "evil" / CERTIFICATE_FILE).unlink()
    async with server_in(tmp_path / "evil", port) as server:
        assert "has changed" in await refused(server.address, home)
    assert len(File(home / "known_servers").entries[0].split()) == 2


async def test_a_client_does_not_go_back(tmp_path: Path) -> None:
    """As with a server that was restored from a backup, or a thief of the former key."""
    data, home = tmp_path / "data", tmp_path / "home"
    await make_directory(data)
    shutil.copytree(data, tmp_path / "stolen")
    async with server_in(data) as server:
        await visit(server.address, home)
        new = await rotate(data)
        line = await visit(server.address, home)
        port = server.address.port
    async with server_in(tmp_path / "stolen", port) as server:
        assert pin_text(new) in await refused(server.address, home)
        await rotate(tmp_path / "stolen")
        assert pin_text(new) in await refused(server.address, home)
    assert File(home / "known_servers").entries == [line]


# ------------------------------------------------------------------ the files


def test_the_old_private_key_is_destroyed(tmp_path: Path) -> None:
    make_credentials(tmp_path)
    secret = (tmp_path / KEY_FILE).read_bytes().splitlines()[1]
    with (tmp_path / KEY_FILE).open("rb") as still_open:
        rotate_key(tmp_path)
        assert not any(still_open.read())
    assert all(secret not in path.read_bytes() for path in tmp_path.iterdir())
    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}


def test_crash_before_the_certificate_is_mended(tmp_path: Path) -> None:
    make_credentials(tmp_path)
    before = (tmp_path / CERTIFICATE_FILE).read_bytes()
    new = rotate_key(tmp_path)
    (tmp_path / CERTIFICATE_FILE).write_bytes(before)
    assert make_credentials(tmp_path).pin == new.pin
    (tmp_path / CERTIFICATE_FILE).unlink()
    assert make_credentials(tmp_path).pin == new.pin


def test_a_foreign_certificate_is_left_alone(tmp_path: Path) -> None:
    make_credentials(tmp_path / "one")
    make_credentials(tmp_path / "other")
    rotate_key(tmp_path / "one")
    shutil.copy(tmp_path / "other" / CERTIFICATE_FILE, tmp_path / "one")
    with pytest.raises(StartupError, match="cannot be used"):
        make_credentials(tmp_path / "one")


def test_rotations_of_a_key_are_limited(tmp_path: Path) -> None:
    keys = [Ed25519PrivateKey.generate() for _ in range(MAX_LINKS)]
    pins = [pin_of_key(key.public_key().public_bytes_raw()) for key in keys]
    chain = b""
    for key, pin in pairwise(zip(keys, pins, strict=True)):
        chain = extend_chain(chain, key[0], pin[1])
    (tmp_path / KEY_FILE).touch(0o600)
    (tmp_path / KEY_FILE).write_bytes(pem_of(keys[-1]) + chain_block(chain))
    last = rotate_key(tmp_path).pin
    with pytest.raises(Refused, match="rotated 32 times") as caught:
        rotate_key(tmp_path)
    assert caught.value.code == Code.CANNOT_START
    assert make_credentials(tmp_path).pin == last


async def test_server_without_tls_has_no_key(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store, running_server(store, data=tmp_path):
        with pytest.raises(Refused, match="does not use a key that tchat made") as caught:
            await rotate(tmp_path)
    assert caught.value.code == Code.CANNOT_START


async def test_the_log_says_the_new_key(tmp_path: Path) -> None:
    async with server_in(tmp_path) as server:
        new = await rotate(tmp_path)
        await server.logged(f"this server's new key, signed by the former one, is {pin_text(new)}")
