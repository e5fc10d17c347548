"""What was said, on the screen: the past as far as it goes, what is new, changed, or on its way."""

from __future__ import annotations

import signal
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from tchat.core.group.commands import Delete, Edit, Kick
from tests.ui.scenes import (
    END,
    PAGE_DOWN,
    PAGE_UP,
    alt,
    beside,
    company,
    gone,
    join,
    row_with,
    typed,
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
    """Have Alice at a terminal, and Bob with her in the group."""
    async with company(server, home, "alice", "bob") as (bob,):
        with join(server, home, "alice") as alice:
            alice.sees("in #ops with 1 other member")
            yield alice, bob


# ------------------------------------------------------------------ the past


async def test_page_up_goes_on_into_the_past_as_far_as_it_goes(
    server: ServerProcess, tmp_path: Path
) -> None:
    async with company(server, tmp_path, "alice", "bob") as (bob,):
        await bob.say(*(f"number {n}." for n in range(MANY)))
        await bob.post("the last")
        with join(server, tmp_path, "alice") as alice:
            alice.sees("│ the last", "in #ops with 1 other member")
            seen = go_up(alice)
            assert set(range(MANY)) <= seen
            alice.sees("alice created ops", "more: End")
            assert "PgUp" not in alice.text
            alice.type(END)
            alice.sees("│ the last")
            gone(alice, ": End")


def go_up(terminal: Terminal) -> set[int]:
    """Press PageUp until the beginning is in sight; return the numbers that were seen."""
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
    """Return whether a picture is whole, and another one than before."""
    at_rest = (terminal.screen.cursor.x, terminal.screen.cursor.y) == (len("alice ▸ "), 23)
    return at_rest and terminal.text != before


async def test_one_who_reads_further_up_is_told_what_comes(
    server: ServerProcess, tmp_path: Path
) -> None:
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
        gone(alice, ": End")


# ------------------------------------------------------------------ what is new


async def test_one_who_returns_is_told_what_was_missed_and_where_it_begins(
    server: ServerProcess, tmp_path: Path
) -> None:
    async with company(server, tmp_path, "alice", "bob") as (bob,):
        await bob.post("seen before")
        with join(server, tmp_path, "alice") as alice:
            alice.sees("│ seen before", "in #ops with 1 other member")
            alice.type("/quit\r")
            assert alice.end() == 0
        for number in range(40):
            await bob.post(f"missed {number}.")
        await bob.post("alice: see above")
        with join(server, tmp_path, "alice") as alice:
            alice.sees("since ", ": 41 messages, 1 mentions you", "» alice: see above")
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


async def test_what_was_read_on_one_device_is_read_on_the_other(
    server: ServerProcess, tmp_path: Path
) -> None:
    async with company(server, tmp_path, "alice", "bob") as (bob,):
        with join(server, tmp_path, "alice") as here:
            here.sees("in #ops with 1 other member")
            await bob.post("read here")
            here.sees("bob │ read here")
            for text in ("noted", "and done"):  # what was read is said with the first of them
                here.type(f"{text}\r")
                here.sees(f"│ {text}")
            with join(server, tmp_path, "alice") as there:
                there.sees("bob │ read here", "│ and done", "in #ops with 1 other member")
                assert "── new" not in there.text


# ------------------------------------------------------------------ what is changed


async def test_what_is_changed_is_changed_where_it_stands(
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


async def test_one_changes_and_takes_away_what_one_has_said(
    server: ServerProcess, tmp_path: Path
) -> None:
    async with alice_and_bob(server, tmp_path) as (alice, _):
        alice.type("teh word\r")
        alice.sees("alice │ teh word")
        alice.type("/edit\r")
        typed(alice, "/edit teh word")
        alice.type("\x15/edit the word\r")
        alice.sees("alice │ the word (edited)")
        alice.type("/delete\r")
        alice.sees("alice │ message deleted")
        with join(server, tmp_path, "alice") as there:
            there.sees("alice │ message deleted")
            assert "word" not in there.text


async def test_a_reply_says_what_it_answers(server: ServerProcess, tmp_path: Path) -> None:
    async with alice_and_bob(server, tmp_path) as (alice, bob):
        await bob.post("who has the key?")
        await bob.post("anybody?")
        alice.sees("│ anybody?")
        alice.type("/reply ^2 I have\r")
        alice.sees("│ ↳ bob: who has the key?", "│ I have")
        assert row_with(alice, "│ I have") == row_with(alice, "↳ bob: who") + 1


async def test_what_was_found_is_gone_to(server: ServerProcess, tmp_path: Path) -> None:
    async with company(server, tmp_path, "alice", "bob") as (bob,):
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


# ------------------------------------------------------------------ what is on its way


async def test_what_is_refused_stays_until_it_is_sent_again(
    server: ServerProcess, tmp_path: Path
) -> None:
    async with company(server, tmp_path, "bob"):
        with join(server, tmp_path, "alice") as alice:
            alice.sees("in #ops with 1 other member")
            server.stop(signal.SIGKILL)
            alice.sees("offline:")
            alice.type("said too late\rand this\r")
            alice.sees("… said too late", "… and this")
            alice.signal(signal.SIGKILL)
            alice.end()
    server.start()
    async with beside(server, "bob") as bob:
        await bob.command(Kick, "alice")
        with join(server, tmp_path, "alice") as alice:
            alice.sees("You were kicked", "✗ said too late", "✗ and this")
            alice.type("/join\r")
            alice.sees("alice joined", "not sent: 2 messages; /resend")
            alice.type("/resend\r")
            alice.sees("alice │ said too late", "· │ and this")
            gone(alice, "✗")


def test_what_was_typed_without_a_server_survives_the_client(
    server: ServerProcess, tmp_path: Path
) -> None:
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
        gone(alice, "… first", "… second")
