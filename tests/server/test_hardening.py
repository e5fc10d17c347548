"""Revoked keys stay out, and nobody gets more than their quota."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group.membership import Join
from tchat.core.group.state import Author
from tchat.core.protocol.frames import (
    Failed,
    Goodbye,
    Have,
    LinkRequest,
    Stored,
    Ticket,
    Unlink,
    Upload,
)
from tchat.core.protocol.handshake import TICKET_SIZE, VERSION, TransferHello
from tchat.errors import Code, Refused
from tchat.server import group_quota
from tchat.server.accounts import MAX_KEYS, AccountManager
from tchat.server.connections import handshake as handshake_module
from tchat.server.send_queue import SendQueue
from tchat.server.tickets import MAX_TRANSFERS
from tchat.store.open import open_store
from tchat.transfer.pieces import EMPTY_DIGEST
from tests.core.examples import HEAD
from tests.faulty_store import FaultyStore
from tests.helpers import (
    GROUP,
    GUARD,
    NO_RATE_LIMITS,
    RawClient,
    hello_of,
    identity_of,
    members,
    raw_client,
    running_server,
)
from tests.memory_store import MemoryStore
from tests.server.devices import Gate, device_of, handshake_result, keys_of, link_code
from tests.server.file_transfers import sha, transfer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.store.base import Store
    from tests.helpers import RunningServer

STOLEN = identity_of("alice", "stolen")


@asynccontextmanager
async def open_kind(kind: str, path: Path) -> AsyncIterator[Store]:
    if kind == "memory":
        yield MemoryStore()
    else:
        async with open_store(path) as store:
            yield store


both_stores = pytest.mark.parametrize("kind", ["memory", "sqlite"])


# ------------------------------------------------------------------ revoked keys


async def test_link_code_of_a_revoked_key_is_void() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        async with device_of(server, "alice", "stolen", await link_code(alice)) as thief:
            code = await link_code(thief)
            await alice.ask(lambda i: Unlink(i, STOLEN.public))
            assert isinstance((await thief.until_end())[-1], Goodbye)
        assert await handshake_result(server, "alice", "stolen", code) == Code.BAD_LINK
        assert await handshake_result(server, "alice", "third", code) == Code.BAD_LINK
        assert await keys_of(alice) == [identity_of("alice").public]
        assert await handshake_result(server, "alice", "third", await link_code(alice)) == "alice"


async def test_frames_received_before_a_revocation_are_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gates: list[Gate] = []

    async def wait_for_space(_: SendQueue) -> None:
        with trio.CancelScope(shield=True):  # as if all of this happened in one instant
            for gate in gates:
                await gate.stop()

    monkeypatch.setattr(SendQueue, "congested", True)
    monkeypatch.setattr(SendQueue, "wait_for_space", wait_for_space)
    async with (
        running_server() as server,
        raw_client(server.address, "alice") as alice,
        device_of(server, "alice", "stolen", await link_code(alice)) as thief,
    ):
        gates.append(Gate())
        await thief.send(*(LinkRequest(number) for number in range(1, 40)))
        with trio.fail_after(GUARD):
            await gates[0].reached.wait()
        await alice.ask(lambda i: Unlink(i, STOLEN.public))
        gates[0].release()
        (goodbye,) = await thief.until_end()
        assert isinstance(goodbye, Goodbye)
        assert goodbye.code == Code.KEY_REMOVED


async def redeem(people: AccountManager, name: str, code: str) -> None:
    """Do a handshake with a new key and a link code, refused or not."""
    hello = replace(hello_of(name), key=identity_of(name, "new").public)
    with suppress(Refused):
        await people.claim(hello, name, code)


@both_stores
@pytest.mark.parametrize("erase_first", [True, False])
async def test_link_code_cannot_win_an_erased_name(
    kind: str, erase_first: bool, tmp_path: Path
) -> None:
    async with open_kind(kind, tmp_path) as store:
        people = AccountManager(store.accounts, lambda: 1000)
        for number in range(20):
            name = f"user{number}"
            hello = hello_of(name)
            await people.claim(hello, name, None)
            code = people.new_link_code(Author(name, hello.client, hello.key))
            async with trio.open_nursery() as nursery:
                if erase_first:
                    nursery.start_soon(people.erase, name)
                nursery.start_soon(redeem, people, name, code)
                if not erase_first:
                    nursery.start_soon(people.erase, name)
            assert await people.keys(name) == []


# ------------------------------------------------------------------ keys and link codes


async def test_name_has_a_limited_number_of_keys() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        for number in range(MAX_KEYS - 1):
            await server.store.accounts.link("alice", os.urandom(32), 1 << 42 | number)
        assert (
            await handshake_result(server, "alice", "phone", await link_code(alice))
            == Code.TOO_MANY
        )
        keys = await keys_of(alice)
        assert len(keys) == MAX_KEYS
        await alice.ask(lambda i: Unlink(i, keys[-1]))
        assert await handshake_result(server, "alice", "phone", await link_code(alice)) == "alice"


async def test_link_code_for_a_free_name_is_refused() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        code = await link_code(alice)
        assert await handshake_result(server, "alise", "phone", code) == Code.BAD_LINK
        assert await server.store.accounts.keys("alise") == []
        assert await handshake_result(server, "alise", owner="somebody") == "alise"
        assert await handshake_result(server, "alice", "phone", code) == "alice"


# ------------------------------------------------------------------ groups


@both_stores
async def test_vanished_clients_still_count_towards_the_group_quota(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_quota, "MAX_CACHED", 1)
    limits = replace(NO_RATE_LIMITS, groups_per_user=3)
    async with open_kind(kind, tmp_path) as store, running_server(store, limits) as server:
        for visit in range(6):
            async with raw_client(server.address, "eve") as eve:
                await eve.send(*(Join(n, 10 * visit + n, f"g{visit}-{n}") for n in range(1, 10)))
            async with raw_client(server.address, f"mallory{visit}") as mallory:
                await mallory.command(
                    Join, group=f"m{visit}"
                )  # so that eve's groups leave the cache
            await server.logged("eve disconnected")
        await server.end()
        assert 0 < len(await store.groups_of("eve")) <= 3


async def test_join_that_was_not_stored_uses_no_quota() -> None:
    store = FaultyStore()
    limits = replace(NO_RATE_LIMITS, groups_per_user=2)
    async with running_server(store, limits) as server, raw_client(server.address, "eve") as eve:
        store.fill("append")
        for group in ("one", "two"):
            assert (await eve.refusal(Join, group=group)).code == Code.STORAGE_FULL
        store.mend()
        for group in ("three", "four"):
            await eve.command(Join, group=group)
        assert (await eve.refusal(Join, group="five")).code == Code.GROUPS_FULL


# ------------------------------------------------------------------ connections


async def connect_when_free(server: RunningServer, user: str) -> None:
    """Connect repeatedly until a disconnected client's place is free."""
    with trio.fail_after(GUARD):
        while True:
            try:
                async with raw_client(server.address, user):
                    return
            except (AssertionError, trio.BrokenResourceError):
                continue  # no place yet


