"""Decode terminal input into named keys: escape sequences, modifiers, bracketed paste.

A character names itself; other keys are "Enter", "Tab", "Up", "PageUp" …, after "C-" for Control,
"M-" for Alt and "S-" for Shift, in this order. A terminal sends one stream of characters. An Escape
in it can be the Escape key, Alt with the next key, or the start of a sequence that stands for a
key; only the characters that follow, or a pause, tell which. So a `KeyReader` holds an Escape back
until more has arrived, or until its caller, which has the clock, reports a timeout.

Pasted text arrives between two such sequences, if the terminal was asked for them (bracketed
paste). It becomes one item, so that a line break in it is not taken for Enter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ESCAPE = "\x1b"

PASTE_LIMIT = (2 << 20) + 2
"""Longest paste that is kept, in code points: more than an input line, even if all is CRLF."""

_ESCAPE_SECONDS = 0.05
_PASTE_SECONDS = 2.0
_LONGEST_SEQUENCE = 64
_PASTE_START, _PASTE_END = "[200~", f"{ESCAPE}[201~"

_SHIFT, _ALT, _CONTROL = 1, 2, 4
_PREFIXES = ((_CONTROL, "C-", "Ctrl-"), (_ALT, "M-", "Alt-"), (_SHIFT, "S-", "Shift-"))

_CONTROL_CHARACTERS = {"\r": "Enter", "\t": "Tab", "\x7f": "Backspace", "\x08": "Backspace"}
_CONTROL_CHARACTERS |= {ESCAPE: "Escape", "\0": "C-Space"}
# With Control, terminals send the same byte for these as for another key.
_SAME_BYTE = {"i": "Tab", "m": "Enter", "[": "Escape", "h": "Backspace", "?": "Backspace"}

_CURSOR_LETTERS = {"A": "Up", "B": "Down", "C": "Right", "D": "Left", "F": "End", "H": "Home"}
_FINAL_LETTERS = _CURSOR_LETTERS | {"P": "F1", "Q": "F2", "R": "F3", "S": "F4"}
_TILDE_NUMBERS = {1: "Home", 2: "Insert", 3: "Delete", 4: "End", 5: "PageUp", 6: "PageDown"}
_TILDE_NUMBERS |= {7: "Home", 8: "End"}
_F_NUMBERS = (11, 12, 13, 14, 15, 17, 18, 19, 20, 21, 23, 24, 25, 26, 28, 29, 31, 32, 33, 34)
_TILDE_NUMBERS |= {number: f"F{index}" for index, number in enumerate(_F_NUMBERS, start=1)}

# Irregular sequences, without their Escape: of rxvt, the Linux console, vt100's keypad.
_SEQUENCES = {"[Z": "S-Tab", "OM": "Enter", "OX": "=", "OI": "Tab", "O ": " "}
_SEQUENCES |= {f"[{letter.lower()}": f"S-{_CURSOR_LETTERS[letter]}" for letter in "ABCD"}
_SEQUENCES |= {f"O{letter.lower()}": f"C-{_CURSOR_LETTERS[letter]}" for letter in "ABCD"}
_SEQUENCES |= {f"[[{letter}": f"F{index}" for index, letter in enumerate("ABCDE", start=1)}
_SEQUENCES |= {f"O{chr(ord(sign) + 64)}": sign for sign in "*+,-./0123456789"}
_RXVT_FINALS = {"~": 0, "$": _SHIFT, "^": _CONTROL, "@": _CONTROL | _SHIFT}

# Curses' names of keys that are in the terminal's terminfo entry.
_CURSES_NAMES = {
    "KEY_UP": "Up",
    "KEY_DOWN": "Down",
    "KEY_LEFT": "Left",
    "KEY_RIGHT": "Right",
    "KEY_HOME": "Home",
    "KEY_END": "End",
    "KEY_PPAGE": "PageUp",
    "KEY_NPAGE": "PageDown",
    "KEY_IC": "Insert",
    "KEY_DC": "Delete",
    "KEY_BACKSPACE": "Backspace",
    "KEY_ENTER": "Enter",
    "KEY_BTAB": "S-Tab",
    "KEY_SR": "S-Up",
    "KEY_SF": "S-Down",
    "KEY_SLEFT": "S-Left",
    "KEY_SRIGHT": "S-Right",
    "KEY_SHOME": "S-Home",
    "KEY_SEND": "S-End",
    "KEY_SPREVIOUS": "S-PageUp",
    "KEY_SNEXT": "S-PageDown",
    "KEY_SDC": "S-Delete",
    "KEY_SIC": "S-Insert",
    "KEY_A1": "Home",
    "KEY_A3": "PageUp",
    "KEY_C1": "End",
    "KEY_C3": "PageDown",
    **{f"KEY_F({number})": f"F{number}" for number in range(1, 21)},
}
# Keys with modifiers, as terminfo's extended capabilities name them: kRIT5, kUP3.
_CAPABILITIES = {
    "UP": "Up",
    "DN": "Down",
    "RIT": "Right",
    "LFT": "Left",
    "HOM": "Home",
    "END": "End",
}
_CAPABILITIES |= {"PRV": "PageUp", "NXT": "PageDown", "DC": "Delete", "IC": "Insert"}
_CAPABILITY = re.compile(r"k([A-Z]{2,3})([2-8]?)")

_NAMED = {
    "Enter",
    "Tab",
    "Backspace",
    "Escape",
    "Space",
    *_CURSOR_LETTERS.values(),
    *_TILDE_NUMBERS.values(),
}
_SPELLINGS = {name.lower(): name for name in _NAMED}
_SPELLINGS |= {"return": "Enter", "esc": "Escape", "del": "Delete", "ins": "Insert"}
_SPELLINGS |= {"pgup": "PageUp", "pgdn": "PageDown", "pgdown": "PageDown"}
_MODIFIER = re.compile(r"(c|m|s|(ctrl|control|alt|meta|shift))-(?=.)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Paste:
    """Pasted text, with its line breaks as newlines."""

    text: str


Key = str | Paste


class KeyReader:
    """Decodes a terminal's input into keys, independent of how it is cut into reads.

    A sequence for no known key is dropped whole, so that its end is not read as typed text.
    """

    def __init__(self) -> None:
        self._held = ""
        self._pasting = False
        self._pasted: list[str] = []
        self._tail = ""

    @property
    def timeout(self) -> float | None:
        """Seconds of silence after which to `flush`; None while nothing is held back."""
        if self._pasting:
            return _PASTE_SECONDS
        return _ESCAPE_SECONDS if self._held else None

    def feed(self, raw: list[str]) -> list[Key]:
        """Return the keys that these items complete.

        An item is a character, or the name of a key that curses recognised: "KEY_UP", "kRIT5".
        """
        return [key for item in raw for key in self._feed_item(item)]

    def flush(self) -> list[Key]:
        """Return the keys for the items held back, given that nothing follows them.

        An unfinished paste ends here; an unfinished sequence is dropped.
        """
        if self._pasting:
            return self._end_paste()
        held, self._held = self._held, ""
        escape: list[Key] = ["Escape"]
        if held.startswith(ESCAPE * 2):  # the key, then "M-[" or "M-O"; or the key twice
            return escape + ([f"M-{held[2]}"] if len(held) == 3 else escape * (len(held) == 2))
        return escape if held == ESCAPE else [f"M-{held[1]}"] if len(held) == 2 else []

    def _feed_item(self, item: str) -> list[Key]:
        if item == "KEY_RESIZE":
            return ["Resize"]  # made by curses, not typed: it may come in the middle of a sequence
        if self._pasting:
            return self._feed_paste(item)
        if self._held:
            return self._feed_escape(item)
        if item == ESCAPE:
            self._held = ESCAPE
            return []
        return _listed(_name_of(item))

    def _feed_escape(self, item: str) -> list[Key]:
        """Feed an item that follows one or two Escapes, or a sequence begun with them."""
        if self._held.strip(ESCAPE):
            return self._feed_sequence(item)
        if item in ("[", "O") or (item == ESCAPE and self._held == ESCAPE):
            self._held += item
            return []
        if self._held == ESCAPE:
            self._held = ""
            return _listed(_add_modifiers(_ALT, "Enter" if item == "\n" else _name_of(item)))
        self._held = ESCAPE
        return ["Escape", *self._feed_escape(item)]

    def _feed_sequence(self, item: str) -> list[Key]:
        """Feed an item that ends a sequence, continues it, or does not belong to it."""
        if len(item) > 1 or not " " <= item <= "~":
            self._held = ""
            return self._feed_item(item)
        sequence = self._held.lstrip(ESCAPE)
        alt = _ALT if self._held.startswith(ESCAPE * 2) else 0
        if not _is_final(sequence, item):
            # An endless sequence takes no memory, but is still skipped up to its end.
            self._held += item if len(self._held) < _LONGEST_SEQUENCE else ""
            return []
        whole, self._held = len(self._held) < _LONGEST_SEQUENCE, ""
        if sequence + item == _PASTE_START:
            self._pasting = True
            return []
        return _listed(_add_modifiers(alt, _key_of_sequence(sequence + item))) if whole else []

    def _feed_paste(self, item: str) -> list[Key]:
        if len(item) > 1:  # a key that curses recognised in the pasted text
            return []
        if len(self._pasted) < PASTE_LIMIT:
            self._pasted.append(item)
        self._tail = (self._tail + item)[-len(_PASTE_END) :]
        return self._end_paste() if self._tail == _PASTE_END else []

    def _end_paste(self) -> list[Key]:
        text = "".join(self._pasted).removesuffix(_PASTE_END)
        self._pasting, self._pasted, self._tail = False, [], ""
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        return [Paste(text)] if text else []


def parse_key(written: str) -> str:
    """Return the name of a key that a person wrote as "C-w" or "Ctrl-W"; "" if not bindable.

    With Ctrl, Alt or Shift written in full, letters are as printed on the keyboard: Alt-B is M-b.
    A character without Ctrl or Alt cannot be bound: it types itself.
    """
    bits, rest, in_full = 0, written.strip(), False
    while found := _MODIFIER.match(rest):
        bits |= {"c": _CONTROL, "m": _ALT, "a": _ALT, "s": _SHIFT}[found[1][0].lower()]
        in_full = in_full or found[2] is not None
        rest = rest[found.end() :]
    base = _SPELLINGS.get(rest.lower(), rest)
    if len(base) == 1:
        base = base.lower() if in_full else base
        bindable = base.isprintable() and base != " " and bits & (_CONTROL | _ALT)
        if not bindable or (bits & _CONTROL and not base.isascii()):
            return ""
    elif base not in _NAMED or (base == "Space" and not bits & (_CONTROL | _ALT)):
        return ""
    return _add_modifiers(bits, base)


def format_key(key: str) -> str:
    """Return a key as shown to people: "Ctrl-W" for "C-w"."""
    bits, base = _split_modifiers(key)
    if len(base) == 1 and base != base.lower():
        bits |= _SHIFT
    return "".join(long for bit, _, long in _PREFIXES if bits & bit) + (
        base.upper() if len(base) == 1 else base
    )


def _listed(name: str) -> list[Key]:
    return [name] if name else []


def _name_of(item: str) -> str:
    if item in _CONTROL_CHARACTERS:
        return _CONTROL_CHARACTERS[item]
    if len(item) > 1:
        return _CURSES_NAMES.get(item) or _key_of_capability(item)
    return f"C-{chr(ord(item) + 64).lower()}" if item < " " else item


def _key_of_capability(item: str) -> str:
    found = _CAPABILITY.fullmatch(item)
    base = _CAPABILITIES.get(found[1], "") if found else ""
    return _add_modifiers(int(found[2] or 2) - 1, base) if found else ""


def _split_modifiers(name: str) -> tuple[int, str]:
    """Return a key name's modifier bits and the key that they modify."""
    bits = 0
    for bit, prefix, _ in _PREFIXES:
        if name.startswith(prefix) and len(name) > len(prefix):
            bits, name = bits | bit, name[len(prefix) :]
    return bits, name


