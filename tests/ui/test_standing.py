"""A person's standing on several devices: each learns it at once, whoever changed it and where."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tchat.client.client_id import acquire_client_id
from tchat.core.group.membership import Approve, Ban, Deny, Join, Kick, Leave, Unban
from tchat.ui.chat.lines import Line
from tests.helpers import members, running_server
from tests.ui.typist import typing

if TYPE_CHECKING:
    from pathlib import Path


async def test_second_device_is_a_member_again_after_rejoining() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        typing(server, "bob") as here,
        typing(server, "bob") as there,
    ):
        there.frontend.looks = False
        await alice.post("bob?")
        await there.until(lambda: there.window.mentions == 1)
        await alice.command(Kick, "bob")
        for bob in (here, there):
            await bob.shows("alice kicked you")
        await here.types("/join")
        await there.shows("Waiting for alice")
        await alice.command(Approve, "bob")
        await there.until(lambda: there.window.replica.standing == "member")
        assert (there.window.unread, there.window.mentions) == (0, 0)
        await alice.post("welcome back")
        for bob in (here, there):
            await bob.reads("alice: welcome back")
        await there.until(lambda: there.window.unread == 0)  # it was read on the other device


async def test_lifted_ban_is_told_on_all_devices() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        typing(server, "bob") as here,
        typing(server, "bob") as there,
    ):
        await alice.command(Ban, "bob")
        for bob in (here, there):
            await bob.shows("alice banned you")
        await alice.command(Unban, "bob")
        for bob in (here, there):
            await bob.shows("alice lifted your ban. /join asks to join again.")
        await there.types("/join")
        await alice.command(Approve, "bob")
        await alice.post("hello")
        for bob in (here, there):
            await bob.reads("alice: hello")


async def test_leaving_and_joining_reach_the_other_device() -> None:
    async with (
        running_server() as server,
        typing(server, "alice", "ops", "lab") as here,
        typing(server, "alice", "lab") as there,
    ):
        await there.until(lambda: "#ops" in there.titles)
        await here.types("/window lab", "/leave")
        await there.shows("You left from another terminal")
        await here.types("/join lab")
        await there.until(lambda: there.window_of("#lab").caught_up)


async def test_group_joined_elsewhere_opens_a_window() -> None:
    async with (
        running_server() as server,
        typing(server, "alice", "ops") as here,
        typing(server, "alice", "ops") as there,
        typing(server, "alice", "ops", rewrites=False) as plain,
    ):
        await here.types("/join lab")
        await there.until(lambda: "#lab" in there.titles)
        assert there.window.title == "#ops"
        await plain.types("text")
        assert plain.titles == ["#ops"]


async def test_unread_of_former_members_ends_when_seen() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, _),
        typing(server, "bob", "ops", "lab") as bob,
    ):
        await bob.types("/window lab")
        await alice.post("bob?")
        await alice.command(Kick, "bob")
        there = bob.window_of("#ops")
        await bob.until(lambda: there.replica.standing == "outsider")
        assert (there.unread, there.mentions) == (1, 1)
        await bob.types("/window ops", "/window lab")
        assert (there.unread, there.mentions) == (0, 0)


async def test_messages_typed_before_approval_are_sent_with_it() -> None:
    """They look as if they were on their way, and neither quitting nor a script waits for them."""
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        typing(server, "bob", until="Waiting for alice") as bob,
    ):
        (refusal,) = await bob.types("let me in")
        assert refusal.endswith("Your message is kept, and sent after that; /discard deletes it.")
        assert bob.screen() == ["bob: let me in [pending]"]
        assert not bob.window.sending
        await alice.command(Approve, "bob")
        await bob.reads("bob: let me in")
        assert not any(line.text.startswith("not sent") for line in bob.lines)


async def test_refusal_after_the_approval_is_printed() -> None:
    """Plain mode cannot mark the message, so that nothing else would tell of it."""
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        typing(server, "bob", until="Waiting for alice", rewrites=False) as bob,
    ):
        bob.window.say("I agree", Line(0, "message", "a lost message", "alice", 999))
        await bob.shows("Your message is kept, and sent after that")
        await alice.command(Approve, "bob")
        await bob.shows("Not sent, but kept: I agree")


async def test_messages_typed_before_a_denial_can_be_resent() -> None:
    async with (
        running_server() as server,
        members(server, "alice") as (alice,),
        typing(server, "bob", until="Waiting for alice") as bob,
    ):
        await bob.types("let me in")
        await alice.command(Deny, "bob")
        await bob.shows("not sent: 1 message; /resend sends it, /discard deletes it")
        assert bob.screen() == ["bob: let me in [failed]"]


@pytest.mark.parametrize("there", [True, False], ids=["there", "away"])
async def test_next_request_after_a_denial_is_told(there: bool) -> None:
    """Also if the denial came while no program ran; a script is told by the refusal."""
    again = re.compile(r"You can ask again at \d\d:\d\d with /join; an invite lets you in before.")
    async with running_server() as server, members(server, "alice") as (alice,):
        async with typing(server, "bob", "ops", "lab", until="Waiting for alice") as bob:
            if there:
                await alice.command(Deny, "bob")
                await bob.shows(
                    "alice denied your request. You can ask again in an hour with /join"
                )
                refused = [*await bob.types("hello"), *await bob.types("/members")]
                assert len([line for line in refused if again.search(line)]) == 2
        if not there:
            await alice.command(Deny, "bob")
            async with typing(server, "bob", "lab") as bob:
                window = bob.chat.open("ops", joins=False)
                await bob.until(lambda: window.replica.standing == "outsider")
                await bob.until(lambda: bool(window.lines))
                (line,) = window.lines
                assert line.text.startswith("Your request was denied. You can ask again at ")
                assert again.search(line.text)


async def test_leaving_elsewhere_ends_what_is_unread() -> None:
    async with (
        running_server() as server,
        members(server, "alice", "bob") as (alice, bob),
        typing(server, "bob", "ops", "lab") as there,
    ):
        await there.types("/window lab")
        await alice.post("bob?")
        window = there.window_of("#ops")
        await there.until(lambda: window.mentions == 1)
        await bob.command(Leave)
        await there.until(lambda: window.replica.standing == "outsider" and not window.unread)
        assert window.mentions == 0


async def test_last_members_other_device_learns_of_closing() -> None:
    async with (
        running_server() as server,
        typing(server, "alice", "ops", "lab") as here,
        typing(server, "alice", "ops", "lab") as there,
    ):
        await here.types("/window lab", "/leave")
        await there.shows("You left from another terminal; you were the last member")
        assert not any("was closed" in line.text for line in here.lines)


async def test_refused_messages_without_a_window_are_named(tmp_path: Path) -> None:
    """They were refused in an earlier run, and the person begins with another group."""
    async with running_server() as server, members(server, "alice", "bob") as (alice, _):
        with acquire_client_id(tmp_path) as slot:
            async with typing(server, "bob", "ops", slot=slot) as bob:
                await alice.command(Kick, "bob")
                await bob.until(lambda: bob.window.replica.standing == "outsider")
                await bob.types("one", "two")
                failed = ["bob: one [failed]", "bob: two [failed]"]
                await bob.until(lambda: bob.screen() == failed)
        with acquire_client_id(tmp_path) as slot:
            async with typing(server, "bob", "lab", slot=slot, until="") as bob:
                await bob.shows("not sent: 2 messages to #ops; /join ops shows what to do")


async def test_window_kept_after_leaving_works_after_rejoining() -> None:
    """The person was typing in it, and joins again on another device."""
    async with (
        running_server() as server,
        members(server, "bob", "alice") as (bob, device),
        typing(server, "alice", "lab", "ops") as alice,
    ):
        await alice.types("/window ops")
        alice.frontend.typing = True
        await alice.types("/leave")
        assert await alice.shows("You are typing here")
        await alice.types("hello?")
        assert alice.lines[-1].text == "You left #ops. /part closes this window."
        await device.command(Join, None)
        await bob.command(Approve, "alice")
        await alice.until(lambda: alice.window.caught_up)
        await alice.types("here again")
        await alice.reads("alice: here again")


async def test_messages_approved_meanwhile_are_sent_at_the_start(tmp_path: Path) -> None:
    """The approval came while no program ran, and plain mode begins with another group."""
    async with running_server() as server, members(server, "alice") as (alice,):
        with acquire_client_id(tmp_path) as slot:
            async with typing(server, "bob", slot=slot, until="Waiting for alice") as bob:
                await bob.types("let me in")
        with acquire_client_id(tmp_path) as slot:
            async with typing(server, "bob", "lab", slot=slot, rewrites=False) as bob:
                assert bob.titles == ["#lab"]
        await alice.command(Approve, "bob")
        with acquire_client_id(tmp_path) as slot:
            async with typing(server, "bob", "lab", slot=slot, rewrites=False) as bob:
                await bob.until(lambda: "#ops" in bob.titles)
                await bob.reads("bob: let me in", "#ops")
                assert not any("not sent" in line.text for line in bob.lines)
