"""The full-screen client in a real pseudo-terminal, as a terminal emulator shows it."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.net.address import Address
from tests.ui.conftest import ServerProcess
from tests.ui.scenes import (
    BACKSPACE,
    ESCAPE,
    F7,
    F9,
    PAGE_DOWN,
    alt,
    ctrl,
    join,
    open_group,
    row_with,
    sees,
    wait_gone,
    wait_typed,
)
from tests.ui.terminal import GUARD_SECONDS, Terminal
from tests.ui.wire import HELD, held_wire

if TYPE_CHECKING:
    from pathlib import Path

ASIDE, BACK = b"\x1b[?1049l", b"\x1b[?1049h"
SHELL = ("/bin/sh", "-i")


def join_second(other: Terminal, server: ServerProcess, home: Path) -> Terminal:
    other.sees("nobody else is here yet")
    return join(server, home, "bob")


# ------------------------------------------------------------------ chatting and joining


def test_two_people_chat(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as alice, join_second(alice, server, tmp_path) as bob:
        alice.sees("bob asks to join", "bob asks to join: F9 or /1")
        alice.type("/2 bob\r")
        bob.sees("bob joined, approved by alice", "★● alice", "● bob")
        bob.type("hello there\r")
        alice.sees("  bob │ hello there")
        alice.type("你好 bob 👋\r")
        bob.sees("alice » 你好 bob 👋")
        bob.type(ctrl("d"))
        bob.sees("Quit? Ctrl-D again, or y Enter ▸")
        bob.type(ctrl("d"))
        assert bob.end() == 0
        alice.sees("○ bob", "1 of 2 online")


def test_incoming_messages_keep_the_input_line(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as here:
        here.sees("nobody else")
        with join(server, tmp_path, "alice") as there:
            there.sees("in #ops")
            here.type("half a sent")
            wait_typed(here, "half a sent")
            there.type("from the other terminal\r")
            here.sees("│ from the other terminal", "alice ▸ half a sent")
            here.type("ence\r")
            there.sees("│ half a sentence")


def test_join_prompts_for_username_and_group(server: ServerProcess, tmp_path: Path) -> None:
    with Terminal(["join", "127.0.0.1", server.port], str(tmp_path / "home")) as terminal:
        terminal.sees("username:")
        terminal.type("not a name\n")
        terminal.sees("letters, digits")
        terminal.type("carol\n")
        terminal.sees("group name:")
        terminal.type("lab\n")
        terminal.sees("carol created lab, and you are its admin", "carol ▸", " #lab ")


def test_refused_username_is_asked_for_again(server: ServerProcess, tmp_path: Path) -> None:
    """Whoever refuses it: the client, or the server, which knows the names that are taken."""
    with join(server, tmp_path, "alice") as alice:
        alice.sees("nobody else")
    with Terminal(["join", "127.0.0.1", server.port], str(tmp_path / "home")) as terminal:
        terminal.sees("username:")
        terminal.type("no name!\nadmin\n")
        terminal.sees("letters, digits", "group name:")
        terminal.type("lab\n")
        terminal.sees("The name admin is reserved. Choose another name.")
        terminal.type("alice\n")
        terminal.sees("The name alice belongs to another key")
        terminal.type("aIice\n")
        terminal.sees("aIice looks like")
        terminal.type("carol\n")
        terminal.sees("carol created lab, and you are its admin", "carol ▸", " #lab ")


def test_server_is_tried_before_names_are_asked(server: ServerProcess, tmp_path: Path) -> None:
    server.stop()
    with Terminal(["join", "127.0.0.1", server.port], str(tmp_path / "home")) as terminal:
        terminal.sees(f"Cannot connect to 127.0.0.1:{server.port}: connection refused.")
        assert terminal.end() != 0
        assert "username" not in terminal.text
    server.start()


def test_join_offers_the_names_used_last(server: ServerProcess, tmp_path: Path) -> None:
    home = str(tmp_path / "carol")
    with join(server, tmp_path, "carol", group="lab") as terminal:
        terminal.sees("carol created lab")
        terminal.type("/quit\r")
        assert terminal.end() == 0
    with Terminal(["join", "127.0.0.1", server.port], home) as terminal:
        terminal.sees("username [carol]:")
        terminal.type("\n")
        terminal.sees("group name [lab]:")
        terminal.type("\n")
        terminal.sees("carol ▸", " #lab ")
        terminal.type("/quit\r")
        assert terminal.end() == 0
    with Terminal(["join", "localhost", server.port], home) as terminal:
        terminal.sees("username:")


def test_command_prompts_for_its_argument(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as alice, join_second(alice, server, tmp_path) as bob:
        alice.sees("bob asks to join")
        alice.type("/ap\t\r")
        alice.sees("approve whom? (bob) ▸")
        assert alice.text.count("approve whom?") == 1
        alice.type("\t\r")
        bob.sees("bob joined")


def test_f9_approves_and_keeps_the_input(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as alice, join_second(alice, server, tmp_path) as bob:
        alice.type("half a sent")
        alice.sees("bob asks to join: F9", "▸ half a sent")
        alice.type(F9)
        bob.sees("bob joined, approved by alice")
        alice.type("ence\r")
        bob.sees("alice │ half a sentence")
        wait_gone(alice, "asks to join: F9")
        alice.type(F9)
        alice.sees("Nobody asks to join.")


def test_requests_during_absence_are_listed_later(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as alice:
        alice.sees("nobody else")
        alice.type("/quit\r")
        assert alice.end() == 0
    with join(server, tmp_path, "bob") as bob:
        bob.sees("Waiting for alice to approve you")
    with join(server, tmp_path, "alice") as alice:
        alice.sees("person asks to join: /requests", "bob asks to join: F9 or /1")
        alice.type("/1\r")
        alice.sees("asking to join (1): bob (key ")


async def test_f9_shows_another_windows_request_first(
    server: ServerProcess, tmp_path: Path
) -> None:
    async with open_group(server, tmp_path, "alice"):
        with join(server, tmp_path, "alice") as alice:
            alice.sees("nobody else")
            alice.type("/join lab\r")
            alice.sees("alice created lab", "1 #ops  [2 #lab]")
            alice.type(alt("1"))
            alice.sees("[1 #ops]")
            with join(server, tmp_path, "bob", group="lab") as bob:
                alice.sees("[1 #ops]  2 #lab 1!", "bob (#lab) asks to join: F9")
                alice.type(F9)
                alice.sees("[2 #lab]", "bob asks to join (key ")
                bob.sees("Waiting for alice")
                alice.type(F9)
                bob.sees("bob joined, approved by alice")


# ------------------------------------------------------------------ keys


def test_ctrl_c_clears_and_never_quits(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as terminal:
        terminal.sees("nobody else")
        terminal.type("never mind")
        wait_typed(terminal, "never mind")
        terminal.type(ctrl("c"))
        wait_typed(terminal, "")
        terminal.type(ctrl("c"))
        terminal.sees("Press Ctrl-D twice to quit, or type /quit")
        terminal.type("typed")
        wait_typed(terminal, "typed")
        wait_gone(terminal, "Press Ctrl-D twice")
        terminal.type(ctrl("c") + "/3\r")
        assert terminal.end() == 0


def test_ctrl_d_deletes_or_asks_to_quit(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as terminal:
        terminal.sees("nobody else")
        terminal.type("ab\x01" + ctrl("d"))
        wait_typed(terminal, "b")
        terminal.type(ctrl("d") + ctrl("d"))
        terminal.sees("Quit? Ctrl-D again, or y Enter ▸")
        terminal.type("no")
        wait_typed(terminal, "no")
        wait_gone(terminal, "Quit?")
        terminal.type(ctrl("c") + ctrl("d"))
        terminal.sees("Quit?")
        terminal.type("y\r")
        assert terminal.end() == 0


def test_a_message_never_answers_the_quit_question(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as terminal:
        terminal.sees("nobody else")
        for key in (ctrl("c"), ESCAPE, BACKSPACE, "\r"):
            terminal.type(ctrl("d"))
            terminal.sees("Quit?")
            terminal.type(key)
            wait_gone(terminal, "Quit?")
        terminal.type(ctrl("d") + "y")
        terminal.sees("y Enter ▸ y")
        terminal.type(ctrl("c"))
        wait_gone(terminal, "Quit?")
        wait_typed(terminal, "")
        terminal.type(ctrl("d"))
        terminal.sees("Quit?")
        terminal.type(PAGE_DOWN + "y\r")
        terminal.sees('"Quit?" is no longer asked:')
        wait_typed(terminal, "y")
        terminal.type(ctrl("c") + ctrl("d") + "n\r")
        wait_gone(terminal, "Quit? ")
        wait_typed(terminal, "")
        terminal.type(ctrl("d") + "yes I agree\r")
        terminal.sees("alice │ yes I agree")
        assert "alice │ n" not in terminal.text
        terminal.type(ctrl("d") + "y" + ctrl("d"))
        assert terminal.end() == 0


def test_ctrl_c_withdraws_a_half_answered_question(server: ServerProcess, tmp_path: Path) -> None:
    """The next "y" must not confirm what was just turned away."""
    with join(server, tmp_path, "alice") as terminal:
        terminal.sees("nobody else")
        terminal.type("/leave\r")
        terminal.sees("Leave #ops, and quit tchat? You are its last member", "(y or n)")
        assert terminal.text.count("(y or n)") == 1
        terminal.type("y")
        wait_typed(terminal, "y")
        terminal.type(ctrl("c"))
        terminal.sees('Nothing was done: "Leave #ops, and')
        wait_gone(terminal, "(y or n)")
        wait_typed(terminal, "")
        terminal.type("y\r")
        terminal.sees("and y was not")
        wait_typed(terminal, "y")
        terminal.type("\r")
        terminal.sees("alice │ y")


def test_f7_shows_and_hides_members(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as terminal:
        terminal.sees("nobody else", "│★● alice")
        terminal.type(F7)
        wait_gone(terminal, "★● alice")
        terminal.type(F7)
        terminal.sees("│★● alice")


def test_bare_view_shows_whole_lines(server: ServerProcess, tmp_path: Path) -> None:
    link = "https://example.org/" + "a" * 60
    with join(server, tmp_path, "alice") as terminal:
        terminal.sees("nobody else")
        terminal.type(f"{link}\rand a word\r")
        terminal.sees("│ and a word")
        terminal.type(alt("l"))
        terminal.sees("alice: and a word")
        assert "│" not in terminal.text
        assert terminal.screen.display[row_with(terminal, "https://")].rstrip() == link
        terminal.type(alt("l"))
        terminal.sees("│★● alice", "│ and a word")


def test_help_fits_80_columns(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice", height=100) as terminal:
        terminal.sees("nobody else")
        terminal.type("/help\r")
        terminal.sees("basics: /1 requests, /2 approve", "/help keys lists the keys")
        terminal.type("/clear\r/help basics\r")
        terminal.sees("/help [TOPIC]")
        helped = [row for row in terminal.screen.display if "/2" in row]
        assert any("/approve NAME" in row and "approves a request" in row for row in helped)
        terminal.type("/clear\r/help keys\r")
        terminal.sees("PageUp", "earlier messages", "suspend the program")
        rows = terminal.screen.display
        assert any("Ctrl-R" in row and "search your earlier input" in row for row in rows)
        terminal.type("/clear\r/help search\r")
        terminal.sees("/search WORDS: searches the messages of all")


def test_long_output_is_shown_from_its_beginning(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as terminal:
        terminal.sees("nobody else")
        terminal.type("/help keys\r")
        terminal.sees("send the message", "more: End")
        terminal.type(PAGE_DOWN)
        wait_gone(terminal, "send the message")
        terminal.type("/admin\r")
        terminal.sees("suspend the program", "The admin is alice.")
        wait_gone(terminal, "more: End")


def test_output_that_fits_is_shown_whole(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as terminal:
        terminal.sees("nobody else")
        terminal.type("/admin\r" * 9 + "/help\r")
        terminal.sees("basics: /1 requests", "/help keys lists the keys")
        assert "more: End" not in terminal.text


# ------------------------------------------------------------------ the terminal


def test_resize_repaints_at_once(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as terminal:
        terminal.sees("nobody else", "★● alice")
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
        terminal.type("typed blind")
        terminal.resize(80, 24)
        terminal.sees("★● alice", "long enough to be wrapped   │", "alice ▸ typed blind")
        assert terminal.screen.display[-1].startswith("alice ▸")
        assert terminal.screen.display[0].startswith(" #ops ")


def test_known_server_may_be_down_at_the_start(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as alice:
        alice.sees("nobody else", "\n────")
    server.stop()
    with join(server, tmp_path, "alice") as alice:
        alice.sees("offline: connection refused", "trying again", "\n────")
        alice.type("typed offline\r")
        alice.sees("alice … typed offline", "sending 1")
        server.start()
        alice.sees("alice │ typed offline", "1 of 1 online", "\n────")


def test_lost_connection_and_reconnection_are_shown(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as terminal:
        terminal.sees("nobody else", "TLS")
        server.stop(signal.SIGKILL)
        terminal.sees("offline:")
        terminal.type("said into the void\r")
        # A command of the client's own may wait, too.
        terminal.sees("sending ", "… said into the void")
        server.start()
        terminal.sees("connected again", "alice │ said into the void")
        wait_gone(terminal, "sending ", "offline:")


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP])
def test_signals_release_the_terminal(server: ServerProcess, tmp_path: Path, ending: int) -> None:
    with join(server, tmp_path, "alice") as terminal:
        terminal.sees("nobody else")
        terminal.signal(ending)
        assert terminal.end() == 0
        assert ASIDE in terminal.raw  # out of the alternate screen
        assert b"Traceback" not in terminal.raw


def test_ctrl_z_suspends_and_fg_continues(server: ServerProcess, tmp_path: Path) -> None:
    command = f"{sys.executable} -m tchat join 127.0.0.1 {server.port} --user alice --group ops"
    with Terminal([], str(tmp_path / "alice"), program=SHELL, PS1="shell> ") as terminal:
        terminal.sees("shell>")
        terminal.type(f"{command}\r")
        terminal.sees("nobody else")
        terminal.type("half a line" + ctrl("z"))
        terminal.until(lambda: ASIDE in terminal.raw, "the terminal released")
        terminal.sees("shell>")
        terminal.type("echo still $((6 * 7))\r")
        terminal.sees("still 42")
        terminal.type("fg\r")
        terminal.sees("nobody else", "★● alice", "alice ▸ half a line")
        terminal.type(" and its end\r")
        terminal.sees("alice │ half a line and its end")
        terminal.type("/quit\r")
        terminal.until(lambda: terminal.raw.count(ASIDE) == 2, "the end")


def test_messages_while_suspended_are_shown(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as here, join_second(here, server, tmp_path) as bob:
        here.sees("bob asks to join: F9")
        here.type(F9)
        bob.sees("bob joined")
        here.signal(signal.SIGTSTP)
        here.until(lambda: here.raw.count(ASIDE) == 1, "the terminal released")
        bob.type("said meanwhile\r")
        bob.sees("bob │ said meanwhile")
        here.signal(signal.SIGCONT)
        here.sees("bob │ said meanwhile", "● bob")
        assert here.raw.count(BACK) > 1


def test_no_color_is_respected(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice", extra={"NO_COLOR": "1"}) as plain:
        plain.sees("nobody else", "★● alice")
        plain.type("hello\r")
        plain.sees("alice │ hello")
        rows = plain.screen.buffer.values()
        looks = {(cell.fg, cell.bg) for row in rows for cell in row.values()}
        assert looks == {("default", "default")}
    with join(server, tmp_path, "alice") as coloured:
        coloured.sees("alice │ hello")
        y = row_with(coloured, "alice │ hello")
        assert coloured.screen.buffer[y][8].fg != "default"


def test_escape_sequences_are_shown_and_not_obeyed(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as alice, join_second(alice, server, tmp_path) as bob:
        alice.sees("bob asks to join: F9")
        alice.type(F9)
        bob.sees("bob joined")
        bob.type("title: \x1b[200~\x1b]0;owned\x07\x1b[201~ end\r")
        alice.sees("bob │ title: ␛]0;owned␇ end")
        assert alice.screen.title == bob.screen.title == "#ops - tchat"


@pytest.mark.parametrize("term", ["no-such-terminal", "dumb"])
def test_unsuitable_terminal_gets_plain_lines(
    server: ServerProcess, tmp_path: Path, term: str
) -> None:
    """It is said before anything is asked."""
    arguments = ["join", "127.0.0.1", server.port, "--group", "ops"]
    with Terminal(arguments, str(tmp_path), TERM=term) as terminal:
        terminal.sees("cannot show a full screen", f"TERM is {term!r}", "username:")
        assert terminal.text.index("full screen") < terminal.text.index("username:")
        terminal.type("alice\n")
        terminal.sees("-- alice created ops")
        terminal.type("/quit\n")
        assert terminal.end() == 0
        assert b"Traceback" not in terminal.raw


# ------------------------------------------------------------------ files


@pytest.mark.parametrize("width", [80, 40])
async def test_transfer_is_shown_and_cancelled(
    server: ServerProcess, tmp_path: Path, width: int
) -> None:
    (tmp_path / "big.bin").write_bytes(os.urandom(HELD + HELD // 4))
    async with held_wire(Address("127.0.0.1", int(server.port))) as (address, held):
        there = ServerProcess(tmp_path, str(address.port))
        with join(there, tmp_path, "alice", width=width) as alice:
            await sees(alice, "else is here yet")
            alice.type("/9 big.bin\r")
            with trio.fail_after(GUARD_SECONDS):
                await held.wait()
            await sees(alice, " ⇡ big.bin ", "% ")
            assert "⇡" in alice.screen.display[-2]
            alice.type("/cancel \t\r")
            await sees(alice, "Sending big.bin was")
            await trio.to_thread.run_sync(
                alice.until, lambda: "⇡" not in alice.screen.display[-2], "the end of it"
            )
            alice.type(ctrl("d") + ctrl("d"))
            assert await trio.to_thread.run_sync(alice.end) == 0
