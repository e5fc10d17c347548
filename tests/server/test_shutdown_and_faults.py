"""Ends of connections and servers: silence, shutdown, bugs in a group, full or broken disk."""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tchat.core.group.feature import Event
from tchat.core.group.membership import Join
from tchat.core.group.messages import Post
from tchat.core.protocol.frames import (
    Attach,
    Failed,
    Goodbye,
    HistoryPage,
    HistoryRequest,
    MembershipChange,
    Ok,
    Ping,
    Pong,
    Upload,
)
from tchat.errors import Code, StorageError
from tchat.server import app
from tchat.store.base import StorageFull
from tchat.store.sqlite.store import open_sqlite
from tests.core.examples import HEAD
from tests.faulty_store import FaultyStore
from tests.helpers import (
    GROUP,
    GUARD,
    NO_RATE_LIMITS,
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
from tests.store.batches import last_seq
from tests.store.busy import busy

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.core.protocol.schema import Frame
    from tests.faulty_store import Hold


def goodbyes(frames: list[Frame]) -> list[str]:
    return [frame.code for frame in frames if isinstance(frame, Goodbye)]


# ------------------------------------------------------------------ silence


async def test_silent_client_is_disconnected_with_a_reason() -> None:
    async with running_server(limits=replace(NO_RATE_LIMITS, silence_seconds=0.1)) as server:
        async with raw_client(server.address, "alice") as alice:
            assert goodbyes(await alice.until_end()) == [Code.IDLE]
        await server.logged("alice disconnected (idle)")


async def test_log_tells_lost_connections_from_closed_ones() -> None:
    async with running_server() as server:
        async with raw_client(server.address, "alice"):
            pass
        await server.logged("alice disconnected (closed by the client)")
        async with raw_client(server.address, "alice") as alice:
            # Closing a socket with this option resets the connection.
            at_once = struct.pack("ii", 1, 0)
            assert isinstance(alice.stream, trio.SocketStream)
            alice.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        await server.logged("alice disconnected (connection lost)")


# ------------------------------------------------------------------ shutdown


async def test_stopping_server_says_goodbye_to_everybody() -> None:
    async with running_server() as server, members(server, "alice", "bob") as people:
        server.stop.set()
        for person in people:
            assert goodbyes(await person.until_end()) == [Code.SHUTTING_DOWN]
    assert any("alice disconnected (shutting_down)" in line for line in server.console)


async def test_stopping_server_sends_acknowledged_events_first() -> None:
    words = [f"{n} {4000 * 'x'}" for n in range(50)]  # less than a send queue holds
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


async def test_stopping_server_answers_or_drops_each_command() -> None:
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


async def test_server_restarts_at_once_on_the_same_port() -> None:
    async with running_server() as server, raw_client(server.address, "alice"):
        pass
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream(server.address.host, server.address.port)
    async with (
        running_server(server.store, port=server.address.port) as again,
        raw_client(again.address, "alice") as alice,
    ):
        assert await alice.before_pong() == []


async def test_shutdown_takes_no_longer_than_the_grace_period(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "GRACE_SECONDS", 0.2)
    with trio.fail_after(GUARD):
        async with (
            running_server(limits=replace(NO_RATE_LIMITS, handshake_seconds=3600)) as server,
            raw_client(server.address),
            raw_client(server.address, "alice"),
        ):
            await server.end()


# ------------------------------------------------------------------ faults


def says_boom(arguments: dict[str, Any]) -> bool:
    return b"boom" in arguments["frames"]


BUG = ZeroDivisionError("a bug")
"""An exception that the server does not expect."""


async def test_fault_in_a_group_disconnects_its_people_only() -> None:
    store = FaultyStore()
    store.fail(BUG, "append", when=says_boom)
    async with (
        running_server(store) as server,
        members(server, "alice", "bob") as (alice, bob),
        members(server, "carol", "dave", group="other") as (carol, dave),
        raw_client(server.address, "eve") as eve,
    ):
        await alice.say("boom")
        for person in (alice, bob):
            assert not any(isinstance(f, Event | Ok) for f in await person.until_end())
        line = await server.logged("fault in group ops: ZeroDivisionError")
        assert re.search(r"faulty_store\.py:\d+", line)
        await carol.post("all is well", group="other")
        assert texts(await dave.events(1)) == ["all is well"]
        assert await eve.before_pong() == []


@pytest.mark.parametrize(
    "request_", [Join(1, 1, GROUP), Attach(1, GROUP, 0), Upload(1, GROUP, 9, HEAD)]
)
async def test_pending_requests_of_a_failed_group_are_disconnected(
    request_: Frame,
) -> None:
    store = FaultyStore()
    store.fail(BUG, "append")
    load = store.hold("load")
    async with (
        running_server(store) as server,
        raw_client(server.address, "alice") as careless,
        raw_client(server.address, "bob") as waits,
    ):
        for person, frame in ((careless, Join(1, 1, GROUP)), (waits, request_)):
            await person.send(frame)
            assert await person.before_pong() == []  # the command is in the inbox now
        load.release()
        assert await waits.until_end() == []


async def test_pending_history_request_of_failed_group_is_disconnected() -> None:
    store = FaultyStore()
    store.fail(BUG, "append")
    load = store.hold("load")
    async with (
        running_server(store) as server,
        raw_client(server.address, "alice") as careless,
        raw_client(server.address, "bob") as waits,
    ):
        await careless.send(Join(1, 1, GROUP))
        assert await careless.before_pong() == []
        await waits.send(Ping(), HistoryRequest(1, GROUP, 5))
        await waits.expect(Pong)  # the connection reads nothing more until the group has answered
        load.release()
        assert await waits.until_end() == []


async def test_clients_reconnect_after_a_fault_and_continue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = FaultyStore()
    store.fail(BUG, "append", when=says_boom)
    monkeypatch.setattr("tchat.client.backoff.FIRST_SECONDS", 0.01)
    async with (
        running_server(store) as server,
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


# ------------------------------------------------------------------ a slow disk


async def test_slow_disk_holds_up_nobody_who_reads() -> None:
    disk = FaultyStore()
    async with running_server(disk) as server, members(server, "alice", "bob") as (alice, bob):
        await alice.post("before")
        await bob.events(1)
        hold = disk.hold("append")
        await alice.send(Post(99, 99, GROUP, "slow"))
        await hold.reached.wait()
        await bob.send(HistoryRequest(98, GROUP, 4))
        await bob.expect(HistoryPage)
        async with raw_client(server.address, "bob") as elsewhere:
            assert (await elsewhere.attach()).standing == "member"
        hold.release()
        assert texts(await bob.events(1)) == ["slow"]


async def test_slow_disk_turns_no_newcomer_away() -> None:
    disk = FaultyStore()
    limits = replace(NO_RATE_LIMITS, handshake_seconds=0.3)
    async with running_server(disk, limits) as server:
        hold = disk.hold("accounts.claim")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_release_after, hold, 0.6)
            async with raw_client(server.address, "carol") as carol:
                assert await carol.before_pong() == []


async def _release_after(hold: Hold, seconds: float) -> None:
    await hold.reached.wait()
    await trio.sleep(seconds)  # longer than a client may take
    hold.release()


async def test_stopping_waits_for_a_slow_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message is on its way to a slow disk for longer than the shutdown waits for groups."""
    monkeypatch.setattr(app, "GRACE_SECONDS", 0.1)
    post = Post(99, 99, GROUP, "slow")
    async with (
        open_sqlite(tmp_path) as store,
        running_server(store) as server,
        members(server, "alice", "bob") as (alice, bob),
        busy(store.database.write),
    ):
        writes = store.database.writes
        await alice.send(post)
        while store.database.writes == writes:
            await trio.testing.wait_all_tasks_blocked(0.01)
        server.stop.set()
        assert goodbyes(await bob.until_end()) == [Code.SHUTTING_DOWN]
        await server.logged("has not finished writing")
        client = alice.client
    async with (
        open_sqlite(tmp_path) as store,
        running_server(store) as server,
        raw_client(server.address, "alice", client) as alice,
    ):
        await alice.send(post)
        await alice.expect(Ok)
        assert texts(await log_of(store)) == ["slow"]


# ------------------------------------------------------------------ storage


async def test_full_disk_refuses_commands_and_loses_nothing() -> None:
    disk = FaultyStore()
    async with running_server(disk) as server, members(server, "alice", "bob") as (alice, bob):
        await alice.post("before")
        disk.fill()
        refusal = await alice.refusal(Post, "meanwhile")
        assert refusal.code == Code.STORAGE_FULL
        assert (await alice.refusal(Post, "")).code == Code.EMPTY_TEXT
        await server.logged("fault in group ops: The server's disk is full")
        assert (await alice.command(Join)).seq is None
        disk.mend()
        await alice.post("after")
        events = await bob.events(2)
        assert texts(events) == ["before", "after"]
        assert [event.seq for event in events] == [4, 5]
    assert texts(await log_of(disk)) == ["before", "after"]


async def test_full_disk_changes_no_standing() -> None:
    disk = FaultyStore()
    async with (
        running_server(disk) as server,
        members(server, "alice") as (alice,),
        raw_client(server.address, "bob") as bob,
    ):
        disk.fill()
        assert (await bob.refusal(Join)).code == Code.STORAGE_FULL
        assert (await bob.attach()).standing == "outsider"
        disk.mend()
        await bob.command(Join)
        await alice.events(1)
        assert not any(isinstance(frame, MembershipChange) for frame in await bob.before_pong())


async def test_disconnecting_on_a_full_disk_is_harmless() -> None:
    disk = FaultyStore()
    async with running_server(disk) as server, members(server, "alice") as (alice,):
        async with raw_client(server.address, "alice") as elsewhere:
            await elsewhere.attach()
            disk.fill()
        await server.logged("alice disconnected")
        assert await alice.ask(lambda i: Post(i, 99, GROUP, "hi")) == Failed(
            Code.STORAGE_FULL, StorageFull().sentence, 3
        )
        assert await alice.before_pong() == []


FIRE = StorageError(Code.INTERNAL, "The disk is on fire.")


async def test_server_stops_when_its_log_is_in_doubt() -> None:
    """Everybody gets a goodbye, in the group or not, and the log says what to do."""
    disk = FaultyStore()
    with pytest.RaisesGroup(StorageError, flatten_subgroups=True):
        async with (
            running_server(disk) as server,
            members(server, "alice", "bob") as (alice, bob),
            raw_client(server.address, "carol") as carol,
        ):
            before = await last_seq(disk, GROUP)
            disk.fail(FIRE, "append", "set_cursors")
            await alice.send(Post(99, 99, GROUP, "is it warm in here?"), Ping())
            for person in (alice, bob, carol):
                frames = await person.until_end()
                assert goodbyes(frames) == [Code.INTERNAL]
                assert not any(isinstance(frame, Ok) for frame in frames)
    assert await last_seq(disk, GROUP) == before
    (line,) = [line for line in server.console if "the server stops" in line]
    assert "in group ops: The disk is on fire. Check the disk" in line
    assert "'tchat admin verify --data unused'" in line


async def test_failed_read_of_a_connection_ends_with_goodbyes() -> None:
    disk = FaultyStore()
    with pytest.RaisesGroup(StorageError, flatten_subgroups=True):
        async with running_server(disk) as server, members(server, "alice", "bob") as people:
            disk.fail(FIRE, "read_before")
            await people[0].send(HistoryRequest(99, GROUP, 2))
            for person in people:
                assert goodbyes(await person.until_end()) == [Code.INTERNAL]


async def test_unexpected_error_of_a_service_ends_with_goodbyes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started, fail = trio.Event(), trio.Event()

    async def check(*_: object) -> None:
        started.set()
        await fail.wait()
        raise BUG

    monkeypatch.setattr(app, "disconnect_silent_clients", check)
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with running_server() as server, raw_client(server.address, "alice") as alice:
            fail.set()
            assert goodbyes(await alice.until_end()) == [Code.INTERNAL]
    (line,) = [line for line in server.console if "the server stops" in line]
    assert "in the keepalive: ZeroDivisionError: a bug" in line
    assert "please report this line" in line


def fail_accept(monkeypatch: pytest.MonkeyPatch, *numbers: int, after: int = 1) -> None:
    """Make accept calls after some good ones fail, each with one of these error numbers."""
    real, left, calls = trio.SocketListener.accept, list(numbers), count()

    async def accept(listener: trio.SocketListener) -> trio.SocketStream:
        if next(calls) >= after and left:
            number = left.pop(0)
            raise OSError(number, os.strerror(number))
        return await real(listener)

    monkeypatch.setattr(trio.SocketListener, "accept", accept)


async def test_lost_port_ends_with_goodbyes(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_accept(monkeypatch, errno.EBADF, after=2)
    with pytest.RaisesGroup(OSError, flatten_subgroups=True):
        async with running_server() as server, raw_client(server.address, "alice") as alice:
            async with await trio.open_tcp_stream("127.0.0.1", server.address.port):
                pass
            assert goodbyes(await alice.until_end()) == [Code.INTERNAL]
    assert any("a fault in the port: OSError" in line for line in server.console)


async def test_shortage_of_files_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tchat.net.tcp._SHORTAGE_SECONDS", 0)
    fail_accept(monkeypatch, *(100 * [errno.EMFILE]))
    async with (
        running_server() as server,
        raw_client(server.address, "alice"),
        raw_client(server.address, "bob") as bob,
    ):
        assert await bob.before_pong() == []
    first, again = [line[20:] for line in server.console if "no further connection" in line]
    assert first == (
        "no further connection can be accepted now: too many open files. Allow more open files"
        " (ulimit -n, or LimitNOFILE of systemd)"
    )
    assert again == f"99 more times: {first}"
    assert not caplog.records
