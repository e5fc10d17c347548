r"""Decode the bytes of a terminal into keys, pastes and reports. Pure.

A terminal sends one stream of bytes for everything: typed characters, keys, pasted text, and
reports, which are its answers to questions and its news of mouse and focus. `InputDecoder` takes
the stream apart. How the bytes are cut into reads makes no difference; only pauses do, which the
caller, who has the clock, reports with `flush`:

* An Escape can be the Escape key, Alt with the next key, or the beginning of a sequence. It is held
  back until more has arrived, or until a pause. So is an unfinished character or sequence.
* Pasted text arrives between two sequences, if the terminal was asked for them (bracketed paste).
* Other terminals send pasted text as if it were typed, only faster. Nobody types the next line
  within a hundredth of a second, so *text that follows a line break without a pause is a paste*.
  A line break is therefore held back until the pause: "hi", Enter, pause is typing; "one", Enter,
  "two" without a pause inserts both lines, and until a pause no line break is Enter. A Tab is held
  back in the same way, because the Tabs of pasted text complete nothing. Only the first line of
  such a paste, up to its first Tab, is delivered as if typed, without delay. Line breaks that no
  text follows are so many times Enter, as when the key repeats.
* An Enter that arrives alone, after a pause of `_LONE_ENTER_SECONDS`, ends such a paste and is the
  key, once it is known that the terminal marks pastes: it has marked one, or it is of a kind that
  does and has answered where its cursor is. Unmarked lines are then typing that was held up, or
  come from a program, whose line breaks hardly ever arrive alone and late. In other terminals it
  belongs to the paste, as the rest of one that the network delivers in pieces.
* One line and its line break, at once, are ambiguous: a paste, or typing that a network has held up
  and delivers in one go. Programs that type for people (`tmux send-keys`) write so, too. A terminal
  that marks pastes has not marked it, so it is typing. In others, more than `TYPED_AT_ONCE`
  characters are a paste, whose line break is dropped: somebody who has typed so much during one
  hiccup has to press Enter again, but what was sent by mistake could not be taken back.

Reports never become text. Those that nobody waits for are dropped: control sequences (CSI), control
strings (OSC, DCS, APC, PM, SOS) up to their terminator, mouse reports in all encodings. A sequence
whose end is lost is given up at the first byte that cannot be part of it, after half a second, or
after `SEQUENCE_LIMIT` bytes; what follows is input again. If an unfinished string does not begin
like the strings that terminals send, it is decoded as Alt with a key, followed by typed text.

The answer to where the cursor is (the question is `ESC [ 6 n`) is delivered as a `CursorPosition`,
whether or not somebody waits for it: the caller, who knows what was asked and when, ignores the
others. It has to ask in another row than the first, because xterm sends F3 with a modifier as the
same bytes as an answer from row 1. So the bytes alone tell the key from the answer, and a question
that is answered late or never changes nothing about later keys.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tchat.ui.tui.keys import ALT, add_modifiers, name_character, name_sequence

if TYPE_CHECKING:
    from collections.abc import Mapping

PASTE_LIMIT = (4 << 20) + 2
"""Longest paste that is kept, in bytes: longer than any input line, whatever it consists of."""

TYPED_AT_ONCE = 8
"""Most characters that count as typing though they come with a line break, without a pause."""

SEQUENCE_LIMIT = 8192
"""Longest sequence, in bytes; far longer than the answers of terminals."""

_KEY_SECONDS = 0.05
"""Pause after which a lone Escape is the key."""
_SEQUENCE_SECONDS = 0.5
"""How long a sequence may take from its first byte; a slow link may cut it."""
_LINE_SECONDS = 0.01
"""Pause after a line break or Tab that shows that it was typed; not noticeable."""
_UNMARKED_PASTE_SECONDS = 0.25
"""Pause that ends a paste without brackets; longer than a network takes to go on."""
_LONE_ENTER_SECONDS = 0.05
"""Pause before an Enter that shows that it was pressed; longer than a program takes to go on."""
_PASTE_SECONDS = 2.0
"""Pause that ends a bracketed paste whose end is lost."""

_ESC = 0x1B
_PASTE_START, _PASTE_END = b"\x1b[200~", b"\x1b[201~"
_STRING_TERMINATOR = b"\x1b\\"
_MOUSE, _MOUSE_BYTES = b"[M", 3
_TEXT = re.compile(rb"[\t\n\r -~\x80-\xff]+")
_HELD_BACK = re.compile(r"[\t\n\r]")
_CONTROL = re.compile(rb"[\x00-\x1f]")
# CSI and SS3 sequences (ECMA-48, and those of rxvt and the Linux console); the final byte is in a
# group.
_SEQUENCE = re.compile(
    rb"\x1b(?:\[(?:[0-9]+(?P<rxvt>\$)|\[?[ -?]*(?P<csi>[@-~])?)|O[0-9;]*(?P<ss3>[ -~])?)"
)
_CURSOR_POSITION = re.compile(rb"\x1b\[\??([0-9]{1,9});([0-9]{1,9})(?:;[0-9]*)?R")
_NO_KEY = re.compile(rb"\x1b\[(?:[<=>?].*|.*[cnMRty]|[IO]|20[01]~)")
# By introducer: how the control strings that terminals send begin (OSC: with a number or a title).
_NEVER = re.compile(rb"(?!)")
_STRINGS = {ord("]"): re.compile(rb"[0-9lL]"), ord("P"): re.compile(rb"[0-9>!]")}
_STRINGS |= {ord("_"): re.compile(rb"G"), ord("^"): _NEVER, ord("X"): _NEVER}
_MULTIPLE_LINES = re.compile(r"[\r\n][\t\r\n]*[^\t\r\n]")


@dataclass(frozen=True, slots=True)
class Paste:
    """Pasted text, with its line breaks as newlines, without one at the end."""

    text: str


@dataclass(frozen=True, slots=True)
class CursorPosition:
    """The terminal's report of its cursor position, in cells, counted from 1."""

    row: int
    column: int


