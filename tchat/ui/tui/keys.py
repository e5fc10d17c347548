"""Keys by their names: what a terminal sends, as the words that bindings use.

A character is itself; others are "Enter", "Tab", "Up", "PageUp" …, behind "C-" for Control, "M-"
for Alt and "S-" for Shift, in this order. What comes from a terminal is one stream of
characters: an Escape in it is the key, or Alt with the next key, or the beginning of a sequence
that stands for one, and only what follows tells which; or that nothing does. So a `KeyReader`
holds an Escape back until more has come or its owner, who has the clock, says that nothing will.

Text that is pasted comes between two such sequences, if the terminal was asked for them
(bracketed paste), and is one item: a line break in it is no Enter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ESCAPE = "\x1b"

PASTE_LIMIT = (2 << 20) + 2
"""Most that is kept of a paste, in code points: so much that no line takes it, CRLF or not."""

_ESCAPE_SECONDS = 0.05
_PASTE_SECONDS = 2.0
_LONGEST_SEQUENCE = 64
_PASTE_BEGINS, _PASTE_ENDS = "[200~", f"{ESCAPE}[201~"

_SHIFT, _ALT, _CONTROL = 1, 2, 4
_PREFIXES = ((_CONTROL, "C-", "Ctrl-"), (_ALT, "M-", "Alt-"), (_SHIFT, "S-", "Shift-"))

_CONTROLS = {"\r": "Enter", "\t": "Tab", "\x7f": "Backspace", "\x08": "Backspace"}
_CONTROLS |= {ESCAPE: "Escape", "\0": "C-Space"}
# With Control these are the same byte as another key.
_SAME_AS = {"i": "Tab", "m": "Enter", "[": "Escape", "h": "Backspace", "?": "Backspace"}

_CURSOR = {"A": "Up", "B": "Down", "C": "Right", "D": "Left", "F": "End", "H": "Home"}
_LETTERS = _CURSOR | {"P": "F1", "Q": "F2", "R": "F3", "S": "F4"}
_NUMBERS = {1: "Home", 2: "Insert", 3: "Delete", 4: "End", 5: "PageUp", 6: "PageDown"}
_NUMBERS |= {7: "Home", 8: "End"}
_F_NUMBERS = (11, 12, 13, 14, 15, 17, 18, 19, 20, 21, 23, 24, 25, 26, 28, 29, 31, 32, 33, 34)
_NUMBERS |= {number: f"F{index}" for index, number in enumerate(_F_NUMBERS, start=1)}

# Sequences that follow no pattern, without their Escape: rxvt, the Linux console, vt100's keypad.
_SEQUENCES = {"[Z": "S-Tab", "OM": "Enter", "OX": "=", "OI": "Tab", "O ": " "}
_SEQUENCES |= {f"[{letter.lower()}": f"S-{_CURSOR[letter]}" for letter in "ABCD"}
_SEQUENCES |= {f"O{letter.lower()}": f"C-{_CURSOR[letter]}" for letter in "ABCD"}
_SEQUENCES |= {f"[[{letter}": f"F{index}" for index, letter in enumerate("ABCDE", start=1)}
_SEQUENCES |= {f"O{chr(ord(sign) + 64)}": sign for sign in "*+,-./0123456789"}
_RXVT = {"~": 0, "$": _SHIFT, "^": _CONTROL, "@": _CONTROL | _SHIFT}

# What curses calls keys that the terminal's terminfo entry announced.
_SPECIAL = {
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
# The same keys with modifiers, as xterm's extended capabilities name them: kRIT5, kUP3.
_EXTENDED = {"UP": "Up", "DN": "Down", "RIT": "Right", "LFT": "Left", "HOM": "Home", "END": "End"}
_EXTENDED |= {"PRV": "PageUp", "NXT": "PageDown", "DC": "Delete", "IC": "Insert"}
_EXTENDED_NAME = re.compile(r"k([A-Z]{2,3})([2-8]?)")

_NAMED = {"Enter", "Tab", "Backspace", "Escape", "Space", *_CURSOR.values(), *_NUMBERS.values()}
_WRITTEN = {name.lower(): name for name in _NAMED}
_WRITTEN |= {"return": "Enter", "esc": "Escape", "del": "Delete", "ins": "Insert"}
_WRITTEN |= {"pgup": "PageUp", "pgdn": "PageDown", "pgdown": "PageDown"}
_MODIFIER = re.compile(r"(c|m|s|(ctrl|control|alt|meta|shift))-(?=.)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Paste:
    """Text that was pasted, its line breaks as newlines."""

    text: str


Key = str | Paste


class KeyReader:
    """Makes keys of what a terminal sends, however it is cut into reads.

    A sequence that means no key here is dropped whole, so that it cannot be taken for typing.
    """

    def __init__(self) -> None:
        self._held = ""
        self._pasting = False
        self._pasted: list[str] = []
        self._tail = ""

    @property
    def patience(self) -> float | None:
        """How many seconds of silence make it time to `flush`; None while nothing is held back."""
        if self._pasting:
            return _PASTE_SECONDS
        return _ESCAPE_SECONDS if self._held else None

    def feed(self, raw: list[str]) -> list[Key]:
        """Return the keys that are whole, from items as curses gives them.

        An item is a character, or the name of a key that curses recognised: "KEY_UP", "kRIT5".
        """
        return [key for item in raw for key in self._take(item)]

    def flush(self) -> list[Key]:
        """Return what the items held back are if nothing follows them.

        A paste whose end never came ends here. A sequence that is only begun is dropped.
        """
        if self._pasting:
            return self._end_paste()
        held, self._held = self._held, ""
        escape: list[Key] = ["Escape"]
        if held.startswith(ESCAPE * 2):
            return escape + ([f"M-{held[2]}"] if len(held) == 3 else escape * (len(held) == 2))
        return escape if held == ESCAPE else [f"M-{held[1]}"] if len(held) == 2 else []

    def _take(self, item: str) -> list[Key]:
        if item == "KEY_RESIZE":
            return ["Resize"]  # not from the keyboard: it may come in the middle of anything
        if self._pasting:
            return self._take_pasted(item)
        if self._held:
            return self._go_on(item)
        if item == ESCAPE:
            self._held = ESCAPE
            return []
        return _some(_name(item))

    def _go_on(self, item: str) -> list[Key]:
        """Take what follows an Escape."""
        if self._held.strip(ESCAPE):
            return self._go_on_sequence(item)
        if item in ("[", "O") or (item == ESCAPE and self._held == ESCAPE):
            self._held += item
            return []
        if self._held == ESCAPE:
            self._held = ""
            return _some(_with(_ALT, "Enter" if item == "\n" else _name(item)))
        self._held = ESCAPE
        return ["Escape", *self._go_on(item)]

    def _go_on_sequence(self, item: str) -> list[Key]:
        """Take one more item of a sequence, which ends with it, goes on, or is given up."""
        if len(item) > 1 or not " " <= item <= "~":
            self._held = ""
            return self._take(item)
        sequence = self._held.lstrip(ESCAPE)
        alt = _ALT if self._held.startswith(ESCAPE * 2) else 0
        if not _ends(sequence, item):
            self._held += item if len(self._held) < _LONGEST_SEQUENCE else ""
            return []
        whole, self._held = len(self._held) < _LONGEST_SEQUENCE, ""
        if sequence + item == _PASTE_BEGINS:
            self._pasting = True
            return []
        return _some(_with(alt, _named_sequence(sequence + item))) if whole else []

    def _take_pasted(self, item: str) -> list[Key]:
        if len(item) > 1:
            return []
        if len(self._pasted) < PASTE_LIMIT:
            self._pasted.append(item)
        self._tail = (self._tail + item)[-len(_PASTE_ENDS) :]
        return self._end_paste() if self._tail == _PASTE_ENDS else []

    def _end_paste(self) -> list[Key]:
        text = "".join(self._pasted).removesuffix(_PASTE_ENDS)
        self._pasting, self._pasted, self._tail = False, [], ""
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        return [Paste(text)] if text else []


def name_keys(raw: list[str]) -> list[str]:
    """Return the names of keys when nothing follows `raw`; a paste is its characters, typed."""
    reader = KeyReader()
    names: list[str] = []
    for key in reader.feed(raw) + reader.flush():
        names += [key] if isinstance(key, str) else ["C-j" if c == "\n" else c for c in key.text]
    return names


def key_named(written: str) -> str:
    """Return a key's name from how people write it, "C-w" or "Ctrl-W"; "" if it cannot be.

    With Ctrl, Alt and Shift in full, letters are as they stand on the keyboard: Alt-B is M-b.
    A character alone is typing and no key to bind.
    """
    bits, rest, in_full = 0, written.strip(), False
    while found := _MODIFIER.match(rest):
        bits |= {"c": _CONTROL, "m": _ALT, "a": _ALT, "s": _SHIFT}[found[1][0].lower()]
        in_full = in_full or found[2] is not None
        rest = rest[found.end() :]
    base = _WRITTEN.get(rest.lower(), rest)
    if len(base) == 1:
        base = base.lower() if in_full else base
        bindable = base.isprintable() and base != " " and bits & (_CONTROL | _ALT)
        if not bindable or (bits & _CONTROL and not base.isascii()):
            return ""
    elif base not in _NAMED or (base == "Space" and not bits & (_CONTROL | _ALT)):
        return ""
    return _with(bits, base)


def key_written(key: str) -> str:
    """Return a key as people write it: "Ctrl-W" for "C-w"."""
    bits, base = _split(key)
    if len(base) == 1 and base != base.lower():
        bits |= _SHIFT
    return "".join(long for bit, _, long in _PREFIXES if bits & bit) + (
        base.upper() if len(base) == 1 else base
    )


def _some(name: str) -> list[Key]:
    return [name] if name else []


def _name(item: str) -> str:
    if item in _CONTROLS:
        return _CONTROLS[item]
    if len(item) > 1:
        return _SPECIAL.get(item) or _extended(item)
    return f"C-{chr(ord(item) + 64).lower()}" if item < " " else item


def _extended(item: str) -> str:
    found = _EXTENDED_NAME.fullmatch(item)
    base = _EXTENDED.get(found[1], "") if found else ""
    return _with(int(found[2] or 2) - 1, base) if found else ""


def _split(name: str) -> tuple[int, str]:
    """Return a name's modifiers and what they modify."""
    bits = 0
    for bit, prefix, _ in _PREFIXES:
        if name.startswith(prefix) and len(name) > len(prefix):
            bits, name = bits | bit, name[len(prefix) :]
    return bits, name


