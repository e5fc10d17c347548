"""Bans on the whole server: by name, key and address, at once and after a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

import tchat
from tchat.core.fingerprints import fingerprint
from tchat.core.protocol.frames import Failed
from tchat.core.protocol.handshake import VERSION, TransferHello
from tchat.errors import Code, Refused
from tchat.net.address import Address
from tchat.net.identity import load_identity
from tchat.server.bans import Bans, new_ban
from tchat.server.control import perform
from tchat.store.base import StorageFull
from tchat.store.open import open_store
from tchat.testing import open_server
from tests.faulty_store import FaultyStore
from tests.helpers import hello_of, identity_of, members, raw_client, running_server
from tests.memory_store import MemoryStore
from tests.server.devices import handshake_result
from tests.server.file_transfers import DATA, fetching, sending, share, ticket_to_send

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.testing import TestServer


async def enter(server: TestServer, name: str) -> None:
    """Connect, and leave at once."""
    async with server.connect(name):
        pass


async def stay(server: TestServer, name: str, ready: trio.Event) -> None:
    async with server.connect(name):
        ready.set()
        await trio.sleep_forever()


def key_of(server: TestServer, name: str) -> str:
    identity = load_identity(server.home(name) / "identity")
    return fingerprint(identity.for_server(server.pin).public)


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("kind", ["name", "key", "address"])
async def test_a_banned_person_cannot_connect(tmp_path: Path, kind: str, running: bool) -> None:
    data = tmp_path / "server"
    async with open_server(tmp_path) as server:
        await enter(server, "mallory")
        values = {"name": "MALLORY", "key": key_of(server, "mallory"), "address": "127.0.0.0/8"}
        if running:
            await perform(data, "ban", kind=kind, value=values[kind], reason="spam")
            with pytest.raises(tchat.Refused, match="has banned you: spam"):
                await enter(server, "mallory")
    if not running:
        await perform(data, "ban", kind=kind, value=values[kind], reason="spam")
    async with open_server(tmp_path) as server:
        with pytest.raises(tchat.Refused) as caught:
            await enter(server, "mallory")
        assert caught.value.code == Code.BANNED
        if kind != "address":
            await enter(server, "alice")
        await perform(data, "unban", kind=kind, value=values[kind])
        await enter(server, "mallory")


@pytest.mark.parametrize("kind", ["name", "key", "address"])
async def test_a_ban_closes_connections(tmp_path: Path, kind: str) -> None:
    async with open_server(tmp_path) as server:
        await enter(server, "mallory")
        values = {"name": "mallory", "key": key_of(server, "mallory"), "address": "127.0.0.1"}
        ready = trio.Event()

        async def ban() -> None:
            await ready.wait()
            report = await perform(tmp_path / "server", "ban", kind=kind, value=values[kind])
            assert report["disconnected"] == 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ban)
            with pytest.raises(tchat.Refused, match="has banned you"):
                await stay(server, "mallory", ready)


async def test_bans_are_listed(tmp_path: Path) -> None:
    data = tmp_path / "server"
    async with open_server(tmp_path):
        await perform(data, "ban", kind="name", value="Mallory", reason="spam")
        await perform(data, "ban", kind="address", value="2001:db8::1/32")
        report = await perform(data, "bans")
    listed = [(ban["kind"], ban["value"], ban["reason"]) for ban in report["bans"]]
    assert listed == [("address", "2001:db8::/32", ""), ("name", "mallory", "spam")]


@pytest.mark.parametrize(
    ("command", "kind", "value", "code"),
    [
        ("ban", "name", "no name", Code.BAD_NAME),
        ("ban", "key", "3f2a", Code.BAD_NAME),
        ("ban", "address", "300.1.1.1", Code.BAD_NAME),
        ("ban", "colour", "red", Code.MALFORMED),
        ("unban", "name", "alice", Code.NO_SUCH_BAN),
    ],
)
async def test_a_wrong_ban_is_refused(
    tmp_path: Path, command: str, kind: str, value: str, code: Code
) -> None:
    async with open_server(tmp_path):
        with pytest.raises(Refused) as caught:
            await perform(tmp_path / "server", command, kind=kind, value=value)
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("banned", "host", "refused"),
    [
        ("192.0.2.0/24", "192.0.2.77", True),
        ("192.0.2.0/24", "::ffff:192.0.2.77", True),
        ("::ffff:192.0.2.77", "192.0.2.77", True),
        ("::ffff:192.0.2.0/120", "::ffff:192.0.2.77", True),
        ("::ffff:192.0.2.0/120", "192.0.3.77", False),
        ("192.0.2.0/24", "192.0.3.77", False),
        ("2001:db8::/32", "2001:db8::9%eth0", True),
        ("2001:db8::/32", "192.0.2.77", False),
        ("192.0.2.0/24", "not an address", False),
    ],
)
async def test_networks_contain_their_addresses(banned: str, host: str, refused: bool) -> None:
    bans = Bans(MemoryStore().maintenance)
    await bans.add(new_ban("address", banned, "", 1))
    if refused:
        with pytest.raises(Refused):
            bans.check_address(Address(host, 1))
    else:
        bans.check_address(Address(host, 1))


async def test_a_full_disk_keeps_a_ban() -> None:
    store = FaultyStore()
    bans = Bans(store.maintenance)
    await bans.add(new_ban("name", "mallory", "", 1))
    store.fill("maintenance.remove_ban")
    with pytest.raises(StorageFull):
        await bans.remove("name", "mallory")
    assert [ban.value for ban in bans.all()] == ["mallory"]
    store.mend()
    await bans.remove("name", "mallory")
    assert bans.all() == []


# ------------------------------------------------------------------ connections that are not chats


async def test_a_ban_during_the_handshake_counts(tmp_path: Path) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store, data=tmp_path) as server,
        raw_client(server.address) as mallory,
    ):
        hello = hello_of("mallory")
        await mallory.send(hello)
        proof = await mallory.proof(hello)
        await perform(tmp_path, "ban", kind="address", value="127.0.0.1")
        await mallory.send(proof)
        answer = await mallory.receive()
        assert isinstance(answer, Failed)
        assert answer.code == Code.BANNED


BANS = [
    {"kind": "name", "value": "bob"},
    {"kind": "key", "value": fingerprint(identity_of("bob").public)},
    {"kind": "address", "value": "127.0.0.1"},
]


@pytest.mark.parametrize("ban", BANS)
async def test_a_ban_ends_transfers(tmp_path: Path, ban: dict[str, str]) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store, data=tmp_path) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        await share(server, alice, DATA)
        async with (
            sending(server, bob, DATA[1:]) as (upload, _),
            fetching(server, bob, 1, len(DATA)) as download,
        ):
            report = await perform(tmp_path, "ban", **ban)
            assert report["disconnected"] == (4 if ban["kind"] == "address" else 3)
            assert await upload.until_end() == []
            assert await download.until_end() == []


@pytest.mark.parametrize("ban", BANS)
async def test_a_ban_revokes_tickets(tmp_path: Path, ban: dict[str, str]) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store, data=tmp_path) as server,
        members(server, "alice", "bob") as (_, bob),
    ):
        ticket = await ticket_to_send(bob, DATA)
        await perform(tmp_path, "ban", **ban)
        async with raw_client(server.address) as raw:
            await raw.send(TransferHello(VERSION, ticket))
            answer = await raw.receive()
            assert isinstance(answer, Failed)
            assert answer.code == (Code.BANNED if ban["kind"] == "address" else Code.BAD_TICKET)


async def test_taking_a_name_over_ends_its_transfers(tmp_path: Path) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store, data=tmp_path) as server,
        members(server, "alice", "bob") as (alice, bob),
        sending(server, bob, DATA) as (upload, _),
    ):
        code = (await perform(tmp_path, "link", name="bob"))["code"]
        assert await handshake_result(server, "bob", "new", str(code)) == "bob"
        assert await upload.until_end() == []
        await alice.before_pong()
