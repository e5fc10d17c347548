"""Key names: map characters, escape sequences and terminfo capabilities to the names of keys.

A character names itself; other keys are "Enter", "Tab", "Up", "PageUp" …, after "C-" for Control,
"M-" for Alt and "S-" for Shift, in this order. In the configuration file, people may write a key in
other forms, too: `parse_key` returns its name, and `format_key` returns the form that people read.
`decoder` turns the bytes of a terminal into keys.
"""

from __future__ import annotations

import re

ESCAPE = "\x1b"

_SHIFT, ALT, _CONTROL = 1, 2, 4
_PREFIXES = ((_CONTROL, "C-", "Ctrl-"), (ALT, "M-", "Alt-"), (_SHIFT, "S-", "Shift-"))

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

# Irregular sequences of rxvt, the Linux console and the keypad of a vt100, without their Escape.
_SEQUENCES = {"[Z": "S-Tab", "OM": "Enter", "OX": "=", "OI": "Tab", "O ": " "}
_SEQUENCES |= {f"[{letter.lower()}": f"S-{_CURSOR_LETTERS[letter]}" for letter in "ABCD"}
_SEQUENCES |= {f"O{letter.lower()}": f"C-{_CURSOR_LETTERS[letter]}" for letter in "ABCD"}
_SEQUENCES |= {f"[[{letter}": f"F{index}" for index, letter in enumerate("ABCDE", start=1)}
_SEQUENCES |= {f"O{chr(ord(sign) + 64)}": sign for sign in "*+,-./0123456789"}
_MOST_MODIFIERS = 16
_RXVT_FINALS = {"~": 0, "$": _SHIFT, "^": _CONTROL, "@": _CONTROL | _SHIFT}

_MODIFIED = {"UP": "Up", "DN": "Down", "RIT": "Right", "LFT": "Left", "HOM": "Home"}
_MODIFIED |= {"END": "End", "PRV": "PageUp", "NXT": "PageDown", "DC": "Delete", "IC": "Insert"}

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


def parse_key(written: str) -> str:
    """Return the name of a key that a person wrote as "C-w" or "Ctrl-W"; "" if not bindable.

    With Ctrl, Alt or Shift written in full, letters are as printed on the keyboard: Alt-B is M-b.
    A character without Ctrl or Alt cannot be bound: it types itself.
    """
    bits, rest, in_full = 0, written.strip(), False
    while found := _MODIFIER.match(rest):
        bits |= {"c": _CONTROL, "m": ALT, "a": ALT, "s": _SHIFT}[found[1][0].lower()]
        in_full = in_full or found[2] is not None
        rest = rest[found.end() :]
    base = _SPELLINGS.get(rest.lower(), rest)
    if len(base) == 1:
        base = base.lower() if in_full else base
        bindable = base.isprintable() and base != " " and bits & (_CONTROL | ALT)
        if not bindable or (bits & _CONTROL and not base.isascii()):
            return ""
    elif base not in _NAMED or (base == "Space" and not bits & (_CONTROL | ALT)):
        return ""
    return add_modifiers(bits, base)


def format_key(key: str) -> str:
    """Return a key as shown to people: "Ctrl-W" for "C-w"."""
    bits, base = _split_modifiers(key)
    if len(base) == 1 and base != base.lower():
        bits |= _SHIFT
    return "".join(long for bit, _, long in _PREFIXES if bits & bit) + (
        base.upper() if len(base) == 1 else base
    )


def name_character(character: str) -> str:
    """Return the name of the key that types a character, or with Control sends it."""
    if character in _CONTROL_CHARACTERS:
        return _CONTROL_CHARACTERS[character]
    return f"C-{chr(ord(character) + 64).lower()}" if character < " " else character


def _name_capabilities() -> dict[str, str]:
    names = {f"kf{number}": f"F{number}" for number in range(1, 21)}
    names |= {"kcuu1": "Up", "kcud1": "Down", "kcub1": "Left", "kcuf1": "Right"}
    names |= {"khome": "Home", "kend": "End", "kpp": "PageUp", "knp": "PageDown"}
    names |= {"ka1": "Home", "ka3": "PageUp", "kc1": "End", "kc3": "PageDown"}
    names |= {"kich1": "Insert", "kdch1": "Delete", "kbs": "Backspace", "kent": "Enter"}
    names |= {"kcbt": "S-Tab", "kri": "S-Up", "kind": "S-Down"}
    # Extended names end in the number of xterm's modifier: kRIT5 is Ctrl-Right. Without: Shift.
    for capability, base in _MODIFIED.items():
        names[f"k{capability}"] = add_modifiers(_SHIFT, base)
        for modifier in range(2, 9):
            names[f"k{capability}{modifier}"] = add_modifiers(_modifier_bits(modifier), base)
    return names


def _split_modifiers(name: str) -> tuple[int, str]:
    """Return a key name's modifier bits and the key that they modify."""
    bits = 0
    for bit, prefix, _ in _PREFIXES:
        if name.startswith(prefix) and len(name) > len(prefix):
            bits, name = bits | bit, name[len(prefix) :]
    return bits, name


def add_modifiers(bits: int, name: str) -> str:
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


def name_sequence(sequence: str) -> str:
    """Return the name of the key that a sequence without its Escape stands for; "" for none."""
    if sequence in _SEQUENCES:
        return _SEQUENCES[sequence]
    if not re.fullmatch("[0-9;:]{0,40}", sequence[1:-1]):
        return ""
    fields = [field.partition(":")[0] for field in sequence[1:-1].split(";")]
    numbers = [int(field or 1) for field in fields]
    final = sequence[-1]
    if final in _FINAL_LETTERS:
        if len(numbers) > 1 and (numbers[0] != 1 or numbers[1] > _MOST_MODIFIERS):
            return ""  # the answer to a question, such as where the cursor is
        return add_modifiers(_modifier_bits(numbers[-1]), _FINAL_LETTERS[final])
    bits = _modifier_bits(numbers[1]) if len(numbers) > 1 else _RXVT_FINALS.get(final, 0)
    if final == "u":
        return add_modifiers(bits, _key_of_code_point(numbers[0]))
    if final == "~" and numbers[0] == 27 and len(numbers) == 3:
        return add_modifiers(bits, _key_of_code_point(numbers[2]))
    return add_modifiers(bits, _TILDE_NUMBERS.get(numbers[0], "")) if final in _RXVT_FINALS else ""


def _modifier_bits(modifier: int) -> int:
    """Return the modifier bits in xterm's parameter (bits plus one); Meta counts as Alt."""
    bits = max(modifier - 1, 0)
    return (bits & 7) | (ALT if bits & 8 else 0)


def _key_of_code_point(code: int) -> str:
    """Return the key that a protocol such as CSI u gives as a code point; "" if it is none."""
    is_character = code < 0xD800 or 0xE000 <= code < 0x110000
    return name_character(chr(code)) if is_character else ""


CAPABILITIES = _name_capabilities()
"""The keys by the names of the terminfo capabilities that say what a terminal sends for them."""
