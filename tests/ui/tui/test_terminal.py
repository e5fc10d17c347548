"""Terminal detection, escape sequences and notifications; text in them stays text."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.ui.text.cells import cells
from tchat.ui.tui.terminal import Notifier, Terminal, detect_terminal
from tests.hostile_text import HOSTILE

XTERM = {"TERM": "xterm-256color"}
ANY_TEXT = st.text() | st.sampled_from([case.text for case in HOSTILE])

RXVT = Terminal(xterm_like=True, multiplexer="", notification=777)
ITERM = Terminal(xterm_like=True, multiplexer="", notification=9)
NEITHER = Terminal(xterm_like=True, multiplexer="", notification=0)

ONE_OF_777 = re.compile(r"\x1b\]777;notify;([^;\x00-\x1f\x7f-\x9f]*);([^\x00-\x1f\x7f-\x9f]*)\x07")
ONE_OF_9 = re.compile(r"\x1b\]9;tchat ([^\x00-\x1f\x7f-\x9f]*)\x07")


@pytest.mark.parametrize(
    "term",
    [
        *("xterm", "xterm-256color", "xterm-kitty", "tmux-256color", "screen", "screen-256color"),
        *("rxvt-unicode-256color", "foot", "alacritty", "st-256color", "vte-256color"),
    ],
)
def test_xterm_family_gets_titles_and_bracketed_paste(term: str) -> None:
    terminal = detect_terminal({"TERM": term})
    assert terminal.title("ops") == b"\x1b]2;ops\a"
    assert terminal.paste_mode(on=True) == b"\x1b[?2004h"
    assert terminal.paste_mode(on=False) == b"\x1b[?2004l"


@pytest.mark.parametrize(
    "term", ["linux", "vt100", "vt220", "dumb", "ansi", "eterm-color", "", "st"]
)
def test_other_terminals_get_no_unknown_sequences(term: str) -> None:
    terminal = detect_terminal({"TERM": term, "VTE_VERSION": "6800", "TERM_PROGRAM": "iTerm.app"})
    assert (
        terminal.title("ops")
        == terminal.paste_mode(on=True)
        == terminal.paste_mode(on=False)
        == b""
    )
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
def test_notification_command_is_detected(environment: dict[str, str], command: int) -> None:
    assert detect_terminal(XTERM | environment).notification == command


@pytest.mark.parametrize(
    ("environment", "multiplexer"),
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
def test_multiplexer_is_detected(environment: dict[str, str], multiplexer: str) -> None:
    assert detect_terminal(XTERM | environment).multiplexer == multiplexer


# ------------------------------------------------------------------ passthrough


def unwrapped(multiplexer: str, sequence: bytes) -> bytes:
    """Return what tmux or GNU screen passes through; nothing if the wrapping is broken."""
    if multiplexer == "tmux":
        match = re.fullmatch(rb"\x1bPtmux;((?:[^\x1b]|\x1b\x1b)*)\x1b\\", sequence, re.DOTALL)
        return match.group(1).replace(b"\x1b\x1b", b"\x1b") if match else b""
    pieces = re.findall(rb"\x1bP((?:(?!\x1b\\).)*)\x1b\\", sequence, re.DOTALL)
    whole = b"".join(b"\x1bP" + piece + b"\x1b\\" for piece in pieces) == sequence
    return b"".join(pieces) if whole and all(len(piece) <= 256 for piece in pieces) else b""


@pytest.mark.parametrize("multiplexer", ["tmux", "screen"])
@given(text=st.text(max_size=300))
def test_multiplexer_passes_sequences_through_whole(multiplexer: str, text: str) -> None:
    terminal = Terminal(xterm_like=True, multiplexer=multiplexer, notification=9)
    sequence = terminal.osc(terminal.encode_text(text, 300))
    assert unwrapped(multiplexer, terminal.pass_through(sequence)) == sequence


# ------------------------------------------------------------------ text stays text


@given(text=ANY_TEXT, width=st.integers(1, 200), utf8=st.booleans())
def test_encoded_text_has_no_controls(text: str, width: int, utf8: bool) -> None:
    payload = Terminal(True, "", 9, utf8).encode_text(text, width)
    shown = payload.decode("utf-8" if utf8 else "ascii")
    assert not re.search("[\x00-\x1f\x7f-\x9f]", shown)
    assert cells(shown) <= width


def test_long_text_is_cut_with_an_ellipsis() -> None:
    assert Terminal(True, "", 9).encode_text("x" * 10_000, 5) == "xxxx…".encode()
    assert Terminal(True, "", 9, utf8=False).encode_text("x" * 10_000, 5) == b"xx..."


def test_text_is_ascii_on_terminals_without_utf8() -> None:
    assert Terminal(True, "", 9, utf8=False).encode_text("Über 漢", 20) == b"Uber ? "


# ------------------------------------------------------------------ notifications


def test_notification_has_title_and_body() -> None:
    assert RXVT.notify("ops", "bob: lunch?") == b"\x1b]777;notify;ops;bob: lunch?\a"
    assert ITERM.notify("ops", "bob: lunch?") == b"\x1b]9;tchat ops: bob: lunch?\a"
    assert NEITHER.notify("ops", "bob: lunch?") == b""


def test_notification_is_wrapped_for_the_multiplexer() -> None:
    tmux = Terminal(xterm_like=True, multiplexer="tmux", notification=777)
    screen = Terminal(xterm_like=True, multiplexer="screen", notification=9)
    assert tmux.notify("a", "b") == b"\x1bPtmux;\x1b\x1b]777;notify;a;b\a\x1b\\"
    assert screen.notify("a", "b") == b"\x1bP\x1b]9;tchat a: b\a\x1b\\"


def test_semicolon_does_not_end_the_title() -> None:
    assert RXVT.notify("a;b", "c;d") == b"\x1b]777;notify;a,b;c;d\a"


@given(title=ANY_TEXT, body=ANY_TEXT, multiplexer=st.sampled_from(["", "tmux", "screen"]))
def test_no_text_escapes_from_a_notification(title: str, body: str, multiplexer: str) -> None:
    for number, right in ((777, ONE_OF_777), (9, ONE_OF_9)):
        sequence = Terminal(True, multiplexer, number).notify(title, body)
        inside = unwrapped(multiplexer, sequence) if multiplexer else sequence
        assert right.fullmatch(inside.decode())
        assert len(inside) < 4000


# ------------------------------------------------------------------ settings and pace


def test_bell_is_rung_with_a_notification() -> None:
    assert Notifier(RXVT).notify("ops", "hi", 0) == b"\a\x1b]777;notify;ops;hi\a"


@pytest.mark.parametrize("term", ["linux", "vt100", "dumb", ""])
def test_old_terminals_get_the_bell_alone(term: str) -> None:
    assert Notifier(detect_terminal({"TERM": term, "TMUX": "x"})).notify("ops", "hi", 0) == b"\a"


def test_setting_allows_bell_alone_or_nothing() -> None:
    assert Notifier(RXVT, "bell").notify("ops", "hi", 0) == b"\a"
    assert Notifier(RXVT, "off").notify("ops", "hi", 0) == b""


def test_notifications_are_seconds_apart() -> None:
    notifier = Notifier(NEITHER)
    sent = [now for now in (0.0, 0.5, 2.99, 3.0, 4.5, 6.5) if notifier.notify("a", "b", now)]
    assert sent == [0.0, 3.0, 6.5]


@given(st.lists(st.floats(0, 100), max_size=50))
def test_notifications_are_never_closer(moments: list[float]) -> None:
    notifier = Notifier(RXVT)
    sent = [now for now in sorted(moments) if notifier.notify("a", "b", now)]
    assert all(later - earlier >= 3 for earlier, later in pairwise(sent))
    assert bool(sent) == bool(moments)
