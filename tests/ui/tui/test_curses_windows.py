"""Several windows in one session: switching, unread counts, direct messages, notifications."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tchat.core.group.direct import direct_name
from tchat.core.group.membership import Join
from tests.ui.scenes import (
    END,
    ENTER,
    PAGE_UP,
    TAB,
    alt,
    ctrl,
    headless,
    join,
    open_group,
    wait_gone,
    wait_typed,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.helpers import RawClient
    from tests.ui.conftest import ServerProcess
    from tests.ui.terminal import Terminal

BELL = b"\x07"
NOTIFY = b"\x1b]777;notify;"


@asynccontextmanager
async def two_groups(
    server: ServerProcess, home: Path, extra: dict[str, str] | None = None
) -> AsyncIterator[tuple[Terminal, RawClient]]:
    """Start Alice's terminal in two groups, the first in front, with Bob in both."""
    async with (
        open_group(server, home, "alice", "bob") as (bob,),
        open_group(server, home, "alice", "bob", group="lab"),
    ):
        with join(server, home, "alice", extra=extra) as alice:
            alice.sees("in #ops with 1 other member", "[1 #ops]  2 #lab")
            yield alice, bob


async def write(person: RawClient, to: str, text: str) -> None:
    """Send a direct message."""
    await person.post(text, group=direct_name(person.user, to))


# ------------------------------------------------------------------ windows


async def test_windows_are_switched_by_number_and_order(
    server: ServerProcess, tmp_path: Path
) -> None:
    async with two_groups(server, tmp_path) as (alice, _):
        for keys, number in [
            (alt("2"), 2),
            (alt("1"), 1),
            (alt("7"), 1),
            (ctrl("n"), 2),
            (ctrl("n"), 1),
            (ctrl("p"), 2),
            (alt("<"), 1),
            (alt("<"), 2),
            ("/window op" + ENTER, 1),
            ("/w 2" + ENTER, 2),
        ]:
            alice.type(keys)
            alice.sees("[1 #ops]  2 #lab" if number == 1 else "1 #ops  [2 #lab]")
            alice.sees(" #ops " if number == 1 else " #lab ")


async def test_unread_messages_are_counted_until_seen(
    server: ServerProcess, tmp_path: Path
) -> None:
    async with two_groups(server, tmp_path) as (alice, bob):
        await bob.post("one", group="lab")
        await bob.post("two", group="lab")
        alice.sees("[1 #ops]  2 #lab 2")
        await bob.post("alice, three", group="lab")
        alice.sees("[1 #ops]  2 #lab 3!")
        await bob.post("here", group="ops")
        alice.sees("bob │ here")
        alice.type(alt("a"))
        alice.sees("1 #ops  [2 #lab]", "── new ──", "│ one", "» alice, three")
        alice.type(alt("1"))
        alice.sees("[1 #ops]  2 #lab ──")
        alice.type(alt("2"))
        alice.sees("» alice, three")
        wait_gone(alice, "── new ──")


async def test_window_keeps_draft_and_scroll_position(
    server: ServerProcess, tmp_path: Path
) -> None:
    async with two_groups(server, tmp_path) as (alice, bob):
        for number in range(60):
            await bob.post(f"number {number}.", group="ops")
        alice.sees("number 59.")
        alice.type(PAGE_UP + PAGE_UP + "a draft")
        alice.sees("more: End", "number 15.", "alice ▸ a draft")
        place = alice.screen.display[1]
        alice.type(alt("2") + "another")
        alice.sees("[2 #lab]", "alice ▸ another")
        await bob.post("number 60.", group="ops")
        alice.sees("1 #ops 1")
        alice.type(alt("1"))
        alice.sees("↓ 1 new: End", "alice ▸ a draft")
        assert alice.screen.display[1] == place
        alice.type(alt("2"))
        wait_typed(alice, "another")


