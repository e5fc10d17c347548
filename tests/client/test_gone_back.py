"""Files of the client that have gone back: no message is swallowed as a repeat, or stored twice."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.client.client_id import ClientId
from tchat.core.group.messages import Delete, Post
from tchat.errors import Code, Refused
from tests.client.unsent import delivered, left_in, waiting
from tests.faulty_store import FaultyStore
from tests.helpers import GROUP, GUARD, log_of, running_server, session_at, session_of, texts, until
from tests.processes import launching

if TYPE_CHECKING:
    from pathlib import Path

    from tests.processes import Launcher, Person, Server


async def says(launch: Launcher, server: Server, *messages: str) -> None:
    """Say something in a process that ends."""
    for text in messages:
        where = str(server.address), "--no-tls", "--user", "alice", "--group", GROUP
        process = await launch.tchat("say", *where, text, user="alice")
        assert (await process.exit(), process.err.all) == (0, [])


async def all_said(person: Person, *messages: str) -> None:
    """Wait until somebody has read these messages, and no others."""
    for text in messages:
        await person.sees(f"<alice> {text}")
    assert person.heard == [f"<alice> {text}" for text in messages]


async def test_restored_home_uses_no_number_twice(tmp_path: Path) -> None:
    """Also not those of the group that it was in at the time, nor those of another one."""
    home, backup = tmp_path / "alice", tmp_path / "backup"
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice")
        await alice.sees("alice created ops")
        await alice.end()
        shutil.copytree(home, backup)
        await says(launch, server, "one", "two")
        later = await launch.join(server.address, "alice")
        await later.type("/join lab")
        await later.sees("alice created lab")
        await later.type("three", "/leave")
        assert await later.end() == 0
        shutil.rmtree(home)
        shutil.copytree(backup, home)
        await says(launch, server, "four", "five")
        back = await launch.join(server.address, "alice", "--history", 9)
        await all_said(back, "one", "two", "four", "five")
        await back.type("/join lab")
        await back.sees("alice created lab")  # the group had ended; its numbers go on
        assert await back.end() == 0


async def test_restored_outbox_is_stored_once(tmp_path: Path) -> None:
    """What was typed before the backup was sent after it: the server decides."""
    home, backup = tmp_path / "alice", tmp_path / "backup"
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice")
        await alice.sees("alice created ops")
        await alice.type("zero")
        await alice.sees("<alice> zero")
        await server.kill()
        await alice.sees("connection lost")
        await alice.type("one", "one", "two")
        with trio.fail_after(GUARD):
            while left_in(home, server.address) != ["one", "one", "two"]:
                await trio.lowlevel.checkpoint()
        shutil.copytree(home, backup)
        server = await launch.serve(port=server.address.port)
        await alice.sees("<alice> two")
        await alice.type("three")
        await alice.sees("<alice> three")
        await alice.end()
        shutil.rmtree(home)
        shutil.copytree(backup, home)
        back = await launch.join(server.address, "alice", "--history", 9)
        await all_said(back, "zero", "one", "one", "two", "three")
        await back.type("four")
        await back.sees("<alice> four")
        assert await back.end() == 0
        assert not left_in(home, server.address)
        assert back.heard[-2:] == ["<alice> three", "<alice> four"]


@pytest.mark.parametrize("lost", ["the numbers", "everything after the first message"])
async def test_truncated_journal_is_stored_once(lost: str, tmp_path: Path) -> None:
    """A crash may lose what was synced, on a disk that lies."""
    path = tmp_path / "0.json"
    outbox = path.with_suffix(".outbox")
    async with running_server() as server:
        async with session_of(server.address, "alice", ClientId(path)) as (alice, ops):
            alice.post(ops, "before")
            await delivered(alice, ops)
            alice.post(ops, "one")
            typed = outbox.read_bytes()
            alice.post(ops, "two")
            typed = outbox.read_bytes() if lost == "the numbers" else typed
            await delivered(alice, ops)
        outbox.write_bytes(typed)
        async with session_at(server.address, "alice", ClientId(path)) as again:
            ops = again.follow(GROUP)
            assert waiting(ops)
            await again.enter(GROUP)
            await delivered(again, ops)
            again.post(ops, "three")
            await delivered(again, ops)
        assert texts(await log_of(server.store)) == ["before", "one", "two", "three"]


async def test_deleted_message_leaves_the_decision(tmp_path: Path) -> None:
    """It may have been the one that was left unsent, and must not come back by itself."""
    path = tmp_path / "0.json"
    async with running_server() as server:
        async with session_of(server.address, "alice", ClientId(path)) as (alice, ops):
            pass
        left = ClientId(path)
        place = "alice", f"{server.address} without TLS", GROUP
        left.journal.add(*place, "one", None, 1, floor=left.upcoming)
        left.journal.close()
        typed = path.with_suffix(".outbox").read_bytes()
        async with session_of(server.address, "alice", ClientId(path)) as (alice, ops):
            await delivered(alice, ops)
            await alice.request(lambda i, n: Delete(i, n, GROUP, ops.last))
        path.with_suffix(".outbox").write_bytes(typed)
        async with session_of(server.address, "alice", ClientId(path)) as (alice, ops):
            await until(alice, lambda: ops.pending[0].failure)
            failure = ops.pending[0].failure
            assert isinstance(failure, Refused)
            assert failure.code == Code.OUTCOME_UNKNOWN
        assert texts(await log_of(server.store)) == []


@pytest.mark.parametrize("action", ["discard", "resend"])
async def test_search_heeds_what_is_done_meanwhile(action: str, tmp_path: Path) -> None:
    """Discarding what is searched for ends nothing else; resending is not taken for the first."""
    path = tmp_path / "0.json"
    disk = FaultyStore()
    async with running_server(disk) as server:
        async with session_of(server.address, "alice", ClientId(path)) as (alice, ops):
            alice.post(ops, "one")
            await delivered(alice, ops)
            left = ClientId(path).upcoming
        journal = ClientId(path).journal
        place = "alice", f"{server.address} without TLS", GROUP
        entry = journal.add(*place, "one", None, 1, floor=left)
        journal.record_refusal(entry, Refused(Code.BUSY, "Later."))
        journal.close()
        other = ClientId(tmp_path / "1.json")
        async with session_of(server.address, "alice", other) as (also, ops):
            also.post(ops, "two")
            await delivered(also, ops)
        hold = disk.hold("read_before")
        async with session_at(server.address, "alice", ClientId(path)) as again:
            ops = again.follow(GROUP)
            (pending,) = ops.pending
            pending.entry.left = 1  # as if the files had gone back to before the first message
            await again.enter(GROUP)
            again.post(ops, "after")
            await hold.reached.wait()
            again.discard(pending) if action == "discard" else again.resend(pending)
            hold.release()
            await delivered(again, ops)
        kept = texts(await log_of(server.store))
        assert kept == ["one", "two", "after"] + ["one"] * (action == "resend")


async def test_copied_home_on_two_machines_loses_nothing(tmp_path: Path) -> None:
    """The first is told that it was replaced; what either says is stored once."""
    home = tmp_path / "alice"
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice")
        await alice.sees("alice created ops")
        await alice.end()
        shutil.copytree(home, tmp_path / "copy")
        alice = await launch.join(server.address, "alice")
        await alice.sees("in #ops")
        await alice.type("one", "two")
        await alice.sees("<alice> two")
        where = str(server.address), "--no-tls", "--user", "alice", "--group", GROUP
        other = await launch.tchat("say", *where, "three", user="copy")
        assert await other.exit() == 0
        assert await alice.exit() == 1
        assert "copy of its data" in str(alice.err)
        await says(launch, server, "four")
        reader = await launch.join(server.address, "alice", "--history", 9)
        await all_said(reader, "one", "two", "three", "four")


async def test_number_taken_meanwhile_is_replaced(tmp_path: Path) -> None:
    """A copy of this client's files has used it after the server was asked."""
    path = tmp_path / "0.json"
    async with running_server() as server:
        client_id = ClientId(path)
        async with session_of(server.address, "alice", client_id) as (alice, ops):
            taken = client_id.upcoming
            await alice.ask(lambda i: Post(i, taken, GROUP, "theirs"))
            alice.post(ops, "mine")
            alice.post(ops, "and this")
            await delivered(alice, ops)
        assert sorted(texts(await log_of(server.store))) == ["and this", "mine", "theirs"]


async def test_restored_home_posts_no_key_twice(tmp_path: Path) -> None:
    home, backup = tmp_path / "alice", tmp_path / "backup"
    async with launching(tmp_path) as launch:
        server = await launch.serve()
        alice = await launch.join(server.address, "alice")
        await alice.sees("alice created ops")
        await alice.end()
        shutil.copytree(home, backup)
        where = str(server.address), "--no-tls", "--user", "alice", "--group", GROUP
        for key in ("k", "k", "other"):
            process = await launch.tchat("say", *where, "--key", key, f"with {key}", user="alice")
            assert (await process.exit(), process.err.all) == (0, [])
            if key == "k":
                shutil.rmtree(home)
                shutil.copytree(backup, home)
        back = await launch.join(server.address, "alice", "--history", 9)
        await all_said(back, "with k", "with other")
        assert await back.end() == 0
