"""/pin, /pins and /unpin: what the admin and the members type and read."""

from __future__ import annotations

from tchat.core.group.messages import Edit, Pin
from tchat.core.protocol.frames import Seen
from tchat.ui.tui.model import Model, WindowView
from tests.helpers import GROUP, members, running_server
from tests.ui.typist import Typist, two_typing, typing


def header(person: Typist) -> str:
    """Return the pinned message as the line under the title shows it."""
    model = Model("", "")
    model.refresh(person.chat, WindowView(), asked_to_quit=False)
    return model.pinned


async def test_admin_pins_by_name_and_by_count() -> None:
    async with two_typing() as (alice, bob):
        await bob.types("read this", "and that")
        await alice.reads("bob: and that")
        await alice.types("/pin ^2")
        await bob.shows("alice pinned a message")
        assert await bob.types("/pin") == ["notice: pinned: bob: read this"]
        await alice.types("/pin bob")
        assert await alice.types("/pins") == ["notice: pinned: bob: and that"]
        assert header(alice) == "bob: and that"
        await alice.types("/unpin")
        await bob.shows("alice unpinned the pinned message")
        assert await bob.types("/pins") == [
            "notice: No message is pinned. Only the admin, alice, may pin one."
        ]
        assert await alice.types("/pin") == [
            (
                "notice: No message is pinned."
                " /pin ^1 pins the last one, /pin NAME somebody's last one."
            )
        ]
        assert header(bob) == ""


async def test_pin_target_is_chosen_when_typed() -> None:
    """Messages typed or received after the command do not change its target."""
    async with two_typing() as (alice, bob):
        await bob.types("read this")
        await alice.reads("bob: read this")
        alice.chat.enter("/pin ^1")
        alice.chat.enter("and now something else")
        await alice.until(lambda: header(alice) == "bob: read this")


async def test_refusals_say_what_to_do() -> None:
    async with two_typing() as (alice, bob):
        await bob.types("read this")
        (refusal,) = await bob.types("/pin ^1")
        assert refusal.startswith("error: Only the admin, alice, may do this.")
        (refusal,) = await alice.types("/pin bob now")
        assert refusal.startswith("error: Usage: /pin")
        (refusal,) = await alice.types("/unpin")
        assert refusal == "error: No message is pinned."


async def test_header_shows_the_first_line() -> None:
    async with two_typing() as (alice, bob):
        await bob.types("read this\nand then that")
        await alice.reads("bob: read this\nand then that")
        await alice.types("/pin ^1")
        assert header(alice) == "bob: read this"
        assert await alice.types("/pin") == ["notice: pinned: bob: read this↵and then that"]


async def test_pin_far_in_the_past_is_shown() -> None:
    """The message and its last edit are loaded, but the client's log does not grow."""
    async with running_server() as server, members(server, "alice", "bob") as (by_hand, other):
        message = await other.post("read tihs")
        for n in range(300):
            await by_hand.post(f"text {n}")
        await other.command(Edit, message, "read this")
        await by_hand.command(Pin, message)
        for n in range(300):
            await by_hand.post(f"more text {n}")
        await by_hand.send(Seen(GROUP, (await by_hand.attach(1)).seq))
        async with typing(server, recent=20) as alice:
            assert header(alice) in ("bob: read this", "an earlier message")
            await alice.until(lambda: header(alice) == "bob: read this")
            assert alice.window.replica.first > message
            assert await alice.types("/pin") == ["notice: pinned: bob: read this"]


async def test_deleted_message_is_not_pinned() -> None:
    async with two_typing() as (alice, bob):
        await bob.types("read this")
        await alice.reads("bob: read this")
        await alice.types("/pin ^1")
        await bob.types("/delete")
        await alice.until(lambda: header(alice) == "")


async def test_plain_mode_prints_pins() -> None:
    """Printed lines cannot be updated, so /pin prints the message."""
    async with running_server() as server, members(server, "alice", "bob") as (by_hand, other):
        message = await other.post("read this")
        async with typing(server, rewrites=False) as alice:
            await by_hand.command(Pin, message)
            await alice.shows("alice pinned a message")
            assert await alice.types("/pins") == ["notice: pinned: bob: read this"]
