"""A name belongs to keys: the first that comes, those that are let in by it, and no others."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.client.authenticate import Account
from tchat.client.client_id import ClientId
from tchat.client.connector import Connector
from tchat.client.known_servers import KnownServers
from tchat.client.session import Session
from tchat.core.group.state import Author
from tchat.core.protocol import frames
from tchat.core.protocol.frames import (
    Failed,
    Goodbye,
    KeysRequest,
    LinkCode,
    LinkRequest,
    Ok,
    Unlink,
)
from tchat.core.protocol.handshake import Welcome
from tchat.errors import Code, Refused, root_of
from tchat.net import link
from tchat.net.link import Link
from tchat.server.accounts import CODE_SECONDS, AccountManager
from tchat.store.open import open_store
from tests.helpers import GUARD, RawClient, hello_of, identity_of, raw_client, running_server
from tests.memory_store import MemoryAccounts, MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.helpers import RunningServer

PHONE = identity_of("alice", "phone")


async def comes(
    raw: RawClient, user: str, device: str = "", link: str | None = None, owner: str = ""
) -> Welcome | Failed:
    """Introduce oneself with a device's key (of `owner`, if not of `user`); return the answer."""
    identity = identity_of(owner or user, device)
    hello = replace(hello_of(user, raw.client), key=identity.public)
    await raw.send(hello)
    await raw.send(await raw.proof(hello, identity, link))
    answer = await raw.receive()
    assert isinstance(answer, Welcome | Failed)
    return answer


async def answer_to(
    server: RunningServer, user: str, device: str = "", link: str | None = None, owner: str = ""
) -> str:
    """Come and go again; return how the server writes the name, or why it refuses."""
    async with raw_client(server.address) as raw:
        answer = await comes(raw, user, device, link, owner)
        if isinstance(answer, Failed):
            assert await raw.until_end() == []
            return answer.code
        return answer.user


@asynccontextmanager
async def device_of(
    server: RunningServer, user: str, device: str, link: str | None = None
) -> AsyncIterator[RawClient]:
    """Be at the server with another device for the length of the block."""
    async with raw_client(server.address) as raw:
        answer = await comes(raw, user, device, link)
        assert isinstance(answer, Welcome), answer
        yield raw


async def code_of(raw: RawClient) -> str:
    """Ask for a code that lets another device in."""
    answer = await raw.ask(LinkRequest)
    assert isinstance(answer, LinkCode)
    assert answer.lasts == CODE_SECONDS * 1000
    return answer.code


async def keys_of(raw: RawClient) -> list[bytes]:
    answer = await raw.ask(KeysRequest)
    assert isinstance(answer, frames.KeyList)
    assert len(answer.since) == len(answer.keys)
    assert list(answer.since) == sorted(answer.since)
    return list(answer.keys)


async def end_of(session: Session) -> Refused:
    """Run a session that the server ends for good; return why."""
    with trio.fail_after(GUARD), pytest.raises((Refused, ExceptionGroup)) as caught:
        await session.run()
    refused = root_of(caught.value)
    assert isinstance(refused, Refused)
    return refused


def session_to(server: RunningServer, user: str, device: str = "") -> Session:
    connector = Connector(server.address, KnownServers(), plain=True)
    return Session(connector, Account(user, identity_of(user, device), ClientId()))


# ------------------------------------------------------------------ whose a name is


async def test_a_name_belongs_to_the_first_key_that_comes_with_it() -> None:
    async with running_server() as server:
        assert await answer_to(server, "alice") == "alice"
        assert await answer_to(server, "alice", owner="mallory") == Code.NAME_TAKEN
        assert await answer_to(server, "alice", "phone") == Code.NAME_TAKEN
        assert await answer_to(server, "alice") == "alice"


