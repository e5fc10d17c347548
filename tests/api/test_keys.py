"""Keys: whoever says something with the same key again gets the first message back."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import trio

import tchat
import tchat.testing
from tchat.client.clock import ClientClock
from tchat.client.program_state import KEY_DAYS, KEY_LIMIT, KeyedMessage, ProgramState
from tchat.machine_clocks import DAY_MS
from tests.api.people import behind_proxy, group_of
from tests.client.clocks import YEARS, told
from tests.helpers import GROUP, GUARD

if TYPE_CHECKING:
    from pathlib import Path

SAY_ONCE = """
import tchat


async def main(client, groups):
    (ops,) = groups
    print((await ops.say("the build is red", key="build 7")).seq)


tchat.run(main)
"""


async def test_key_is_posted_once() -> None:
    async with (
        tchat.testing.open_server() as server,
        group_of(server, "alice", "bob") as (ops, bobs),
    ):
        first = await ops.say("the build is red", key="build 7")
        again = await ops.say("the build is still red", key="build 7")
        assert (again.seq, again.text) == (first.seq, "the build is red")
        assert (await ops.say("green", key="build 8")).seq == first.seq + 1
        assert (await bobs.say("his own", key="build 7")).text == "his own"
        async with server.connect("alice") as alice:
            lab = await alice.join("lab", create=True)
            assert (await lab.say("another group", key="build 7")).text == "another group"
            ops = await alice.open(GROUP)
            assert (await ops.say("another run", key="build 7")).seq == first.seq


async def test_tasks_at_once_post_a_key_once() -> None:
    async with tchat.testing.open_server() as server, group_of(server, "alice", "bob") as (ops, _):
        seqs: list[int] = []

        async def say(group: tchat.Group) -> None:
            seqs.append((await group.say("once", key="k")).seq)

        async with server.connect("alice") as alice, trio.open_nursery() as nursery:
            for group in (ops, ops, await alice.open(GROUP)):
                nursery.start_soon(say, group)
                nursery.start_soon(say, group)
            while len(seqs) < 6:
                await trio.lowlevel.checkpoint()
        assert len({*seqs}) == 1


async def test_processes_at_once_post_a_key_once(tmp_path: Path) -> None:
    program = tmp_path / "say_once.py"
    program.write_text(SAY_ONCE)
    async with tchat.testing.open_server() as server, group_of(server, "alice"):
        options = ["--user", "alice", "--group", GROUP, "--pin", server.pin]
        command = [sys.executable, str(program), server.address, *options]
        environment = {**os.environ, "TCHAT_HOME": str(server.home("alice"))}
        printed: list[bytes] = []

        async def run() -> None:
            done = await trio.run_process(command, capture_stdout=True, env=environment)
            printed.append(done.stdout)

        with trio.fail_after(GUARD):
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(run)
        async with server.connect("alice") as alice:  # it begins with what has been said by now
            history = await (await alice.open(GROUP)).history()
        said = [event for event in history if isinstance(event, tchat.Message)]
        assert [message.text for message in said] == ["the build is red"]
        assert {int(text) for text in printed} == {said[0].seq}
        assert len(printed) == 4


async def test_key_finds_message_whose_answer_was_lost(tmp_path: Path) -> None:
    async with behind_proxy(tmp_path, "alice") as (proxy, alice):
        ops = await alice.join(GROUP, create=True)
        proxy.watch = lambda side, frame: (
            "drop" if side == "server" and frame["type"] in ("ok", "event") else "pass"
        )
        with trio.move_on_after(GUARD) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: ops.say("hello", key="k"))
                await proxy.passes(type="ok")
                scope.cancel()
        proxy.watch = lambda *_: "pass"
        proxy.cut()
        said = await ops.say("hello again", key="k")
        assert (said.seq, said.text) == (2, "hello")


async def test_a_refused_message_leaves_its_key_free() -> None:
    async with (
        tchat.testing.open_server() as server,
        group_of(server, "alice", "bob") as (ops, bobs),
    ):
        await ops.kick("bob")
        with pytest.raises(tchat.Refused) as refused:
            await bobs.say("hello", key="k")
        assert refused.value.code == tchat.Code.NOT_MEMBER
        async with server.connect("bob") as bob:
            invite = await ops.invite()
            ops = await bob.join(GROUP, invite=invite)
            assert (await ops.say("hello", key="k")).text == "hello"


@pytest.mark.parametrize("key", ["", "k" * (KEY_LIMIT + 1)])
async def test_key_of_wrong_length_is_refused(key: str) -> None:
    async with tchat.testing.open_server() as server, group_of(server, "alice") as (ops,):
        with pytest.raises(tchat.Refused, match="A key has 1 to 200 characters"):
            await ops.say("hello", key=key)


MONTH = KEY_DAYS * DAY_MS + 1000


@pytest.mark.parametrize(
    ("first", "later", "is_known"),
    [
        (told(), told(MONTH, MONTH), False),
        (told(), told(wall=YEARS), True),
        (told(), told(server=YEARS), True),
        (told(), ClientClock(lambda: 2 * YEARS), True),
        (told(wall=-YEARS), told(), True),
        (told(server=-YEARS), told(), True),
    ],
    ids=["old", "wall", "server", "untold", "recorded by a wall clock behind", "by a server"],
)
def test_old_keys_are_forgotten(
    tmp_path: Path, first: ClientClock, later: ClientClock, is_known: bool
) -> None:
    """One wrong clock forgets nothing: a key that is forgotten is posted twice."""
    state = ProgramState(tmp_path / "programs.db")
    state.record_posted("server", "alice", "ops", "old", 7, first)
    state.record_posted("server", "Alice", "Ops", "new", 8, later)
    found = [state.posted(["other", "server"], "ALICE", "OPS", key) for key in ("old", "new")]
    assert found == [(7, b"") if is_known else None, (8, b"")]
    state.close()


def test_a_damaged_database_is_a_refusal(tmp_path: Path) -> None:
    path = tmp_path / "programs.db"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(tchat.Refused, match=r"programs\.db cannot be used"):
        ProgramState(path).cursor(["server"], "alice", "ops", "")


def test_keys_of_older_files_are_known_without_stamps(tmp_path: Path) -> None:
    path = tmp_path / "programs.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "CREATE TABLE posted (server TEXT, user TEXT, place TEXT, key TEXT,"
            " seq INTEGER NOT NULL, at INTEGER NOT NULL,"
            " PRIMARY KEY (server, user, place, key)) WITHOUT ROWID"
        )
        database.execute("INSERT INTO posted VALUES ('server', 'alice', 'ops', 'k', 7, 0)")
    state = ProgramState(path)
    assert state.posted(["server"], "alice", "ops", "k") == (7, b"")
    state.record_stamp(["server"], "alice", "ops", "k", KeyedMessage(7, b"stamp"))
    assert state.posted(["server"], "alice", "ops", "k") == (7, b"stamp")
    state.close()
