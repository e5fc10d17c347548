"""How conversations and servers end: in good order, by a fault, for want of room or of life."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group import rules as group_module
from tchat.core.group.commands import Command, Join, Post
from tchat.core.group.events import Event
from tchat.core.protocol.frames import (
    Attach,
    Failed,
    Goodbye,
    HistoryRequest,
    MembershipChange,
    Ok,
    Ping,
    Pong,
    Upload,
)
from tchat.errors import Code, StorageError
from tchat.server import app
from tchat.server.groups import actor
from tchat.store.base import NO_EFFECTS, StorageFull
from tests.core.examples import HEAD
from tests.helpers import (
    GROUP,
    GUARD,
    UNHURRIED,
    RawClient,
    log_of,
    members,
    raw_client,
    running_server,
    seqs,
    session_at,
    texts,
    until,
)
from tests.memory_store import MemoryStore
from tests.store.batches import last_seq

if TYPE_CHECKING:
    from tchat.core.group.rules import GroupLimits
    from tchat.core.group.state import Author, Group
    from tchat.core.protocol.schema import Frame
    from tchat.store.base import Page, SideEffects


def goodbyes(frames: list[Frame]) -> list[str]:
    return [frame.code for frame in frames if isinstance(frame, Goodbye)]


# ------------------------------------------------------------------ silence


async def test_one_who_is_silent_for_too_long_is_sent_away_with_a_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "_SWEEP_SECONDS", 0.02)
    async with running_server(limits=replace(UNHURRIED, silence_seconds=0.1)) as server:
        async with raw_client(server.address, "alice") as alice:
            assert goodbyes(await alice.until_end()) == [Code.IDLE]
        await server.logged("alice disconnected (idle)")


async def test_one_who_pings_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps = 0

    async def sweep(seconds: float) -> None:
        nonlocal sweeps
        sweeps += 1
        await trio.sleep(0.01)

    monkeypatch.setattr(app, "trio", _TrioWith(sleep=sweep))
    async with (
        running_server(limits=replace(UNHURRIED, silence_seconds=20)) as server,
        raw_client(server.address, "alice") as alice,
    ):
        while sweeps < 10:
            assert await alice.before_pong() == []


class _TrioWith:
    """The module `trio`, with something of it replaced."""

    def __init__(self, **replaced: object) -> None:
        self.__dict__.update(vars(trio), **replaced)


# ------------------------------------------------------------------ stopping


async def test_a_stopping_server_says_goodbye_to_everybody() -> None:
    async with running_server() as server, members(server, "alice", "bob") as people:
        server.stop.set()
        for person in people:
            assert goodbyes(await person.until_end()) == [Code.SHUTTING_DOWN]
    assert any("alice disconnected (shutting_down)" in line for line in server.console)


async def test_a_stopping_server_sends_what_it_has_acknowledged_first() -> None:
    words = [f"{n} {4000 * 'x'}" for n in range(50)]  # less than an outbox holds
    async with running_server() as server, members(server, "alice", "bob") as (alice, bob):
        await alice.say(*words)
        answers: list[Ok] = []
        while len(answers) < len(words):
            frame = await alice.receive()
            answers += [frame] if isinstance(frame, Ok) else []
        server.stop.set()
        frames = await bob.until_end()
        assert texts(frame for frame in frames if isinstance(frame, Event)) == words
        assert isinstance(frames[-1], Goodbye)


async def test_a_stopping_server_answers_what_it_has_taken_or_leaves_it_undone() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(say_until_broken, alice)
            heard = await alice.events(50)
            server.stop.set()
            frames = await alice.until_end()
            nursery.cancel_scope.cancel()
        heard += [frame for frame in frames if isinstance(frame, Event)]
    log = await log_of(server.store)
    assert seqs(log) == list(range(1, len(log) + 1))
    assert log[1 : 1 + len(heard)] == heard


async def say_until_broken(person: RawClient) -> None:
    try:
        for n in range(100_000):
            await person.say(f"text {n}")
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return


async def test_a_stopped_server_accepts_nobody_and_can_be_started_again_at_once() -> None:
    async with running_server() as server, raw_client(server.address, "alice"):
        pass
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream(server.address.host, server.address.port)
    async with (
        running_server(server.store, port=server.address.port) as again,
        raw_client(again.address, "alice") as alice,
    ):
        assert await alice.before_pong() == []


async def test_stopping_waits_for_nobody_longer_than_the_grace_period(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "GRACE_SECONDS", 0.2)
    with trio.fail_after(GUARD):
        async with (
            running_server(limits=replace(UNHURRIED, handshake_seconds=3600)) as server,
            raw_client(server.address),
            raw_client(server.address, "alice"),
        ):
            await server.end()


# ------------------------------------------------------------------ faults


def explode(
    group: Group,
    author: Author,
    command: Command,
    now: int,
    limits: GroupLimits,
    target: Event | None,
) -> list[Event]:
    """Decide as always, but for one fault that nobody foresaw."""
    if isinstance(command, Post) and command.text == "boom":
        raise ZeroDivisionError("a fault that nobody foresaw")
    return group_module.decide(group, author, command, now, limits, target)


async def test_a_fault_in_one_group_is_logged_and_ends_only_its_peoples_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(actor, "decide", explode)
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, bob),
        members(server, "carol", "dave", group="other") as (carol, dave),
        raw_client(server.address, "eve") as eve,
    ):
        await alice.say("boom")
        for person in (alice, bob):
            assert not any(isinstance(f, Event | Ok) for f in await person.until_end())
        line = await server.logged("fault in group ops: ZeroDivisionError")
        assert re.search(r"test_endings\.py:\d+", line)
        await carol.post("all is well", group="other")
        assert texts(await dave.events(1)) == ["all is well"]
        assert await eve.before_pong() == []


class GatedStore(MemoryStore):
    """Loads a log only when it is let, so that work gathers in a group's inbox."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = trio.Event()

    async def read(self, group: str, after: int) -> Page | None:
        await self.gate.wait()
        return await super().read(group, after)