async def test_a_name_belongs_to_its_key_in_the_next_run_too(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store, running_server(store) as server:
        assert await answer_to(server, "alice") == "alice"
    async with open_store(tmp_path) as store, running_server(store) as server:
        assert await answer_to(server, "alice", owner="mallory") == Code.NAME_TAKEN
        assert await answer_to(server, "alice") == "alice"


@pytest.mark.parametrize(
    ("first", "same"),
    [("Zoë", "ZOË"), ("Zoë", "zoe\u0308"), ("straße", "STRASSE"), ("K", "\u212a")],
)
async def test_a_name_in_other_letters_is_the_same_name(first: str, same: str) -> None:
    async with running_server() as server:
        assert await answer_to(server, first) == first
        assert await answer_to(server, same, owner="mallory") == Code.NAME_TAKEN
        assert await answer_to(server, same, owner=first) == first


async def test_one_key_may_own_several_names() -> None:
    async with running_server() as server:
        assert await answer_to(server, "alice") == "alice"
        assert await answer_to(server, "bot", owner="alice") == "bot"
        assert await answer_to(server, "bot") == Code.NAME_TAKEN


async def test_a_session_under_a_name_that_is_taken_ends() -> None:
    async with running_server() as server:
        await answer_to(server, "alice")
        refused = await end_of(session_to(server, "alice", "phone"))
        await server.logged("The name alice belongs to another key")
    assert refused.code == Code.NAME_TAKEN
    assert "join --link CODE" in refused.sentence


# ------------------------------------------------------------------ codes that link devices


async def test_a_code_makes_another_device_the_persons_for_good() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        code = await code_of(alice)
        assert await answer_to(server, "alice", "phone", code) == "alice"
        assert await answer_to(server, "alice", "phone") == "alice"
        assert await keys_of(alice) == [identity_of("alice").public, PHONE.public]


async def test_a_code_is_good_for_one_device() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        code = await code_of(alice)
        assert await answer_to(server, "alice", "phone", code) == "alice"
        assert await answer_to(server, "alice", "laptop", code) == Code.BAD_LINK
        assert await answer_to(server, "alice", "laptop") == Code.NAME_TAKEN
        assert await answer_to(server, "alice", "phone", code) == "alice"  # is known, needs none


async def test_a_code_is_for_the_name_it_was_made_for() -> None:
    async with (
        running_server() as server,
        raw_client(server.address, "alice") as alice,
        raw_client(server.address, "bob"),
    ):
        code = await code_of(alice)
        assert await answer_to(server, "bob", "phone", code) == Code.BAD_LINK
        assert await answer_to(server, "carol", "phone", code) == Code.BAD_LINK  # though free
        assert await answer_to(server, "ALICE", "phone", code) == "alice"


async def test_a_new_code_voids_the_older() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        older, newer = await code_of(alice), await code_of(alice)
        assert older != newer
        assert await answer_to(server, "alice", "phone", older) == Code.BAD_LINK
        assert await answer_to(server, "alice", "phone", newer) == "alice"


@pytest.mark.parametrize("typed", ["", "0", "0000-0000-0000", "ä" * 12, "\ud7ff" * 40, "-" * 12])
@pytest.mark.parametrize("asked", [True, False])
async def test_what_is_no_code_lets_nobody_in(typed: str, asked: bool) -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        if asked:
            await code_of(alice)
        assert await answer_to(server, "alice", "phone", typed) == Code.BAD_LINK
        assert await keys_of(alice) == [identity_of("alice").public]


async def test_a_code_has_no_letters_that_look_like_others() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        letters = "".join([await code_of(alice) for _ in range(60)])
    assert set(letters) == set("0123456789ABCDEFGHJKMNPQRSTVWXYZ-")


@pytest.mark.parametrize(
    "typed",
    ["01AB-10CD-0101", "01ab-10cd-0101", " 01AB 10CD 0101 ", "01AB10CD0101", "oIab-lOcd-oLo1"],
)
async def test_a_code_may_be_typed_as_people_type(
    typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = iter("01AB10CD0101")
    monkeypatch.setattr(secrets, "choice", lambda _: next(letters))
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        assert await code_of(alice) == "01AB-10CD-0101"
        assert await answer_to(server, "alice", "phone", typed) == "alice"


@pytest.mark.parametrize(("waited", "holds"), [(CODE_SECONDS - 1, True), (CODE_SECONDS + 1, False)])
async def test_a_code_expires(
    mock_clock: trio.testing.MockClock, waited: float, holds: bool
) -> None:
    people = AccountManager(MemoryAccounts(), lambda: 1000)
    await people.claim(hello_of("alice"), "alice", None)
    code = people.new_code(Author("alice", bytes(8), identity_of("alice").public))
    mock_clock.jump(waited)
    hello = replace(hello_of("alice"), key=PHONE.public)
    if holds:
        assert await people.claim(hello, "alice", code) == "alice"
    else:
        with pytest.raises(Refused) as caught:
            await people.claim(hello, "alice", code)
        assert caught.value.code == Code.BAD_LINK


# ------------------------------------------------------------------ keys that are taken away


async def test_a_key_that_is_taken_away_ends_what_it_began_and_does_not_come_back() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        code = await code_of(alice)
        async with device_of(server, "alice", "phone", code) as phone:
            assert await alice.ask(lambda i: Unlink(i, PHONE.public)) == Ok(1 + 1)
            (goodbye,) = await phone.until_end()
            assert isinstance(goodbye, Goodbye)
            assert goodbye.code == Code.KEY_REMOVED
        assert await answer_to(server, "alice", "phone") == Code.NAME_TAKEN
        assert await answer_to(server, "alice", "phone", code) == Code.BAD_LINK
        assert await keys_of(alice) == [identity_of("alice").public]
        assert await alice.before_pong() == []  # whoever did it stays


async def test_a_key_that_was_taken_away_may_be_let_in_again_by_a_code() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        assert await answer_to(server, "alice", "phone", await code_of(alice)) == "alice"
        await alice.ask(lambda i: Unlink(i, PHONE.public))
        assert await answer_to(server, "alice", "phone", await code_of(alice)) == "alice"
        assert await answer_to(server, "alice", "phone") == "alice"


async def test_a_session_whose_key_is_taken_away_ends() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        assert await answer_to(server, "alice", "phone", await code_of(alice)) == "alice"

        async def take_away() -> None:
            for _ in range(3):  # alice, the phone that was linked, the session
                await server.logged("alice connected")
            await alice.ask(lambda i: Unlink(i, PHONE.public))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_away)
            refused = await end_of(session_to(server, "alice", "phone"))
    assert refused.code == Code.KEY_REMOVED


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (identity_of("alice").public, Code.YOURSELF),
        (PHONE.public, Code.NO_SUCH_KEY),
        (identity_of("bob").public, Code.NO_SUCH_KEY),
    ],
    ids=["in use", "unknown", "bob's"],
)
async def test_keys_that_cannot_be_taken_away(key: bytes, code: Code) -> None:
    async with (
        running_server() as server,
        raw_client(server.address, "alice") as alice,
        raw_client(server.address, "bob") as bob,
    ):
        answer = await alice.ask(lambda i: Unlink(i, key))
        assert isinstance(answer, Failed)
        assert answer.code == code
        assert await keys_of(alice) == [identity_of("alice").public]
        assert await keys_of(bob) == [identity_of("bob").public]
        assert await bob.before_pong() == []


