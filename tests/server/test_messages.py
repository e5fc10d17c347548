"""Edits, deletions and replies: who may, who is notified, and that deleted text is gone."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group import compaction
from tchat.core.group.feature import Event
from tchat.core.group.membership import Join, Kick, Leave
from tchat.core.group.messages import Delete, Deleted, Edit, Edited, Erased, Post, Posted
from tchat.core.pace import Rate
from tchat.core.protocol.frames import Failed, Ok
from tchat.errors import Code
from tchat.store.open import open_store
from tests.faulty_store import FaultyStore
from tests.helpers import (
    GROUP,
    NO_RATE_LIMITS,
    log_of,
    members,
    raw_client,
    running_server,
    texts,
)
from tests.memory_store import MemoryStore
from tests.processes import launching
from tests.server.requests import history, search
from tests.store.logs import files_with

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.core.protocol.schema import Frame
    from tchat.store.base import Store
    from tests.helpers import RawClient

LONG = 16_000 * "x"

MARK = "marzipan4711"


async def erased_in(client: RawClient) -> list[int]:
    """Return the numbers of the erased events of a log."""
    return [event.seq for event in await history(client, 99) if event.body == Erased()]


# ------------------------------------------------------------------ editing


async def test_edit_is_an_event_for_everybody() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        target = await alice.post("helo")
        answer = await alice.command(Edit, target, "hello")
        assert answer.seq == target + 1
        assert [e.body for e in await bob.events(2)] == [Posted("helo"), Edited(target, "hello")]


async def test_edit_is_cleaned_and_limited_like_a_message() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        target = await alice.post("x")
        await alice.command(Edit, target, "\x1b[2J\u202ehello")
        assert (await log_of(server.store))[-1].body == Edited(target, "␛[2Jhello")
        assert (await alice.refusal(Edit, target, "x" * 16_385)).code == Code.TEXT_TOO_LONG
        assert (await alice.refusal(Edit, target, " \u200b ")).code == Code.EMPTY_TEXT


async def test_only_the_author_edits_a_message() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        target = await bob.post("mine")
        assert (await alice.refusal(Edit, target, "yours")).code == Code.NOT_AUTHOR
        async with raw_client(server.address, "BOB") as elsewhere:
            await elsewhere.command(Edit, target, "mine, from elsewhere")
        async with raw_client(server.address, "mallory") as mallory:
            assert (await mallory.refusal(Edit, target, "x")).code == Code.NOT_MEMBER


@pytest.mark.parametrize("kind", [Edit, Delete])
async def test_events_other_than_messages_cannot_be_changed(kind: type[Edit | Delete]) -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        arguments = ("text",) if kind is Edit else ()
        for target in (0, 1, 2, 99, 2**62):
            assert (await alice.refusal(kind, target, *arguments)).code == Code.NO_SUCH_MESSAGE


async def test_message_of_the_same_burst_can_be_changed() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await alice.send(
            Post(101, 101, GROUP, "one"),
            Post(102, 102, GROUP, "two"),
            Edit(103, 103, GROUP, 4, "one, edited"),
            Delete(104, 104, GROUP, 4),
            Edit(105, 105, GROUP, 4, "too late"),
            Post(106, 106, GROUP, "three"),
        )
        heard = await bob.events(5)
        assert [e.body for e in heard][2:] == [
            Edited(4, "one, edited"),
            Deleted(4),
            Posted("three"),
        ]
        bodies = [e.body for e in await log_of(server.store)][3:]
        expected = [Erased(), Posted("two"), Erased(), Deleted(4), Posted("three")]
        assert bodies == expected


async def test_repeated_edit_is_executed_once() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        target = await alice.post("one")
        first = await alice.command(Edit, target, "two", n=50)
        again = await alice.command(Edit, target, "two", n=50)
        assert (first.seq, again.seq) == (3, None)


# ------------------------------------------------------------------ deleting


async def test_deleted_message_becomes_an_event_without_text() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        target = await alice.post("a slip")
        await alice.command(Delete, target)
        assert (await bob.events(2))[-1].body == Deleted(target)
        assert await erased_in(bob) == [target]
        assert "a slip" not in texts(await history(bob, 99))


async def test_deletion_erases_the_edits_too() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        target = await alice.post("first")
        edits = [(await alice.command(Edit, target, text)).seq for text in ("second", "third")]
        await bob.post("between")
        edits.append((await alice.command(Edit, target, "fourth")).seq)
        await alice.command(Delete, target)
        assert await erased_in(bob) == [target, *edits]


async def test_admin_deletes_any_message_others_their_own() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol") as (alice, bob, carol),
    ):
        bobs, carols = await bob.post("bob's"), await carol.post("carol's")
        refused = await carol.refusal(Delete, bobs)
        assert (refused.code, "bob or the admin" in refused.sentence) == (Code.NOT_AUTHOR, True)
        await alice.command(Delete, bobs)
        await carol.command(Delete, carols)
        assert await erased_in(alice) == [bobs, carols]


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
async def test_deletion_erases_edits_that_the_state_forgot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setattr(compaction, "EDITS_SPAN", 4)
    monkeypatch.setattr(compaction, "PERIOD", 4)
    async with AsyncExitStack() as stack:
        store: Store = MemoryStore()
        if engine == "sqlite":
            store = await stack.enter_async_context(open_store(tmp_path))
        server = await stack.enter_async_context(running_server(store))
        (alice,) = await stack.enter_async_context(members(server, "alice"))
        target, other = await alice.post("a slip"), await alice.post("stays")
        edits = [(await alice.command(Edit, target, text)).seq or 0 for text in ("one", "two")]
        await alice.command(Edit, other, "stays, too")
        for number in range(8):
            await alice.post(f"text {number}")
        assert await store.edits_of(GROUP, target, edits[-1]) == tuple(edits)
        await alice.command(Delete, target)
        assert await erased_in(alice) == [target, *edits]
        assert await store.edits_of(GROUP, target, edits[-1]) == ()
        assert "stays" in texts(await history(alice, 99))


async def test_refused_deletions_search_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The group waits for the search: 50 ms for 20,000 events, which an outsider could cause."""
    monkeypatch.setattr(compaction, "EDITS_SPAN", 4)
    store = FaultyStore(MemoryStore())
    async with (
        running_server(store) as server,
        members(server, "alice", "bob") as (alice, bob),
        raw_client(server.address, "eve") as eve,
    ):
        target = await alice.post("text")
        for n in range(5):
            await alice.post(f"text {n}")
        assert (await eve.refusal(Delete, target)).code == Code.NOT_MEMBER
        assert (await bob.refusal(Delete, target)).code == Code.NOT_AUTHOR
        assert store.count("edits_of") == 0
        await alice.command(Delete, target, n=1000)
        await alice.command(Delete, target, n=1000)  # a repeat
        assert store.count("edits_of") == 1


