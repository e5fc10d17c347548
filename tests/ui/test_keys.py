"""What terminals send, as names of keys."""

from __future__ import annotations

import pytest

from tchat.ui.keys import name_keys


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        ("a", ["a"]),
        ("é", ["é"]),
        ("\r", ["Enter"]),
        ("\n", ["C-j"]),
        ("\t", ["Tab"]),
        ("\x7f", ["Backspace"]),
        ("\x01\x17", ["C-a", "C-w"]),
        ("\x1f", ["C-_"]),
        ("\x1b", ["Escape"]),
        ("\x1bb", ["M-b"]),
        ("\x1b\r", ["M-Enter"]),
        ("\x1b\x7f", ["M-Backspace"]),
        ("\x1b[F", ["End"]),
        ("\x1bOH", ["Home"]),
        ("\x1b[3~x", ["Delete", "x"]),
    ],
)
def test_a_key_has_a_name(raw: str, names: list[str]) -> None:
    assert name_keys(list(raw)) == names


def test_special_keys_come_from_curses_by_name() -> None:
    assert name_keys(["KEY_PPAGE", "KEY_LEFT", "KEY_F(5)"]) == ["PageUp", "Left"]


def test_alt_with_a_special_key_is_told_apart() -> None:
    assert name_keys(["\x1b", "KEY_UP"]) == ["M-Up"]


def test_a_sequence_that_means_nothing_is_not_taken_for_typing() -> None:
    assert name_keys(list("\x1b[38;5;1mok")) == ["o", "k"]
