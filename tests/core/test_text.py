"""Names, messages and file names: what is allowed, and what a terminal gets to see."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tchat.core.text import (
    FILE_NAME_LIMIT,
    NAME_LIMIT,
    TEXT_LIMIT,
    check_name,
    check_text,
    clean_limited,
    clean_line,
    clean_message,
    clean_text,
    counted,
    fold,
    quote_name,
    safe_filename,
)
from tchat.errors import Code, Refused

ANY_CHARACTER = st.characters(codec=None)
CONTROLS = st.sampled_from("\0\t\n\r\x1b\x7f\x85\u2028")
INVISIBLE = frozenset(
    "\u00ad\u034f\u115f\u1160\u180e\u200b\u2060\u2061\u2064\u206f\u3164\ufeff\uffa0\ufff9\U000e0001"
)
BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
SPECIAL = CONTROLS | st.sampled_from(sorted(INVISIBLE | BIDI | {"\u0301", "\u200d", "\u00a0"}))
any_text = st.text(ANY_CHARACTER | SPECIAL, max_size=40)
any_path = st.text(ANY_CHARACTER | st.sampled_from("./\\~- :\u00a0\u200d\u3000aé👋"), max_size=150)

ZALGO = "".join(map(chr, range(0x300, 0x340)))


# ------------------------------------------------------------------ names


@given(st.text(max_size=40))
def test_folding_is_idempotent(name: str) -> None:
    assert fold(fold(name)) == fold(name)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Alice", "aLICE"),
        ("Straße", "STRASSE"),
        ("ﬁona", "Fiona"),
        ("Ａlice", "alice"),  # noqa: RUF001
        ("José", "Jose\u0301"),
        ("Σίσυφος", "ΣΊΣΥΦΟΣ"),
        ("①", "1"),
    ],
)
def test_spellings_of_one_name_fold_alike(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(("one", "other"), [("bob", "rob"), ("a.b", "a_b"), ("jose", "josé")])
def test_different_names_stay_different(one: str, other: str) -> None:
    assert fold(one) != fold(other)


LATIN = ["alice", "A", "b-o_b.2", "-", "...", "1984", "José", "José", "Łukasz", "ậ"]
OTHERS = ["Дмитрий", "Ἀχιλλεύς", "אבגד", "محمد", "मनीष", "สมชาย", "李雷", "ひろし", "김철수"]


@pytest.mark.parametrize("name", [*LATIN, *OTHERS, "x" * NAME_LIMIT])
def test_name_may_be_of_any_script(name: str) -> None:
    assert check_name(name) == unicodedata.normalize("NFKC", name)


@pytest.mark.parametrize(
    "sign",
    " \t\n\0\x1b\x7f\x85\u00a0\u3000"
    "/\\:@#,!?'\"<>()|*~+=$%&½👋"
    "\u00ad\u034f\u115f\u200b\u200d\u200e\u202e\u2066\u2800\u3164\ufeff\U000e0041"
    "\ud800\ue000\uffff",
)
def test_other_signs_in_a_name_are_refused(sign: str) -> None:
    with pytest.raises(Refused) as caught:
        check_name(f"a{sign}b")
    assert caught.value.code == Code.BAD_NAME


@pytest.mark.parametrize("name", ["", "\u0301a", "x" + ZALGO[:3]])
def test_name_may_not_begin_or_flood_with_accents(name: str) -> None:
    with pytest.raises(Refused) as caught:
        check_name(name)
    assert caught.value.code == Code.BAD_NAME


def test_name_has_at_most_32_characters() -> None:
    with pytest.raises(Refused) as caught:
        check_name("x" * (NAME_LIMIT + 1))
    assert caught.value.code == Code.BAD_NAME


def test_name_too_long_after_folding_is_refused() -> None:
    with pytest.raises(Refused):
        check_name("ﷺ" * 3)


def test_refusal_says_what_kind_of_name() -> None:
    with pytest.raises(Refused, match="A group name needs"):
        check_name("", "group name")


@given(any_text)
def test_name_refusal_contains_no_terminal_controls(name: str) -> None:
    try:
        check_name(name)
    except Refused as refusal:
        sentence = refusal.sentence
    else:
        sentence = ""
    assert clean_line(sentence) == sentence


@given(st.text(max_size=NAME_LIMIT))
def test_valid_name_is_unchanged(name: str) -> None:
    try:
        shown = check_name(name)
    except Refused:
        return
    assert check_name(shown) == shown == clean_line(shown)
    assert 1 <= len(shown.encode()) <= 1024
    assert 1 <= len(fold(shown).encode()) <= 1024


def test_quoted_name_is_as_typed() -> None:
    assert quote_name("Bob") == "Bob"
    assert quote_name("x" * NAME_LIMIT) == "x" * NAME_LIMIT


def test_long_quoted_name_is_shortened() -> None:
    assert quote_name("x" * 10_000) == "x" * NAME_LIMIT + "…"


@given(any_text)
def test_quoted_name_is_a_short_clean_line(typed: str) -> None:
    quoted = quote_name(typed)
    assert clean_line(quoted) == quoted
    assert len(quoted) <= NAME_LIMIT + 1


# ------------------------------------------------------------------ messages


@pytest.mark.parametrize("blank", ["", " ", "\n\n", "\t", "\u2003\u00a0"])
def test_blank_message_is_refused(blank: str) -> None:
    with pytest.raises(Refused) as caught:
        check_text(blank)
    assert caught.value.code == Code.EMPTY_TEXT


@pytest.mark.parametrize("letter", ["x", "é", "漢", "👋"])
def test_message_is_measured_in_utf_8_bytes(letter: str) -> None:
    longest = letter * (TEXT_LIMIT // len(letter.encode()))
    check_text(longest)
    with pytest.raises(Refused) as caught:
        check_text(longest + letter)
    assert caught.value.code == Code.TEXT_TOO_LONG


@pytest.mark.parametrize(
    "text",
    [
        "hello everyone",
        "two\nlines\n",
        "",
        "naïve café",
        "Привет, שלום, مرحبا, नमस्ते, 你好",
        "👩‍👩‍👧 👍🏽 🏳️‍🌈 ❤️ 🇨🇭",
        "می‌خواهم",
        "क्‍ष",
        "ễ",
        "cafe\u0301",
        "\ue0b0 a patched font",
        "wide\u3000space",
    ],
)
def test_harmless_text_is_unchanged(text: str) -> None:
    assert clean_text(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "␛[2J"),
        ("\x1b]0;owned\x07", "␛]0;owned␇"),
        ("a\x00b", "a␀b"),
        ("a\x08b", "a␈b"),
        ("a\x7fb", "a␡b"),
        ("a\x9b31mb", "a\ufffd31mb"),
        ("a\x85b", "a\ufffdb"),
        ("a\rb", "a␍b"),
        ("a\r\nb", "a\nb"),
        ("a\u2028b\u2029c", "a\nb\nc"),
        ("a\ud800b", "a\ufffdb"),
        ("safe\u202etxt.exe", "safetxt.exe"),
        ("\u2067a\u2069b\u200e\u200f\u061c", "ab"),
        ("pay\u200bpal\u2060\ufeff\u00ad", "paypal"),
        ("a\u034fb\u3164c\u2800d", "abcd"),
        ("a\U000e0041\U000e007fb", "ab"),
        ("a\uffffb\ufdd0\U0001ffffc", "abc"),
    ],
)
def test_terminal_controls_are_shown_or_dropped(text: str, shown: str) -> None:
    assert clean_text(text) == shown


@pytest.mark.parametrize("text", ["\u200dab", "a \u200db", "a\n\u200cb", "a\u200b\u200d\u200cb"])
def test_joiner_without_neighbours_is_dropped(text: str) -> None:
    assert len(clean_text(text)) < len(text)


def test_row_of_joiners_becomes_one() -> None:
    assert clean_text("a" + "\u200d" * 9 + "b") == "a\u200db"


def test_number_of_accents_per_character_is_limited() -> None:
    assert clean_text("a" + ZALGO + "b" + ZALGO) == "a" + ZALGO[:5] + "b" + ZALGO[:5]


def test_dropped_characters_do_not_reset_accent_limit() -> None:
    assert clean_text("a" + "\u200b".join(ZALGO)) == "a" + ZALGO[:5]


def test_joiners_do_not_reset_the_accent_limit() -> None:
    assert clean_text("a" + "\u200d".join(ZALGO)).count(ZALGO[20]) == 0


def test_clean_line_shows_line_breaks() -> None:
    assert clean_line("one\ntwo\r\nthree\u2028four") == "one↵two↵three↵four"


@given(any_text)
def test_clean_text_is_unchanged(text: str) -> None:
    clean = clean_text(text)
    assert clean_text(clean) == clean


@given(any_text)
def test_clean_text_has_no_terminal_controls(text: str) -> None:
    for character in clean_text(text).replace("\n", "").replace("\t", ""):
        assert unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
        assert character not in BIDI | INVISIBLE


@pytest.mark.parametrize("text", ["a\tb", "\tgcc -o a a.c", "name\tvalue\t\n\t\tx"])
def test_tabs_stay_in_messages(text: str) -> None:
    assert clean_text(text) == clean_message(text) == text


def test_tab_on_one_line_is_a_space() -> None:
    assert clean_line("a\tb\n\tc") == "a b↵ c"
    assert clean_limited("a\tb", 3, "A topic") == "a b"


@given(any_text)
def test_clean_line_is_one_line(text: str) -> None:
    assert len(clean_line(text).splitlines()) <= 1


@given(any_text)
def test_clean_text_can_be_encoded(text: str) -> None:
    assert clean_text(text).encode().decode() == clean_text(text)


# ------------------------------------------------------------------ file names


HARMLESS = [
    "report.pdf",
    "archive.tar.gz",
    "README",
    "Übersicht-2026.txt",
    "写真.jpg",
    "👋.png",
    "a_b.c",
]


@pytest.mark.parametrize("name", [*HARMLESS, "with spaces.txt", "x" * FILE_NAME_LIMIT])
def test_harmless_file_name_is_unchanged(name: str) -> None:
    assert safe_filename(name) == name


@pytest.mark.parametrize(
    ("raw", "safe"),
    [
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("C:\\Windows\\system.ini", "system.ini"),
        ("dir/sub/", "sub"),
        ("a/../b", "b"),
        (".bashrc", "bashrc"),
        ("...hidden", "hidden"),
        ("-rf", "rf"),
        ("--help", "help"),
        ("~root", "root"),
        (" padded ", "padded"),
        ("trailing. . .", "trailing"),
        ("", "file"),
        (".", "file"),
        ("..", "file"),
        ("......", "file"),
        ("/", "file"),
        ("//\\\\", "file"),
        (" . ", "file"),
        ("\u200b\u202e", "file"),
        ("a\nb.txt", "a_b.txt"),
        ("a\x00b.txt", "a_b.txt"),
        ("a\x1b[31mb.txt", "a_[31mb.txt"),
        ("a\ud800.txt", "a_.txt"),
        ("gpj\u202e.exe", "gpj.exe"),
        ('a<b>c:d"e|f?g*h', "a_b_c_d_e_f_g_h"),
        ("nul", "_nul"),
        ("CON.txt", "_CON.txt"),
        ("com1.tar.gz", "_com1.tar.gz"),
        ("LPT9", "_LPT9"),
        ("console.txt", "console.txt"),
        ("e\u0301.txt", "é.txt"),
    ],
)
def test_file_name_is_made_harmless(raw: str, safe: str) -> None:
    assert safe_filename(raw) == safe


def test_shortened_device_name_is_made_harmless() -> None:
    assert safe_filename("CON" + " " * 200 + "x") == "_CON"


@pytest.mark.parametrize(("raw", "safe"), [("-\u200d-x", "x"), ("..\u200c..", "file")])
def test_joiners_at_file_name_edges_are_stripped(raw: str, safe: str) -> None:
    assert safe_filename(raw) == safe


def test_long_file_name_keeps_its_extension() -> None:
    assert safe_filename("x" * 300 + ".pdf") == "x" * (FILE_NAME_LIMIT - 4) + ".pdf"


def test_long_file_name_is_cut_between_characters() -> None:
    assert safe_filename("é" * 300 + ".txt") == "é" * 58 + ".txt"
    assert safe_filename("👋" * 300) == "👋" * 30


def test_long_extension_is_cut_too() -> None:
    assert safe_filename("a." + "x" * 300) == "a." + "x" * (FILE_NAME_LIMIT - 2)


@given(any_path)
@example(". -rf")
@example(".\u00a0..\u00a0.")
@example("x.\u00a0.")
@example("a" * 119 + "." + "b" * 30)
def test_any_file_name_becomes_safe(raw: str) -> None:
    name = safe_filename(raw)
    assert name not in ("", ".", "..")
    assert not set(name) & set("/\\\0\n")
    assert name[0] not in ".-~ "
    assert name[-1] not in ". "
    assert len(name.encode()) <= FILE_NAME_LIMIT


@given(any_path)
@example(". -rf")
@example(".\u00a0..\u00a0.")
@example("x.\u00a0.")
@example("a" * 119 + "." + "b" * 30)
def test_safe_file_name_is_unchanged(raw: str) -> None:
    name = safe_filename(raw)
    assert safe_filename(name) == name


@pytest.mark.parametrize(
    "raw", ["alice\ufe0f", "al\u180bice", "a\U000e0100b", "a\u3164", "a\u1160"]
)
def test_name_with_invisible_marks_is_refused(raw: str) -> None:
    with pytest.raises(Refused):
        check_name(raw)


@pytest.mark.parametrize("text", ["\ufe0f", "\u2065", "\U0001d159", "\u0301", "\u3000", "\n \t"])
def test_invisible_message_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        check_text(clean_text(text))


@pytest.mark.parametrize("text", ["👍", "❤\ufe0f", "…", "\u0627", "\ue0b0", "-"])
def test_one_visible_character_makes_a_message(text: str) -> None:
    check_text(clean_text(text))


@pytest.mark.parametrize(
    ("number", "plural", "expected"),
    [(0, "", "0 files"), (1, "", "1 file"), (2, "", "2 files"), (2, "archives", "2 archives")],
)
def test_counted_noun_agrees_with_number(number: int, plural: str, expected: str) -> None:
    assert counted(number, "file", plural) == expected
