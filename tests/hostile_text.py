"""Corpus of hostile text: terminal escape sequences, control characters, bidi, zalgo, wide cells.

Each case pairs the text that is sent with the text that must be shown. Tests send the cases as
messages, names, file names and every other text field. The oracle
`unsafe_characters` finds characters that must never reach a terminal, without use of the sanitizer.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from tchat.client.bounds import NAME_LENGTH

ESC, BEL, ST = "\x1b", "\x07", "\x1b\\"


class Case(NamedTuple):
    """Hostile text, and what must be shown of it."""

    name: str
    text: str
    shown: str


_FLOOD = "".join(map(chr, range(0x300, 0x360)))
_TAGS = "".join(chr(0xE0000 + ord(letter)) for letter in "secret")

SEQUENCES = (
    Case("clear the screen", f"{ESC}[2J{ESC}[H gone", "␛[2J␛[H gone"),
    Case("erase the scrollback", f"{ESC}[3J", "␛[3J"),
    Case("hidden colours", f"{ESC}[31;8m red {ESC}[7m", "␛[31;8m red ␛[7m"),
    Case("colours that never end", f"{ESC}[48;2;255;0;0;5m", "␛[48;2;255;0;0;5m"),
    Case("move up and overwrite", f"{ESC}[5A{ESC}[1Gforged", "␛[5A␛[1Gforged"),
    Case("move to the title", f"{ESC}[1;1Hforged", "␛[1;1Hforged"),
    Case("save and restore the cursor", f"{ESC}7{ESC}8{ESC}[s{ESC}[u", "␛7␛8␛[s␛[u"),
    Case("scroll region", f"{ESC}[3;4r", "␛[3;4r"),
    Case("insert lines", f"{ESC}[9L{ESC}[9P", "␛[9L␛[9P"),
    Case("repeat a character", f"x{ESC}[9999b", "x␛[9999b"),
    Case("alternate screen", f"{ESC}[?1049l{ESC}[?47h", "␛[?1049l␛[?47h"),
    Case("hide the cursor", f"{ESC}[?25l", "␛[?25l"),
    Case("no wrapping", f"{ESC}[?7l", "␛[?7l"),
    Case("soft reset", f"{ESC}[!p", "␛[!p"),
    Case("hard reset", f"{ESC}c", "␛c"),
    Case("screen of E", f"{ESC}#8", "␛#8"),
    Case("line drawing letters", f"{ESC}(0qqq\x0eqqq", "␛(0qqq␎qqq"),
    Case("end of a paste", f"{ESC}[201~rm -rf ~\r", "␛[201~rm -rf ~␍"),
    Case("bracketed paste off", f"{ESC}[?2004l", "␛[?2004l"),
    Case("mouse reports", f"{ESC}[?1000h{ESC}[?1006h", "␛[?1000h␛[?1006h"),
    Case("focus reports", f"{ESC}[?1004h", "␛[?1004h"),
    # A terminal's reply arrives as typed input, in the program and, after its end, in the shell.
    Case("ask who it is", f"{ESC}[c{ESC}[6n{ESC}[21t\x05", "␛[c␛[6n␛[21t␅"),
    Case("ask for a setting", f"{ESC}P$qm{ST}", "␛P$qm␛\\"),
    Case("window size", f"{ESC}[8;1;1t{ESC}[2t", "␛[8;1;1t␛[2t"),
    Case("keyboard locked", f"{ESC}[2h{ESC}[12l", "␛[2h␛[12l"),
    Case("title", f"{ESC}]0;owned{BEL}", "␛]0;owned␇"),
    Case("title, the other end", f"{ESC}]2;owned{ST}", "␛]2;owned␛\\"),
    Case("icon", f"{ESC}]1;owned{ST}", "␛]1;owned␛\\"),
    Case("clipboard", f"{ESC}]52;c;b3duZWQ={BEL}", "␛]52;c;b3duZWQ=␇"),
    Case("clipboard, asked for", f"{ESC}]52;c;?{ST}", "␛]52;c;?␛\\"),
    Case("a link", f"{ESC}]8;;x:y{ST}bank{ESC}]8;;{ST}", "␛]8;;x:y␛\\bank␛]8;;␛\\"),
    Case("palette", f"{ESC}]4;0;rgb:ff/ff/ff{BEL}{ESC}]104{BEL}", "␛]4;0;rgb:ff/ff/ff␇␛]104␇"),
    Case("desktop notices", f"{ESC}]9;a{BEL}{ESC}]777;notify;a;b{BEL}", "␛]9;a␇␛]777;notify;a;b␇"),
    Case("an image", f"{ESC}]1337;File=inline=1:AAAA{BEL}", "␛]1337;File=inline=1:AAAA␇"),
    Case("a string without its end", f"{ESC}]0;never closed", "␛]0;never closed"),
    Case("device control", f"{ESC}P1;1|17/41{ST}", "␛P1;1|17/41␛\\"),
    Case("sixel", f"{ESC}Pq#0;2;0;0;0~{ST}", "␛Pq#0;2;0;0;0~␛\\"),
    Case("application command", f"{ESC}_Ga=T;AAAA{ST}", "␛_Ga=T;AAAA␛\\"),
    Case("start of string", f"{ESC}Xowned{ST}", "␛Xowned␛\\"),
    Case("privacy message", f"{ESC}^owned{ST}", "␛^owned␛\\"),
    Case("a multiplexer's title", f"{ESC}kowned{ST}", "␛kowned␛\\"),
    Case("a sequence in a sequence", f"{ESC}{ESC}[2J[2J", "␛␛[2J[2J"),
    Case("a sequence around a dropped one", f"{ESC}\u200b[2J", "␛[2J"),
    Case("eight bits: CSI", "\x9b2J\x9b31m", "\ufffd2J\ufffd31m"),
    Case("eight bits: OSC", "\x9d0;owned\x9c", "\ufffd0;owned\ufffd"),
    Case("eight bits: DCS", "\x90q\x9c", "\ufffdq\ufffd"),
    Case("eight bits: APC and SOS", "\x9fa\x9c\x98b\x9c", "\ufffda\ufffd\ufffdb\ufffd"),
    Case("eight bits: PM and SCI", "\x9ea\x9c\x9ac", "\ufffda\ufffd\ufffdc"),
    Case("eight bits: index, tabs", "\x84\x88\x8d", "\ufffd\ufffd\ufffd"),
)  # fmt: skip

CONTROLS = (
    Case("NUL", "a\0b", "a␀b"),
    Case("bell", "a\ab", "a␇b"),
    Case("backspace over the name", "\b\b\b\b\bforged", "␈␈␈␈␈forged"),
    Case("rubout", "a\x7f\x7fb", "a␡␡b"),
    Case("carriage return over the name", "bob\r[10:02] <alice> yes", "bob␍[10:02] <alice> yes"),
    Case("line feed", "one\n[10:02] <alice> yes", "one\n[10:02] <alice> yes"),
    Case("both", "one\r\ntwo", "one\ntwo"),
    Case("vertical tab and form feed", "a\vb\fc", "a␋b␌c"),
    Case("next line", "a\x85b", "a\ufffdb"),
    Case("line and paragraph separators", "a\u2028b\u2029c", "a\nb\nc"),
    Case("tab", "a\tb", "a\tb"),
    Case("tabs to the last column", "a" + "\t" * 40 + "b", "a" + "\t" * 40 + "b"),
    Case("tabs over columns", "\t│ ★ alice\n\t[10:02]\t--", "\t│ ★ alice\n\t[10:02]\t--"),
    Case("marks on a tab", "a\t\u0301b", "a\t\u0301b"),
    Case("shift out", "a\x0eb\x0fc", "a␎b␏c"),
    Case("flow control", "a\x13b\x11c", "a␓b␑c"),
    Case("end of file, cancel, substitute", "a\x04b\x18c\x1ad", "a␄b␘c␚d"),
    Case("separators of fields", "a\x1cb\x1dc\x1ed\x1fe", "a␜b␝c␞d␟e"),
)

UNSEEN = (
    Case("override", "invoice\u202efdp.exe\u202c", "invoicefdp.exe"),
    Case("embeddings", "a\u202ab\u202bc\u202dd", "abcd"),
    Case("isolates, never closed", "a\u2066b\u2067c\u2068d", "abcd"),
    Case("marks of direction", "a\u200eb\u200fc\u061cd", "abcd"),
    Case("zero width", "pay\u200bpal\u2060\ufeff", "paypal"),
    Case("soft hyphen", "a\u00adb", "ab"),
    Case("joiners with nothing to join", "\u200d\u200cab \u200dc", "ab c"),
    Case("a heap of joiners", "a" + "\u200d" * 2000 + "b", "a\u200db"),
    Case("blank letters", "a\u3164b\uffa0c\u115f\u1160d\u2800e", "abcde"),
    Case("grapheme joiner", "a\u034fb", "ab"),
    Case("unseen operators", "a\u2061b\u2062c\u2063d\u2064e", "abcde"),
    Case("old format controls", "a\u206ab\u206fc\ufff9d\ufffbe", "abcde"),
    Case("words in tags", f"hello{_TAGS}\U000e007f", "hello"),
    Case("noncharacters", "a\uffffb\ufdd0c\U0010ffffd", "abcd"),
    Case("Khmer vowels nobody sees", "a\u17b4b\u17b5c", "abc"),
    Case("musical beams", "a\U0001d173b\U0001d17ac", "abc"),
)

FLOODS = (
    Case("a tower of marks", "a" + _FLOOD * 30 + "b", "a" + _FLOOD[:5] + "b"),
    Case("a tower on every letter", f"z{_FLOOD}a{_FLOOD}", f"z{_FLOOD[:5]}a{_FLOOD[:5]}"),
    Case("marks on nothing", _FLOOD + "x", _FLOOD[:5] + "x"),
    Case("enclosing marks", "a" + "\u20dd" * 1000, "a" + "\u20dd" * 5),
    Case("selectors", "a" + "\ufe0f" * 1000 + "b", "a" + "\ufe0f" * 5 + "b"),
    Case("selectors with joiners", "a" + "\ufe0f\u200d" * 500, "a" + "\ufe0f\u200d" * 5),
)  # fmt: skip

SHAPES = (
    # Text whose width Python libraries, C libraries and terminals disagree about.
    Case("a word wider than the screen", "x" * 300, "x" * 300),
    Case("wide characters", "漢" * 150, "漢" * 150),
    Case("the widest", "﷽𒐫" * 40, "﷽𒐫" * 40),
    Case("spacing marks", "की" * 150, "की" * 150),
    Case("a row of spacing marks", "की" * 30, "की" * 30),
    Case("tone marks that are wide", "가\u302e" * 80, "가\u302e" * 80),
    Case("numbers in squares", "㉈" * 100, "㉈" * 100),
    Case("not yet in every table", "\u1ace\u1ad0" * 150, "\u1ace\u1ad0" * 150),
    Case("unassigned and wide", "\U0001fae9\U0003fffd" * 60, "\U0001fae9\U0003fffd" * 60),
    Case("private use", "\ue0b0\U000f0000\U0010fffd", "\ue0b0\U000f0000\U0010fffd"),
    Case("wide spaces", "a\u3000b\u2003c\u00a0d", "a\u3000b\u2003c\u00a0d"),
    Case("the border's own signs", "│ ★ alice │", "│ ★ alice │"),
)

HOSTILE = (*SEQUENCES, *CONTROLS, *UNSEEN, *FLOODS, *SHAPES)

EVERYTHING = "".join(f"{case.text} " for case in HOSTILE if len(case.text) < 100)

NAMES = tuple(case for case in HOSTILE if len(case.text) <= NAME_LENGTH)
"""The cases that a client accepts as names; with a longer one, it gives the group up."""

LONG_NAME = EVERYTHING[: NAME_LENGTH - len("@alice,")]
"""A hostile name that is almost too long."""
"""All short cases in one text, for fields that are shown only once."""

HARMLESS = (
    "hello everyone",
    "naïve café, cafe\u0301",
    "Привет",
    "שלום עולם",
    "مرحبا بالعالم",
    "नमस्ते क्ष हिन्दी",
    "की" * 30,
    "สวัสดี น้ำ",
    "한국어",
    "\u1112\u1161\u11ab\u1100\u116e\u11a8, か\u3099",  # in pieces, as some systems type it
    "数字看起来不错",
    "ひらがなカタカナ",
    "می\u200cخواهم",  # noqa: RUF001
    "👩\u200d👩\u200d👧 👍🏽 🏳\ufe0f\u200d🌈 ❤\ufe0f",
    "🇨🇭 1\ufe0f\u20e3",
    "Tiếng Việt: ễ",
    "葛\U000e0100",
    "∀x ∈ ℝ: ⌈x⌉ ≥ x",  # noqa: RUF001
)
"""Text that must be shown unchanged."""

_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")
_BLANKS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_JOINERS = frozenset("\u200c\u200d")


def unsafe_characters(line: str, *, allowed: str = "") -> list[str]:
    """Return the control and invisible characters in a line of output, as code points."""
    return [
        f"U+{ord(letter):04X}"
        for letter in line
        if letter not in allowed
        and (
            _CONTROL.match(letter)
            or letter in _BLANKS
            or (unicodedata.category(letter) == "Cf" and letter not in _JOINERS)
        )
    ]


def as_one_line(shown: str) -> str:
    """Return how a text is shown on one line: a sign for each line break, spaces for tabs."""
    return shown.replace("\n", "↵").replace("\t", " ")


def as_plain_line(shown: str) -> str:
    """Return how plain mode prints the text of a message, which keeps its tabs."""
    return shown.replace("\n", "↵")
