"""`tchat admin erase`: no text of the person is left in the data directory."""

from __future__ import annotations

from contextlib import asynccontextmanager, closing, nullcontext
from functools import partial
from io import StringIO
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

import tchat
from tchat.core.group.membership import Join
from tchat.core.group.messages import Post, Posted
from tchat.core.group.settings import SetPolicy
from tchat.core.protocol.frames import StartAt
from tchat.errors import Code, Refused
from tchat.server.context import make_context
from tchat.server.control import perform
from tchat.server.log import Log
from tchat.server.operations.erasure import erase_person
from tchat.server.operations.group_commands import Commander
from tchat.server.operations.reports import people
from tchat.server.operations.verification import verify_server
from tchat.store.open import open_store
from tchat.store.sqlite import database
from tchat.store.sqlite.view import open_view
from tchat.store.words import terms_of
from tchat.testing import open_server
from tests.faulty_store import FaultyStore
from tests.helpers import log_of, members, running_server, texts
from tests.server.file_transfers import DATA, sending, stored_names
from tests.server.operated import MESSAGES, make_data

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.server.context import ServerContext
    from tchat.store.base import Store

KEY, OTHER = bytes([1]) * 32, bytes([2]) * 32


@asynccontextmanager
async def operating(store: Store) -> AsyncIterator[ServerContext]:
    """Make a context without connections, as the operator has it on a stopped server's data."""
    with closing(Log(stream=StringIO())) as log:
        async with trio.open_nursery() as groups:
            context = make_context(store, log, groups)
            yield context
            context.registry.close()


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    await trio.to_thread.run_sync(make_data, tmp_path)
    return tmp_path / "server"


def grep(data: Path, text: str) -> list[Path]:
    """Return the files whose name or content has a text."""
    files = [path for path in data.rglob("*") if path.is_file()]
    return [path for path in files if text in path.name or text.encode() in path.read_bytes()]


async def test_nothing_of_the_person_is_left(data: Path) -> None:
    assert grep(data, "4711"), "the test can see what it is about"
    report = await perform(data, "erase", name="BOB")
    assert report == {"name": "bob", "groups": 3, "messages": 2, "files": 1}
    assert grep(data, "4711") == []


async def test_others_keep_what_they_wrote(data: Path) -> None:
    await perform(data, "erase", name="bob")
    assert verify_server(data).faults == []
    async with open_store(data) as store:
        said = [event for event in await log_of(store) if isinstance(event.body, Posted)]
        assert len(said) == MESSAGES
        assert {event.actor for event in said} == {"alice"}
        assert len(await store.search(["ops"], terms_of("hello"), 0, 1000)) == MESSAGES
        assert texts(await log_of(store, "@alice,bob")) == ["a direct word of alice"]
        assert await store.groups_of("bob") == {"@alice,bob": "member"}
        assert (await store.groups_of("alice"))["bobs"] == "member"


async def test_members_see_the_messages_disappear(tmp_path: Path, data: Path) -> None:
    """On a running server, whose groups go on."""
    async with open_server(tmp_path) as server, server.connect("alice") as alice:
        ops = await alice.open("ops")
        async with server.connect("bob") as bob:
            await (await bob.open("ops")).say("4711 once more")
        async with alice.events(ops) as events:
            await perform(data, "erase", name="bob")
            deleted = 0
            async for event in events:
                deleted += isinstance(event, tchat.Deleted)
                if isinstance(event, tchat.Left) and event.name == "bob":
                    break
            assert deleted >= 3
        assert [member.casefold() for member in ops.members] == ["alice"]
        await ops.say("life goes on")
        assert grep(data, "4711") == []
    assert verify_server(data).faults == []


async def test_the_person_is_disconnected(tmp_path: Path, data: Path) -> None:
    async with open_server(tmp_path) as server:

        async def stay() -> None:
            async with server.connect("bob"):
                await perform(data, "erase", name="bob")
                await trio.sleep_forever()

        with pytest.raises(tchat.Refused, match="has erased this name"):
            await stay()