async def test_two_devices_that_take_each_other_away_do_not_leave_the_name_to_anybody(
    tmp_path: Path,
) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        raw_client(server.address, "alice") as alice,
        device_of(server, "alice", "phone", await code_of(alice)) as phone,
    ):
        await alice.send(Unlink(71, PHONE.public))
        await phone.send(Unlink(72, identity_of("alice").public))
        await alice.receive()
        await phone.receive()
        assert len(await store.accounts.keys("alice")) == 1
        assert await answer_to(server, "alice", owner="mallory") == Code.NAME_TAKEN


# ------------------------------------------------------------------ while somebody is at the door


class AlreadyStored:
    """A place at which something waits until it is let on."""

    def __init__(self) -> None:
        self.closed = False
        self.reached = trio.Event()
        self.open = trio.Event()

    async def passed(self) -> None:
        if self.closed:
            self.closed = False
            self.reached.set()
            await self.open.wait()


class SlowAccounts(MemoryAccounts):
    """Accounts whose answer may be on its way for long."""

    def __init__(self, held: AlreadyStored) -> None:
        super().__init__()
        self.held = held

    async def claim(self, person: str, name: str, key: bytes, at: int) -> str | None:
        answer = await super().claim(person, name, key, at)
        await self.held.passed()
        return answer


async def told_at_the_door(held: AlreadyStored, store: MemoryStore) -> str:
    """Take a key away while its holder is held at the door; return what the holder is told."""
    told: list[object] = []

    async def come(server: RunningServer) -> None:
        async with raw_client(server.address) as phone:
            told.append(await comes(phone, "alice", "phone"))
            told.extend(await phone.until_end())

    async with running_server(store) as server, raw_client(server.address, "alice") as alice:
        assert await answer_to(server, "alice", "phone", await code_of(alice)) == "alice"
        held.closed = True
        with trio.fail_after(GUARD):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(come, server)
                await held.reached.wait()
                await alice.ask(lambda i: Unlink(i, PHONE.public))
                held.open.set()
    assert isinstance(told[-1], Failed | Goodbye)
    return told[-1].code


async def test_a_key_that_is_taken_away_between_hello_and_proof_is_not_let_in() -> None:
    async with running_server() as server, raw_client(server.address, "alice") as alice:
        assert await answer_to(server, "alice", "phone", await code_of(alice)) == "alice"
        async with raw_client(server.address) as phone:
            hello = replace(hello_of("alice", phone.client), key=PHONE.public)
            await phone.send(hello)
            proof = await phone.proof(hello, PHONE)
            await alice.ask(lambda i: Unlink(i, PHONE.public))
            await phone.send(proof)
            (answer,) = await phone.until_end()
    assert isinstance(answer, Failed)
    assert answer.code == Code.NAME_TAKEN


async def test_a_key_that_is_taken_away_while_its_proof_is_looked_at_is_not_let_in() -> None:
    held, store = AlreadyStored(), MemoryStore()
    store.accounts = SlowAccounts(held)
    assert await told_at_the_door(held, store) == Code.KEY_REMOVED


async def test_a_key_that_is_taken_away_while_it_is_being_welcome_does_not_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held, send = AlreadyStored(), Link.send

    async def slowly(link: Link, data: bytes) -> None:
        await send(link, data)
        if b"welcome" in data:
            await held.passed()

    monkeypatch.setattr(Link, "send", slowly)
    monkeypatch.setattr(link, "writer_of", lambda _: bytes)  # as if no socket took it at once
    assert await told_at_the_door(held, MemoryStore()) == Code.KEY_REMOVED
