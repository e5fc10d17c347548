"""Several groups and people in one session: windows, what is new in them, and who calls."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tchat.core.group.commands import Join
from tchat.core.group.direct import direct_name
from tests.ui.scenes import (
    ENTER,
    PAGE_UP,
    TAB,
    alt,
    beside,
    company,
    ctrl,
    gone,
    join,
    typed,
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
    """Have Alice in two groups, with the window of the first in front, and Bob with her in both."""
    async with (
        company(server, home, "alice", "bob") as (bob,),
        company(server, home, "alice", "bob", group="lab"),
    ):
        with join(server, home, "alice", extra=extra) as alice:
            alice.sees("in #ops with 1 other member", "[1 #ops]  2 #lab")
            yield alice, bob


async def write(person: RawClient, to: str, text: str) -> None:
    """Write to somebody alone."""
    await person.post(text, group=direct_name(person.user, to))


# ------------------------------------------------------------------ windows


async def test_windows_are_gone_to_by_number_in_turn_and_back(
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
            (alt("/"), 1),
            (alt("/"), 2),
            ("/window op" + ENTER, 1),
            ("/w 2" + ENTER, 2),
        ]:
            alice.type(keys)
            alice.sees("[1 #ops]  2 #lab" if number == 1 else "1 #ops  [2 #lab]")
            alice.sees(" #ops " if number == 1 else " #lab ")


async def test_what_is_new_elsewhere_is_counted_until_it_is_seen(
    server: ServerProcess, tmp_path: Path
) -> None:
    async with two_groups(server, tmp_path) as (alice, bob):
        await bob.post("one", group="lab")
        await bob.post("two", group="lab")
        alice.sees("[1 #ops]  2 #lab 2")
        await bob.post("alice, three", group="lab")
        alice.sees("[1 #ops]  2 #lab 1!")
        await bob.post("here", group="ops")
        alice.sees("bob │ here")
        alice.type(alt("a"))
        alice.sees("1 #ops  [2 #lab]", "── new ──", "│ one", "» alice, three")
        alice.type(alt("1"))
        alice.sees("[1 #ops]  2 #lab ──")
        alice.type(alt("2"))
        alice.sees("» alice, three")
        gone(alice, "── new ──")


async def test_each_window_has_its_own_draft_and_place(
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
        typed(alice, "another")


async def test_a_window_is_closed_and_opened_again(server: ServerProcess, tmp_path: Path) -> None:
    async with two_groups(server, tmp_path) as (alice, bob):
        alice.type("/part\r")
        alice.sees(" #lab ")
        gone(alice, "#ops")
        await bob.post("nobody sees this", group="ops")
        alice.type("/list\r")
        alice.sees("#lab (open)", "#ops (unread)")
        alice.type("/join ops\r")
        alice.sees("in #ops with 1 other member", "bob │ nobody sees this", "1 #lab  [2 #ops]")
        alice.type("/part\r")
        alice.sees(" #lab ")
        alice.type("/part\r")
        assert alice.end() == 0


async def test_one_who_leaves_a_group_is_a_member_no_more(
    server: ServerProcess, tmp_path: Path
) -> None:
    async with two_groups(server, tmp_path) as (alice, _):
        alice.type("/transfer bob\r")
        alice.sees("alice made bob the admin")
        alice.type("/leave\r")
        alice.sees(" #lab ", "You left #ops")
        gone(alice, "[", "@")
        alice.type("/clear\r/list\r")
        alice.sees("#lab (open)")
        assert "#ops" not in alice.text


# ------------------------------------------------------------------ people alone


async def test_two_people_write_to_each_other(server: ServerProcess, tmp_path: Path) -> None:
    async with company(server, tmp_path, "alice"):
        with join(server, tmp_path, "alice") as alice, join(server, tmp_path, "bob") as bob:
            alice.sees("● bob")
            alice.type("/msg b" + TAB)
            typed(alice, "/msg bob")
            alice.type("psst\r")
            alice.sees("message sent to bob; /query bob")
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
    """Return what the first window shows."""
    terminal.type(alt("1"))
    terminal.sees("[1 #ops]")
    return terminal.text


async def test_who_has_written_meanwhile_has_a_window_when_one_comes(
    server: ServerProcess, tmp_path: Path
) -> None:
    async with company(server, tmp_path, "alice", "bob") as (bob,):
        await write(bob, "alice", "are you there?")
        with join(server, tmp_path, "alice") as alice:
            alice.sees("[1 #ops]  2 @bob 1!")
            alice.type(alt("a"))
            alice.sees(" @bob ", "── new ──", "bob │ are you there?")


# ------------------------------------------------------------------ who calls


async def test_who_is_meant_is_called(server: ServerProcess, tmp_path: Path) -> None:
    async with two_groups(server, tmp_path) as (alice, bob):
        await bob.post("nobody in particular")
        alice.sees("nobody in particular")
        assert NOTIFY not in alice.raw
        assert BELL not in told(alice)
        await bob.post("alice: lunch; now?")
        alice.until(lambda: NOTIFY in alice.raw, "a notification")
        alice.sees("» alice: lunch; now?")
        assert BELL + NOTIFY + b"#ops;bob: alice: lunch; now?" + BELL in alice.raw


def told(terminal: Terminal) -> bytes:
    """Return what was written, but for the window's titles, which end in a bell too."""
    return b"".join(part.split(BELL, 1)[-1] for part in terminal.raw.split(b"\x1b]2;"))


