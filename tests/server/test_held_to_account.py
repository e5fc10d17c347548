"""Whoever was shut out stays out, and nobody gets more of a server than one's share."""

from __future__ import annotations

import io
import os
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group.commands import Join
from tchat.core.group.state import Author
from tchat.core.protocol.frames import (
    TO_CLIENT,
    Failed,
    Goodbye,
    Have,
    LinkRequest,
    Ok,
    Release,
    Stored,
    Ticket,
    Unlink,
    Upload,
    decode,
    encode,
)
from tchat.core.protocol.handshake import TICKET_SIZE, VERSION, TransferHello
from tchat.errors import Code, Refused, StartupError
from tchat.net.address import Address
from tchat.net.link import Link
from tchat.server import accounts as people_module
from tchat.server import control as control_module
from tchat.server.accounts import MOST_KEYS, AccountManager
from tchat.server.app import ServerConfig, serve
from tchat.server.connections import handshake as doorway_module
from tchat.server.control import release_name
from tchat.server.log import Log
from tchat.server.send_queue import SendQueue
from tchat.server.tickets import MOST_TRANSFERS
from tchat.store.base import NO_EFFECTS, StorageFull
from tchat.store.open import open_store
from tchat.transfer.pieces import EMPTY_DIGEST
from tests.core.examples import HEAD
from tests.helpers import (
    GROUP,
    GUARD,
    UNHURRIED,
    RawClient,
    hello_of,
    identity_of,
    members,
    raw_client,
    running_server,
)
from tests.memory_store import MemoryStore
from tests.server.carrying import sha, transfer
from tests.server.test_names_and_keys import AlreadyStored, answer_to, code_of, device_of, keys_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.store.base import SideEffects, Store
    from tests.helpers import RunningServer

STOLEN = identity_of("alice", "stolen")


@asynccontextmanager
async def a_store(kind: str, path: Path) -> AsyncIterator[Store]:
    if kind == "memory":
        yield MemoryStore()
    else:
        async with open_store(path) as store:
            yield store


both_stores = pytest.mark.parametrize("kind", ["memory", "sqlite"])


# ------------------------------------------------------------------ keys that were taken away


async def test_a_code_that_a_key_asked_for_is_void_once_the_key_is_taken_away() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        async with device_of(server, "alice", "stolen", await code_of(alice)) as thief:
            code = await code_of(thief)
            await alice.ask(lambda i: Unlink(i, STOLEN.public))
            assert isinstance((await thief.until_end())[-1], Goodbye)
        assert await answer_to(server, "alice", "stolen", code) == Code.BAD_LINK
        assert await answer_to(server, "alice", "third", code) == Code.BAD_LINK
        assert await keys_of(alice) == [identity_of("alice").public]
        assert await answer_to(server, "alice", "third", await code_of(alice)) == "alice"


async def test_what_had_come_from_a_key_before_it_was_taken_away_is_not_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = AlreadyStored()

    async def at_last(_: SendQueue) -> None:
        with trio.CancelScope(shield=True):  # as if all of this happened at once
            await held.passed()

    monkeypatch.setattr(SendQueue, "crowded", True)
    monkeypatch.setattr(SendQueue, "room", at_last)
    async with (
        running_server() as server,
        raw_client(server.address, "alice") as alice,
        device_of(server, "alice", "stolen", await code_of(alice)) as thief,
    ):
        held.closed = True
        await thief.send(*(LinkRequest(number) for number in range(1, 40)))
        with trio.fail_after(GUARD):
            await held.reached.wait()
        await alice.ask(lambda i: Unlink(i, STOLEN.public))
        held.open.set()
        (goodbye,) = await thief.until_end()
        assert isinstance(goodbye, Goodbye)
        assert goodbye.code == Code.KEY_REMOVED


async def redeem(people: AccountManager, name: str, code: str) -> None:
    """Come with a new key and a code, whatever becomes of it."""
    hello = replace(hello_of(name), key=identity_of(name, "new").public)
    with suppress(Refused):
        await people.claim(hello, name, code)


@both_stores
@pytest.mark.parametrize("release_first", [True, False])
async def test_a_code_does_not_win_a_name_that_is_being_released(
    kind: str, release_first: bool, tmp_path: Path
) -> None:
    async with a_store(kind, tmp_path) as store:
        people = AccountManager(store.accounts, lambda: 1000)
        for number in range(20):
            name = f"user{number}"
            hello = hello_of(name)
            await people.claim(hello, name, None)
            code = people.new_code(Author(name, hello.client, hello.key))
            async with trio.open_nursery() as nursery:
                if release_first:
                    nursery.start_soon(people.release, name)
                nursery.start_soon(redeem, people, name, code)
                if not release_first:
                    nursery.start_soon(people.release, name)
            assert await people.keys(name) == []


