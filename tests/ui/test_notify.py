"""Calling a person back: which bytes, how often, and that nobody's text gets out of them."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.ui.tui.terminal import Notifier, Terminal, notification, terminal_of
from tests.ui.test_terminals import ANY_TEXT, unwrapped

RXVT = Terminal(modern=True, within="", notification=777)
ITERM = Terminal(modern=True, within="", notification=9)
NEITHER = Terminal(modern=True, within="", notification=0)

ONE_OF_777 = re.compile(r"\x1b\]777;notify;([^;\x00-\x1f\x7f-\x9f]*);([^\x00-\x1f\x7f-\x9f]*)\x07")
ONE_OF_9 = re.compile(r"\x1b\]9;tchat ([^\x00-\x1f\x7f-\x9f]*)\x07")


def test_a_notification_has_a_title_and_a_body() -> None:
    assert notification(RXVT, "ops", "bob: lunch?") == b"\x1b]777;notify;ops;bob: lunch?\a"
    assert notification(ITERM, "ops", "bob: lunch?") == b"\x1b]9;tchat ops: bob: lunch?\a"
    assert notification(NEITHER, "ops", "bob: lunch?") == b""


def test_it_is_handed_on_by_what_the_terminal_stands_in() -> None:
    tmux = Terminal(modern=True, within="tmux", notification=777)
    screen = Terminal(modern=True, within="screen", notification=9)
    assert notification(tmux, "a", "b") == b"\x1bPtmux;\x1b\x1b]777;notify;a;b\a\x1b\\"
    assert notification(screen, "a", "b") == b"\x1bP\x1b]9;tchat a: b\a\x1b\\"


def test_the_title_ends_where_it_should() -> None:
    assert notification(RXVT, "a;b", "c;d") == b"\x1b]777;notify;a,b;c;d\a"


@given(title=ANY_TEXT, body=ANY_TEXT, within=st.sampled_from(["", "tmux", "screen"]))
def test_no_text_gets_out_of_a_notification(title: str, body: str, within: str) -> None:
    for number, right in ((777, ONE_OF_777), (9, ONE_OF_9)):
        sequence = notification(Terminal(True, within, number), title, body)
        inside = unwrapped(within, sequence) if within else sequence
        assert right.fullmatch(inside.decode())
        assert len(inside) < 4000


# ------------------------------------------------------------------ settings and pace


def test_the_bell_is_rung_with_it() -> None:
    assert Notifier(RXVT).call("ops", "hi", 0) == b"\a\x1b]777;notify;ops;hi\a"


@pytest.mark.parametrize("term", ["linux", "vt100", "dumb", ""])
def test_terminals_that_would_print_it_get_the_bell_alone(term: str) -> None:
    assert Notifier(terminal_of({"TERM": term, "TMUX": "x"})).call("ops", "hi", 0) == b"\a"


def test_a_person_may_want_the_bell_alone_or_nothing() -> None:
    assert Notifier(RXVT, "bell").call("ops", "hi", 0) == b"\a"
    assert Notifier(RXVT, "off").call("ops", "hi", 0) == b""


def test_nobody_is_called_more_than_once_a_second() -> None:
    notifier = Notifier(NEITHER)
    called = [now for now in (0.0, 0.5, 0.99, 1.0, 1.5, 2.5) if notifier.call("a", "b", now)]
    assert called == [0.0, 1.0, 2.5]


@given(st.lists(st.floats(0, 100), max_size=50))
def test_calls_are_a_second_apart(moments: list[float]) -> None:
    notifier = Notifier(RXVT)
    called = [now for now in sorted(moments) if notifier.call("a", "b", now)]
    assert all(later - earlier >= 1 for earlier, later in pairwise(called))
    assert bool(called) == bool(moments)