Item = str | Paste | CursorPosition
"""The name of a key, a paste, or a report."""


class InputDecoder:
    """Decodes a terminal's input.

    `encoding` is the locale's. Bytes that are valid UTF-8 are UTF-8 whatever the locale says, since
    most terminals send it everywhere; other bytes are decoded by the locale, or become U+FFFD. Only
    in a locale with another multibyte encoding, which cannot be told from UTF-8, it alone counts.
    `keys` are names of keys by what this terminal sends for them, beyond the usual sequences.
    `marks_pastes` says that it was asked for bracketed paste, and knows it.

    Times are in seconds, of any one clock.
    """

    def __init__(
        self,
        encoding: str = "utf-8",
        keys: Mapping[bytes, str] | None = None,
        *,
        marks_pastes: bool = True,
    ) -> None:
        self._text, self._is_single_byte = _text_decoder(encoding)
        self._keys = {bytes(sent): name for sent, name in (keys or {}).items() if sent[0] == _ESC}
        self._prefixes = {sent[:end] for sent in self._keys for end in range(1, len(sent))}
        self._items: list[Item] = []
        self._held = b""
        self._held_since = 0.0
        self._run: list[str] = []
        self._run_length = 0
        self._run_is_paste = self._run_has_break = False
        self._marks_pastes = marks_pastes
        self._is_known_to_mark = False
        self._burst = 0
        self._fed_at = 0.0
        self._pasted: bytearray | None = None
        self._deadline: float | None = None

    @property
    def deadline(self) -> float | None:
        """The time to `flush` unless more is fed before; None while nothing is held back."""
        return self._deadline

    def feed(self, data: bytes, now: float = 0.0) -> list[Item]:
        """Decode bytes that arrived at time `now`; return the items that they complete."""
        expires = self._held_since + _SEQUENCE_SECONDS
        if len(self._held) > 2 and self._pasted is None and now > expires:
            self._decode(b"", final=True)  # or a lost end could swallow what is typed for long
        if data == b"\r" and now > self._fed_at + _LONE_ENTER_SECONDS and self._is_known_to_mark:
            self._end_run(after_pause=True)
        if now > self._fed_at + _LINE_SECONDS:
            self._burst = 0
        self._fed_at = now
        before = len(self._held)
        self._decode(data, final=False)
        if not before or len(self._held) < before + len(data):
            self._held_since = now  # another sequence than before
        self._deadline = self._next_deadline(now)
        return self._delivered()

    def flush(self) -> list[Item]:
        """Return the items that were held back; call this after a pause, when nothing followed.

        An unfinished paste ends here; an unfinished report is dropped.
        """
        self._decode(b"", final=True)
        if self._pasted is not None:
            self._end_paste(self._pasted)
        self._end_run(after_pause=True)
        self._burst = 0
        self._deadline = None
        return self._delivered()

    def _delivered(self) -> list[Item]:
        items, self._items = self._items, []
        return items

    def _next_deadline(self, now: float) -> float | None:
        if self._pasted is not None:
            return now + _PASTE_SECONDS
        if self._held:
            key = len(self._held) <= 2 if self._held[0] == _ESC else self._is_single_byte
            return now + _KEY_SECONDS if key else self._held_since + _SEQUENCE_SECONDS
        if self._run or self._run_is_paste:
            return now + (_UNMARKED_PASTE_SECONDS if self._run_is_paste else _LINE_SECONDS)
        return None

    def _decode(self, data: bytes, *, final: bool) -> None:
        """Decode what is held and `data`; hold back what is unfinished, unless it is `final`."""
        data = self._held + data
        position = 0
        while position < len(data):
            end = self._token(data, position, final)
            if end is None:
                break
            position = end
        self._held = data[position:]

    # Each method decodes one kind of token: it gets the start, and returns the end of the token, or
    # None if the token is unfinished. With `final`, no token counts as unfinished.

    def _token(self, data: bytes, start: int, final: bool) -> int | None:
        if self._pasted is not None:
            return self._paste_token(self._pasted, data, start, final)
        if text := _TEXT.match(data, start):
            return self._text_token(text[0], start, final or text.end() < len(data))
        if data[start] == _ESC:
            return self._escape_token(data, start, final)
        self._add_key(name_character(chr(data[start])))
        return start + 1

    # ---------------------------------------------------------------- text and pastes

    def _text_token(self, data: bytes, start: int, final: bool) -> int | None:
        text, length = self._decode_text(data, final=final)
        if not self._run:
            held_back = _HELD_BACK.search(text)
            end = held_back.start() if held_back else len(text)
            self._items += text[:end]
            self._burst += end
            text = text[end:]
        if text and self._run_length < PASTE_LIMIT:
            self._run.append(text)
            self._run_length += len(text)
        if text and not self._run_is_paste:
            seen = "\n" if self._run_has_break else ""
            self._run_is_paste = bool(_MULTIPLE_LINES.search(seen + text))
            self._run_has_break = self._run_has_break or "\r" in text or "\n" in text
        return start + length if length else None

    def _decode_text(self, data: bytes, *, final: bool) -> tuple[str, int]:
        """Return the characters that `data` begins with, and how many bytes they take."""
        self._text.reset()
        text = self._text.decode(data, final)
        return text, len(data) - len(self._text.getstate()[0])

    def _end_run(self, *, after_pause: bool = False) -> None:
        """End a run of text that begins with a line break or Tab: deliver a paste, or its keys.

        Text that follows a paste without a pause belongs to the paste.
        """
        text = "".join(self._run)
        if self._run_is_paste or (after_pause and self._is_pasted_line(text)):
            self._add_paste(text, whole=after_pause)
            self._run_is_paste = not after_pause
        else:
            self._items += map(name_character, text)
        self._run, self._run_length, self._run_has_break = [], 0, False

    def _is_pasted_line(self, rest: str) -> bool:
        """Return whether a line, which ends in `rest` from its first Tab or break, was pasted."""
        length = self._burst + len(_HELD_BACK.sub("", rest))
        return not self._marks_pastes and length > TYPED_AT_ONCE and bool(rest.strip("\t"))

    def _add_paste(self, text: str, *, whole: bool = True) -> None:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        if text := text.removesuffix("\n") if whole else text:
            self._items.append(Paste(text))

    def _paste_token(self, pasted: bytearray, data: bytes, start: int, final: bool) -> int | None:
        found = data.find(_PASTE_END, start)
        end = found
        if found < 0:
            end = len(data) if final else len(data) - _overlap(data[start:], _PASTE_END)
        pasted += data[start : min(end, start + PASTE_LIMIT - len(pasted))]
        if found < 0:
            return end if end > start else None
        self._end_paste(pasted)
        return end + len(_PASTE_END)

    def _end_paste(self, pasted: bytearray) -> None:
        self._pasted = None
        self._add_paste(self._decode_text(bytes(pasted), final=True)[0])

    # ---------------------------------------------------------------- keys and reports

    def _add_key(self, name: str) -> None:
        self._end_run()
        self._burst = 0
        self._items.append(name)

    def _escape_token(self, data: bytes, start: int, final: bool) -> int | None:
        """Decode the start of an escape sequence, of Alt with a key, or the Escape key itself."""
        head = data[start + 1 : start + 3]
        if not head or head[0] != _ESC:
            return self._sequence(data, start, 0, final)
        if len(head) < 2 and not final:
            return None
        # Two Escapes before a sequence are Alt with its key; otherwise the first is a key.
        if head[1:] in (b"[", b"O") and not (final and len(data) == start + 3):
            return self._sequence(data, start + 1, ALT, final)
        self._add_key("Escape")
        return start + 1

    def _sequence(self, data: bytes, start: int, modifiers: int, final: bool) -> int | None:
        """Decode an Escape that is followed by a sequence, or by the key that Alt modifies."""
        if start + 1 == len(data):
            if not final:
                return None
            self._add_key("Escape")
            return start + 1
        end, is_unfinished = self._find_key(data, start)
        if end:
            self._add_key(add_modifiers(modifiers, self._keys[data[start:end]]))
            return end
        if is_unfinished and not final:
            return None
        if data[start + 1 : start + 3] == _MOUSE:
            return self._mouse_report(data, start, modifiers, final)
        if found := _SEQUENCE.match(data, start):
            return self._control_sequence(found, modifiers, final)
        if data[start + 1] in _STRINGS:
            return self._control_string(data, start, final)
        return self._alt_character(data, start, final)

    def _find_key(self, data: bytes, start: int) -> tuple[int, bool]:
        """Return where a sequence of `keys` ends, 0 for none, and whether one may be unfinished."""
        for end in range(start + 1, len(data) + 1):
            sent = data[start:end]
            if sent in self._keys:
                return end, False
            if sent not in self._prefixes:
                return 0, False
        return 0, True

    def _control_sequence(self, found: re.Match[bytes], modifiers: int, final: bool) -> int | None:
        start, end = found.span()
        if end - start > SEQUENCE_LIMIT:
            return start + SEQUENCE_LIMIT
        if found.lastgroup is None:  # the byte that ends it is missing
            if end == len(found.string) and not final:
                return None
            if end == start + 2:
                self._add_key(add_modifiers(ALT, chr(found[0][1])))
            return end
        name = name_sequence(found[0][1:].decode("ascii"))
        position = None if name else _CURSOR_POSITION.fullmatch(found[0])
        if modifiers and not name and _NO_KEY.fullmatch(found[0]):
            self._add_key("Escape")  # pressed just before that came
        if position:
            self._is_known_to_mark = self._is_known_to_mark or self._marks_pastes
            self._items.append(CursorPosition(int(position[1]), int(position[2])))
        elif found[0] == _PASTE_START:
            self._is_known_to_mark = True
            self._end_run()
            self._pasted = bytearray()
        elif found[0] == _PASTE_END:  # of a paste that was given up, or whose beginning is lost
            self._run_is_paste = self._run_is_paste or bool(self._run)
            self._end_run(after_pause=True)
        elif name:
            self._add_key(add_modifiers(modifiers, name))
        return end

    def _mouse_report(self, data: bytes, start: int, modifiers: int, final: bool) -> int | None:
        """Drop a mouse report of X10's kind: three bytes of any value but controls."""
        end = min(start + 3 + _MOUSE_BYTES, len(data))
        broken = _CONTROL.search(data, start + 3, end)
        if end < start + 3 + _MOUSE_BYTES and not broken and not final:
            return None
        if modifiers:
            self._add_key("Escape")
        return broken.start() if broken else end

    def _control_string(self, data: bytes, start: int, final: bool) -> int | None:
        """Drop a control string; without its terminator, only what looks like one."""
        limit = start + SEQUENCE_LIMIT
        control = _CONTROL.search(data, start + 2, limit)
        if control is None:
            if len(data) < limit and not final:
                return None
            end = min(len(data), limit)
        elif control[0] == b"\a":
            return control.end()
        else:
            end = control.start()
            following = data[end : end + 2]
            if following == b"\x1b" and not final:
                return None
            if following == _STRING_TERMINATOR:
                return end + 2
        if _STRINGS[data[start + 1]].match(data, start + 2, end):
            return end
        self._add_key(add_modifiers(ALT, chr(data[start + 1])))
        return start + 2

    def _alt_character(self, data: bytes, start: int, final: bool) -> int | None:
        after = data[start + 1 : start + 5]
        if not self._decode_text(after, final=False)[0] and not final:
            return None
        # Find the longest prefix that is a single character; a single byte always is one.
        character, length = next(
            (text, length)
            for length in range(len(after), 0, -1)
            if len(text := self._decode_text(after[:length], final=True)[0]) == 1
        )
        name = "Enter" if character == "\n" else name_character(character)
        self._add_key(add_modifiers(ALT, name))
        return start + 1 + length