async def test_group_goes_on_while_a_log_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "EDITS_SPAN", 4)
    store = FaultyStore(MemoryStore())
    async with (
        running_server(store) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        target = await alice.post("text")
        edit = await alice.command(Edit, target, "another text")
        for n in range(8):
            await alice.post(f"text {n}")
        hold = store.hold("edits_of")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alice.command, Delete, target)
            await hold.reached.wait()
            await bob.post("meanwhile")
            hold.release()
        assert await erased_in(bob) == [target, edit.seq]


async def test_deleted_message_cannot_be_changed_again() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        target = await alice.post("gone")
        deletion = await alice.command(Delete, target, n=77)
        assert (await alice.refusal(Delete, target)).code == Code.NO_SUCH_MESSAGE
        assert (await alice.refusal(Edit, target, "back")).code == Code.NO_SUCH_MESSAGE
        assert (await alice.refusal(Delete, deletion.seq)).code == Code.NO_SUCH_MESSAGE
        assert (await alice.command(Delete, target, n=77)).seq is None


async def test_messages_before_a_refounding_cannot_be_changed() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        target = await alice.post("from before")
        await alice.command(Leave)
        await alice.command(Join)
        assert (await alice.refusal(Delete, target)).code == Code.NO_SUCH_MESSAGE


async def test_kicked_member_cannot_delete() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        target = await bob.post("stays")
        await alice.command(Kick, "bob")
        assert (await bob.refusal(Delete, target)).code == Code.NOT_MEMBER


async def test_latecomer_never_sees_deleted_text() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, _):
        target = await alice.post(MARK)  # recent events are cached, not read from disk
        await alice.command(Delete, target)
        async with raw_client(server.address, "bob") as late:
            await late.attach()
            events = await late.events(5)
            assert [e.body for e in events][3:] == [Erased(), Deleted(target)]