async def test_person_has_a_limited_number_of_connections() -> None:
    limits = replace(NO_RATE_LIMITS, devices=3)
    async with running_server(limits=limits) as server, AsyncExitStack() as stack:
        first, *_ = [
            await stack.enter_async_context(raw_client(server.address, "eve")) for _ in range(3)
        ]
        assert await handshake_result(server, "eve") == Code.TOO_MANY
        assert await handshake_result(server, "bob") == "bob"
        async with raw_client(server.address, "eve", first.client) as again:
            (goodbye,) = await first.until_end()
            assert isinstance(goodbye, Goodbye)
            assert goodbye.code == Code.REPLACED
            assert await again.before_pong() == []
        await connect_when_free(server, "eve")


async def test_server_has_a_limited_number_of_connections() -> None:
    limits = replace(NO_RATE_LIMITS, connections=2)
    async with running_server(limits=limits) as server:
        async with raw_client(server.address, "alice") as alice, raw_client(server.address, "bob"):
            async with raw_client(server.address) as third:
                (busy,) = await third.until_end()
                assert isinstance(busy, Failed)
                assert busy.code == Code.BUSY
            assert await alice.before_pong() == []
        await connect_when_free(server, "carol")


async def test_lingering_bad_ticket_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tchat.net.link.CLOSE_SECONDS", GUARD)
    monkeypatch.setattr(handshake_module, "REFUSAL_SECONDS", GUARD)
    limits = replace(NO_RATE_LIMITS, unauthenticated_per_address=1)
    async with running_server(limits=limits) as server, raw_client(server.address) as lingering:
        await lingering.send(TransferHello(VERSION, bytes(TICKET_SIZE)))
        answer = await lingering.receive()
        assert isinstance(answer, Failed)
        assert answer.code == Code.BAD_TICKET
        async with raw_client(server.address, "alice"):
            with trio.fail_after(GUARD), suppress(trio.BrokenResourceError):
                while True:  # what comes after the refusal is read, until the server closes
                    await lingering.stream.send_all(b"more")


async def ticket_or_code(raw: RawClient) -> bytes | str:
    """Ask for a ticket to upload one byte; return it, or the code of the refusal."""
    answer = await raw.ask(lambda i: Upload(i, GROUP, 1, HEAD))
    assert isinstance(answer, Ticket | Failed), answer
    return answer.ticket if isinstance(answer, Ticket) else answer.code


async def test_person_has_a_limited_number_of_transfers() -> None:
    async with running_server() as server, members(server, "eve", "bob") as (eve, bob):
        tickets = [await ticket_or_code(eve) for _ in range(MAX_TRANSFERS)]
        assert all(isinstance(ticket, bytes) for ticket in tickets)
        assert await ticket_or_code(eve) == Code.TOO_MANY
        assert isinstance(await ticket_or_code(bob), bytes)
        assert isinstance(tickets[0], bytes)
        async with transfer(server, tickets[0], 1) as connection:
            assert await connection.receive() == Have(0, EMPTY_DIGEST)
            assert await ticket_or_code(eve) == Code.TOO_MANY  # the transfer is running
            await connection.send_pieces(b"x")
            assert await connection.until_end() == [Stored(sha(b"x"))]
        with trio.fail_after(GUARD):
            while await ticket_or_code(eve) == Code.TOO_MANY:
                pass  # the server has not noticed yet that the transfer is over
        assert await ticket_or_code(eve) == Code.TOO_MANY
