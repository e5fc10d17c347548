"""/ignore and /mute: nothing of an ignored person shows, all of it comes back, both are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group.membership import Ban
from tchat.core.group.messages import Delete, Edit
from tchat.core.protocol.frames import Seen
from tchat.ui.tui.model import Model, WindowView
from tests.helpers import members, running_server
from tests.ui.typist import two_typing, typing

if TYPE_CHECKING:
    from pathlib import Path


async def test_hidden_lines_come_back_in_their_places() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol") as (alice, _, carol),
        typing(server, "bob") as bob,
    ):
        await alice.post("one")
        await carol.post("two")
        await alice.post("three")
        await bob.reads("alice: three")
        await bob.types("/ignore alice")
        assert bob.screen() == ["carol: two"]
        edited = await alice.post("fuor")
        await alice.command(Edit, edited, "four")
        gone = await alice.post("gone")
        await alice.command(Delete, gone)
        await carol.post("five")
        await bob.reads("carol: five")
        await bob.types("/unignore alice")
        assert bob.screen() == [
            "alice: one",
            "carol: two",
            "alice: three",
            "alice: four [edited]",
            "alice:  [deleted]",
            "carol: five",
        ]


async def test_printed_lines_that_were_hidden_are_printed_later() -> None:
    async with two_typing(rewrites=False) as (alice, bob):
        await bob.types("/ignore alice")
        await alice.types("first", "/edit second")
        await bob.until(lambda: bob.window.shown == bob.window.replica.last == 5)
        before = len(bob.lines)
        await bob.types("/unignore alice")
        shown = [(line.who, line.text) for line in bob.lines[before:] if not line.history]
        assert shown[0] == ("alice", "second")


async def test_counts_follow_who_is_ignored() -> None:
    async with two_typing() as (alice, bob):
        bob.frontend.looks = False
        await alice.types("bob?", "bob!")
        await bob.until(lambda: (bob.window.unread, bob.window.mentions) == (2, 2))
        await bob.types("/ignore alice")
        assert (bob.window.unread, bob.window.mentions, bob.window.new_from) == (0, 0, 0)
        await bob.types("/unignore alice")
        assert (bob.window.unread, bob.window.mentions) == (2, 2)


async def test_ignored_people_are_in_no_list() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol") as (alice, _, carol),
        typing(server, "bob") as bob,
    ):
        for n in range(25):
            await alice.post(f"needle {n}")
        await carol.post("needle of carol")
        for n in range(25):
            await alice.post(f"needle {n}")
        await bob.reads("alice: needle 24")
        await bob.types("/ignore alice")
        found = await bob.types("/search needle")
        assert [line.partition("> ")[2] for line in found if "<" in line] == ["needle of carol"]
        assert not [line for line in await bob.types("/who") if "alice" in line]
        assert not [line for line in await bob.types("/online") if "alice" in line]
        model = Model("", "")
        model.refresh(bob.chat, WindowView(), asked_to_quit=False)
        assert [person.name for person in model.people] == ["bob", "carol"]
        await bob.types("/ignore carol")
        assert await bob.types("/search needle") == ["notice: No messages found for: needle"]


async def test_deletions_of_ignored_people_are_not_told() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol") as (alice, _, carol),
        typing(server, "bob", rewrites=False) as bob,
    ):
        by_carol, by_alice = await carol.post("rude"), await carol.post("ruder")
        await bob.types("/ignore carol")
        await carol.command(Delete, by_carol)
        await alice.command(Delete, by_alice)
        await alice.post("done")
        await bob.reads("alice: done")
        assert not [line for line in bob.lines if "deleted" in line.text or line.deleted]


async def test_a_conversation_comes_back_with_unignore() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        typing(server) as alice,
        typing(server, "bob", ignore=("alice",)) as bob,
    ):
        await alice.types("/msg bob psst")
        await alice.types("anybody?")
        await bob.until(lambda: bob.window.shown == bob.window.replica.last)
        assert bob.titles == ["#ops"]
        shown = await bob.types("/unignore alice")
        assert shown[0].endswith(
            "This is remembered, although the settings file has alice under ignore."
        )
        await bob.until(lambda: "@alice" in bob.titles)
        await bob.until(lambda: bob.window_of("@alice").unread == 1)


async def test_ignore_and_mute_are_remembered(tmp_path: Path) -> None:
    file = tmp_path / "preferences.json"
    async with running_server() as server, members(server, "alice", "bob") as (alice, _):
        async with typing(server, "bob", preferences=file) as bob:
            await bob.types("/ignore alice", "/mute")
            await alice.post("bob?")
        async with (
            typing(server, "bob", preferences=file) as bob,
            typing(server, "bob", preferences=file) as other,
        ):
            assert bob.window.muted
            assert bob.screen() == []
            await other.types("/unignore alice")
            await bob.types("/unmute")
            assert bob.screen() == ["alice: bob? [mention]"]
            assert not bob.window.muted


async def test_a_damaged_file_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "preferences.json"
    file.write_text("{")
    async with running_server() as server, typing(server, preferences=file) as alice:
        errors = [line.text for line in alice.lines if line.sort == "error"]
        assert len(errors) == 1
        assert "is damaged" in errors[0]


async def test_unignore_after_a_ban_prints_nothing_again() -> None:
    """Asking to join again attaches as an outsider, whose read position the server does not tell.

    What was read before this run was printed by an earlier one.
    """
    async with running_server() as server, members(server, "alice", "bob") as (alice, member):
        seq = await alice.post("read before")
        await member.send(Seen("ops", seq))
        await member.before_pong()
        async with typing(server, "bob", rewrites=False) as bob:
            await bob.types("/ignore alice")
            await alice.command(Ban, "bob")
            await bob.shows("alice banned you")
            await bob.types("/join")
            before = len(bob.lines)
            await bob.types("/unignore alice")
            assert [line.text for line in bob.lines[before:] if line.who and not line.history] == []
