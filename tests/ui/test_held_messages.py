"""Messages for a group that has not let the person in yet, in a real terminal: drafts until then.

They are sent when the server has answered. Until then, only the drafts on the disk keep them from
getting lost with the program.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import trio

from tests.fake_server import ScriptedPeer, fake_server
from tests.helpers import GROUP
from tests.ui.conftest import ServerProcess
from tests.ui.scenes import join, saved, sees, wait_saved, wait_typed

if TYPE_CHECKING:
    from pathlib import Path


async def silence(peer: ScriptedPeer) -> None:
    """Log the client in, and never answer whether it is a member."""
    await peer.welcome()
    await peer.expect("end")


async def let_in(peer: ScriptedPeer) -> None:
    await peer.welcome()
    await peer.attach(seq=1, first=1)
    await peer.event("created", "alice")
    await peer.group_list()
    await peer.expect("end")


async def test_held_message_survives_a_kill(tmp_path: Path) -> None:
    async with fake_server(silence, let_in) as address:
        server = ServerProcess(tmp_path, str(address.port))
        with join(server, tmp_path, "alice", "--no-tls") as alice:
            await sees(alice, "alice ▸")
            alice.type("typed too early\r")
            await sees(alice, "alice … typed too early")
            await trio.to_thread.run_sync(wait_saved, alice, tmp_path, "typed too early")
            alice.signal(signal.SIGKILL)
            await trio.to_thread.run_sync(alice.end)
        with join(server, tmp_path, "alice", "--no-tls") as alice:
            await sees(alice, "nobody else is here")
            await trio.to_thread.run_sync(wait_typed, alice, "typed too early")


async def test_sent_message_is_no_draft_any_more(tmp_path: Path) -> None:
    """Without another key: a crash right after the message was sent must not bring it back."""
    asked, posted = trio.Event(), trio.Event()

    async def late(peer: ScriptedPeer) -> None:
        await peer.welcome()
        await asked.wait()
        await peer.attach(seq=1, first=1)
        await peer.event("created", "alice")
        post = await peer.expect("post")
        assert (post["group"], post["text"]) == (GROUP, "typed too early")
        posted.set()
        await peer.expect("end")

    async with fake_server(late) as address:
        server = ServerProcess(tmp_path, str(address.port))
        with join(server, tmp_path, "alice", "--no-tls") as alice:
            await sees(alice, "alice ▸")
            alice.type("typed too early\r")
            await trio.to_thread.run_sync(wait_saved, alice, tmp_path, "typed too early")
            asked.set()
            await posted.wait()
            await trio.to_thread.run_sync(
                alice.until, lambda: saved(tmp_path) == "", "no draft any more"
            )