async def test_slow_reader_receives_the_log_without_deleted_text() -> None:
    long = 16_000 * "x"
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        number = 450
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alice.say, *(f"{n} {long}" for n in range(number)))
            last = (await alice.events(number))[-1].seq
        await alice.command(Delete, last)
        *_, erased, deleted = await bob.events(number + 1)
        assert (erased.body, deleted.body) == (Erased(), Deleted(last))


async def test_page_read_before_a_deletion_is_not_sent() -> None:
    store = FaultyStore()
    async with running_server(store) as server:
        async with members(server, "alice", "bob") as (alice, _):
            target = await alice.post(MARK)
            for n in range(40):
                await alice.post(f"{n} {LONG}")  # so that the first ones leave the actor's cache
        async with (
            raw_client(server.address, "alice") as alice,
            raw_client(server.address, "bob") as bob,
        ):
            await alice.attach(after=44)
            read = store.hold("read", after=True)
            await bob.attach(after=0)
            await read.reached.wait()
            await alice.command(Delete, target)
            read.release()
            assert MARK not in texts(await bob.events(45))


async def test_edits_and_deletions_count_towards_the_rate() -> None:
    limits = replace(NO_RATE_LIMITS, messages=Rate(0.001, 3))
    async with running_server(limits=limits) as server, members(server, "alice") as (alice,):
        target = await alice.post("x")
        await alice.command(Edit, target, "y")
        await alice.command(Edit, target, "z")
        assert (await alice.refusal(Delete, target)).code == Code.RATE_LIMITED
        assert (await alice.refusal(Edit, target, "a")).code == Code.RATE_LIMITED


# ------------------------------------------------------------------ replies


async def test_reply_names_its_target() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        target = await alice.post("why?")
        await bob.command(Post, "because", target)
        assert (await alice.events(2))[-1].body == Posted("because", target)


# ------------------------------------------------------------------ erasure on the disk


async def test_deleted_text_soon_is_in_no_file(tmp_path: Path) -> None:
    async with (
        open_store(tmp_path) as store,
        running_server(store) as server,
        members(server, "alice", "bob") as (alice, bob),
    ):
        kept = await bob.post("something else")
        target = await alice.post(f"{MARK} one")
        await alice.command(Edit, target, f"{MARK} two")
        assert await search(bob, MARK) == [(GROUP, target, f"{MARK} two")]
        await alice.command(Edit, target, f"{MARK} three")
        assert files_with(MARK, tmp_path)
        await alice.command(Delete, target)
        assert await store.maintenance.settle()
        assert files_with(MARK, tmp_path) == []
        assert await search(bob, MARK) == []
        assert await search(bob, "some") == [(GROUP, kept, "something else")]


async def test_deleted_text_is_in_no_file_after_crash(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        async with raw_client(server.address, "alice", tls=launch.tls) as alice:
            await alice.command(Join)
            target = await alice.post(MARK)
            await search(alice, MARK)
            await alice.command(Delete, target)
            await server.kill()
        server = await launch.serve()
        assert files_with(MARK, data) == []
        async with raw_client(server.address, "alice", tls=launch.tls) as alice:
            await alice.attach()
            assert [e.body for e in await alice.events(3)][1:] == [Erased(), Deleted(target)]
            assert await search(alice, MARK) == []
        assert await server.stop() == 0
    assert files_with(MARK, data) == []


@pytest.mark.parametrize("target", ["refused", "repeated"])
async def test_commands_after_a_refused_deletion_find_their_message(target: str) -> None:
    """The command is in one batch with a deletion that is refused, and is decided after it."""
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        gone, kept = await bob.post("gone"), await bob.post("kept")
        await alice.post("not bob's")
        await bob.command(Delete, gone)
        deleted = gone if target == "repeated" else kept + 1
        await bob.send(
            Delete(90, 90, GROUP, deleted), Edit(91, 91, GROUP, kept, "kept, and edited")
        )
        answers: dict[int | None, Frame | None] = {}
        while len(answers) < 2:
            if isinstance(frame := await bob.receive(), Ok | Failed):
                answers[frame.re] = frame
        assert isinstance(answers[90], Failed)
        assert isinstance(answers[91], Ok), answers[91]


async def test_deletion_is_broadcast_after_the_message_it_targets() -> None:
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        target = await alice.post("seen")
        assert texts(await bob.events(1)) == ["seen"]
        await alice.command(Delete, target)
        news = [frame for frame in await bob.before_pong() if isinstance(frame, Event)]
        assert [event.body for event in news] == [Deleted(target)]