@pytest.mark.parametrize("home", ["homes/bob", "a stranger's"])
async def test_nobody_can_have_the_name_afterwards(tmp_path: Path, data: Path, home: str) -> None:
    """Whoever had it would be a member of the direct conversations, and read the other side."""
    await perform(data, "erase", name="bob")
    async with open_server(tmp_path) as server:
        with pytest.raises(tchat.Refused, match="has erased the name Bob") as caught:
            async with tchat.connect(
                server.address, user="Bob", home=tmp_path / home, pin=server.pin
            ):
                pass
        assert caught.value.code == Code.NAME_TAKEN
        with pytest.raises(Refused, match="No key has the name"):
            await perform(data, "link", name="bob")
    assert [one["name"] for one in people(data) if one["erased"]] == ["bob"]


async def test_the_name_is_reserved_before_anything_is_read() -> None:
    store = FaultyStore()
    async with operating(store) as context:
        await store.accounts.claim("bob", "bob", KEY, 1)
        await Commander(context, "bob").give(Join(0, 0, "ops"))
        hold = store.hold("read")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(erase_person, context, "bob")
            await hold.reached.wait()
            assert await store.accounts.claim("bob", "bob", OTHER, 2) is None
            assert await store.accounts.claim("bob", "bob", KEY, 2) is None
            hold.release()


async def test_a_message_on_its_way_is_erased_too() -> None:
    """It is in the group's inbox when the erasure begins."""
    store = FaultyStore()
    async with operating(store) as context:
        await store.accounts.claim("bob", "bob", KEY, 1)
        alice, bob = Commander(context, "alice"), Commander(context, "bob")
        await alice.give(Join(0, 0, "ops"))
        await alice.give(SetPolicy(0, 0, "ops", "open"))
        await bob.give(Join(0, 0, "ops"))
        hold = store.hold("append")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bob.give, Post(0, 0, "ops", "marzipan4711"))
            await hold.reached.wait()
            nursery.start_soon(erase_person, context, "bob")
            await trio.testing.wait_all_tasks_blocked()
            hold.release()
        assert texts(await log_of(store, "ops")) == []


async def test_an_interrupted_erasure_can_be_repeated(data: Path) -> None:
    async with open_store(data) as store, operating(FaultyStore(store)) as context:
        await context.accounts.erase("bob")
    assert grep(data, "4711")
    report = await perform(data, "erase", name="bob")
    assert report == {"name": "bob", "groups": 3, "messages": 2, "files": 1}
    assert grep(data, "4711") == []


async def test_an_upload_on_its_way_is_gone(tmp_path: Path) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store, data=tmp_path) as server,
        members(server, "alice", "bob") as (_, bob),
        sending(server, bob, DATA) as (upload, have),
    ):
        await upload.send(StartAt(have.offset))
        await perform(tmp_path, "erase", name="bob")
        assert await upload.until_end() == []
        assert stored_names(server) == set()


async def test_an_upload_that_is_being_stored_is_gone(tmp_path: Path) -> None:
    """It cannot be cancelled any more, so the erasure waits for it."""
    async with open_store(tmp_path) as real:
        store = FaultyStore(real)
        hold = store.hold("files.add")
        async with (
            running_server(store, data=tmp_path) as server,
            members(server, "alice", "bob") as (_, bob),
            sending(server, bob, DATA) as (upload, have),
            trio.open_nursery() as nursery,
        ):
            await upload.send_pieces(DATA, have.offset)
            await hold.reached.wait()
            nursery.start_soon(partial(perform, tmp_path, "erase", name="bob"))
            await store.wait_done("accounts.erase")
            await trio.testing.wait_all_tasks_blocked(0.1)
            assert store.count("maintenance.forget") == 0
            hold.release()
            await store.wait_done("maintenance.compact")
            assert stored_names(server) == set()


@pytest.mark.parametrize("running", [True, False])
async def test_a_reader_that_keeps_the_texts_is_reported(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, *, running: bool
) -> None:
    monkeypatch.setattr(database, "COMPACT_SECONDS", 0.05)
    monkeypatch.setattr(database, "SCRUB_AGAIN_SECONDS", 0.01)
    async with open_server(tmp_path) if running else nullcontext():
        with open_view(data), pytest.raises(Refused, match="Then erase bob again") as caught:
            await perform(data, "erase", name="bob")
        assert caught.value.code == Code.BUSY
        report = await perform(data, "erase", name="bob")
        assert report["messages"] == 0
        assert grep(data, "4711") == []


async def test_an_unknown_person_is_refused(data: Path) -> None:
    with pytest.raises(Refused) as caught:
        await perform(data, "erase", name="nobody")
    assert caught.value.code == Code.NO_SUCH_NAME
