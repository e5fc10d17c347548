"""/block: nothing of a blocked person shows, counts, rings or opens, whatever name they take."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio.testing

from tchat.client.subscriptions import FollowedGroups
from tchat.core.group.membership import Join
from tchat.core.protocol.handshake import Welcome
from tests.helpers import hello_of, identity_of, members, raw_client, running_server
from tests.ui.typist import typing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.client.replica import Replica
    from tchat.core.protocol.frames import Snapshot
    from tests.helpers import RawClient, RunningServer

both_front_ends = pytest.mark.parametrize("rewrites", [True, False], ids=["screen", "plain"])


@asynccontextmanager
async def alias(server: RunningServer, name: str, owner: str) -> AsyncIterator[RawClient]:
    """Connect under a new name with somebody's key."""
    async with raw_client(server.address) as raw:
        hello = replace(hello_of(name, raw.client), key=identity_of(owner).public)
        await raw.send(hello)
        await raw.send(await raw.proof(hello, identity_of(owner)))
        raw.user = (await raw.expect(Welcome)).user
        yield raw


@both_front_ends
async def test_blocked_person_opens_counts_and_rings_nothing(rewrites: bool) -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol") as (alice, _, carol),
        typing(server, "bob", recent=50, rewrites=rewrites) as bob,
    ):
        await carol.post("psst", group="@bob,carol")
        await bob.until(lambda: "@carol" in bob.titles)
        await bob.until(lambda: bob.window_of("@carol").caught_up)
        (shown,) = await bob.types("/block carol")
        assert shown == (
            "notice: carol is blocked: their messages and their requests to join are hidden."
            " /unblock carol lifts the block."
        )
        assert bob.titles == ["#ops"]
        calls = list(bob.frontend.calls)
        await carol.post("bob, look")
        await carol.post("psst", group="@bob,carol")
        await alice.post("done")
        await bob.reads("alice: done")
        assert bob.screen() == ["alice: done"]
        assert (bob.window.mentions, bob.titles, bob.frontend.calls) == (0, ["#ops"], calls)
        assert await bob.types("/list") == ["notice: #ops (window 1)"]


async def test_a_block_survives_a_restart_until_unblock(tmp_path: Path) -> None:
    kept = tmp_path / "preferences.json"
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol") as (_, _, carol),
    ):
        async with typing(server, "bob", preferences=kept) as bob:
            assert await bob.types("/block") == [
                "notice: Nobody is blocked. /block NAME hides all of a person."
            ]
            await bob.types("/block carol")
        await carol.post("psst", group="@bob,carol")
        async with typing(server, "bob", preferences=kept, recent=50) as bob:
            await bob.types("")
            assert bob.titles == ["#ops"]
            (listed,) = await bob.types("/block")
            assert listed.startswith("notice: blocked (1): carol, key ")
            shown = await bob.types("/unblock carol")
            assert shown[0] == "notice: carol is not blocked any more."
            await bob.until(lambda: "@carol" in bob.titles)
            await bob.reads("carol: psst", "@carol")


async def test_requests_of_blocked_people_are_hidden() -> None:
    async with (
        running_server() as server,
        typing(server, "alice") as alice,
        raw_client(server.address, "mallory") as mallory,
    ):
        await mallory.command(Join)
        await alice.shows("mallory asks to join")
        await alice.types("/block mallory")
        assert alice.window.waiting_for_approval == 0
        assert not [line for line in alice.window.lines if "asks to join" in line.text]
        assert await alice.types("/requests") == [
            "notice: asking to join: nobody",
            "notice: Not listed: 1 request of people whom you /block.",
        ]
        await alice.types("/unblock mallory")
        assert alice.window.requests == ["mallory"]


@both_front_ends
async def test_another_name_with_the_key_is_blocked(rewrites: bool) -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        typing(server, "alice", rewrites=rewrites) as hers,
    ):
        await hers.types("/block bob")
        async with alias(server, "bobby", "bob") as bobby:
            await bobby.command(Join)
            await hers.until(lambda: "bobby" in hers.chat.blocked)
            assert hers.window.requests == []
            assert not [line for line in hers.lines if "asks to join" in line.text]
        (listed,) = await hers.types("/block")
        assert listed.startswith("notice: blocked (2): bob, bobby, key ")
        shown = await hers.types("/unblock bob")
        assert "notice: bob, bobby are not blocked any more." in shown
        assert hers.chat.blocked == set()


async def test_names_in_a_later_snapshot_are_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "preferences.json"
    handle_snapshot = FollowedGroups._handle_snapshot

    async def handle_later(self: FollowedGroups, replica: Replica, part: Snapshot) -> None:
        await trio.testing.wait_all_tasks_blocked()  # the chat handles the first update
        await handle_snapshot(self, replica, part)

    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        alias(server, "bobby", "bob") as bobby,
    ):
        await bobby.command(Join)
        async with typing(server, "alice", preferences=kept) as alice:
            await alice.shows("bobby asks to join")
            alice.chat.preferences.block({"bob": {identity_of("bob").public}})
        monkeypatch.setattr(FollowedGroups, "_handle_snapshot", handle_later)
        async with typing(server, "alice", preferences=kept, recent=0) as alice:
            await alice.until(lambda: "bobby" in alice.chat.blocked)
            assert alice.window.requests == []


async def test_block_names_all_who_use_the_key() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        typing(server, "alice") as hers,
        alias(server, "bobby", "bob") as bobby,
    ):
        await bobby.command(Join)
        await hers.shows("bobby asks to join")
        (shown,) = await hers.types("/block bobby")
        assert "So is bob, who has the same key." in shown
        await alice.post("done")
        await hers.reads("alice: done")


async def test_blocked_people_cannot_be_written_to() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob"),
        typing(server, "alice") as alice,
    ):
        await alice.types("/block bob")
        refusal = "error: You have blocked bob. /unblock bob lets you write to them."
        for line in ("/msg bob hello", "/query bob", "/join @bob"):
            assert await alice.types(line) == [refusal]
        assert alice.titles == ["#ops"]


async def test_unknown_names_are_blocked_with_a_warning() -> None:
    """Ahead of time, perhaps, or with a wrong letter; strangers who have written are known."""
    async with (
        running_server() as server,
        members(server, "alice", "bob", "carol") as (_, bob, _),
        typing(server, "alice", "ops", "lab") as alice,
    ):
        unknown = "Nobody called carl is in your groups or conversations yet: check the spelling."
        for command in ("/block carl", "/ignore carl"):
            alice.chat.preferences.unblock("carl")
            (shown,) = await alice.types(command)
            assert shown.endswith(f" {unknown}")
        await bob.post("psst", group="@alice,bob")
        await alice.until(lambda: "@bob" in alice.titles)
        await alice.types("/window @bob", "/part", "/window ops", "/part")
        for name in ("carol", "bob"):
            (shown,) = await alice.types(f"/block {name}")
            assert ("check the spelling" in shown) == (name == "carol")


async def test_impossible_blocks_are_refused() -> None:
    async with running_server() as server, typing(server, "alice") as alice:
        assert await alice.types("/block alice") == ["error: You cannot block yourself."]
        assert await alice.types("/unblock bob") == [
            "error: bob is not blocked; /block lists who is."
        ]
        await alice.types("/block @bob", "/ignore bob")
        assert await alice.types("/block bob") == [
            "notice: bob is blocked already. /unblock bob lifts the block."
        ]
        assert await alice.types("/unignore bob") == [
            "notice: bob is not ignored any more, but blocked: see /unblock."
        ]
