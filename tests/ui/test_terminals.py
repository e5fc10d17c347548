"""What terminals are expected to obey, and that text stays text in what is sent to them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.ui.text.cells import cells
from tchat.ui.tui.terminal import Terminal, terminal_of
from tests.hostile_text import HOSTILE

XTERM = {"TERM": "xterm-256color"}


@pytest.mark.parametrize(
    "term",
    [
        *("xterm", "xterm-256color", "xterm-kitty", "tmux-256color", "screen", "screen-256color"),
        *("rxvt-unicode-256color", "foot", "alacritty", "st-256color", "vte-256color"),
    ],
)
def test_terminals_of_today_are_sent_titles_and_mark_pastes(term: str) -> None:
    terminal = terminal_of({"TERM": term})
    assert terminal.title("ops") == b"\x1b]2;ops\a"
    assert terminal.paste(on=True) == b"\x1b[?2004h"
    assert terminal.paste(on=False) == b"\x1b[?2004l"


@pytest.mark.parametrize(
    "term", ["linux", "vt100", "vt220", "dumb", "ansi", "eterm-color", "", "st"]
)
def test_others_are_sent_neither(term: str) -> None:
    terminal = terminal_of({"TERM": term, "VTE_VERSION": "6800", "TERM_PROGRAM": "iTerm.app"})
    assert terminal.title("ops") == terminal.paste(on=True) == terminal.paste(on=False) == b""
    assert terminal.notification == 0


@pytest.mark.parametrize(
    ("environment", "command"),
    [
        ({}, 777),
        ({"VTE_VERSION": "6800"}, 777),
        ({"TERM_PROGRAM": "WezTerm", "WEZTERM_PANE": "0"}, 777),
        ({"TERM_PROGRAM": "ghostty"}, 777),
        ({"KITTY_WINDOW_ID": "1"}, 9),
        ({"TERM": "xterm-kitty"}, 9),
        ({"TERM_PROGRAM": "iTerm.app"}, 9),
        ({"LC_TERMINAL": "iTerm2"}, 9),
        ({"TERM_PROGRAM": "Apple_Terminal"}, 0),
        ({"TERM_PROGRAM": "vscode"}, 0),
        ({"WT_SESSION": "1"}, 0),
        ({"ConEmuANSI": "ON"}, 0),
    ],
    ids=str,
)
def test_each_is_notified_in_its_own_way(environment: dict[str, str], command: int) -> None:
    assert terminal_of(XTERM | environment).notification == command


@pytest.mark.parametrize(
    ("environment", "within"),
    [
        ({}, ""),
        ({"TMUX": "/tmp/tmux,1,0"}, "tmux"),  # noqa: S108 (it is what tmux says)
        ({"TERM": "tmux-256color"}, "tmux"),
        ({"TERM": "screen", "STY": "1.a"}, "screen"),
        ({"TERM": "screen"}, ""),
        ({"TMUX": "", "STY": ""}, ""),
    ],
    ids=str,
)
def test_it_is_known_what_a_terminal_stands_in(environment: dict[str, str], within: str) -> None:
    assert terminal_of(XTERM | environment).within == within


# ------------------------------------------------------------------ what is handed on


def unwrapped(within: str, sequence: bytes) -> bytes:
    """Return what tmux or GNU screen would hand on, or nothing if it would stumble."""
    if within == "tmux":
        match = re.fullmatch(rb"\x1bPtmux;((?:[^\x1b]|\x1b\x1b)*)\x1b\\", sequence, re.DOTALL)
        return match.group(1).replace(b"\x1b\x1b", b"\x1b") if match else b""
    pieces = re.findall(rb"\x1bP((?:(?!\x1b\\).)*)\x1b\\", sequence, re.DOTALL)
    whole = b"".join(b"\x1bP" + piece + b"\x1b\\" for piece in pieces) == sequence
    return b"".join(pieces) if whole and all(len(piece) <= 256 for piece in pieces) else b""


@pytest.mark.parametrize("within", ["tmux", "screen"])
@given(text=st.text(max_size=300))
def test_what_is_handed_on_arrives_whole(within: str, text: str) -> None:
    terminal = Terminal(modern=True, within=within, notification=9)
    sequence = terminal.command(terminal.text(text, 300))
    assert unwrapped(within, terminal.outside(sequence)) == sequence


# ------------------------------------------------------------------ text stays text

ANY_TEXT = st.text() | st.sampled_from([case.text for case in HOSTILE])


@given(text=ANY_TEXT, width=st.integers(1, 200), utf8=st.booleans())
def test_no_text_commands_a_terminal(text: str, width: int, utf8: bool) -> None:
    payload = Terminal(True, "", 9, utf8).text(text, width)
    shown = payload.decode("utf-8" if utf8 else "ascii")
    assert not re.search("[\x00-\x1f\x7f-\x9f]", shown)
    assert cells(shown) <= width


def test_long_text_is_cut_with_a_sign_of_it() -> None:
    assert Terminal(True, "", 9).text("x" * 10_000, 5) == "xxxx…".encode()


def test_where_bytes_above_ascii_could_be_commands_there_are_none() -> None:
    assert Terminal(True, "", 9, utf8=False).text("Über 漢", 20) == b"?ber ?"
