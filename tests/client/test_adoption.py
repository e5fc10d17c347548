"""A running client sends what another one of the same home left unsent, exactly once."""

from __future__ import annotations

import errno
import os
import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.client import client_id as client_id_module
from tchat.client.client_id import acquire_client_id, adopt_client_id
from tchat.client.journal import Journal
from tchat.core.group.membership import Kick
from tchat.errors import Code, Refused
from tests.client.unsent import left_in
from tests.helpers import GROUP, GUARD, log_of, members, running_server, texts
from tests.processes import launching

if TYPE_CHECKING:
    from pathlib import Path

    from tests.processes import Person, Server

SERVERS = ["here:1"]


async def says_offline(person: Person, server: Server, state: Path, *messages: str) -> None:
    """Type messages, and wait until they are in a journal."""
    await person.type(*messages)
    with trio.fail_after(GUARD):
        while left_in(state, server.address) != list(messages):
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("how", ["the server is away", "the server is suspended"])
async def test_running_client_sends_what_killed_one_left(how: str, tmp_path: Path) -> None:
    """Whether the messages had been sent, without an answer, or not."""
    state = tmp_path / "alice"
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        stays = await launch.join(server.address, "alice")
        await stays.sees("alice created ops")
        other = await launch.join(server.address, "alice")
        await other.sees("in #ops")
        if how == "the server is away":
            await server.kill()
            await other.sees("connection lost")
        else:
            server.running.send_signal(signal.SIGSTOP)
        await says_offline(other, server, state, "one", "two")
        other.running.kill()
        await other.running.wait()
        if how == "the server is away":
            server = await launch.serve(port=server.address.port)
        else:
            server.running.send_signal(signal.SIGCONT)
        await stays.sees("<alice> one", "<alice> two")
        await says_offline(stays, server, state)
        await stays.type("three")
        await stays.sees("<alice> three")
        assert stays.heard == ["<alice> one", "<alice> two", "<alice> three"]


async def test_running_client_enters_the_group_of_held_messages(tmp_path: Path) -> None:
    """The killed one was asked to join it, and the server did not know yet."""
    state = tmp_path / "alice"
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        stays = await launch.join(server.address, "alice")
        await stays.sees("alice created ops")
        other = await launch.join(server.address, "alice")
        await other.sees("in #ops")
        await server.kill()
        await other.sees("connection lost")
        await other.type("/join lab")
        await says_offline(other, server, state, "one", "two")
        other.running.kill()
        await other.running.wait()
        server = await launch.serve(port=server.address.port)
        await stays.sees("alice created lab", "<alice> one", "<alice> two")
        await says_offline(stays, server, state)
        assert [line.partition("<")[2] for line in stays.heard] == ["alice> one", "alice> two"]


async def test_refused_message_moves_to_the_running_client(tmp_path: Path) -> None:
    state = tmp_path / "bob"
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        launching(tmp_path) as launch,
    ):
        launch.install_identity("bob")
        stays = await launch.join(server.address, "bob")
        await stays.sees("in #ops")
        await alice.command(Kick, "bob")
        await stays.sees("alice kicked you")
        with acquire_client_id(state) as client_id:
            name = f"{server.address} without TLS"
            client_id.journal.add("bob", name, GROUP, "too late", None, 1)
        line = "was refused (You are not a member of this group.) /resend sends it, /discard"
        await stays.sees(line)
        assert left_in(state, server.address, "bob") == ["too late"]
        await stays.type("/discard")
        await stays.sees("1 message discarded")
        assert left_in(state, server.address, "bob") == []
    assert texts(await log_of(server.store)) == []


def test_ids_in_use_are_not_adopted(tmp_path: Path) -> None:
    def adopted() -> list[str]:
        with adopt_client_id(tmp_path, "alice", SERVERS) as client_id:
            return (
                [entry.text for entry in client_id.journal.entries("alice", SERVERS)]
                if (client_id)
                else []
            )

    assert adopted() == []
    with acquire_client_id(tmp_path) as own, acquire_client_id(tmp_path) as other:
        own.journal.add("alice", SERVERS[0], GROUP, "mine", None, 1)
        other.journal.add("alice", SERVERS[0], GROUP, "left", None, 1)
        assert adopted() == []
    with acquire_client_id(tmp_path):
        assert adopted() == ["left"]


