"""Unread messages that were counted at an earlier start are not loaded again, and stay right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group.messages import Delete, Edit
from tests.helpers import members, running_server
from tests.ui.typist import typing

if TYPE_CHECKING:
    from pathlib import Path

MANY = 1200
RECENT = 50


async def test_counted_messages_are_not_loaded_again(tmp_path: Path) -> None:
    file = tmp_path / "unread.json"
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        members(server, "alice", "bob", group="lab") as (alice, _),
    ):
        unread = {await alice.post(f"text {n}", group="lab"): False for n in range(MANY)}
        unread |= {await alice.post("bob, look", group="lab"): True for _ in range(3)}
        for start in range(4):
            async with typing(server, "bob", recent=RECENT, saved_unread=file) as bob:
                await bob.until(lambda b=bob: "#lab" in b.titles)  # type: ignore[misc]
                lab = bob.window_of("#lab")
                await bob.until(lambda w=lab: w.caught_up)  # type: ignore[misc]
                assert (lab.unread, lab.mentions) == (len(unread), sum(unread.values()))
                assert lab.new_from == min(unread)
                assert len(lab.replica.log) < 2 * RECENT or not start
                await bob.types("")
            # What happens meanwhile to messages that are not loaded any more.
            for gone in {min(unread), max(seq for seq in unread if unread[seq])}:
                await alice.command(Delete, gone, group="lab")
                del unread[gone]
            await alice.command(Edit, min(unread), "bob, you", group="lab")
            unread[min(unread)] = True
            unread[await alice.post("one more", group="lab")] = False


async def test_unread_messages_are_loaded_to_be_seen(tmp_path: Path) -> None:
    file = tmp_path / "unread.json"
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        members(server, "alice", "bob", group="lab") as (alice, _),
    ):
        first, *_ = [await alice.post(f"text {n}", group="lab") for n in range(MANY)]
        for _ in range(2):
            async with typing(server, "bob", recent=RECENT, saved_unread=file) as bob:
                await bob.until(lambda b=bob: "#lab" in b.titles)  # type: ignore[misc]
                await bob.until(lambda b=bob: b.window_of("#lab").caught_up)  # type: ignore[misc]
                await bob.types("")
        async with typing(server, "bob", recent=RECENT, saved_unread=file) as bob:
            await bob.until(lambda: "#lab" in bob.titles and bob.window_of("#lab").caught_up)
            await bob.types("/window lab")
            assert (bob.window.unread, bob.window.new_from) == (0, first)
            await bob.window.load_back_to(first)
            await bob.reads("alice: text 0")
            assert bob.window.unread == 0