async def test_closed_window_is_opened_again(server: ServerProcess, tmp_path: Path) -> None:
    async with two_groups(server, tmp_path) as (alice, bob):
        alice.type("/part\r")
        alice.sees(" #lab ")
        wait_gone(alice, "#ops")
        await bob.post("nobody sees this", group="ops")
        alice.type("/list\r")
        alice.sees("#lab (window 1)", "#ops (1 unread)")
        alice.type("/join ops\r")
        alice.sees("in #ops with 1 other member", "bob │ nobody sees this", "1 #lab  [2 #ops]")
        alice.type("/part\r")
        alice.sees(" #lab ")
        alice.type("/part\r")
        alice.sees("Close #lab, your last window, and quit tchat? (y or n)")
        alice.type("y\r")
        assert alice.end() == 0


async def test_leave_ends_the_membership(server: ServerProcess, tmp_path: Path) -> None:
    async with two_groups(server, tmp_path) as (alice, _):
        alice.type("/transfer bob\ry\r")
        alice.sees("alice made bob the admin")
        alice.type("/leave\ry\r")
        alice.sees(" #lab ", "You left #ops.")
        wait_gone(alice, "[", "@")
        alice.type("/clear\r/list\r")
        alice.sees("#lab (window ")
        assert "#ops" not in alice.text


# ------------------------------------------------------------------ direct messages


async def test_two_people_exchange_direct_messages(server: ServerProcess, tmp_path: Path) -> None:
    async with open_group(server, tmp_path, "alice"):
        with join(server, tmp_path, "alice") as alice, join(server, tmp_path, "bob") as bob:
            alice.sees("● bob")
            alice.type("/msg b" + TAB)
            wait_typed(alice, "/msg bob")
            alice.type("psst\r")
            alice.sees("message sent to bob")
            bob.sees("[1 #ops]  2 @alice 1!")
            bob.type(alt("2"))
            bob.sees(" @alice ", "alice │ psst", "[2 @alice]", "online")
            bob.type("yes?\r")
            alice.sees("2 @bob 1!")
            alice.type("/query bob\r")
            alice.sees(" @bob ", "bob │ yes?")
            assert "psst" not in ops_of(alice)
            bob.type("/quit\r")
            assert bob.end() == 0
            alice.type(alt("2"))
            alice.sees(" @bob ", "offline · TLS")


def ops_of(terminal: Terminal) -> str:
    """Switch to the first window; return the text of the screen."""
    terminal.type(alt("1"))
    terminal.sees("[1 #ops]")
    return terminal.text


async def test_missed_direct_message_opens_a_window(server: ServerProcess, tmp_path: Path) -> None:
    async with open_group(server, tmp_path, "alice", "bob") as (bob,):
        await write(bob, "alice", "are you there?")
        with join(server, tmp_path, "alice") as alice:
            alice.sees("[1 #ops]  2 @bob 1!")
            alice.type(alt("a"))
            alice.sees(" @bob ", "── new ──", "bob │ are you there?")


# ------------------------------------------------------------------ notifications


async def test_mention_rings_and_notifies(server: ServerProcess, tmp_path: Path) -> None:
    async with two_groups(server, tmp_path) as (alice, bob):
        await bob.post("nobody in particular")
        alice.sees("nobody in particular")
        assert NOTIFY not in alice.raw
        assert BELL not in output_of(alice)
        await bob.post("alice: lunch; now?")
        alice.until(lambda: NOTIFY in alice.raw, "a notification")
        alice.sees("» alice: lunch; now?")
        assert BELL + NOTIFY + b"#ops;bob: alice: lunch; now?" + BELL in alice.raw


def output_of(terminal: Terminal) -> bytes:
    """Return the output without window titles, which end in a bell too."""
    return b"".join(part.split(BELL, 1)[-1] for part in terminal.raw.split(b"\x1b]2;"))


async def test_direct_message_notifies(server: ServerProcess, tmp_path: Path) -> None:
    async with two_groups(server, tmp_path) as (alice, bob):
        await write(bob, "alice", "psst")
        alice.sees("3 @bob 1!")
        alice.until(lambda: NOTIFY + b"@bob;bob: psst" in alice.raw, "a notification")