def _add_modifiers(bits: int, name: str) -> str:
    """Return a key's name with more modifiers, in its canonical form.

    Different sequences for one key have to give one name: Control with "I" is "Tab".
    """
    own, base = _split_modifiers(name)
    bits |= own
    if len(base) == 1:
        if bits & _SHIFT and len(base.upper()) == 1:
            base = base.upper()
        bits &= ~_SHIFT
        if bits & _CONTROL:
            base = {"@": " ", "/": "_"}.get(base, base.lower())
    if bits & _CONTROL and base in _SAME_BYTE:
        bits, base = bits & ~_CONTROL, _SAME_BYTE[base]
    base = "Space" if base == " " and bits else base
    return base and "".join(short for bit, short, _ in _PREFIXES if bits & bit) + base


def _is_final(sequence: str, item: str) -> bool:
    """Return whether `item` ends a sequence (ECMA-48; also Linux console, rxvt)."""
    if sequence.startswith("O"):
        return not (item.isdigit() or item == ";")
    if sequence == "[" and item == "[":
        return False
    return "@" <= item <= "~" or (item == "$" and sequence[1:].isdigit())


def _key_of_sequence(sequence: str) -> str:
    """Return the name of the key that a sequence stands for; "" for none."""
    if sequence in _SEQUENCES:
        return _SEQUENCES[sequence]
    if not re.fullmatch("[0-9;:]*", sequence[1:-1]):
        return ""
    fields = [field.partition(":")[0] for field in sequence[1:-1].split(";")]
    numbers = [int(field or 1) for field in fields]
    final = sequence[-1]
    if final in _FINAL_LETTERS:
        return _add_modifiers(_modifier_bits(numbers[-1]), _FINAL_LETTERS[final])
    bits = _modifier_bits(numbers[1]) if len(numbers) > 1 else _RXVT_FINALS.get(final, 0)
    if final == "u":
        return _add_modifiers(bits, _key_of_code_point(numbers[0]))
    if final == "~" and numbers[0] == 27 and len(numbers) == 3:
        return _add_modifiers(bits, _key_of_code_point(numbers[2]))
    return _add_modifiers(bits, _TILDE_NUMBERS.get(numbers[0], "")) if final in _RXVT_FINALS else ""


def _modifier_bits(modifier: int) -> int:
    """Return the modifiers that xterm's parameter encodes as bits plus one; Meta counts as Alt."""
    bits = max(modifier - 1, 0)
    return (bits & 7) | (_ALT if bits & 8 else 0)


def _key_of_code_point(code: int) -> str:
    """Return the key that a protocol such as CSI u gives as a code point; "" if it is none."""
    is_character = code < 0xD800 or 0xE000 <= code < 0x110000
    return _name_of(chr(code)) if is_character else ""
