"""Messages typed before the server has let the person in, in a real terminal: sent exactly once.

They are shown as being sent, so they must be: when the server has answered, or after a restart.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import trio

from tchat.core.group.feature import Event
from tests.fake_server import ScriptedPeer, fake_server
from tests.helpers import GROUP
from tests.ui.conftest import ServerProcess
from tests.ui.scenes import alt, headless, join, open_group, saved, sees, wait_typed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ui.terminal import Terminal


def type_and_kill(alice: Terminal, *texts: str) -> None:
    """Send messages, and kill the client when they are shown as being sent."""
    for text in texts:
        alice.type(f"{text}\r")
        alice.sees(f"… {text}")
    alice.signal(signal.SIGKILL)
    assert alice.end() == -signal.SIGKILL


def sees_each_once(alice: Terminal, *texts: str) -> None:
    """Wait for stored messages, in this order, none of which is a draft any more."""
    alice.sees(*(f"│ {text}" for text in texts))
    assert [alice.text.count(text) for text in texts] == [1] * len(texts)
    assert [*texts] == sorted(texts, key=alice.text.index)
    wait_typed(alice, "")


def test_messages_typed_without_server_are_sent(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as alice:
        alice.sees("nobody else", "\n────")
    server.stop()
    with join(server, tmp_path, "alice") as alice:
        alice.sees("offline: connection refused")
        type_and_kill(alice, "one", "two", "three")
    server.start()
    for _ in range(2):
        with join(server, tmp_path, "alice") as alice:
            sees_each_once(alice, "one", "two", "three")


def test_messages_to_a_new_group_are_sent(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as alice:
        alice.sees("nobody else")
        server.stop()
        alice.sees("connection lost")
        alice.type("/join lab\r")
        alice.sees("[2 #lab]")
        type_and_kill(alice, "first", "second")
    server.start()
    with join(server, tmp_path, "alice") as alice:
        alice.sees("You are in #ops", "2 #lab")
        alice.type(alt("2"))
        sees_each_once(alice, "first", "second")


def test_quitting_keeps_messages_to_a_new_group(server: ServerProcess, tmp_path: Path) -> None:
    """They stay held on the disk: otherwise they would be sent before joining, and refused."""
    with join(server, tmp_path, "alice") as alice:
        alice.sees("nobody else")
        server.stop()
        alice.sees("connection lost")
        alice.type("/join lab\r")
        alice.sees("[2 #lab]")
        alice.type("first\r")
        alice.sees("… first")
        alice.type("/quit\r")
        alice.end()
    server.start()
    with join(server, tmp_path, "alice") as alice:
        alice.sees("You are in #ops", "2 #lab")
        alice.type(alt("2"))
        sees_each_once(alice, "first")


async def test_message_to_a_new_person_is_sent(server: ServerProcess, tmp_path: Path) -> None:
    """Also to nobody: then the person is told."""
    async with open_group(server, tmp_path, "alice", "bob"):
        pass
    with join(server, tmp_path, "alice") as alice:
        await sees(alice, "1 other member")
        server.stop()
        await sees(alice, "connection lost")
        alice.type("/query nobody\r")
        await sees(alice, "[2 @nobody]")
        alice.type("is anybody there\r")
        await sees(alice, "… is anybody there")
        alice.type("/query bob\r")
        await sees(alice, "[3 @bob]")
        await trio.to_thread.run_sync(type_and_kill, alice, "psst")
    server.start()
    with join(server, tmp_path, "alice") as alice:
        await sees(alice, "You are in #ops", "not sent: 1 message to @nobody")
        alice.type("/query bob\r")
        await trio.to_thread.run_sync(sees_each_once, alice, "psst")
    async with headless(server, "bob") as bob:
        await bob.attach(group="@alice,bob")
        (event,) = await bob.events(1)
        assert getattr(event.body, "text", "") == "psst"
        assert not [one for one in await bob.before_pong() if isinstance(one, Event)]


async def silence(peer: ScriptedPeer) -> None:
    """Log the client in, and never answer whether it is a member."""
    await peer.welcome()
    await peer.expect("end")


async def test_message_the_server_did_not_answer_is_sent(tmp_path: Path) -> None:
    posted = trio.Event()

    async def let_in(peer: ScriptedPeer) -> None:
        await peer.welcome()
        await peer.attach(seq=1, first=1)
        await peer.event("created", "alice")
        post = await peer.expect("post")
        assert (post["group"], post["text"]) == (GROUP, "typed too early")
        posted.set()
        await peer.expect("end")

    async with fake_server(silence, let_in) as address:
        server = ServerProcess(tmp_path, str(address.port))
        with join(server, tmp_path, "alice", "--no-tls") as alice:
            await sees(alice, "alice ▸")
            await trio.to_thread.run_sync(type_and_kill, alice, "typed too early")
        with join(server, tmp_path, "alice", "--no-tls") as alice:
            await sees(alice, "nobody else is here")
            await posted.wait()
            await trio.to_thread.run_sync(wait_typed, alice, "")
            assert saved(tmp_path) == ""