# ------------------------------------------------------------------ keys and codes


async def test_a_name_has_no_more_keys_than_can_be_listed() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        for number in range(MOST_KEYS - 1):
            await server.store.accounts.link("alice", os.urandom(32), 1 << 42 | number)
        assert await answer_to(server, "alice", "phone", await code_of(alice)) == Code.TOO_MANY
        keys = await keys_of(alice)
        assert len(keys) == MOST_KEYS
        await alice.ask(lambda i: Unlink(i, keys[-1]))
        assert await answer_to(server, "alice", "phone", await code_of(alice)) == "alice"


async def test_a_code_for_a_name_that_is_free_claims_nothing() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        code = await code_of(alice)
        assert await answer_to(server, "alise", "phone", code) == Code.BAD_LINK
        assert await server.store.accounts.keys("alise") == []
        assert await answer_to(server, "alise", owner="somebody") == "alise"
        assert await answer_to(server, "alice", "phone", code) == "alice"


# ------------------------------------------------------------------ groups


@both_stores
async def test_one_who_asks_and_vanishes_is_in_no_more_groups_than_one_may(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people_module, "_MOST_REMEMBERED", 1)
    limits = replace(UNHURRIED, groups_per_user=3)
    async with a_store(kind, tmp_path) as store, running_server(store, limits) as server:
        for visit in range(6):
            async with raw_client(server.address, "eve") as eve:
                await eve.send(*(Join(n, 10 * visit + n, f"g{visit}-{n}") for n in range(1, 10)))
            async with raw_client(server.address, f"mallory{visit}") as mallory:
                await mallory.command(Join, group=f"m{visit}")  # so that eve is forgotten
            await server.logged("eve disconnected")
        await server.end()
        assert 0 < len(await store.groups_of("eve")) <= 3


class Full(MemoryStore):
    """A store that may be full."""

    full = False

    async def append(
        self,
        group: str,
        expected: int,
        count: int,
        frames: bytes,
        effects: SideEffects = NO_EFFECTS,
    ) -> None:
        if self.full:
            raise StorageFull
        await super().append(group, expected, count, frames, effects)


async def test_a_group_for_which_there_was_no_room_takes_no_place() -> None:
    store = Full()
    limits = replace(UNHURRIED, groups_per_user=2)
    async with running_server(store, limits) as server, raw_client(server.address, "eve") as eve:
        store.full = True
        for group in ("one", "two"):
            assert (await eve.refusal(Join, group=group)).code == Code.STORAGE_FULL
        store.full = False
        for group in ("three", "four"):
            await eve.command(Join, group=group)
        assert (await eve.refusal(Join, group="five")).code == Code.GROUPS_FULL


# ------------------------------------------------------------------ connections


async def let_in(server: RunningServer, user: str) -> None:
    """Try until there is room, which somebody who has just left makes."""
    with trio.fail_after(GUARD):
        while True:
            try:
                async with raw_client(server.address, user):
                    return
            except (AssertionError, trio.BrokenResourceError):
                continue  # was not welcome


async def test_one_person_has_no_more_connections_than_one_may() -> None:
    limits = replace(UNHURRIED, devices=3)
    async with running_server(limits=limits) as server, AsyncExitStack() as stack:
        first, *_ = [
            await stack.enter_async_context(raw_client(server.address, "eve")) for _ in range(3)
        ]
        assert await answer_to(server, "eve") == Code.TOO_MANY
        assert await answer_to(server, "bob") == "bob"
        async with raw_client(server.address, "eve", first.client) as again:
            (goodbye,) = await first.until_end()
            assert isinstance(goodbye, Goodbye)
            assert goodbye.code == Code.REPLACED
            assert await again.before_pong() == []
        await let_in(server, "eve")


async def test_a_server_has_no_more_connections_than_it_may() -> None:
    limits = replace(UNHURRIED, connections=2)
    async with running_server(limits=limits) as server:
        async with raw_client(server.address, "alice") as alice, raw_client(server.address, "bob"):
            async with raw_client(server.address) as third:
                (busy,) = await third.until_end()
                assert isinstance(busy, Failed)
                assert busy.code == Code.BUSY
            assert await alice.before_pong() == []
        await let_in(server, "carol")