async def test_iterm_gets_its_own_notification_command(
    server: ServerProcess, tmp_path: Path
) -> None:
    async with two_groups(server, tmp_path, {"TERM_PROGRAM": "iTerm.app"}) as (alice, bob):
        await bob.post("hello alice")
        alice.until(lambda: b"\x1b]9;tchat #ops: bob: hello alice" in alice.raw, "a notification")


async def test_notification_passes_through_tmux(server: ServerProcess, tmp_path: Path) -> None:
    extra = {"TERM": "screen-256color", "TMUX": "/nowhere,1,0"}
    async with two_groups(server, tmp_path, extra) as (alice, bob):
        await bob.post("hello alice")
        wrapped = b"\x1bPtmux;\x1b\x1b]777;notify;#ops;bob: hello alice"
        alice.until(lambda: wrapped in alice.raw, "a notification for the terminal outside")


@pytest.mark.parametrize("where", ["typed", "in the file"])
async def test_muted_window_does_not_notify(
    server: ServerProcess, tmp_path: Path, where: str
) -> None:
    (tmp_path / "alice").mkdir()
    if where == "in the file":
        (tmp_path / "alice" / "config.toml").write_text('mute = ["lab"]\n')
    async with two_groups(server, tmp_path) as (alice, bob):
        if where == "typed":
            alice.type(alt("2") + "/mute\r")
            alice.sees("is muted: its bell is off.")
            alice.type(alt("1"))
        await bob.post("alice, quietly", group="lab")
        alice.sees("2 #lab 1!")
        assert NOTIFY not in alice.raw
        await bob.post("alice, aloud", group="ops")
        alice.until(lambda: b"alice, aloud" in alice.raw.split(NOTIFY)[-1], "a notification")
        assert b"quietly" not in alice.raw


async def test_bell_setting_suppresses_notifications(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "alice").mkdir()
    (tmp_path / "alice" / "config.toml").write_text('notifications = "bell"\n')
    async with two_groups(server, tmp_path) as (alice, bob):
        await bob.post("hello alice")
        alice.until(lambda: BELL in output_of(alice), "a bell")
        assert NOTIFY not in alice.raw


async def test_ignored_people_are_hidden(server: ServerProcess, tmp_path: Path) -> None:
    async with two_groups(server, tmp_path) as (alice, bob):
        alice.type("/ignore bob\r")
        alice.sees("Messages from bob are hidden.")
        await bob.post("alice! alice!", group="ops")
        await bob.post("alice! alice!", group="lab")
        async with headless(server, "carol") as carol:
            await carol.command(Join)
            await carol.post("anybody?")
            alice.sees("carol │ anybody?")
        assert "alice! alice!" not in alice.text
        alice.sees("[1 #ops]  2 #lab ──")
        assert NOTIFY not in alice.raw


async def test_unignore_stays_at_the_bottom(server: ServerProcess, tmp_path: Path) -> None:
    async with two_groups(server, tmp_path) as (alice, bob):
        for number in range(60):
            await bob.post(f"number {number}", group="ops")
        alice.sees("number 59")
        alice.type("/ignore bob" + ENTER)
        wait_gone(alice, "number 59")
        alice.type("/unignore bob" + ENTER)
        alice.sees("number 59", "Messages from bob are shown again.")
        assert "End" not in alice.text


async def test_missed_messages_above_are_counted(server: ServerProcess, tmp_path: Path) -> None:
    async with two_groups(server, tmp_path) as (alice, bob):
        for number in range(60):
            await bob.post(f"number {number}", group="lab")
        alice.sees("2 #lab 60")
        alice.type(alt("2"))
        alice.sees("number 59", "↑ 39 new: Alt-U")
        alice.type(alt("u"))
        alice.sees("number 0")
        wait_gone(alice, "Alt-U")
        alice.type(END)
        alice.sees("number 59")
        assert "Alt-U" not in alice.text
