"""Typing on the screen: editing keys, several lines, paste, history, completion."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.ui.scenes import (
    BACKSPACE,
    S_TAB,
    TAB,
    UP,
    alt,
    ctrl,
    join,
    open_group,
    wait_gone,
    wait_typed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.ui.conftest import ServerProcess
    from tests.ui.terminal import Terminal

PASTE, PASTED = "\x1b[200~", "\x1b[201~"
ALT_ENTER, CTRL_J = "\x1b\r", "\n"


@pytest.fixture
def alice(server: ServerProcess, tmp_path: Path) -> Iterator[Terminal]:
    """Start Alice's terminal, in a group of her own."""
    with join(server, tmp_path, "alice") as terminal:
        terminal.sees("nobody else")
        yield terminal


def test_pasted_lines_are_not_sent(alice: Terminal) -> None:
    alice.send(f"look: {PASTE}one\r\ntwo\rthree\n{PASTED}".encode())
    alice.until(lambda: last_rows(alice, 3) == ["look: one", "two", "three"], "three lines")
    assert "│ look" not in alice.text
    alice.type(f"four{BACKSPACE * 4}\r")
    alice.sees("alice │ look: one", "       │ two", "       │ three")
    wait_typed(alice, "")


def last_rows(terminal: Terminal, count: int) -> list[str]:
    """Return the input's last rows, without the prompt."""
    return [row[len("alice ▸ ") :].rstrip() for row in terminal.screen.display[-count:]]


def test_pasted_commands_are_not_run(alice: Terminal) -> None:
    alice.type(f"{PASTE}/quit\n/quit\n{PASTED}")
    alice.until(lambda: last_rows(alice, 2) == ["/quit", "/quit"], "what was pasted")
    alice.type(ctrl("c") + "still here\r")
    alice.sees("alice │ still here")


def test_message_may_have_several_lines(alice: Terminal) -> None:
    alice.type(f"one{ALT_ENTER}two{CTRL_J}three")
    alice.until(lambda: last_rows(alice, 3) == ["one", "two", "three"], "three lines")
    alice.type(f"{UP}{ctrl('a')}and \r")
    alice.sees("alice │ one", "       │ and two", "       │ three")
    alice.type(UP)
    alice.until(lambda: last_rows(alice, 3) == ["one", "and two", "three"], "all of it again")


def test_history_is_recalled_and_searched(alice: Terminal) -> None:
    for text in ("the first word", "another", "the last word"):
        alice.type(f"{text}\r")
    wait_typed(alice, "")
    alice.type(UP + UP)
    wait_typed(alice, "another")
    alice.type(ctrl("c") + ctrl("r") + "WORD")
    alice.sees("(search: 'WORD') the last word")
    alice.type(ctrl("r"))
    alice.sees("(search: 'WORD') the first word")
    alice.type(ctrl("g"))
    wait_typed(alice, "")
    alice.type(ctrl("r") + "ano\r")
    wait_typed(alice, "another")


def test_changes_are_undone_and_redone(alice: Terminal) -> None:
    alice.type("some words here" + ctrl("w") + ctrl("a") + alt("d"))
    wait_typed(alice, " words")
    alice.type("\x1f\x1f")
    wait_typed(alice, "some words here")
    alice.type(alt("_"))
    wait_typed(alice, "some words")
    alice.type(ctrl("c"))
    wait_typed(alice, "")
    alice.type("\x1f")
    wait_typed(alice, "some words")


def test_keys_move_by_grapheme(alice: Terminal) -> None:
    alice.type("a🇩🇪e\u0301漢")
    wait_typed(alice, "a🇩🇪é漢")
    assert alice.screen.cursor.x == len("alice ▸ ") + 1 + 2 + 1 + 2
    alice.type(BACKSPACE)
    wait_typed(alice, "a🇩🇪é")
    alice.type(ctrl("b") + BACKSPACE)
    wait_typed(alice, "aé")


async def test_tab_completes_names_and_paths(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "a file.txt").touch()
    async with open_group(server, tmp_path, "alice", "bob", "bobby"):
        with join(server, tmp_path, "alice") as alice:
            alice.sees("in #ops with 2 other members")
            for keys, completed in [
                ("bo" + TAB, "bob:"),
                (TAB, "bobby:"),
                (S_TAB, "bob:"),
                ("so " + TAB, "bob: so bob"),
                (ctrl("c") + "see #o" + TAB, "see #ops"),
                (ctrl("c") + "/resen" + TAB, "/resend"),
                (ctrl("c") + "/se" + TAB + TAB, "/search"),
                (ctrl("c") + "/kick b" + TAB + TAB, "/kick bobby"),
                (ctrl("c") + "/window " + TAB, "/window #ops"),
                (ctrl("c") + "/policy a" + TAB, "/policy approval"),
                (ctrl("c") + "/help sea" + TAB, "/help search"),
                (ctrl("c") + "/send a" + TAB, "/send a\\ file.txt"),
            ]:
                alice.type(keys)
                wait_typed(alice, completed)
            alice.type(ctrl("c"))
            wait_gone(alice, "/send")


def test_wrong_commands_are_answered_with_sentences(alice: Terminal) -> None:
    for words, sentence in [
        ("/frobnicate now", "There is no command /frobnicate. /help"),
        ("/", "There is no command /"),
        ("/kick nobody", "nobody is not a member"),
        ("/jump 7", "There is no such result; /search"),
        ("/window 9", "There is no window 9. Your windows: 1 #ops."),
        ("/get x", "The group has no file x."),
        ("/edit", "There is no such message here"),
        ("/send nothing-like-this", "nothing-like-this"),
        ("/join a/b", "A group name"),
        ("/msg alice me", "yourself"),
        ("/resend", "None of your messages here was refused"),
    ]:
        alice.type(f"{words}\r")
        alice.until(partial(_tells, alice, sentence), sentence)
        alice.type(ctrl("u") + "/clear\r")  # a refused text has come back into the line
        wait_gone(alice, " ! │")
    alice.type("\x1b[99~\x1b[1;9Z\x1bOz\x00\x1c\x1dstill well\r")
    alice.sees("alice │ still well")


def _tells(terminal: Terminal, sentence: str) -> bool:
    return sentence in shown(terminal)


def shown(terminal: Terminal) -> str:
    """Return the messages, with wrapped rows joined again."""
    rows = [row[:61].partition("│")[2].strip() for row in terminal.screen.display[1:-2]]
    return " ".join(rows)
