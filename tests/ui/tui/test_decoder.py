"""Bytes of a terminal decoded into keys, pastes and reports."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tchat.ui.tui.decoder import (
    PASTE_LIMIT,
    SEQUENCE_LIMIT,
    TYPED_AT_ONCE,
    CursorPosition,
    InputDecoder,
    Item,
    Paste,
)
from tchat.ui.tui.lineedit import LINE_LIMIT

BEGIN, END = "\x1b[200~", "\x1b[201~"


def encoded(data: str | bytes) -> bytes:
    return data if isinstance(data, bytes) else data.encode()


def read(*parts: str | bytes, encoding: str = "utf-8") -> list[Item]:
    """Return the items of some reads without a pause, after which the terminal is silent."""
    decoder = InputDecoder(encoding)
    return [item for part in parts for item in decoder.feed(encoded(part))] + decoder.flush()


def read_by_pause(*parts: str | bytes) -> list[Item]:
    """Return the items of some reads, with a pause after each."""
    decoder = InputDecoder()
    return [item for part in parts for item in decoder.feed(encoded(part)) + decoder.flush()]


def is_holding(decoder: InputDecoder) -> bool:
    return decoder.deadline is not None


def spelled(text: str) -> list[Item]:
    return list(text)


# ------------------------------------------------------------------ keys


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
        ("\x1b\x1b[", ["Escape", "M-["]),
        ("\x1bb", ["M-b"]),
        ("\x1bB", ["M-B"]),
        ("\x1bü你", ["M-ü", "你"]),
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
        ("[1;2R", "S-F3"),
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


def test_keys_of_the_terminal_come_first() -> None:
    keys = {b"\x1b[1;2R": "F15", b"\x1b[M": "F1", b"\x1bA": "Up", b"\x1b?p": "0", b"\x1bOt": "F5"}
    for sent, name in keys.items():
        decoder = InputDecoder(keys=keys)
        pieces = [sent[at : at + 1] for at in range(len(sent))]
        assert [item for piece in pieces for item in decoder.feed(piece)] == [name]
        assert decoder.feed(b"\x1b" + sent + b"x") == ["Escape", name, "x"] or sent[1] in b"[O"
    assert InputDecoder(keys=keys).feed(b"\x1b\x1bOt") == ["M-F5"]
    decoder = InputDecoder(keys=keys)
    assert decoder.feed(b"\x1b?") + decoder.flush() == ["M-?"]


@pytest.mark.parametrize("sequence", ["[38;5;1m", "[9;9;9;9~", "[1114112u", "[55296u", "O?", "[=~"])
def test_unknown_sequences_are_not_taken_for_typing(sequence: str) -> None:
    assert read(f"\x1b{sequence}ok") == ["o", "k"]


def test_broken_off_sequence_does_not_swallow_keys() -> None:
    assert read("\x1b[1;\x1b[A") == ["Up"]
    assert read("\x1b[1;\r") == ["Enter"]
    assert read("\x1b[1;ü") == ["ü"]
    assert read("\x1bO\r") == ["M-O", "Enter"]
    assert read("\x1b[1;") == []
    assert read("\x1b[Ma\r") == ["Enter"]


@pytest.mark.parametrize("start", ["\x1b[", "\x1bO", "\x1b]1", "\x1bP1", "\x1b_G"])
def test_endless_sequence_is_given_up(start: str) -> None:
    decoder = InputDecoder()
    assert decoder.feed(encoded(start)) == []
    assert decoder.feed(b"1" * (SEQUENCE_LIMIT - len(start))) == []
    assert decoder.feed(b"2\rx") == ["2"]
    assert decoder.flush() == [Paste("\nx")]


# ------------------------------------------------------------------ text


def test_character_in_two_reads_is_one() -> None:
    for text in ("ü", "你", "👋"):
        data = text.encode()
        for cut in range(1, len(data)):
            assert read(data[:cut], data[cut:]) == [text]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a\xffb", "a\ufffdb"),
        (b"a\xfcbc", "a\ufffdbc"),
        (b"\xe4\xbdx", "\ufffdx"),
        (b"\xe4\xbd", "\ufffd"),
        (b"\xed\xa0\x80y", "\ufffd\ufffd\ufffdy"),
        (b"\xc3\xc3\xbc", "\ufffdü"),
    ],
)
def test_invalid_utf8_takes_no_other_characters(data: bytes, text: str) -> None:
    assert InputDecoder().feed(data + b"\x01") == [*text, "C-a"]
    assert read(data) == spelled(text)
    assert read(BEGIN.encode() + data + END.encode()) == [Paste(text)]


@pytest.mark.parametrize(
    ("encoding", "data", "text"),
    [
        ("ANSI_X3.4-1968", "für 你".encode(), "für 你"),
        ("ANSI_X3.4-1968", b"f\xfcr", "f\ufffdr"),
        ("ISO-8859-1", "für 你".encode(), "für 你"),
        ("ISO-8859-1", b"f\xfcr \xe4\xe4h\xe4", "für äähä"),
        ("ISO-8859-15", b"\xa4", "€"),
        ("KOI8-R", "привет".encode("koi8-r"), "привет"),
        ("EUC-JP", "日本 ab".encode("euc-jp"), "日本 ab"),
        ("GBK", "模块 ab".encode("gbk"), "模块 ab"),
        ("no-such-encoding", "für".encode(), "für"),
    ],
)
def test_text_is_decoded_in_every_locale(encoding: str, data: bytes, text: str) -> None:
    assert read(data, encoding=encoding) == spelled(text)
    assert read(*(data[at : at + 1] for at in range(len(data))), encoding=encoding) == spelled(text)
    assert read(BEGIN.encode() + data + END.encode(), encoding=encoding) == [Paste(text)]


def test_alt_with_a_locale_character_is_a_key() -> None:
    assert read(b"\x1b\xe4x", encoding="ISO-8859-1") == ["M-ä", "x"]
    assert read(b"\x1b", "ä".encode(), b"x", encoding="ISO-8859-1") == ["M-ä", "x"]
    assert read(b"\x1b\xe4\xbdx") == ["M-\ufffd", "x"]


# ------------------------------------------------------------------ reports

REPORTS = [
    b"\x1b]11;rgb:0000/0000/0000\x07",
    b"\x1b]4;1;rgb:cdcd/0000/0000\x1b\\",
    b"\x1b]lthe title \xc3\xbc\x1b\\",
    b"\x1b]52;c;aGVsbG8=\x07",
    b"\x1bP>|XTerm(370)\x1b\\",
    b"\x1bP1$r0m\x1b\\",
    b"\x1bP!|7E565445\x1b\\",
    b"\x1b_Gi=31;OK\x1b\\",
    b"\x1b^private\x1b\\",
    b"\x1bXa string\x1b\\",
    b"\x1b[M a!",
    b"\x1b[M\x20\xe9\xfa",
    b"\x1b[<0;33;5M",
    b"\x1b[<0;33;5m",
    b"\x1b[32;40;50M",
    b"\x1b[I",
    b"\x1b[O",
    b"\x1b[?1;2c",
    b"\x1b[>41;370;0c",
    b"\x1b[0n",
    b"\x1b[?2004;1$y",
    b"\x1b[8;24;80t",
    b"\x1b[?1u",
]


@pytest.mark.parametrize("report", REPORTS)
def test_report_never_lands_in_the_text(report: bytes) -> None:
    assert read(b"a" + report + b"b") == ["a", "b"]
    assert read(b"one\r" + report + b"two") == [*"one", Paste("\ntwo")]
    for cut in range(2, len(report)):
        assert read(b"a" + report[:cut], report[cut:] + b"b") == ["a", "b"]


@pytest.mark.parametrize("report", [r for r in REPORTS if r[1:2] == b"["])
def test_escape_just_before_a_report_is_a_key(report: bytes) -> None:
    assert read(b"\x1b" + report + b"b") == ["Escape", "b"]
    assert read(f"\x1b{BEGIN}one{END}") == ["Escape", Paste("one")]


@pytest.mark.parametrize("report", [r for r in REPORTS if r[1:2] in (b"]", b"P", b"_")])
def test_report_without_terminator_swallows_nothing_else(report: bytes) -> None:
    broken = report.removesuffix(b"\x07").removesuffix(b"\x1b\\")
    assert read(broken + b"\x1b[Ab") == ["Up", "b"]
    assert read(broken + b"\r") == ["Enter"]
    assert read_by_pause(broken, b"b") == ["b"]


def test_endless_typing_after_a_report_is_soon_heard() -> None:
    decoder = InputDecoder()
    decoder.feed(b"\x1b]11;rgb:0000", 100.0)
    assert decoder.deadline == 100.5
    assert decoder.feed(b"a", 100.4) == []
    assert decoder.deadline == 100.5
    assert decoder.feed(b"b", 100.6) == ["b"]


def test_alt_with_typing_is_no_string() -> None:
    assert read("\x1b_hello\r") == ["M-_", *"hello", "Enter"]
    assert read("\x1b]\x1bXhi") == ["M-]", "M-X", *"hi"]


def test_cursor_position_is_delivered() -> None:
    decoder = InputDecoder()
    assert decoder.feed(b"a\x1b[2;") == ["a"]
    assert decoder.feed(b"2Rb\x1b[24;80R") == [CursorPosition(2, 2), "b", CursorPosition(24, 80)]
    assert decoder.feed(b"\x1b\x1b[3;4R") == ["Escape", CursorPosition(3, 4)]
    assert decoder.feed(b"\x1b[?3;4;1R\x1b[1;80R") == [CursorPosition(3, 4), CursorPosition(1, 80)]


@pytest.mark.parametrize("keys", [{}, {b"\x1b[1;2R": "S-F3"}])
def test_row_tells_f3_from_an_answer(keys: dict[bytes, str]) -> None:
    """Both are the same sequence; a question that was never answered swallows no key."""
    decoder = InputDecoder(keys=keys)
    sent = b"".join(b"\x1b[1;2R\x1b[%d;2R" % row for row in range(2, 8))
    items: list[Item] = []
    for row in range(2, 8):
        items += ["S-F3", CursorPosition(row, 2)]
    assert decoder.feed(sent) == items


# ------------------------------------------------------------------ pastes in brackets


def test_paste_is_one_item() -> None:
    pasted = "one\rtwo\r\nthree\n\tfour \x1b[A \x03"
    there = Paste("one\ntwo\nthree\n\tfour \x1b[A \x03")
    assert read(f"a{BEGIN}{pasted}{END}b\r") == ["a", there, "b", "Enter"]


def test_newline_at_the_end_of_paste_is_dropped() -> None:
    for end in ("\r", "\n", "\r\n"):
        assert read(f"{BEGIN}one{end}two{end}{END}") == [Paste("one\ntwo")]
        assert read(f"{BEGIN}one{end}{end}{END}") == [Paste("one\n")]
        assert read(f"{BEGIN}{end}{END}") == []


def test_empty_paste_is_ignored() -> None:
    assert read(f"{BEGIN}{END}x") == ["x"]


def test_paste_end_without_start_is_ignored() -> None:
    assert read(f"{END}x") == ["x"]


def test_unfinished_paste_ends_with_a_flush() -> None:
    decoder = InputDecoder()
    assert decoder.feed(f"{BEGIN}half of it\r\x1b[20".encode(), 5.0) == []
    assert decoder.deadline == 7.0
    assert decoder.flush() == [Paste("half of it\n\x1b[20")]
    assert not is_holding(decoder)
    assert decoder.feed(b"\r") + decoder.flush() == ["Enter"]


def test_rest_of_a_given_up_paste_is_pasted() -> None:
    decoder = InputDecoder()
    decoder.feed(f"{BEGIN}one\rtw".encode())
    decoder.flush()
    assert decoder.feed(f"o\r{END}".encode()) == ["o"]
    assert decoder.flush() == []


def test_broken_off_paste_does_not_affect_the_next() -> None:
    decoder = InputDecoder()
    decoder.feed(f"{BEGIN}a{END[:-1]}".encode())
    decoder.flush()
    assert decoder.feed(f"{BEGIN}~b{END}".encode()) == [Paste("~b")]


@pytest.mark.parametrize("unit", ["\r\n", "ab", "👋"])
@pytest.mark.parametrize(("begin", "end"), [(BEGIN, END), ("\ra", "")])
def test_kept_paste_exceeds_any_input_line(unit: str, begin: str, end: str) -> None:
    decoder = InputDecoder()
    decoder.feed(begin.encode())
    for _ in range(PASTE_LIMIT // 2**16 + 2):
        decoder.feed(unit.encode() * (2**16 // len(unit.encode())))
    (paste,) = decoder.feed(end.encode()) + decoder.flush()
    assert isinstance(paste, Paste)
    assert LINE_LIMIT < len(paste.text) <= PASTE_LIMIT + 2**16
    assert decoder.feed(b"x") == ["x"]


# ------------------------------------------------------------------ pastes without brackets


@pytest.mark.parametrize(
    ("raw", "items"),
    [
        ("hi\r", [*"hi", "Enter"]),
        ("y\r", ["y", "Enter"]),
        ("/wi\t\r", [*"/wi", "Tab", "Enter"]),
        ("\r\r\r", ["Enter"] * 3),
        ("hi\r\r", [*"hi", "Enter", "Enter"]),
        ("hi\r\x1b[Ax", [*"hi", "Enter", "Up", "x"]),
        ("one\x1b\rtwo\r", [*"one", "M-Enter", *"two", "Enter"]),
        ("one\ttwo", [*"one", "Tab", *"two"]),
        ("one\rtwo", [*"one", Paste("\ntwo")]),
        ("one\rtwo\r", [*"one", Paste("\ntwo")]),
        ("one\r\r\ttwo\n\n", [*"one", Paste("\n\n\ttwo\n")]),
        ("one\r\ntwo\r\n", [*"one", Paste("\ntwo")]),
        ("\tif x:\r\treturn\r", [Paste("\tif x:\n\treturn")]),
        ("one\rtwo\r\x1b[A", [*"one", Paste("\ntwo\n"), "Up"]),
        ("one\rtwo\x0cthree\rfour\r", [*"one", Paste("\ntwo"), "C-l", *"three", Paste("\nfour")]),
        (f"hi\r{BEGIN}one{END}", [*"hi", "Enter", Paste("one")]),
        (f"{BEGIN}one{END}\r", [Paste("one"), "Enter"]),
    ],
)
def test_text_right_after_a_line_break_is_pasted(raw: str, items: list[Item]) -> None:
    assert read(raw) == items
    assert read(*raw) == items
    assert read_by_pause(raw, "x\r") == [*items, "x", "Enter"]


LINE = "x" * (TYPED_AT_ONCE + 1)


@pytest.mark.parametrize(
    ("raw", "items"),
    [
        (f"{LINE}\r", [*LINE]),
        (f"{LINE}\n", [*LINE]),
        (f"{LINE}\r\n", [*LINE]),
        (f"{LINE}\r\r", [*LINE, Paste("\n")]),
        (f"{LINE}\ttwo\r", [*LINE, Paste("\ttwo")]),
        ("a\tb c d e f\r", ["a", Paste("\tb c d e f")]),
        (f"{LINE}\t", [*LINE, "Tab"]),
        (f"{LINE[1:]}\r", [*LINE[1:], "Enter"]),
        ("ab\r\r\r\r\r\r\r\r\r", ["a", "b", *["Enter"] * 9]),
        (f"{LINE}\r\x1b[A", [*LINE, "Enter", "Up"]),
        (f"{LINE}\x1b[A\r", [*LINE, "Up", "Enter"]),
    ],
)
def test_unmarked_line_with_its_break_is_pasted(raw: str, items: list[Item]) -> None:
    """Where the terminal does not mark pastes; a few characters may be typing that was held up."""
    for parts in ([raw], list(raw)):
        decoder = InputDecoder(marks_pastes=False)
        got = [item for part in parts for item in decoder.feed(part.encode())] + decoder.flush()
        assert got == items
        assert decoder.feed(b"\r") + decoder.flush() == ["Enter"]


def test_line_is_typed_where_pastes_are_marked() -> None:
    assert read(f"{LINE}\r") == [*LINE, "Enter"]


def test_typed_line_has_pauses() -> None:
    decoder = InputDecoder(marks_pastes=False)
    for number, character in enumerate(LINE):
        assert decoder.feed(character.encode(), 5.0 + number / 50) == [character]
    assert decoder.feed(b"\r", 6.0) + decoder.flush() == ["Enter"]


def test_lines_with_pauses_are_typed() -> None:
    assert read_by_pause("hi\r", "there\r") == [*"hi", "Enter", *"there", "Enter"]


def test_deadlines_fit_what_is_held_back() -> None:
    decoder = InputDecoder()
    for data, wait in [
        (b"a", None),
        (b"\r", 0.01),
        (b"b", 0.25),
        (b"\x1b", 0.05),
        (b"[", 0.05),
        (b"1", 0.5),
        (b";5C", 0.25),
    ]:
        decoder.feed(data, 8.0)
        assert decoder.deadline == (None if wait is None else 8.0 + wait)
    decoder.flush()
    assert not is_holding(decoder)
    decoder.feed(b"\xe4", 9.0)
    assert decoder.deadline == 9.5


def test_held_back_byte_of_a_locale_appears_soon() -> None:
    decoder = InputDecoder("ISO-8859-1")
    assert decoder.feed(b"\xe4", 9.0) == []
    assert decoder.deadline == 9.05
    assert decoder.flush() == ["ä"]


# ------------------------------------------------------------------ in several reads

# Parts of keys, so that whole ones come about.
PIECES = [
    *"\x1b[O?;$~u12A\r\n\ta你\x07\\]P_X^GMR< ",
    *(
        "\x1b[",
        "\x1bO",
        "200~",
        BEGIN,
        END,
        "\x1b[1;5C",
        "\x1b]1",
        "\x1b\\",
        "\x1b[M",
        "\x1b[1;2R",
        "\x1b[3;2R",
    ),
]
pieces = st.one_of(
    st.sampled_from(PIECES).map(str.encode),
    st.binary(max_size=3),
    st.text(max_size=3).map(lambda text: text.encode("utf-8", "surrogatepass")),
)
streams = st.lists(pieces, max_size=20).map(b"".join)
encodings = st.sampled_from(["utf-8", "ascii", "ISO-8859-1", "GBK"])
KEYS = {b"\x1b[1;2R": "F15", b"\x1b[1;5C": "C-Right", b"\x1bOt": "F5", b"\x1b[[A": "F1"}


@given(streams, st.lists(st.integers(0, 60), max_size=8), encodings, st.booleans())
@example(f"{BEGIN}a\r\nb{END}\x1b[A".encode(), [1, 3, 8, 9, 14], "utf-8", True)
@example("one\rtwoü\r".encode(), [3, 4, 8], "utf-8", True)
@example("one long line ü\r".encode(), [3, 4, 8, 14], "utf-8", False)
def test_result_is_independent_of_read_boundaries(
    data: bytes, cuts: list[int], encoding: str, marks_pastes: bool
) -> None:
    whole, parts = (InputDecoder(encoding, KEYS, marks_pastes=marks_pastes) for _ in range(2))
    edges = [0, *sorted(cuts), max(len(data), 60)]
    items = [item for start, end in pairwise(edges) for item in parts.feed(data[start:end])]
    assert items + parts.flush() == whole.feed(data) + whole.flush()


@given(streams, st.lists(st.integers(0, 60), max_size=8), encodings)
def test_nothing_is_held_back_after_a_flush(data: bytes, cuts: list[int], encoding: str) -> None:
    decoder = InputDecoder(encoding, KEYS)
    for start, end in pairwise([0, *sorted(cuts), max(len(data), 60)]):
        decoder.feed(data[start:end])
        decoder.flush()
        assert not is_holding(decoder)
    assert decoder.feed(b"x") == ["x"]


typed = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=4)


@given(st.lists(st.one_of(typed, st.sampled_from(REPORTS)), max_size=12), st.integers(1, 5))
def test_no_byte_takes_others_with_it(parts: list[str | bytes], size: int) -> None:
    """Whatever stands between them, in reads of any size, all characters arrive, in order."""
    data = b"".join(encoded(part) for part in parts)
    reads = [data[start : start + size] for start in range(0, len(data), size)]
    assert read(*reads) == spelled("".join(part for part in parts if isinstance(part, str)))


@given(st.binary(max_size=40).filter(lambda data: b"\x1b" not in data), st.integers(1, 5))
def test_every_byte_without_escape_is_delivered(data: bytes, size: int) -> None:
    """Invalid bytes become U+FFFD, and valid ones beside them are themselves."""
    reads = [data[start : start + size] for start in range(0, len(data), size)]
    expected = data.decode("utf-8", "replace")
    got = "".join(_as_text(item) for item in read(*reads))
    assert got.replace("\r\n", "\n").replace("\r", "\n").strip("\n") == expected.replace(
        "\r\n", "\n"
    ).replace("\r", "\n").translate({0x7F: "\b"}).strip("\n")


def _as_text(item: Item) -> str:
    if isinstance(item, Paste):
        return item.text
    assert isinstance(item, str)
    named = {"Enter": "\r", "Tab": "\t", "Backspace": "\b", "C-Space": "\0"}
    if item in named:
        return named[item]
    return item if len(item) == 1 else chr(ord(item[-1].upper()) - 64)


MARKED = b"\x1b[200~x\x1b[201~"
ANSWER = b"\x1b[3;2R"


@pytest.mark.parametrize("shown", [MARKED, ANSWER])
def test_lone_enter_is_key_where_pastes_are_marked(shown: bytes) -> None:
    """`send-keys one Enter two`, and Enter a fifth of a second later."""
    decoder = InputDecoder()
    decoder.feed(shown, 0.0)
    assert decoder.feed(b"one\rtwo", 1.0) == ["o", "n", "e"]
    assert decoder.feed(b"\r", 1.2) + decoder.flush() == [Paste("\ntwo"), "Enter"]


@pytest.mark.parametrize(
    ("shown", "marks"), [(b"", True), (b"", False), (ANSWER, False)], ids=["silent", "no", "linux"]
)
def test_late_line_break_may_belong_to_paste(shown: bytes, marks: bool) -> None:
    decoder = InputDecoder(marks_pastes=marks)
    decoder.feed(shown, 0.0)
    decoder.feed(b"one\rtwo", 1.0)
    assert decoder.feed(b"\r", 1.2) + decoder.flush() == [Paste("\ntwo")]


@pytest.mark.parametrize(("last", "at"), [(b"\r", 1.01), (b"o\r", 1.2), (b"\rthree", 1.2)])
def test_rest_of_an_unmarked_paste_sends_nothing(last: bytes, at: float) -> None:
    """Its pieces come at once, or are more than a line break."""
    decoder = InputDecoder()
    decoder.feed(ANSWER, 0.0)
    decoder.feed(b"one\rtw", 1.0)
    assert "Enter" not in decoder.feed(last, at) + decoder.flush()
