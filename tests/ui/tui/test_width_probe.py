"""Terminals asked how wide they draw sequences: joining, separate, late, silent; a real tmux."""

from __future__ import annotations

import re
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tchat.ui.text.widths import SAFE, WidthProfile
from tchat.ui.tui.decoder import CursorPosition
from tchat.ui.tui.width_probe import DEADLINE_SECONDS, WidthProbe
from tests.ui.scenes import join, wait_typed
from tests.ui.terminal import Terminal
from tests.ui.tmux import Tmux, require_tmux

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.ui.conftest import ServerProcess

PAINTER = (sys.executable, str(Path(__file__).with_name("painter.py")))
ASKED = re.compile(rb"\x1b\[(\d+)(?:;1)?H([^\x1b]+)\x1b\[6n")
FAMILY = "👨\u200d👩\u200d👧\u200d👦"
RAINBOW = "\U0001f3f3\ufe0f\u200d\U0001f308"
SEPARATE = {"❤\ufe0f": 1, "1\ufe0f\u20e3": 1, "👍🏽": 4, FAMILY: 8, RAINBOW: 3, "की": 2}
JOINING = dict.fromkeys([*SEPARATE, "की"], 2) | {"की": 1}
OLD_TMUX = SEPARATE | {FAMILY: 2, RAINBOW: 1}


def move(y: int, x: int) -> bytes:
    return b"\x1b[%d;%dH" % (y + 1, x + 1)


def answers(asked: bytes, widths: Mapping[str, int]) -> list[CursorPosition]:
    """Return where the cursor is after each question, on a terminal with such widths."""
    found = [(int(row), text.decode()) for row, text in ASKED.findall(asked)]
    return [CursorPosition(row, widths[text] + 1) for row, text in found]


def learn(widths: Mapping[str, int], *, at: float = 0.1) -> WidthProfile | None:
    probe = WidthProbe()
    profile = None
    for position in answers(probe.ask(move, 0.0), widths):
        profile = probe.answer(position, at)
    return profile


@pytest.mark.parametrize(
    ("widths", "profile"),
    [
        (SEPARATE, SAFE),
        (JOINING, WidthProfile(selector=2, keycap=2, toned=True, joined=True, spacing=0)),
        (OLD_TMUX, SAFE),
        (dict.fromkeys(SEPARATE, 0), SAFE),
        (SEPARATE | {"❤\ufe0f": 2}, WidthProfile(selector=2)),
    ],
)
def test_answers_give_the_profile(widths: Mapping[str, int], profile: WidthProfile) -> None:
    assert learn(widths) == profile


def test_late_answers_are_ignored() -> None:
    assert learn(JOINING, at=60.0) is None


def test_answers_count_in_any_order_and_once() -> None:
    probe = WidthProbe()
    positions = answers(probe.ask(move, 0.0), JOINING)
    assert [probe.answer(position, 0.1) for position in positions[1:] * 2] == [None] * 10
    assert probe.answer(CursorPosition(1, 2), 0.1) is None
    assert probe.answer(CursorPosition(20, 2), 0.1) is None
    assert probe.answer(positions[0], 0.1) is not None
    assert probe.answer(positions[0], 0.1) is None


def test_nothing_is_learnt_without_asking() -> None:
    assert WidthProbe().answer(CursorPosition(2, 3), 0.0) is None


def painter(home: Path, term: str = "xterm-256color") -> Terminal:
    return Terminal([], str(home), program=PAINTER, TERM=term)


def wait_painted(terminal: Terminal) -> None:
    terminal.sees("size 80x24", "\n>")
    terminal.until(lambda: terminal.screen.cursor.x == 2, "the cursor in its place")


def reports(asked: bytes, widths: Mapping[str, int]) -> bytes:
    positions = answers(asked, widths)
    assert len(positions) == len(SEPARATE)
    return b"".join(b"\x1b[%d;%dR" % (at.row, at.column) for at in positions)


def add_all_emoji(terminal: Terminal) -> bytes:
    """Add a line of each kind; return what was sent for them."""
    before = len(terminal.raw)
    terminal.type("e" * 18)
    terminal.sees("line 17 ")
    return terminal.raw[before:]


def test_joining_terminal_gets_joined_sequences(tmp_path: Path) -> None:
    with painter(tmp_path) as terminal:
        wait_painted(terminal)
        terminal.send(reports(terminal.raw, JOINING))
        sent = add_all_emoji(terminal)
        assert FAMILY.encode() in sent
        assert RAINBOW.encode() in sent
        assert "r\u200ds".encode() not in sent


def test_questions_leave_nothing_on_the_screen(tmp_path: Path) -> None:
    with painter(tmp_path) as terminal:
        wait_painted(terminal)
        assert "❤" not in terminal.text
        assert "👍" not in terminal.text