def _with(bits: int, name: str) -> str:
    """Return a key's name with more modifiers, as the terminal would send it in any other way."""
    own, base = _split(name)
    bits |= own
    if len(base) == 1:
        if bits & _SHIFT and len(base.upper()) == 1:
            base = base.upper()
        bits &= ~_SHIFT
        if bits & _CONTROL:
            base = {"@": " ", "/": "_"}.get(base, base.lower())
    if bits & _CONTROL and base in _SAME_AS:
        bits, base = bits & ~_CONTROL, _SAME_AS[base]
    base = "Space" if base == " " and bits else base
    return base and "".join(short for bit, short, _ in _PREFIXES if bits & bit) + base


def _ends(sequence: str, item: str) -> bool:
    """Return whether a sequence ends with `item` (ECMA-48; the Linux console and rxvt differ)."""
    if sequence.startswith("O"):
        return not (item.isdigit() or item == ";")
    if sequence == "[" and item == "[":
        return False
    return "@" <= item <= "~" or (item == "$" and sequence[1:].isdigit())


def _named_sequence(sequence: str) -> str:
    """Return the name of the key that a sequence stands for; "" if it is none."""
    if sequence in _SEQUENCES:
        return _SEQUENCES[sequence]
    if not re.fullmatch("[0-9;:]*", sequence[1:-1]):
        return ""
    fields = [field.partition(":")[0] for field in sequence[1:-1].split(";")]
    numbers = [int(field or 1) for field in fields]
    final = sequence[-1]
    if final in _LETTERS:
        return _with(_bits(numbers[-1]), _LETTERS[final])
    bits = _bits(numbers[1]) if len(numbers) > 1 else _RXVT.get(final, 0)
    if final == "u":
        return _with(bits, _of_code(numbers[0]))
    if final == "~" and numbers[0] == 27 and len(numbers) == 3:
        return _with(bits, _of_code(numbers[2]))
    return _with(bits, _NUMBERS.get(numbers[0], "")) if final in _RXVT else ""


def _bits(modifier: int) -> int:
    """Return the modifiers behind xterm's number for them, where Meta is another Alt."""
    bits = max(modifier - 1, 0)
    return (bits & 7) | (_ALT if bits & 8 else 0)


def _of_code(code: int) -> str:
    """Return the key of a code point, which has no meaning as a control but as a key."""
    is_character = code < 0xD800 or 0xE000 <= code < 0x110000
    return _name(chr(code)) if is_character else ""
