"""Each server gets a key and client ids of its own; names keep the key that claimed them."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tchat
from tchat.client.authenticate import Account
from tchat.client.client_id import ClientId, acquire_client_id
from tchat.client.config.opening import open_user_session
from tchat.client.config.settings import Server
from tchat.client.connector import Connector
from tchat.client.known_servers import KnownServers
from tchat.client.server_directory import ServerRecord, read_records, save_record
from tchat.client.session import open_session
from tchat.core.fingerprints import pin_text
from tchat.errors import Code, StartupError
from tchat.net.address import Address
from tchat.net.identity import load_identity
from tchat.net.tls import Credentials, make_credentials
from tests.client.impostor import Wire, impostor
from tests.client.unsent import left_in
from tests.helpers import GROUP, log_of, running_server, texts, until
from tests.memory_store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tchat.client.session import Session
    from tests.helpers import RunningServer

BEFORE = Path(__file__).with_name("data") / "home_before_server_keys.json"
"""The directory of alice, made by tchat before it had keys for each server.

She was killed after she had sent a message, as number 3 of her client id, that was not answered.
The key of the server that she knows is there, too.
"""
OLD_CLIENT = bytes.fromhex("cfe22512dca33ce1")
UNANSWERED = "sent, but not answered"


@asynccontextmanager
async def session_from(
    home: Path, address: Address, *, plain: bool = False
) -> AsyncIterator[Session]:
    """Open a session from a directory, as every program does, and enter a group."""
    server = Server(address.host, address.port, no_tls=plain)
    async with open_user_session(server, "alice", home=home) as session:
        await session.enter(GROUP)
        yield session


async def key_at(server: RunningServer, home: Path, *, plain: bool = False) -> bytes:
    """Return the key with which alice logs in from a directory; she says something, too."""
    async with session_from(home, server.address, plain=plain) as session:
        replica = session.groups[GROUP]
        await session.post(replica, "hello").wait()
        return session.key


async def refusals(server: RunningServer) -> int:
    """Stop the server; return how often it has refused a key."""
    await server.end()
    return sum("belongs to another key" in line for line in server.console)


async def client_ids(server: RunningServer) -> set[bytes]:
    return {event.client for event in await log_of(server.store) if event.client}


def own_key(home: Path) -> bytes:
    return load_identity(home / "identity").public


@pytest.fixture
def one(tmp_path: Path) -> Credentials:
    return make_credentials(tmp_path / "one")


@pytest.fixture
def other(tmp_path: Path) -> Credentials:
    return make_credentials(tmp_path / "other")


# ------------------------------------------------------------------ a key for each server


async def test_servers_share_neither_key_nor_client_id(
    tmp_path: Path, one: Credentials, other: Credentials
) -> None:
    async with running_server(credentials=one) as here, running_server(credentials=other) as there:
        keys = [await key_at(server, tmp_path / "home") for server in (here, there)]
        assert len({*keys, own_key(tmp_path / "home")}) == 3
        assert not await client_ids(here) & await client_ids(there)
        assert await key_at(here, tmp_path / "home") == keys[0]
        assert len(await client_ids(here)) == 1


@pytest.mark.parametrize("tls", [True, False])
async def test_the_identity_alone_is_enough(tmp_path: Path, one: Credentials, tls: bool) -> None:
    async with running_server(credentials=one if tls else None) as server:
        key = await key_at(server, tmp_path / "home", plain=not tls)
        (tmp_path / "copy").mkdir()
        (tmp_path / "home" / "identity").rename(tmp_path / "copy" / "identity")
        assert await key_at(server, tmp_path / "copy", plain=not tls) == key
        assert await refusals(server) == 0


async def test_server_that_moves_gets_the_same_key(tmp_path: Path, one: Credentials) -> None:
    store = MemoryStore()
    async with running_server(store, credentials=one) as server:
        key = await key_at(server, tmp_path / "home")
    async with running_server(store, credentials=one) as server:
        assert await key_at(server, tmp_path / "home") == key


async def test_loopback_addresses_without_tls_share_a_key(tmp_path: Path) -> None:
    async with running_server() as server:
        key = await key_at(server, tmp_path / "home", plain=True)
        address = Address("localhost", server.address.port)
        async with session_from(tmp_path / "home", address, plain=True) as session:
            assert session.key == key


async def test_one_person_uses_two_servers_at_once(
    tmp_path: Path, one: Credentials, other: Credentials
) -> None:
    home = tmp_path / "home"
    async with (
        running_server(credentials=one) as here,
        running_server(credentials=other) as there,
        session_from(home, here.address) as first,
        session_from(home, here.address) as second,
        session_from(home, there.address) as third,
    ):
        for session in (first, second, third):
            await session.post(session.groups[GROUP], "hello").wait()
        assert len(await client_ids(here)) == 2
        assert len(await client_ids(there)) == 1
        assert first.key == second.key != third.key


async def test_a_server_harms_only_its_own_counter(tmp_path: Path, one: Credentials) -> None:
    home = tmp_path / "home"

    async def act(wire: Wire) -> None:
        await wire.let_in(counted=2**40 - 1)
        post = await wire.hear_only("post")
        await wire.say({"type": "ok", "re": post["id"], "seq": 1})
        await wire.hear()

    async with (
        impostor(act) as hostile,
        session_from(home, hostile.address, plain=True) as session,
    ):
        await session.post(session.groups[GROUP], "hello").wait()
    async with running_server(credentials=one) as server:
        await key_at(server, home)
        assert {event.n for event in await log_of(server.store)} == {1, 2}
    counters = [json.loads(path.read_text())["next"] for path in home.glob("servers/*/0.json")]
    assert min(counters) < 2**11
    assert max(counters) >= 2**40


def test_a_server_cannot_use_up_the_numbers(tmp_path: Path) -> None:
    with acquire_client_id(tmp_path, "alice", ["server"]) as client_id:
        for bits in range(30, 63):
            client_id.advance_past(2**bits)
        client_id._next = 2**62 - 5
        client_id.advance_past(2**62 + 1)
        assert client_id.next_number() == 2**62 - 5


# ------------------------------------------------------------------ directories of before


@asynccontextmanager
async def server_known_before(tmp_path: Path) -> AsyncIterator[tuple[RunningServer, Path]]:
    """Run the server that alice knows, where she has the name; give it and her directory."""
    before = json.loads(BEFORE.read_text())
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "server-key.pem").touch(0o600)
    (tmp_path / "server" / "server-key.pem").write_text(before["server-key.pem"])
    credentials = make_credentials(tmp_path / "server")
    async with running_server(credentials=credentials) as server:
        home = tmp_path / "home"
        for name, text in before["home"].items():
            path = home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(0o600)
            path.write_text(text.replace("127.0.0.1:17941", str(server.address)))
        client_id = ClientId()
        client_id.client, client_id._next = OLD_CLIENT, 2
        connector = Connector(server.address, KnownServers())
        account = Account("alice", load_identity(home / "identity"), client_id)
        async with open_session(connector, account) as session:
            replica = await session.enter(GROUP)
            await session.post(replica, UNANSWERED).wait()
        yield server, home


async def test_a_known_server_keeps_the_old_key(tmp_path: Path) -> None:
    async with server_known_before(tmp_path) as (server, home):
        assert left_in(home, server.address) == []
        async with session_from(home, server.address) as alice:
            assert alice.key == own_key(home)
            await until(alice, lambda: not alice.groups[GROUP].pending)
        assert texts(await log_of(server.store)) == [UNANSWERED]
        assert (home / "slots" / "0.outbox").read_text() == ""
        assert await key_at(server, home) == own_key(home)
        assert texts(await log_of(server.store)) == [UNANSWERED, "hello"]
        (new,) = await client_ids(server) - {OLD_CLIENT}
        assert new.hex() in "".join(path.read_text() for path in home.glob("servers/*/0.json"))
        assert await refusals(server) == 0


async def test_other_servers_get_a_new_key(tmp_path: Path, other: Credentials) -> None:
    async with (
        server_known_before(tmp_path) as (_, home),
        running_server(credentials=other) as elsewhere,
    ):
        key = await key_at(elsewhere, home)
        assert key == load_identity(home / "identity").for_server(pin_text(other.pin)).public
        assert OLD_CLIENT not in await client_ids(elsewhere)


async def test_old_key_is_tried_once_without_known_servers(tmp_path: Path) -> None:
    async with server_known_before(tmp_path) as (server, home):
        (home / "known_servers").unlink()
        assert await key_at(server, home) == own_key(home)
        assert await key_at(server, home) == own_key(home)
        assert await refusals(server) == 1


async def test_a_new_identity_never_shows_its_own_key(tmp_path: Path) -> None:
    keys: list[bytes] = []

    async def act(wire: Wire) -> None:
        hello = await wire.hear_only("hello")
        keys.append(hello["key"])
        await wire.say({"type": "error", "code": str(Code.NAME_TAKEN), "text": "taken"})

    async with impostor(act, act, act) as server:
        with pytest.raises((tchat.Refused, ExceptionGroup)):
            async with session_from(tmp_path / "home", server.address, plain=True):
                pass
    assert len(keys) == 1
    assert keys != [own_key(tmp_path / "home")]


# ------------------------------------------------------------------ servers that were set up again


async def test_accounts_outlive_the_key_of_their_server(
    tmp_path: Path, one: Credentials, other: Credentials
) -> None:
    store, home = MemoryStore(), tmp_path / "home"
    async with running_server(store, credentials=one) as server:
        key, port = await key_at(server, home), server.address.port
    (home / "known_servers").unlink()  # as the person is told to do
    async with running_server(store, credentials=other, port=port) as server:
        assert await key_at(server, home) == key
        assert await key_at(server, home) == key
        assert await refusals(server) == 1


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"server": 1}', '{"server": "x", "key": 5}'])
async def test_a_damaged_record_costs_nothing(
    tmp_path: Path, one: Credentials, damage: str
) -> None:
    home = tmp_path / "home"
    async with running_server(credentials=one) as server:
        key = await key_at(server, home)
        (record,) = home.glob("servers/*/server.json")
        record.write_text(damage)
        assert await key_at(server, home) == key
        assert [one.key for one in read_records(home)] == [pin_text(one.pin)]


def test_unwritable_record_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "servers").touch()
    save_record(tmp_path, ServerRecord("server", "localhost:1", None))
    assert read_records(tmp_path) == []


async def test_a_lost_identity_is_not_replaced(one: Credentials, tmp_path: Path) -> None:
    """A new one would have none of the person's names."""
    home = tmp_path / "home"
    async with running_server(credentials=one) as server:
        async with tchat.connect(str(server.address), user="alice", home=home):
            pass
        (home / "identity").unlink()
        with pytest.raises(StartupError, match=r"identity is missing, but servers were used"):
            async with tchat.connect(str(server.address), user="alice", home=home):
                pass
        assert not (home / "identity").exists()