async def test_one_who_is_written_to_alone_is_called(server: ServerProcess, tmp_path: Path) -> None:
    async with two_groups(server, tmp_path) as (alice, bob):
        await write(bob, "alice", "psst")
        alice.sees("3 @bob 1!")
        alice.until(lambda: NOTIFY + b"@bob;bob: psst" in alice.raw, "a notification")


async def test_one_of_iterms_family_is_told_in_its_own_words(
    server: ServerProcess, tmp_path: Path
) -> None:
    async with two_groups(server, tmp_path, {"TERM_PROGRAM": "iTerm.app"}) as (alice, bob):
        await bob.post("hello alice")
        alice.until(lambda: b"\x1b]9;tchat #ops: bob: hello alice" in alice.raw, "a notification")


async def test_in_tmux_a_call_is_handed_on(server: ServerProcess, tmp_path: Path) -> None:
    extra = {"TERM": "screen-256color", "TMUX": "/nowhere,1,0"}
    async with two_groups(server, tmp_path, extra) as (alice, bob):
        await bob.post("hello alice")
        wrapped = b"\x1bPtmux;\x1b\x1b]777;notify;#ops;bob: hello alice"
        alice.until(lambda: wrapped in alice.raw, "a notification for whoever tmux is in")


@pytest.mark.parametrize("where", ["typed", "in the file"])
async def test_a_muted_window_calls_nobody(
    server: ServerProcess, tmp_path: Path, where: str
) -> None:
    (tmp_path / "alice").mkdir()
    if where == "in the file":
        (tmp_path / "alice" / "config.toml").write_text('mute = ["lab"]\n')
    async with two_groups(server, tmp_path) as (alice, bob):
        if where == "typed":
            alice.type(alt("2") + "/mute\r")
            alice.sees("The bell is off in this window.")
            alice.type(alt("1"))
        await bob.post("alice, quietly", group="lab")
        alice.sees("2 #lab 1!")
        assert NOTIFY not in alice.raw
        await bob.post("alice, aloud", group="ops")
        alice.until(lambda: b"alice, aloud" in alice.raw.split(NOTIFY)[-1], "a notification")
        assert b"quietly" not in alice.raw


async def test_one_who_wants_the_bell_alone_gets_no_more(
    server: ServerProcess, tmp_path: Path
) -> None:
    (tmp_path / "alice").mkdir()
    (tmp_path / "alice" / "config.toml").write_text('notifications = "bell"\n')
    async with two_groups(server, tmp_path) as (alice, bob):
        await bob.post("hello alice")
        alice.until(lambda: BELL in told(alice), "a bell")
        assert NOTIFY not in alice.raw


async def test_who_is_ignored_is_not_seen(server: ServerProcess, tmp_path: Path) -> None:
    async with two_groups(server, tmp_path) as (alice, bob):
        alice.type("/ignore bob\r")
        alice.sees("New messages of bob are hidden")
        await bob.post("alice! alice!", group="ops")
        await bob.post("alice! alice!", group="lab")
        async with beside(server, "carol") as carol:
            await carol.command(Join)
            await carol.post("anybody?")
            alice.sees("carol │ anybody?")
        assert "alice! alice!" not in alice.text
        alice.sees("[1 #ops]  2 #lab ──")
        assert NOTIFY not in alice.raw
