"""Terminal input decoded into keys and pastes; keys as people write them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tchat.ui.tui.keys import PASTE_LIMIT, Key, KeyReader, Paste, format_key, parse_key
from tchat.ui.tui.lineedit import LINE_LIMIT

BEGIN, END = "\x1b[200~", "\x1b[201~"


def read(*parts: str | list[str]) -> list[Key]:
    """Return the keys of some reads, after which the terminal is silent."""
    reader = KeyReader()
    return [key for part in parts for key in reader.feed(list(part))] + reader.flush()


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        ("a", ["a"]),
        ("é", ["é"]),
        ("👩‍👧", ["👩", "\u200d", "👧"]),
        ("\r", ["Enter"]),
        ("\n", ["C-j"]),
        ("\t", ["Tab"]),
        ("\x7f", ["Backspace"]),
        ("\x08", ["Backspace"]),
        ("\x01\x17", ["C-a", "C-w"]),
        ("\x1f", ["C-_"]),
        ("\0\x1c\x1d\x1e", ["C-Space", "C-\\", "C-]", "C-^"]),
        ("\x1b", ["Escape"]),
        ("\x1b\x1b", ["Escape", "Escape"]),
        ("\x1bb", ["M-b"]),
        ("\x1bB", ["M-B"]),
        ("\x1b/\x1b9\x1b_", ["M-/", "M-9", "M-_"]),
        ("\x1b ", ["M-Space"]),
        ("\x1b\x01", ["C-M-a"]),
        ("\x1b\r", ["M-Enter"]),
        ("\x1b\n", ["M-Enter"]),
        ("\x1b\x7f", ["M-Backspace"]),
        ("\x1b[", ["M-["]),
        ("\x1bO", ["M-O"]),
        ("\x1b[3~x", ["Delete", "x"]),
    ],
)
def test_characters_and_controls_have_key_names(raw: str, names: list[str]) -> None:
    assert read(raw) == names


@pytest.mark.parametrize(
    ("sequences", "name"),
    [
        ("[A OA", "Up"),
        ("[C OC", "Right"),
        ("[H OH [1~ [7~", "Home"),
        ("[F OF [4~ [8~", "End"),
        ("[5~", "PageUp"),
        ("[Z [9;2u", "S-Tab"),
        ("[1;5C [5C O5C Oc", "C-Right"),
        ("[1;5D Od", "C-Left"),
        ("[1;3D", "M-Left"),
        ("[1;9D", "M-Left"),
        ("[1;7D", "C-M-Left"),
        ("[1;2A [a", "S-Up"),
        ("[3;5~ [3^", "C-Delete"),
        ("[3$ [3;2~", "S-Delete"),
        ("OP [11~ [[A [P", "F1"),
        ("[15~ [[E", "F5"),
        ("[18~", "F7"),
        ("[19~", "F8"),
        ("[20~", "F9"),
        ("[13;2u [27;2;13~", "S-Enter"),
        ("[119;5u [27;5;119~ [87;6u", "C-w"),
        ("[98;3u", "M-b"),
        ("[105;5u", "Tab"),
        ("[47;5u", "C-_"),
        ("[97;2u [65u", "A"),
        ("[97:65;1:1u", "a"),
        ("[127u", "Backspace"),
        ("OM", "Enter"),
        ("Op", "0"),
    ],
)
def test_escape_sequences_are_decoded_into_keys(sequences: str, name: str) -> None:
    for sequence in sequences.split():
        assert read(f"\x1b{sequence}x") == [name, "x"], sequence


def test_two_escapes_before_a_sequence_mean_alt() -> None:
    assert read("\x1b\x1b[A\x1b\x1bOCx") == ["M-Up", "M-Right", "x"]


def test_escape_before_alt_letter_is_the_escape_key() -> None:
    assert read("\x1b\x1bb") == ["Escape", "M-b"]


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (["KEY_PPAGE"], "PageUp"),
        (["KEY_F(8)"], "F8"),
        (["KEY_SR"], "S-Up"),
        (["kRIT5"], "C-Right"),
        (["kLFT3"], "M-Left"),
        (["kUP"], "S-Up"),
        (["kDC5"], "C-Delete"),
        (["\x1b", "KEY_UP"], "M-Up"),
        (["\x1b", "kRIT5"], "C-M-Right"),
    ],
)
def test_curses_names_are_decoded_into_keys(raw: list[str], name: str) -> None:
    assert read(raw) == [name]


@pytest.mark.parametrize(
    "sequence",
    ["[38;5;1m", "[I", "[?2004;1$y", "[<0;3;4M", "[9;9;9;9~", "[1114112u", "[55296u", "O?", "[=~"],
)
def test_unknown_sequences_are_not_taken_for_typing(sequence: str) -> None:
    assert read(f"\x1b{sequence}ok") == ["o", "k"]
    assert read(["KEY_MOUSE", "kxIN", "KEY_B2"]) == []


def test_broken_off_sequence_does_not_swallow_keys() -> None:
    assert read("\x1b[1;\x1b[A") == ["Up"]
    assert read("\x1b[1;\r") == ["Enter"]
    assert read(["\x1b", "[", "1", "KEY_UP"]) == ["Up"]
    assert read("\x1b[1;") == []


def test_endless_sequence_is_dropped_in_constant_memory() -> None:
    reader = KeyReader()
    assert reader.feed(["\x1b", "[", *"1" * 100_000]) == []
    assert len(reader._held) < 100
    assert reader.feed(list("Ax")) == ["x"]


# ------------------------------------------------------------------ in several reads


def test_escape_waits_for_more_input_or_timeout() -> None:
    reader = KeyReader()
    assert reader.feed(["\x1b"]) == []
    assert reader.timeout
    assert reader.feed(["b"]) == ["M-b"]
    assert reader.feed(["\x1b"]) + reader.flush() + reader.feed(["b"]) == ["Escape", "b"]
    assert not reader.timeout


def test_resize_is_reported_in_mid_sequence() -> None:
    assert read(["\x1b", "[", "KEY_RESIZE", "A"]) == ["Resize", "Up"]
    assert read([*BEGIN, "a", "KEY_RESIZE", "b", *END]) == ["Resize", Paste("ab")]


# Parts of keys, so that whole ones come about.
pieces = st.sampled_from(
    [*"\x1b[O?;$~u12A\r\na你", "\x1b[", "\x1bO", "200~", BEGIN, END, "\x1b[1;5C"]
)
items = st.one_of(
    pieces.map(list),
    st.sampled_from(["KEY_UP", "kRIT5", "KEY_RESIZE", "KEY_"]).map(lambda name: [name]),
    st.characters().map(lambda character: [character]),
)
raws = st.lists(items, max_size=20).map(lambda parts: [item for part in parts for item in part])


@given(raws, st.lists(st.integers(0, 60), max_size=6))
@example(list(f"{BEGIN}a\r\nb{END}\x1b[A"), [1, 3, 8, 9, 14])
def test_result_is_independent_of_read_boundaries(raw: list[str], cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(raw)]
    reads = [raw[start:end] for start, end in pairwise(edges)]
    assert read(*reads) == read(raw)


@given(raws)
def test_nothing_is_held_back_after_a_flush(raw: list[str]) -> None:
    reader = KeyReader()
    reader.feed(raw)
    reader.flush()
    assert reader.timeout is None
    assert reader.feed(["x"]) == ["x"]


# ------------------------------------------------------------------ pastes


def test_paste_is_one_item() -> None:
    pasted = "one\rtwo\r\nthree\n\tfour \x1b[A \x03"
    there = Paste("one\ntwo\nthree\n\tfour \x1b[A \x03")
    assert read(f"a{BEGIN}{pasted}{END}b\r") == ["a", there, "b", "Enter"]


def test_empty_paste_is_ignored() -> None:
    assert read(f"{BEGIN}{END}x") == ["x"]


def test_paste_end_without_start_is_ignored() -> None:
    assert read(f"{END}x") == ["x"]


def test_unfinished_paste_ends_with_a_flush() -> None:
    reader = KeyReader()
    assert reader.feed(list(f"{BEGIN}half of it\r")) == []
    assert reader.timeout is not None
    assert reader.flush() == [Paste("half of it\n")]
    assert reader.feed(["\r"]) == ["Enter"]


def test_broken_off_paste_does_not_affect_the_next() -> None:
    reader = KeyReader()
    reader.feed(list(f"{BEGIN}a{END[:-1]}"))
    reader.flush()
    assert reader.feed(list(f"{BEGIN}~b{END}")) == [Paste("~b")]


@pytest.mark.parametrize("ends", ["\r\n", "ab"])
def test_kept_paste_exceeds_any_input_line(ends: str) -> None:
    reader = KeyReader()
    reader.feed(list(BEGIN))
    for _ in range(PASTE_LIMIT // 2**16 + 2):
        reader.feed(list(ends) * 2**15)
    (paste,) = reader.feed(list(END))
    assert isinstance(paste, Paste)
    assert LINE_LIMIT < len(paste.text) <= PASTE_LIMIT
    assert reader.feed(["x"]) == ["x"]


# ------------------------------------------------------------------ as people write them


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


@given(raws)
def test_decoded_keys_survive_formatting_and_parsing(raw: list[str]) -> None:
    for key in read(raw):
        if isinstance(key, str) and len(key) > 1 and key != "Resize" and parse_key(key):
            assert parse_key(key) == key
            assert parse_key(format_key(key)) == key