async def test_a_bad_ticket_counts_as_a_stranger_for_as_long_as_it_lingers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tchat.net.link.CLOSE_SECONDS", GUARD)
    monkeypatch.setattr(doorway_module, "REFUSAL_SECONDS", GUARD)
    limits = replace(UNHURRIED, strangers_per_address=3)
    async with running_server(limits=limits) as server, AsyncExitStack() as stack:
        for _ in range(3):
            raw = await stack.enter_async_context(raw_client(server.address))
            await raw.send(TransferHello(VERSION, bytes(TICKET_SIZE)))
            answer = await raw.receive()
            assert isinstance(answer, Failed)
            assert answer.code == Code.BAD_TICKET
        async with raw_client(server.address) as fourth:
            busy = await fourth.receive()
            assert isinstance(busy, Failed)
            assert busy.code == Code.BUSY
        await stack.aclose()
        await let_in(server, "alice")


async def ticket_of(raw: RawClient) -> bytes | str:
    """Ask for a ticket to send one byte; return it, or why there is none."""
    answer = await raw.ask(lambda i: Upload(i, GROUP, 1, HEAD))
    assert isinstance(answer, Ticket | Failed), answer
    return answer.ticket if isinstance(answer, Ticket) else answer.code


async def test_one_person_has_no_more_transfers_than_one_may() -> None:
    async with running_server() as server, members(server, "eve", "bob") as (eve, bob):
        tickets = [await ticket_of(eve) for _ in range(MOST_TRANSFERS)]
        assert all(isinstance(ticket, bytes) for ticket in tickets)
        assert await ticket_of(eve) == Code.TOO_MANY
        assert isinstance(await ticket_of(bob), bytes)
        assert isinstance(tickets[0], bytes)
        async with transfer(server, tickets[0], 1) as carrier:
            assert await carrier.receive() == Have(0, EMPTY_DIGEST)
            assert await ticket_of(eve) == Code.TOO_MANY  # it is under way
            await carrier.send_pieces(b"x")
            assert await carrier.until_end() == [Stored(sha(b"x"))]
        with trio.fail_after(GUARD):
            while await ticket_of(eve) == Code.TOO_MANY:
                pass  # the server has not noticed yet that it is over
        assert await ticket_of(eve) == Code.TOO_MANY


# ------------------------------------------------------------------ the operator's socket


@asynccontextmanager
async def operated_server(data: Path) -> AsyncIterator[None]:
    """Serve with a control socket in `data`; the server has to live until the end of the block."""
    stop = trio.Event()
    log = Log("text", io.StringIO())
    config = ServerConfig(Address("127.0.0.1", 0), data, UNHURRIED)
    async with open_store(data) as store, trio.open_nursery() as nursery:
        await nursery.start(serve, config, None, store, log, stop)
        yield
        stop.set()
    log.close()


async def told_by_control(data: Path, said: bytes) -> object:
    """Say something on the control socket; return the answer."""
    with trio.fail_after(GUARD):
        stream = await trio.open_unix_socket(str(data / "control"))
        async with stream:
            await stream.send_all(said)
            await stream.send_eof()
            body = await Link(stream).receive()
            return None if body is None else decode(body, TO_CLIENT)


@pytest.mark.parametrize(
    "said",
    [
        b"help\n",
        b"\0\0\0\1\xff",
        b"\xff" * 64,
        encode(Ok(1)),
        encode(Release(1, "no such name")),
    ],
    ids=["words", "no CBOR", "too long", "no request", "a bad name"],
)
async def test_garbage_on_the_control_socket_is_answered_and_ends_nothing(
    said: bytes, tmp_path: Path
) -> None:
    async with operated_server(tmp_path):
        assert isinstance(await told_by_control(tmp_path, said), Failed)
        with pytest.raises(Refused) as caught:
            await release_name(tmp_path, "nobody")
        assert caught.value.code == Code.NO_SUCH_NAME


async def test_one_who_says_nothing_on_the_control_socket_keeps_nobody_from_it(
    tmp_path: Path,
) -> None:
    async with (
        operated_server(tmp_path),
        await trio.open_unix_socket(str(tmp_path / "control")),
    ):
        with pytest.raises(Refused):
            await release_name(tmp_path, "nobody")


@pytest.mark.parametrize("answer", [b"", encode(Ok(1))[:-1]], ids=["none", "half of one"])
async def test_a_server_that_gives_the_operator_no_answer_is_an_error(
    answer: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_module, "_PATIENCE_SECONDS", 0.01)
    (tmp_path / "tchat.db").touch()
    door = trio.socket.socket(trio.socket.AF_UNIX)
    await door.bind(str(tmp_path / "control"))
    door.listen(1)

    async def answer_badly() -> None:
        stream, _ = await door.accept()
        with stream:
            await stream.send(answer)
            await trio.sleep_forever()

    with door:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_badly)
            with trio.fail_after(GUARD), pytest.raises(StartupError) as caught:
                await release_name(tmp_path, "bob")
            nursery.cancel_scope.cancel()
    assert "stop it and try again" in caught.value.sentence
