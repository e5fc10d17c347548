"""Sanitize names, messages and file names: escape sequences, invisible characters, look-alikes.

Some characters control a terminal instead of being shown: control characters start escape
sequences, and bidirectional overrides reorder the text around them. Invisible characters can make
two different names look alike. The server sanitizes text when it arrives, and each client sanitizes
it again before showing it, so that neither has to trust the other. Names are compared in a folded
form.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from tchat.errors import Code, Refused

NAME_LIMIT = 32
"""Longest name of a person or a group, in code points after NFKC."""

TEXT_LIMIT = 16 * 1024
"""Longest message, in bytes of UTF-8."""

FILE_NAME_LIMIT = 120
"""Longest file name a client will create, in bytes of UTF-8."""

# Thai and Lao, Burmese, Khmer, kana, Chinese characters, Hangul.
SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3007\u3041-\u3096\u309d-\u30fa\u30fc-\u30ff"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
"""Scripts without spaces between words, as the inside of a regular expression's `[]`.

Hangul is included: Korean appends particles to words, so a name is rarely followed by a space.
"""

# A name is cut to this many characters before it is examined: a file name to its last characters,
# any other name to its first ones.
_MOST_OF_A_NAME = 1024
# The names of a direct conversation, before NFKC. NFKC sorts the marks of each run: this takes
# quadratic time, a millisecond for a run of 1,000.
_MOST_FOLDED = 288
_MARKS_IN_TEXT = 5
_MARKS_IN_NAME = 2
_ZERO_WIDTH_JOINERS = "\u200c\u200d"
_INVISIBLE_LETTERS = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5\u2065\U0001d159")
# Invisible variation selectors (Default_Ignorable_Code_Point): they select glyphs of emoji and
# ideographs. They are kept in messages, but not in names, where they would allow look-alikes.
_SELECTORS = ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0x16FE4, 0x16FE4), (0xE0100, 0xE01EF))
_ORDINARY, _MARK, _SPECIAL = 1, 2, 3
# The kind of each character, or 0 while it is not known: several look-ups for each character of a
# long message would take milliseconds. The system provides the memory when it is used.
_KINDS = bytearray(0x110000)
_ASCII_CONTROLS = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"} | {
    0x7F: 0x2421
}
# A file name must not be hidden, look like an option, or end in characters that some systems drop.
# The pattern matches whole runs: trying each position in a run would take quadratic time.
_END = rf"\s.{_ZERO_WIDTH_JOINERS}"
_EDGES = re.compile(rf"^[{_END}~-]+|(?<![{_END}])[{_END}]+$")
# Windows treats the superscript digits of Latin-1 as digits in device names.
_PORTS = (f"{port}{digit}" for port in ("COM", "LPT") for digit in "123456789¹²³")
_WINDOWS_DEVICES = frozenset(["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", *_PORTS])


@lru_cache(maxsize=4096)
def fold(name: str) -> str:
    """Return the form in which names are compared: NFKC, case folded (Unicode 3.13, D145)."""
    once = unicodedata.normalize("NFKC", name[:_MOST_FOLDED]).casefold()
    return unicodedata.normalize("NFKC", once)


@lru_cache(maxsize=4096)
def check_name(raw: str, what: str = "name") -> str:
    """Return a person's or group's name as it will be shown, or raise `Refused` (bad_name).

    `what` is the noun in the error text: "username", "group name".
    """
    # NFKC can make a text eighteen times as long, so the length is limited before it as well as
    # after it.
    name = unicodedata.normalize("NFKC", raw[: 4 * NAME_LIMIT])
    if not name:
        raise Refused(Code.BAD_NAME, f"A {what} needs at least one character.")
    if len(name) > NAME_LIMIT or len(raw) > 4 * NAME_LIMIT:
        raise Refused(Code.BAD_NAME, f"A {what} has at most {NAME_LIMIT} characters.")
    marks = _MARKS_IN_NAME  # a name cannot begin with a combining mark
    for character in name:
        marks = marks + 1 if _is_mark(character) or _is_stray_jamo(character) else 0
        if (
            marks > _MARKS_IN_NAME
            or not (marks or _is_name_character(character))
            or _is_ignorable(character)
        ):
            raise Refused(
                Code.BAD_NAME,
                f"A {what} may contain letters, digits and _ - . only; "
                f"{clean_line(raw)!r} contains something else.",
            )
    return name


def check_text(text: str) -> None:
    """Raise `Refused` unless `text` can be a message: not blank, at most `TEXT_LIMIT` bytes."""
    if not (text.strip() if text.isascii() else any(map(_has_glyph, text))):
        raise Refused(Code.EMPTY_TEXT, "A message needs at least one visible character.")
    check_size(text)


def check_size(text: str) -> None:
    """Raise `Refused` (text_too_long) unless `text` has at most `TEXT_LIMIT` bytes."""
    # The cheap check comes first: UTF-8 takes at most four bytes per code point.
    if len(text) * 4 > TEXT_LIMIT and len(text.encode()) > TEXT_LIMIT:
        raise Refused(
            Code.TEXT_TOO_LONG,
            f"A message has at most {TEXT_LIMIT // 1024} KiB; send a longer text as a file.",
        )


def check_length(text: str, most: int, what: str) -> None:
    """Raise `Refused` (text_too_long) if a text has more than `most` code points."""
    if len(text) > most:
        raise Refused(Code.TEXT_TOO_LONG, f"{what} has at most {most} characters.")


def clean_limited(text: str, most: int, what: str) -> str:
    """Return a short text, sanitized and on one line. Raises `Refused` (text_too_long)."""
    check_length(text, most, what)
    return clean_line(text)


def clean_message(text: str) -> str:
    """Return the text of a message, sanitized. Raises `Refused` (text_too_long)."""
    check_size(text)  # first: sanitizing a text costs more than measuring it
    return clean_text(text)


def clean_text(text: str) -> str:
    r"""Return `text` without the characters that would control a terminal.

    Newlines and tabs stay; other C0 controls become their pictures (ESC is shown as ␛); C1 controls
    and unpaired surrogates become U+FFFD; bidi controls and other invisible characters are removed,
    except the joiners that emoji and several scripts need.
    """
    if text.isascii():
        if text.isprintable():
            return text
        return text.replace("\r\n", "\n").translate(_ASCII_CONTROLS)
    text = text.replace("\r\n", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    kept: list[str] = []
    marks = 0
    for character in text:
        kind = _KINDS[ord(character)] or _kind_of(character)
        if kind == _ORDINARY:
            marks = 0
            kept.append(character)
            continue
        if kind == _MARK:
            marks += 1
            if marks <= _MARKS_IN_TEXT:
                kept.append(character)
            continue
        shown = _visible(character, after=kept[-1] if kept else "")
        if shown:
            if shown not in _ZERO_WIDTH_JOINERS:  # a joiner does not start a new run of marks
                marks = 0
            kept.append(shown)
    return "".join(kept)


def clean_line(text: str) -> str:
    """Return `text` sanitized and on one line: newlines are shown as ↵, tabs as spaces."""
    return clean_text(text).replace("\n", "↵").replace("\t", " ")


def quote_name(typed: str) -> str:
    """Return a name as somebody typed it, sanitized and shortened for use in a sentence."""
    line = clean_line(typed[: NAME_LIMIT + 1])
    return line if len(line) <= NAME_LIMIT else f"{line[:NAME_LIMIT]}…"


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: "1 file", "2 files", "0 files"."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def size_text(size: int) -> str:
    """Return a size in readable form: 12 B, 3.4 KB, 1.2 GB (powers of 1000)."""
    if size < 1000:
        return f"{size} B"
    amount = float(size)
    for unit in ("KB", "MB", "GB", "TB"):
        amount /= 1000
        if amount < 999.95:  # a value that would be rounded to 1000.0 gets the next unit
            return f"{amount:.1f} {unit}"
    return f"{amount:.1f} PB"


def safe_filename(raw: str) -> str:
    """Return a file name that is safe to create in a local directory.

    It is the last component of the path, without characters that are special to a shell, a terminal
    or another system. It is never hidden and never a Windows device, and is shortened to
    `FILE_NAME_LIMIT` bytes with its extension kept. If nothing is left, it is "file".
    """
    last = raw[-_MOST_OF_A_NAME:].replace("\\", "/").rstrip("/").rpartition("/")[2]
    # Before it is sanitized, too: marks are limited, and NFC changes their order.
    name = unicodedata.normalize("NFC", clean_line(unicodedata.normalize("NFC", last)))
    name = "".join("_" if c in '<>:"|?*↵\ufffd' or "\u2400" <= c <= "\u2421" else c for c in name)
    name = _EDGES.sub("", _shorten(_EDGES.sub("", name)))
    if name.partition(".")[0].rstrip().upper() in _WINDOWS_DEVICES:
        name = _EDGES.sub("", _shorten(f"_{name}"))
    return name or "file"


def _shorten(name: str) -> str:
    if len(name.encode()) <= FILE_NAME_LIMIT:
        return name
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) > 16:
        stem, dot, extension = name, "", ""
    room = FILE_NAME_LIMIT - len((dot + extension).encode())
    return stem.encode()[:room].decode(errors="ignore") + dot + extension


def _kind_of(character: str) -> int:
    """Return what `clean_text` has to do with a character, and remember it."""
    if _is_mark(character):
        kind = _MARK
    elif _is_always_shown(character):
        kind = _ORDINARY
    else:
        kind = _SPECIAL
    _KINDS[ord(character)] = kind
    return kind


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M" and character not in _INVISIBLE_LETTERS


def _is_ignorable(character: str) -> bool:
    code = ord(character)
    return character in _INVISIBLE_LETTERS or any(
        first <= code <= last for first, last in _SELECTORS
    )


def _is_stray_jamo(character: str) -> bool:
    """Return whether this is a Hangul vowel or final consonant that NFKC did not compose."""
    return "\u1160" <= character <= "\u11ff" or "\ud7b0" <= character <= "\ud7ff"


def _has_glyph(character: str) -> bool:
    category = unicodedata.category(character)
    shown = category[0] in "LNPS" or category in ("Co", "Cn")
    return shown and character not in _INVISIBLE_LETTERS


def _is_name_character(character: str) -> bool:
    if character in "_-.":
        return True
    category = unicodedata.category(character)
    return category[0] == "L" or category == "Nd"


def _is_always_shown(character: str) -> bool:
    return character in "\n\t" or (character.isprintable() and character not in _INVISIBLE_LETTERS)


def _visible(character: str, *, after: str) -> str:
    """Return the sanitized form of one character; `after` is the character before it."""
    if _is_always_shown(character):
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    category = unicodedata.category(character)
    if category in ("Cc", "Cs"):
        return "\ufffd"
    if character in _ZERO_WIDTH_JOINERS:
        return character if after and not after.isspace() and after not in "\u200c\u200d" else ""
    # Private use (icons of patched fonts), spaces of any width and characters newer than Python's
    # Unicode tables are shown; format characters and invisible letters are dropped.
    return character if category in ("Co", "Zs", "Cn") and not _is_noncharacter(code) else ""


def _is_noncharacter(code: int) -> bool:
    in_specials = 0xFFF0 <= code <= 0xFFF8 or 0xE0000 <= code <= 0xE0FFF
    return in_specials or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
