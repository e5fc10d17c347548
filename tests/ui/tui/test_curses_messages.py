"""Messages on the screen: history, unread mark, edits, replies, search, unsent messages."""

from __future__ import annotations

import signal
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from tchat.core.group.membership import Kick
from tchat.core.group.messages import Delete, Edit
from tests.ui.scenes import (
    END,
    PAGE_DOWN,
    PAGE_UP,
    alt,
    headless,
    join,
    open_group,
    row_with,
    wait_edit,
    wait_gone,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.helpers import RawClient
    from tests.ui.conftest import ServerProcess
    from tests.ui.terminal import Terminal

MANY = 450


@asynccontextmanager
async def alice_and_bob(
    server: ServerProcess, home: Path
) -> AsyncIterator[tuple[Terminal, RawClient]]:
    """Start Alice's terminal, with Bob in the same group."""
    async with open_group(server, home, "alice", "bob") as (bob,):
        with join(server, home, "alice") as alice:
            alice.sees("in #ops with 1 other member")
            yield alice, bob


# ------------------------------------------------------------------ history


async def test_page_up_reaches_the_first_message(server: ServerProcess, tmp_path: Path) -> None:
    async with open_group(server, tmp_path, "alice", "bob") as (bob,):
        await bob.say(*(f"number {n}." for n in range(MANY)))
        await bob.post("the last")
        with join(server, tmp_path, "alice") as alice:
            alice.sees("│ the last", "in #ops with 1 other member")
            seen = go_up(alice)
            assert set(range(MANY)) <= seen
            alice.sees("alice created ops", "more: End")
            assert "PageUp" not in alice.text
            alice.type(END)
            alice.sees("│ the last")
            wait_gone(alice, ": End")


def go_up(terminal: Terminal) -> set[int]:
    """Press PageUp until the first message is visible; return the numbers seen."""
    seen = numbers(terminal)
    while "alice created ops" not in terminal.text:
        before = terminal.text
        terminal.type(PAGE_UP)
        terminal.until(partial(painted, terminal, before), "something earlier")
        seen |= numbers(terminal)
    return seen


def numbers(terminal: Terminal) -> set[int]:
    words = terminal.text.split()
    return {int(word[:-1]) for word in words if word.endswith(".") and word[:-1].isdigit()}


def painted(terminal: Terminal, before: str) -> bool:
    """Return whether a picture is complete, and different from before."""
    at_rest = (terminal.screen.cursor.x, terminal.screen.cursor.y) == (len("alice ▸ "), 23)
    return at_rest and terminal.text != before


async def test_scrolled_window_counts_new_messages(server: ServerProcess, tmp_path: Path) -> None:
    async with alice_and_bob(server, tmp_path) as (alice, bob):
        for number in range(60):
            await bob.post(f"number {number}.")
        alice.sees("number 59.")
        alice.type(PAGE_UP)
        alice.sees("↓ more: End", "number 30.")
        rows = alice.screen.display[1:-2]
        await bob.post("meanwhile")
        await bob.post("and again")
        alice.sees("↓ 2 new: End")
        assert alice.screen.display[1:-2] == rows
        alice.type(PAGE_DOWN + PAGE_DOWN)
        alice.sees("│ and again")
        wait_gone(alice, ": End")


# ------------------------------------------------------------------ unread messages


async def test_missed_messages_are_summed_up_and_marked(
    server: ServerProcess, tmp_path: Path
) -> None:
    async with open_group(server, tmp_path, "alice", "bob") as (bob,):
        await bob.post("seen before")
        with join(server, tmp_path, "alice") as alice:
            alice.sees("│ seen before", "in #ops with 1 other member")
            alice.type("/quit\r")
            assert alice.end() == 0
        for number in range(40):
            await bob.post(f"missed {number}.")
        await bob.post("alice: see above")
        with join(server, tmp_path, "alice") as alice:
            alice.sees("since ", ": 41 messages, 1 mention", "» alice: see above")
            alice.type(alt("u"))
            alice.sees("── new ──", "│ missed 0.", "│ seen before")
            assert row_with(alice, "seen before") < row_with(alice, "── new") + 1
            alice.type("/quit\r")
            assert alice.end() == 0
        with join(server, tmp_path, "alice") as alice:
            alice.sees("│ missed 39.", "in #ops with 1 other member")
            assert "── new" not in alice.text
            alice.type(alt("u"))
            alice.sees("Nothing is unread here.")


async def test_read_receipt_reaches_other_devices(server: ServerProcess, tmp_path: Path) -> None:
    async with open_group(server, tmp_path, "alice", "bob") as (bob,):
        with join(server, tmp_path, "alice") as here:
            here.sees("in #ops with 1 other member")
            await bob.post("read here")
            here.sees("bob │ read here")
            for text in ("noted", "and done"):  # the first of them carries the read receipt
                here.type(f"{text}\r")
                here.sees(f"│ {text}")
            with join(server, tmp_path, "alice") as there:
                there.sees("bob │ read here", "│ and done", "in #ops with 1 other member")
                assert "── new" not in there.text


# ------------------------------------------------------------------ edits, replies and search


async def test_edits_and_deletions_change_messages_in_place(
    server: ServerProcess, tmp_path: Path
) -> None:
    async with alice_and_bob(server, tmp_path) as (alice, bob):
        first = await bob.post("a mistake")
        second = await bob.post("a secret")
        await bob.post("the end")
        alice.sees("bob │ a mistake", "│ a secret", "│ the end")
        places = [row_with(alice, text) for text in ("a mistake", "a secret", "the end")]
        await bob.command(Edit, first, "no mistake")
        await bob.command(Delete, second)
        alice.sees("bob │ no mistake (edited)", "│ message deleted", "│ the end")
        texts = ("no mistake (edited)", "message deleted", "the end")
        assert [row_with(alice, text) for text in texts] == places
        assert "secret" not in alice.text


async def test_own_message_is_edited_and_deleted(server: ServerProcess, tmp_path: Path) -> None:
    async with alice_and_bob(server, tmp_path) as (alice, _):
        alice.type("teh word\r")
        alice.sees("alice │ teh word")
        alice.type("/edit\r")
        wait_edit(alice, "teh word")
        alice.type("\x15/edit the word\r")
        alice.sees("alice │ the word (edited)")
        alice.type("/delete\r")
        alice.sees("alice │ message deleted")
        with join(server, tmp_path, "alice") as there:
            there.sees("alice │ message deleted")
            assert "word" not in there.text


async def test_reply_quotes_its_message(server: ServerProcess, tmp_path: Path) -> None:
    async with alice_and_bob(server, tmp_path) as (alice, bob):
        await bob.post("who has the key?")
        await bob.post("anybody?")
        alice.sees("│ anybody?")
        alice.type("/reply ^2 I have\r")
        alice.sees("│ ↳ bob: who has the key?", "│ I have")
        assert row_with(alice, "│ I have") == row_with(alice, "↳ bob: who") + 1


async def test_jump_shows_a_found_message(server: ServerProcess, tmp_path: Path) -> None:
    async with open_group(server, tmp_path, "alice", "bob") as (bob,):
        await bob.post("the needle is here")
        await bob.say(*(f"hay {n}" for n in range(300)))
        await bob.post("that was hay")
        with join(server, tmp_path, "alice") as alice:
            alice.sees("│ that was hay", "in #ops with 1 other member")
            assert "needle" not in alice.text
            alice.type("\x13needle\r")
            alice.sees("#ops <bob> the needle", "/jump 1 goes to the newest result.")
            alice.type("/jump 1\r")
            alice.sees("bob │ the needle is here", "│ hay 0", "more: End")
            alice.until(lambda: reversed_rows(alice) == ["the needle is here"], "it pointed out")
            alice.type("y")
            alice.until(lambda: not reversed_rows(alice), "nothing pointed out any more")


def reversed_rows(terminal: Terminal) -> list[str]:
    """Return the text in reverse of each row between title and status."""
    screen = terminal.screen
    rows = [
        [screen.buffer[y][x] for x in range(screen.columns)] for y in range(1, screen.lines - 2)
    ]
    texts = ["".join(cell.data for cell in row if cell.reverse).strip() for row in rows]
    return [text for text in texts if text]


# ------------------------------------------------------------------ unsent messages


async def test_refused_messages_stay_until_resent(server: ServerProcess, tmp_path: Path) -> None:
    async with open_group(server, tmp_path, "bob"):
        with join(server, tmp_path, "alice") as alice:
            alice.sees("in #ops with 1 other member")
            server.stop(signal.SIGKILL)
            alice.sees("offline:")
            alice.type("said too late\rand this\r")
            alice.sees("… said too late", "… and this")
            alice.signal(signal.SIGKILL)
            alice.end()
    server.start()
    async with headless(server, "bob") as bob:
        await bob.command(Kick, "alice")
        with join(server, tmp_path, "alice") as alice:
            alice.sees("You were kicked", "✗ said too late", "✗ and this")
            alice.type("/join\r")
            alice.sees("alice joined", "not sent: 2 messages; /resend")
            alice.type("/resend\r")
            alice.sees("alice │ said too late", "· │ and this")
            wait_gone(alice, "✗")


def test_lines_typed_while_quitting_become_a_draft(server: ServerProcess, tmp_path: Path) -> None:
    """Somebody who types for the shell already posts nothing, and loses nothing."""
    with join(server, tmp_path, "alice") as alice:
        alice.sees("nobody else")
        server.stop(signal.SIGKILL)
        alice.sees("offline:")
        alice.type("unsent\r/quit\r")
        alice.sees("Quitting: up to 3 s", "Ctrl-D quits now")
        alice.type("make test\rls")
        alice.sees("make test", "ls")
        alice.type("\x04")
        alice.sees("not everything was delivered in time")
        assert alice.end() == 1
    server.start()
    with join(server, tmp_path, "alice") as alice:
        alice.sees("alice │ unsent", "▸ make test", "ls")
        wait_gone(alice, "… unsent")
        assert "│ make test" not in alice.text


def test_unsent_messages_survive_a_crash(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as alice:
        alice.sees("nobody else")
        server.stop(signal.SIGKILL)
        alice.sees("offline:")
        alice.type("first\rsecond\r")
        alice.sees("… first", "… second")
        alice.signal(signal.SIGKILL)
        assert alice.end() == -signal.SIGKILL
    server.start()
    with join(server, tmp_path, "alice") as alice:
        alice.sees("alice │ first", "· │ second")
        wait_gone(alice, "… first", "… second")
