"""Unsent text in a real terminal: it stays over restarts, kills, full disks and other keys."""

from __future__ import annotations

import shutil
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tchat.core.group.messages import MOST_EDITS
from tests.ui.scenes import (
    ESCAPE,
    UP,
    alt,
    ctrl,
    join,
    saved,
    wait_edit,
    wait_gone,
    wait_saved,
    wait_typed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.ui.conftest import ServerProcess
    from tests.ui.terminal import Terminal


@contextmanager
def alone(server: ServerProcess, home: Path) -> Iterator[Terminal]:
    """Let alice, the only member of the group, use it in a terminal."""
    with join(server, home, "alice") as alice:
        alice.sees("nobody else")
        yield alice


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_draft_survives_the_end(server: ServerProcess, tmp_path: Path, number: int) -> None:
    with alone(server, tmp_path) as alice:
        alice.type("half a Gedänke 你好")
        wait_typed(alice, "half a Gedänke 你好")
        if number == signal.SIGKILL:  # the others save what has just been typed
            wait_saved(alice, tmp_path, "half a Gedänke 你好")
        alice.signal(number)
        assert alice.end() == (-number if number == signal.SIGKILL else 0)
    with join(server, tmp_path, "alice") as alice:
        alice.sees("You are in #ops")
        wait_typed(alice, "half a Gedänke 你好")
        alice.type("!\r")
        alice.sees("alice │ half a Gedänke 你好!")
        alice.until(lambda: saved(tmp_path) == "", "no draft any more")
        alice.signal(signal.SIGKILL)
        alice.end()
    with join(server, tmp_path, "alice") as alice:
        alice.sees("You are in #ops")
        wait_typed(alice, "")


def test_draft_is_found_under_another_address(server: ServerProcess, tmp_path: Path) -> None:
    """The first visit of an address learns which server it is before it looks for drafts."""
    with alone(server, tmp_path) as alice:
        alice.type("half a thought")
        wait_saved(alice, tmp_path, "half a thought")
        alice.signal(signal.SIGKILL)
        alice.end()
    with join(server, tmp_path, "alice", host="localhost") as alice:
        alice.sees("You are in #ops")
        wait_typed(alice, "half a thought")


def test_draft_of_an_edit_keeps_its_message(server: ServerProcess, tmp_path: Path) -> None:
    """After a restart, "/edit" alone would mean a newer message than the one offered."""
    with alone(server, tmp_path) as alice:
        alice.type("first\r")
        alice.sees("alice │ first")
        alice.type("/edit\r")
        wait_edit(alice, "first")
        alice.type(" words")
        wait_saved(alice, tmp_path, "first words")
        assert "/edit ^#" in saved(tmp_path)
        alice.signal(signal.SIGKILL)
        alice.end()
    with join(server, tmp_path, "alice") as alice:
        alice.sees("You are in #ops")
        wait_edit(alice, "first words")


def test_refused_edit_comes_back(server: ServerProcess, tmp_path: Path) -> None:
    """Its text is a draft until the server has answered, and after a refusal."""
    with alone(server, tmp_path) as alice:
        alice.type("first\r")
        alice.sees("alice │ first")
        for number in range(MOST_EDITS):
            alice.type(f"/edit {number}\r")
            alice.sees(f"│ {number} (edited)")
        alice.type("/edit a new text\r")
        alice.sees("What you typed is back")
        wait_edit(alice, "a new text")
        wait_saved(alice, tmp_path, "a new text")
        alice.type("\x15")
        server.stop()
        alice.sees("connection lost")
        alice.type("/edit another\r")
        wait_typed(alice, "")
        alice.type("in between")
        wait_typed(alice, "in between")
        server.start()
        alice.sees("What you typed comes")
        wait_typed(alice, "in between")
        alice.type("\r")
        alice.sees("│ in between")
        wait_edit(alice, "another")


def refuse_late_edit(server: ServerProcess, alice: Terminal) -> None:
    """Edit a message in #lab that is deleted first, while offline, and close the window."""
    alice.type("/join lab\r")
    alice.sees("You are in #lab")
    alice.type("first\r")
    alice.sees("alice │ first")
    server.stop()
    alice.sees("connection lost")
    for line in ("/delete", "/edit a new text", "/part"):
        alice.type(f"{line}\r")
        wait_typed(alice, "")
    wait_gone(alice, "#lab]")


def test_refused_edit_outlives_its_window(server: ServerProcess, tmp_path: Path) -> None:
    """Its text is kept for the group, and where to find it is said at once."""
    with alone(server, tmp_path) as alice:
        refuse_late_edit(server, alice)
        server.start()
        alice.sees("#lab: ", "kept: /join lab")
        wait_saved(alice, tmp_path, "a new text")
        alice.type("/join lab\r")
        wait_edit(alice, "a new text")


def test_refused_edit_returns_to_the_reopened_window(server: ServerProcess, tmp_path: Path) -> None:
    """It is a draft until then, although the window that it was typed in is closed."""
    with alone(server, tmp_path) as alice:
        refuse_late_edit(server, alice)
        alice.type("/join lab\r")
        alice.sees("[2 #lab]")
        alice.type("in between")
        wait_saved(alice, tmp_path, "in between")
        assert "a new text" in saved(tmp_path)
        server.start()
        alice.sees("1 more unsent text")
        wait_typed(alice, "in between")
        alice.type("\r")
        wait_edit(alice, "a new text")


def test_late_leave_keeps_the_window_of_a_draft(server: ServerProcess, tmp_path: Path) -> None:
    """What is being typed goes to no other group, and does not vanish."""
    with alone(server, tmp_path) as alice:
        alice.type("/join lab\r")
        alice.sees("You are in #lab")
        server.stop()
        alice.sees("connection lost")
        alice.type("/leave\r")
        alice.sees("(y or n)")
        alice.type("y\r")
        wait_typed(alice, "")
        alice.type("half a ")
        server.start()
        alice.sees("You left #lab. You are typing here: /part closes this window.", "[2 #lab]")
        alice.type("thought\r")
        alice.sees("! │ You left #lab. /part closes this window.")
        wait_typed(alice, "half a thought")
        alice.type("/part\r")
        alice.sees("#ops")
        wait_typed(alice, "")


def test_late_jump_does_not_switch_while_typing(server: ServerProcess, tmp_path: Path) -> None:
    with alone(server, tmp_path) as alice:
        alice.type("/join lab\r")
        alice.sees("You are in #lab")
        alice.type("a needle\r")
        alice.sees("alice │ a needle")
        alice.type("/search needle\r")
        alice.sees("/jump 1 goes to the newest result")
        alice.type("/part\r")
        wait_gone(alice, "#lab]")
        server.stop()
        alice.sees("connection lost")
        alice.type("/jump 1\r")
        wait_typed(alice, "")
        alice.type("half a ")
        server.start()
        alice.sees("You have begun to type something else")
        alice.type("thought")
        wait_typed(alice, "half a thought")
        alice.type("\r")
        alice.sees("[1 #ops]", "alice │ half a thought")


def test_accepted_edit_is_no_draft(server: ServerProcess, tmp_path: Path) -> None:
    with alone(server, tmp_path) as alice:
        alice.type("first\r")
        alice.sees("alice │ first")
        server.stop()
        alice.sees("connection lost")
        alice.type("/edit a new text\r")
        wait_saved(alice, tmp_path, "a new text")
        server.start()
        alice.sees("│ a new text (edited)")
        alice.until(lambda: saved(tmp_path) == "", "no draft any more")


def test_edit_put_aside_keeps_its_message(server: ServerProcess, tmp_path: Path) -> None:
    with alone(server, tmp_path) as alice:
        for text in ("one", "two"):
            alice.type(f"{text}\r")
            alice.sees(f"│ {text}")
        alice.type("/edit ^2\r")
        wait_edit(alice, "one")
        alice.type(ctrl("s") + "\x15between\r")
        alice.sees("│ between")
        wait_edit(alice, "one")
        alice.type("!\r")
        alice.sees("│ one! (edited)", "│ two")


def test_command_that_closed_its_window_is_no_draft(server: ServerProcess, tmp_path: Path) -> None:
    with alone(server, tmp_path) as alice:
        alice.type("/join lab\r")
        alice.sees("You are in #lab")
        alice.type("/part")
        wait_saved(alice, tmp_path, "/part")
        alice.type("\r")
        alice.until(lambda: saved(tmp_path) == "", "no draft any more")


def test_each_window_keeps_its_draft(server: ServerProcess, tmp_path: Path) -> None:
    with alone(server, tmp_path) as alice:
        alice.type("for ops")
        alice.type(ctrl("s") + "\x15/join lab\r")
        alice.sees("[2 #lab]", "You are in #lab")
        alice.type("for lab")
        wait_saved(alice, tmp_path, "for lab")
        alice.signal(signal.SIGKILL)
        alice.end()
    with join(server, tmp_path, "alice") as alice:
        alice.sees("1 #ops", "2 #lab")
        wait_typed(alice, "for ops")
        alice.type(alt("2"))
        wait_typed(alice, "for lab")


def test_keys_lose_no_draft(server: ServerProcess, tmp_path: Path) -> None:
    with alone(server, tmp_path) as alice:
        alice.type("said before\r")
        alice.sees("alice │ said before")
        alice.type("a draft" + ctrl("s"))
        wait_typed(alice, "/search")
        alice.type("before\r")
        alice.sees("/jump 1 goes to the newest result")
        wait_typed(alice, "a draft")
        alice.type(ctrl("s"))
        wait_typed(alice, "/search")
        alice.type(ESCAPE)
        wait_typed(alice, "a draft")
        alice.type(ctrl("r") + "said")
        alice.sees("(search: 'said') said before")
        alice.type(ctrl("g"))
        wait_typed(alice, "a draft")
        alice.type(ctrl("c"))
        wait_typed(alice, "")
        alice.type(UP)
        wait_typed(alice, "a draft")


def test_refused_message_comes_back(server: ServerProcess, tmp_path: Path) -> None:
    with alone(server, tmp_path) as alice:
        alice.type(f"\x1b[200~{'word ' * 4000}end\x1b[201~\r")
        alice.sees("A message has at most 16 KiB")
        wait_typed_end(alice, "word end")
        wait_saved(alice, tmp_path, "word end")


def wait_typed_end(terminal: Terminal, end: str) -> None:
    terminal.until(lambda: terminal.text.rstrip().endswith(end), f"{end!r} in the input line")


def test_message_instead_of_an_answer_comes_back(server: ServerProcess, tmp_path: Path) -> None:
    with alone(server, tmp_path) as alice:
        alice.type("/leave\r")
        alice.sees("deleted. (y or n)")
        alice.type("hello there\r")
        alice.sees("not answered")
        wait_typed(alice, "hello there")
        alice.type("!")
        wait_typed(alice, "hello there!")
        alice.type("\r")
        alice.sees("alice │ hello there!")
        alice.type("/leave\r")
        alice.sees("(y or n)")
        alice.type(ESCAPE)
        alice.sees("confirmed.")
        alice.type("y\r")
        alice.sees("and y was not")
        wait_typed(alice, "y")
        assert "alice │ y" not in alice.text


def test_answers_are_not_in_the_history(server: ServerProcess, tmp_path: Path) -> None:
    with alone(server, tmp_path) as alice:
        alice.type("/leave\r")
        alice.sees("deleted. (y or n)")
        alice.type("n\r")
        alice.sees("was not confirmed.")
        alice.type(UP)
        wait_typed(alice, "/leave")


def test_typing_replaces_a_refused_line(server: ServerProcess, tmp_path: Path) -> None:
    with alone(server, tmp_path) as alice:
        alice.type("/edit psst\r")
        alice.sees("There is no such message here")
        wait_typed(alice, "/edit psst")
        alice.type("hello\r")
        alice.sees("alice │ hello")
        wait_typed(alice, "")
        alice.type(UP + UP)
        wait_typed(alice, "/edit psst")


def test_unwritable_drafts_are_told_once(server: ServerProcess, tmp_path: Path) -> None:
    with alone(server, tmp_path) as alice:
        shutil.rmtree(tmp_path / "alice" / "drafts")
        alice.type("a draft")
        alice.sees("What you type is not saved until it is sent")
        alice.type("\r")
        alice.sees("alice │ a draft")
        assert alice.text.count("What you type is not saved") == 1


def test_two_clients_of_one_home_keep_both_drafts(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as one, join(server, tmp_path, "alice") as two:
        for terminal, text in ((one, "from one"), (two, "from two")):
            terminal.sees("nobody else")
            terminal.type(text)
            wait_saved(terminal, tmp_path, text)
        for terminal in (one, two):
            terminal.signal(signal.SIGKILL)
            terminal.end()
    with join(server, tmp_path, "alice") as alice:
        alice.sees("1 more unsent text", "▸ from ")
        other = "from two" if "from one" in alice.screen.display[-1] else "from one"
        assert "from one" in saved(tmp_path)
        assert "from two" in saved(tmp_path)
        alice.type(ctrl("c"))
        wait_typed(alice, other)


@pytest.mark.parametrize("keys", [ctrl("s") + ESCAPE, ctrl("c") + UP, alt("2") + alt("1")])
def test_withdrawn_question_leaves_its_command(
    server: ServerProcess, tmp_path: Path, keys: str
) -> None:
    with alone(server, tmp_path) as alice:
        alice.type("/join lab\r")
        alice.sees("You are in #lab")
        alice.type(alt("1") + "/msg carol\r")
        alice.sees("send what to carol?")
        alice.type("secret")
        wait_saved(alice, tmp_path, "/msg carol secret")
        alice.type(keys)
        wait_typed(alice, "/msg carol secret")
        alice.signal(signal.SIGKILL)
        alice.end()
    with join(server, tmp_path, "alice") as alice:
        alice.sees("#ops")
        wait_typed(alice, "/msg carol secret")