def test_messages_of_others_are_not_adopted(tmp_path: Path) -> None:
    with acquire_client_id(tmp_path) as client_id:
        client_id.journal.add("bob", SERVERS[0], GROUP, "of bob", None, 1)
        client_id.journal.add("alice", "there:1", GROUP, "for elsewhere", None, 1)
    with adopt_client_id(tmp_path, "alice", SERVERS) as client_id:
        assert client_id is None


def killed_between(state: Path, count: int = 1, *, is_old: bool = False) -> None:
    """Leave refused messages and copies of them, as a process does that is killed in a move.

    If it `is_old`, the originals are in a journal of an earlier version.
    """
    waits = Refused(Code.NOT_APPROVED, "alice has not approved you yet.")
    with acquire_client_id(state) as left, acquire_client_id(state) as running:
        for number in range(count):
            entry = left.journal.add("alice", SERVERS[0], GROUP, f"left {number}", None, 1)
            left.journal.record_refusal(entry, waits)
            if is_old:
                entry.uid = None
                left.journal.compact()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Journal, "remove_durably", lambda *_: None)
                running.journal.adopt(left.journal, entry)


def cannot_remove(*_: object) -> None:
    raise Refused(Code.FILE_UNREADABLE, "The disk is full.")


def test_move_that_cannot_be_finished_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adoption runs beside the chat: it must not block it, nor copy an original once more."""
    killed_between(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "remove_durably", cannot_remove)
        patch.setattr(time, "sleep", lambda _: pytest.fail("it has waited"))
        with adopt_client_id(tmp_path, "alice", SERVERS) as client_id:
            assert client_id is None
    with adopt_client_id(tmp_path, "alice", SERVERS) as client_id:
        assert client_id is not None
        assert not len(client_id.journal), "it had the original"
    with acquire_client_id(tmp_path, "alice", SERVERS) as client_id:
        assert [one.text for one in client_id.journal.entries("alice", SERVERS)] == ["left 0"]


def test_approval_does_not_send_a_doubtful_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its original would be sent by the approval, too."""
    killed_between(tmp_path)
    monkeypatch.setattr(Journal, "remove_durably", cannot_remove)
    monkeypatch.setattr(client_id_module, "_MOVE_SECONDS", 0)
    with (
        acquire_client_id(tmp_path, "alice", SERVERS) as one,
        acquire_client_id(tmp_path, "alice", SERVERS) as other,
    ):
        for client_id in (one, other):
            (entry,) = client_id.journal.entries("alice", SERVERS)
            assert entry.failure is not None
            assert entry.failure.code == Code.FILE_UNREADABLE


def test_many_moves_are_finished_in_one_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_between(tmp_path, 100)
    reads, load = [], Journal._load

    def counted(journal: Journal, path: Path, data: bytes) -> None:
        reads.append(path)
        load(journal, path, data)

    monkeypatch.setattr(Journal, "_load", counted)
    with acquire_client_id(tmp_path, "alice", SERVERS) as client_id:
        assert len(client_id.journal) in (0, 100)
    with acquire_client_id(tmp_path, "alice", SERVERS) as client_id:
        assert len(client_id.journal) == 100
    assert len(reads) < 20


def test_move_from_an_earlier_version_is_finished(tmp_path: Path) -> None:
    """Another process of that version has typed in the same millisecond."""
    killed_between(tmp_path, is_old=True)
    with (
        acquire_client_id(tmp_path),
        acquire_client_id(tmp_path),
        acquire_client_id(tmp_path) as other,
    ):
        entry = other.journal.add("alice", SERVERS[0], GROUP, "other", None, 1)
        entry.uid = None
        other.journal.compact()
    found = []
    with ExitStack() as stack:
        for _ in range(3):
            client_id = stack.enter_context(acquire_client_id(tmp_path, "alice", SERVERS))
            found += [one.text for one in client_id.journal.entries("alice", SERVERS)]
    assert sorted(found) == ["left 0", "other"]


def test_original_stays_until_its_copy_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut might take a copy that a killed process has written, but not synced."""
    killed_between(tmp_path)
    (copy,) = (path for path in tmp_path.rglob("*.outbox") if b'"origin"' in path.read_bytes())
    sync = os.fsync

    def fail_for_copy(file: int) -> None:
        if os.path.samestat(os.fstat(file), copy.stat()):
            raise OSError(errno.EIO, "the disk fails")
        sync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_for_copy)
        with adopt_client_id(tmp_path, "alice", SERVERS) as client_id:
            assert client_id is None
    assert b'"text"' in copy.with_name("0.outbox").read_bytes()