@pytest.mark.parametrize("widths", [SEPARATE, OLD_TMUX, None])
def test_other_terminals_get_the_parts(tmp_path: Path, widths: Mapping[str, int] | None) -> None:
    with painter(tmp_path) as terminal:
        wait_painted(terminal)
        if widths:
            terminal.send(reports(terminal.raw, widths))
        sent = add_all_emoji(terminal)
        assert "\u200d".encode() not in sent
        assert "👨👩👧👦".encode() in sent


@pytest.mark.parametrize("typed", ["", "half a sent"])
def test_late_answers_are_swallowed(server: ServerProcess, tmp_path: Path, typed: str) -> None:
    """After the deadline, in pieces, with typing before and behind; also by the next question."""
    with join(server, tmp_path, "alice") as alice:
        alice.until(lambda: len(ASKED.findall(alice.raw)) == len(SEPARATE), "the questions")
        asked = time.monotonic()
        alice.sees("nobody else")
        alice.type(typed)
        late = asked + DEADLINE_SECONDS + 0.1
        alice.until(lambda: time.monotonic() > late, "the deadline")
        sent = reports(alice.raw, JOINING)
        alice.send(sent[:10])
        alice.send(sent[10:] + b"ence " + FAMILY.encode())
        alice.until(lambda: alice.screen.display[-1].rstrip().endswith("👨👩👧👦"), "the parts")
        wait_typed(alice, f"{typed}ence 👨👩👧👦")
        alice.type("\r")
        alice.sees("│ " + typed + "ence 👨👩👧👦")


def test_answers_do_not_reach_the_shell(tmp_path: Path) -> None:
    """They are under way when the program ends, and come before the deadline."""
    attempts = (tmp_path / str(number) for number in range(5))  # a busy machine may be too late
    assert any("3;" not in show_after_quick_end(home) for home in attempts)


def show_after_quick_end(home: Path) -> str:
    """Return what a shell shows after a program that ends between questions and answers."""
    with Terminal([], str(home), program=("/bin/sh", "-i")) as shell:
        shell.type(f"PS1='ready: '; {shlex.join(PAINTER)}\r")
        shell.until(lambda: len(ASKED.findall(shell.raw)) == len(SEPARATE), "the questions")
        shell.type("q")
        shell.until(lambda: b"\x1b[?2004l" in shell.raw, "the end")
        shell.send(reports(shell.raw, SEPARATE))
        shell.sees("the end", "ready:")
        shell.type("\x15echo $((6 * 7))\r")
        shell.sees("42")
        return shell.text


@pytest.mark.parametrize("term", ["linux", "vt100"])
def test_other_kinds_of_terminals_are_not_asked(tmp_path: Path, term: str) -> None:
    with painter(tmp_path, term) as terminal:
        wait_painted(terminal)
        assert b"\x1b[6n" not in terminal.raw


def test_terminal_is_asked_again_after_a_stop(tmp_path: Path) -> None:
    with painter(tmp_path) as terminal:
        wait_painted(terminal)
        start = len(terminal.raw)
        terminal.type("\x1a")  # a process group that nobody could continue does not stay stopped
        terminal.until(lambda: terminal.raw.count(b"\x1b[?1049h") == 2, "the screen again")
        wait_painted(terminal)
        terminal.send(reports(terminal.raw[start:], JOINING))
        assert FAMILY.encode() in add_all_emoji(terminal)


@pytest.mark.parametrize("term", ["tmux-256color", "screen-256color", "xterm-256color"])
def test_mark_in_the_last_column_in_tmux(tmp_path: Path, term: str) -> None:
    require_tmux()
    tmux = Tmux(tmp_path, ["env", f"TERM={term}", *PAINTER], LC_ALL="C.UTF-8")
    try:
        tmux.sees("> 0 lines")
        tmux.run("send-keys", "nmmn")
        tmux.sees("> 4 lines")
        shown = tmux.text.splitlines()[1:5]
        assert shown[1:3] == ["x" * 79 + "ด้"] * 2
        assert [row[:8] for row in (shown[0], shown[3])] == ["line 0 │", "line 3 │"]
    finally:
        tmux.end()


@pytest.mark.parametrize("term", ["tmux-256color", "screen-256color", "xterm-256color"])
def test_scrolling_in_tmux_equals_a_full_repaint(tmp_path: Path, term: str) -> None:
    require_tmux()
    tmux = Tmux(tmp_path, ["env", f"TERM={term}", *PAINTER], LC_ALL="C.UTF-8")
    try:
        tmux.sees("> 0 lines")
        for number in range(1, 10):
            tmux.run("send-keys", "e" * 6)
            tmux.sees(f"{number * 6} lines, repainted {number - 1} times")
            scrolled = tmux.text.splitlines()[:-1]
            tmux.run("send-keys", "u")
            tmux.sees(f"{number * 6} lines, repainted {number} times")
            assert tmux.text.splitlines()[:-1] == scrolled
    finally:
        tmux.end()
