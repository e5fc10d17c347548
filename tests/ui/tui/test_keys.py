"""Names of keys: as people write them, and what terminfo calls them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.ui.tui.keys import CAPABILITIES, format_key, name_sequence, parse_key


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ("kpp", "PageUp"),
        ("kf8", "F8"),
        ("kri", "S-Up"),
        ("kRIT5", "C-Right"),
        ("kLFT3", "M-Left"),
        ("kUP", "S-Up"),
        ("kDC5", "C-Delete"),
        ("kcbt", "S-Tab"),
    ],
)
def test_terminfo_capabilities_have_key_names(capability: str, name: str) -> None:
    assert CAPABILITIES[capability] == name


def test_names_of_all_capabilities_can_be_written() -> None:
    assert all(parse_key(name) == name for name in CAPABILITIES.values())


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("C-w", "C-w"),
        ("Ctrl-W", "C-w"),
        ("ctrl-w", "C-w"),
        ("C-W", "C-w"),
        ("M-b", "M-b"),
        ("M-B", "M-B"),
        ("Alt-B", "M-b"),
        ("Alt-Shift-B", "M-B"),
        ("M-C-a", "C-M-a"),
        ("Alt-Backspace", "M-Backspace"),
        ("shift-tab", "S-Tab"),
        ("C-i", "Tab"),
        ("C-h", "Backspace"),
        ("C-M-m", "M-Enter"),
        ("C-/", "C-_"),
        ("C-Space", "C-Space"),
        ("M--", "M--"),
        ("f7", "F7"),
        ("PgUp", "PageUp"),
        ("Esc", "Escape"),
        ("M-é", "M-é"),
    ],
)
def test_written_keys_are_parsed(written: str, key: str) -> None:
    assert parse_key(written) == key


@pytest.mark.parametrize(
    "written",
    [
        "",
        "a",
        "S-a",
        "-",
        "C-",
        "C-M-",
        "Space",
        "C-é",
        "Hyper-a",
        "F99",
        "C-Foo",
        "M-ab",
        "Resize",
    ],
)
def test_unbindable_keys_are_rejected(written: str) -> None:
    assert parse_key(written) == ""


@given(st.from_regex(r"[\[O][0-9;:]{0,12}[ -~]", fullmatch=True))
def test_names_of_sequences_survive_formatting_and_parsing(sequence: str) -> None:
    key = name_sequence(sequence)
    if len(key) > 1 and parse_key(key):
        assert parse_key(key) == key
        assert parse_key(format_key(key)) == key