def _overlap(data: bytes, pattern: bytes) -> int:
    """Return how many bytes at the end of `data` may begin a `pattern` that is not complete."""
    lengths = range(min(len(pattern) - 1, len(data)), 0, -1)
    return next((length for length in lengths if data.endswith(pattern[:length])), 0)


def _text_decoder(encoding: str) -> tuple[codecs.IncrementalDecoder, bool]:
    """Return the decoder of text in a locale with this encoding; and whether it is single-byte."""
    try:
        of_bytes = [bytes([byte]).decode(encoding, "replace") for byte in range(256)]
        whole = bytes(range(256)).decode(encoding, "replace")
    except LookupError:
        of_bytes, whole = [], ""
    name = codecs.lookup(encoding).name if whole else "ascii"
    if name in ("ascii", "utf-8"):
        return codecs.getincrementaldecoder("utf-8")("replace"), False
    if whole != "".join(of_bytes):
        return codecs.getincrementaldecoder(name)("replace"), False

    def decode_by_locale(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeDecodeError):
            raise error
        return "".join(of_bytes[byte] for byte in error.object[error.start : error.end]), error.end

    handler = f"tchat-{name}"
    codecs.register_error(handler, decode_by_locale)
    return codecs.getincrementaldecoder("utf-8")(handler), True