@pytest.mark.parametrize(
    "request_", [Join(1, 1, GROUP), Attach(1, GROUP, 0), Upload(1, GROUP, 9, HEAD)]
)
async def test_one_whom_a_faulty_group_owes_an_answer_is_not_left_waiting(
    monkeypatch: pytest.MonkeyPatch, request_: Frame
) -> None:
    monkeypatch.setattr(actor, "decide", explode)
    store = GatedStore()
    async with (
        running_server(store) as server,
        raw_client(server.address, "alice") as careless,
        raw_client(server.address, "bob") as waits,
    ):
        for person, frame in ((careless, Post(1, 1, GROUP, "boom")), (waits, request_)):
            await person.send(frame)
            assert await person.before_pong() == []  # it is in the inbox now
        store.gate.set()
        assert await waits.until_end() == []


async def test_one_who_asks_for_the_past_of_a_faulty_group_is_not_left_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(actor, "decide", explode)
    store = GatedStore()
    async with (
        running_server(store) as server,
        raw_client(server.address, "alice") as careless,
        raw_client(server.address, "bob") as waits,
    ):
        await careless.send(Post(1, 1, GROUP, "boom"))
        assert await careless.before_pong() == []
        await waits.send(Ping(), HistoryRequest(1, GROUP, 5))
        await waits.expect(Pong)  # behind which nothing is heard before the group has answered
        store.gate.set()
        assert await waits.until_end() == []


async def test_after_a_fault_everybody_reconnects_and_the_group_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(actor, "decide", explode)
    monkeypatch.setattr("tchat.client.backoff.FIRST_SECONDS", 0.01)
    async with (
        running_server() as server,
        session_at(server.address, "alice") as session,
    ):
        replica = await session.enter(GROUP)
        async with members(server, "mallory", group="elsewhere"):
            pass
        async with raw_client(server.address, "alice") as careless:
            await careless.say("boom")
            await careless.until_end()
        await server.logged("fault in group ops")
        session.post(replica, "after the fault")
        await until(session, lambda: "after the fault" in texts(replica.log))
    assert texts(await log_of(server.store)) == ["after the fault"]


# ------------------------------------------------------------------ storage


class Disk(MemoryStore):
    """A store whose disk can be full or broken."""

    def __init__(self) -> None:
        super().__init__()
        self.failure: Exception | None = None

    async def append(
        self,
        group: str,
        expected: int,
        count: int,
        frames: bytes,
        effects: SideEffects = NO_EFFECTS,
    ) -> None:
        if self.failure is not None:
            raise self.failure
        await super().append(group, expected, count, frames, effects)

    async def set_cursors(self, group: str, cursors: dict[str, int]) -> None:
        if self.failure is not None:
            raise self.failure
        await super().set_cursors(group, cursors)


async def test_a_full_disk_is_told_and_nothing_is_lost() -> None:
    disk = Disk()
    async with running_server(disk) as server, members(server, "alice", "bob") as (alice, bob):
        await alice.post("before")
        disk.failure = StorageFull()
        refusal = await alice.refusal(Post, "meanwhile")
        assert refusal.code == Code.STORAGE_FULL
        assert (await alice.refusal(Post, "")).code == Code.EMPTY_TEXT
        await server.logged("fault in group ops: The server's disk is full")
        assert (await alice.command(Join)).seq is None
        disk.failure = None
        await alice.post("after")
        events = await bob.events(2)
        assert texts(events) == ["before", "after"]
        assert [event.seq for event in events] == [4, 5]
    assert texts(await log_of(disk)) == ["before", "after"]


async def test_a_full_disk_changes_nobodys_standing() -> None:
    disk = Disk()
    async with (
        running_server(disk) as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
    ):
        disk.failure = StorageFull()
        assert (await bob.refusal(Join)).code == Code.STORAGE_FULL
        assert (await bob.attach()).standing == "outsider"
        disk.failure = None
        await bob.command(Join)
        await alice.events(1)
        assert not any(isinstance(frame, MembershipChange) for frame in await bob.before_pong())


async def test_one_who_leaves_while_the_disk_is_full_takes_nothing_down() -> None:
    disk = Disk()
    async with running_server(disk) as server, members(server, "alice") as (alice,):
        async with raw_client(server.address, "alice") as elsewhere:
            await elsewhere.attach()
            disk.failure = StorageFull()
        await server.logged("alice disconnected")
        assert await alice.ask(lambda i: Post(i, 99, GROUP, "hi")) == Failed(
            Code.STORAGE_FULL, StorageFull().sentence, 3
        )
        assert await alice.before_pong() == []


async def test_a_server_whose_log_is_in_doubt_stops_rather_than_pretend() -> None:
    disk = Disk()
    with pytest.RaisesGroup(StorageError, flatten_subgroups=True):
        async with running_server(disk) as server, members(server, "alice") as (alice,):
            disk.failure = StorageError(Code.INTERNAL, "The disk is on fire.")
            await alice.send(Post(99, 99, GROUP, "is it warm in here?"), Ping())
            assert not any(isinstance(frame, Ok) for frame in await alice.until_end())
    assert await last_seq(disk, GROUP) == 1
