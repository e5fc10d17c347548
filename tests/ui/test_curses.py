"""The client with windows, in a real pseudo-terminal, as a terminal emulator shows it."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.net.address import Address
from tests.ui.conftest import ServerProcess
from tests.ui.terminal import GUARD_SECONDS, Terminal
from tests.ui.wire import HELD, held_wire

if TYPE_CHECKING:
    from pathlib import Path

PAGE_UP, ESCAPE_KEY, CTRL_C, CTRL_D, CTRL_L = "\x1b[5~", "\x1b", "\x03", "\x04", "\x0c"


def join(server: ServerProcess, home: Path, user: str, *options: str, **size: int) -> Terminal:
    arguments = ["join", "127.0.0.1", server.port, "--user", user, "--group", "ops", *options]
    return Terminal(arguments, str(home / user), **size)  # type: ignore[arg-type]


def test_two_people_chat_in_two_windows(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as alice, join_later(alice, server, tmp_path) as bob:
        alice.sees("bob asks to join", "1 asks to join: /1")
        alice.type("/2 bob\r")
        bob.sees("bob joined, approved by alice", "★ alice", "● bob")
        bob.type("hello alice\r")
        alice.sees("       bob │ hello alice")
        alice.type("你好 bob 👋\r")
        bob.sees("     alice │ 你好 bob 👋")
        bob.type("\x04")
        assert bob.end() == 0
        alice.sees("○ bob", "1 of 2 online")


def join_later(other: Terminal, server: ServerProcess, home: Path) -> Terminal:
    other.sees("in ops with you alone")
    return join(server, home, "bob")


def test_input_and_messages_do_not_disturb_each_other(
    server: ServerProcess, tmp_path: Path
) -> None:
    with join(server, tmp_path, "alice") as here:
        here.sees("you alone")
        with join(server, tmp_path, "alice") as there:
            there.sees("in ops")
            here.type("half a sent")
            here.sees("alice ▸ half a sent")
            there.type("from the other terminal\r")
            here.sees("│ from the other terminal", "alice ▸ half a sent")
            here.type("ence\r")
            there.sees("│ half a sentence")


def test_it_asks_for_username_and_group_first(server: ServerProcess, tmp_path: Path) -> None:
    with Terminal(["join", "127.0.0.1", server.port], str(tmp_path / "home")) as terminal:
        terminal.sees("username:")
        terminal.type("not a name\n")
        terminal.sees("letters, digits")
        terminal.type("carol\n")
        terminal.sees("group name:")
        terminal.type("lab\n")
        terminal.sees("carol created lab and you are its admin", "carol ▸")


def test_resizing_repaints_at_once(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as terminal:
        terminal.sees("you alone", "★ alice")
        terminal.type("a message that is long enough to be wrapped in a narrow terminal\r")
        terminal.sees("narrow terminal")
        terminal.resize(40, 10)
        terminal.until(
            lambda: (
                terminal.screen.display[-1].startswith("alice ▸")
                and "★" not in terminal.text
                and any("narrow" in row for row in terminal.screen.display)
            ),
            "the narrow layout",
        )
        terminal.resize(12, 3)
        terminal.sees("too small")
        terminal.resize(100, 30)
        terminal.sees("★ alice", "enough to be wrapped in a narrow", "alice ▸")
        assert terminal.screen.display[-1].startswith("alice ▸")


def test_a_command_asks_and_tab_answers(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as alice, join_later(alice, server, tmp_path) as bob:
        alice.sees("bob asks to join")
        alice.type("/ap\t\r")
        alice.sees("approve whom? (bob)", "approve whom? ▸")
        alice.type("\t\r")
        bob.sees("bob joined")


def test_scrolling_shows_the_past_and_counts_what_comes(
    server: ServerProcess, tmp_path: Path
) -> None:
    with join(server, tmp_path, "alice") as terminal:
        terminal.sees("you alone")
        for number in range(40):
            terminal.type(f"message {number}\r")
        terminal.sees("message 39")
        assert "message 5 " not in terminal.text + " "
        terminal.type(PAGE_UP)
        terminal.sees("older messages: End", "message 10")
        with join(server, tmp_path, "alice") as other:
            other.sees("in ops")
            other.type("while you were reading\r")
            terminal.sees("1 new below")
        terminal.type("\x1b[F")
        terminal.sees("while you were reading")


def test_ctrl_c_clears_the_line_and_never_ends_the_session(
    server: ServerProcess, tmp_path: Path
) -> None:
    with join(server, tmp_path, "alice") as terminal:
        terminal.sees("you alone")
        terminal.type("never mind")
        terminal.sees("▸ never mind")
        terminal.type(CTRL_C)
        terminal.until(lambda: "never mind" not in terminal.text, "an empty line")
        terminal.type(CTRL_C)
        terminal.sees("Ctrl-D or /3 leaves")
        terminal.type("/3\r")
        assert terminal.end() == 0


def test_a_server_that_goes_is_shown_and_one_that_returns_too(
    server: ServerProcess, tmp_path: Path
) -> None:
    with join(server, tmp_path, "alice") as terminal:
        terminal.sees("you alone", "TLS")
        server.stop(signal.SIGKILL)
        terminal.sees("offline:")
        terminal.type("said into the void\r")
        terminal.sees("1 on the way")
        server.start()
        terminal.sees("connected again", "alice │ said into the void")


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_put_back_however_it_ends(
    server: ServerProcess, tmp_path: Path, ending: int
) -> None:
    with join(server, tmp_path, "alice") as terminal:
        terminal.sees("you alone")
        terminal.signal(ending)
        assert terminal.end() == 0
        assert b"\x1b[?1049l" in terminal.raw  # out of the alternate screen
        assert b"Traceback" not in terminal.raw


def test_text_that_would_command_a_terminal_is_only_shown(
    server: ServerProcess, tmp_path: Path
) -> None:
    with join(server, tmp_path, "alice") as alice, join_later(alice, server, tmp_path) as bob:
        alice.sees("bob asks to join")
        alice.type("/2 bob\r")
        bob.sees("bob joined")
        bob.type("\x16title: \x1b]0;owned\x07 end\r")
        alice.type("still well\r")
        alice.sees("still well")
        assert alice.screen.title == ""


def test_a_terminal_that_cannot_be_painted_says_so(server: ServerProcess, tmp_path: Path) -> None:
    arguments = ["join", "127.0.0.1", server.port, "--user", "alice", "--group", "ops"]
    with Terminal(arguments, str(tmp_path / "home"), TERM="no-such-terminal") as terminal:
        terminal.sees("cannot show a full screen", "--plain")
        assert terminal.end() == 1
        assert b"Traceback" not in terminal.raw


@pytest.mark.parametrize("width", [80, 40])
async def test_a_transfer_is_shown_and_cancelled(
    server: ServerProcess, tmp_path: Path, width: int
) -> None:
    (tmp_path / "big.bin").write_bytes(os.urandom(HELD + HELD // 4))
    async with held_wire(Address("127.0.0.1", int(server.port))) as (address, held):
        there = ServerProcess(tmp_path, str(address.port))
        with join(there, tmp_path, "alice", width=width) as alice:
            await sees(alice, "you alone")
            alice.type("/9 big.bin\r")
            with trio.fail_after(GUARD_SECONDS):
                await held.wait()
            await sees(alice, " ⇡ big.bin ", "% ")
            assert "⇡" in alice.screen.display[-2]
            alice.type("/cancel \t\r")
            await sees(alice, "Sending big.bin was cancelled")
            await trio.to_thread.run_sync(
                alice.until, lambda: "⇡" not in alice.screen.display[-2], "the end of it"
            )
            alice.type("\x04")
            assert await trio.to_thread.run_sync(alice.end) == 0


async def sees(terminal: Terminal, *texts: str) -> None:
    """Wait until the screen shows all of `texts`, while the wire goes on."""
    await trio.to_thread.run_sync(terminal.sees, *texts)
