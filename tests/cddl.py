"""CDDL validation: every frame sent in a test is checked against `protocol.cddl`.

All frames are encoded by `framing.pack`, and `watched()` replaces its encoders: what `pack`
encodes must match a rule of the document and have no key that the rule does not list. A
violation raises `ProtocolViolation` where the frame is made. A server survives that like any
other fault of its own, so it is also recorded in `violations`, which fails the running test.

Traffic between other processes is checked by passing frame bodies to `validate_body`. Frames that
are invalid on purpose are made by `unchecked`.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING

import cbor2
import pycddl  # type: ignore[import-untyped]
import pytest

from tchat.core.protocol import framing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

violations: list[str] = []
"""Violations found in the frames of the running test."""

_ROOM_TO_GROW = "(* tstr => any)"


def _either(words: re.Match[str]) -> str:
    return f'tstr .regexp "{"|".join(re.findall("[a-z]+", words[0]))}"'


# pycddl is laxer than RFC 8610 in places; there the document is rewritten to an equivalent that it
# checks strictly.
_REWRITES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r";.*", ""),
    # A bare key named like a type of the prelude (text, number) would match as that type.
    (r'(?<![\w"-])([a-z][a-z0-9_]*)(?=: )', r'"\1"'),
    # `.size` checks the size alone, so that integers match where strings are required.
    (r"\b([tb]str) (\.size (?:\d+|\([^)]*\)))", r"\1 .and (\1 \2)"),
    # Byte strings match a numeric range,
    (r"\b0\.\.(\d+)", r"uint .and (0..\1)"),
    # arrays match a choice of words (and a partial match is enough, hence ^ and $),
    (r'"\w+"(?:\s+/\s+"\w+")+', _either),
    (r'\.regexp "(.*?)"', r'.regexp "^(\1)$"'),
    # and maps match text.
    (r"\btstr\b(?! [.=])", 'tstr .regexp "^"'),
)


class ProtocolViolation(AssertionError):
    """A frame does not match `protocol.cddl`."""


def _read_rules() -> dict[str, str]:
    document = Path(framing.__file__).with_name("protocol.cddl").read_text(encoding="utf-8")
    for pattern, replacement in _REWRITES:
        document = re.sub(pattern, replacement, document)
    _, *parts = re.split(r"^([a-z0-9-]+)\s*= ", document, flags=re.MULTILINE)
    return {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}


RULES = _read_rules()
"""The document's rules: right-hand side by name."""

_RULE_OF_WORD: dict[tuple[str, str], str] = {
    key_and_word: rule
    for rule, text in RULES.items()
    for key_and_word in re.findall(r'"(type|kind)": "(\w+)"', text)
    if rule != "header"
}


def rule_of(item: Mapping[str, object]) -> str:
    """Return the name of the rule for a frame's map: by type, or by kind for an event."""
    key = "kind" if item.get("type") == "event" else "type"
    rule = _RULE_OF_WORD.get((key, str(item.get(key))))
    if rule is None:
        raise ProtocolViolation(f"protocol.cddl has no rule for {key} {item.get(key)!r}")
    return rule


def keys_of(rule: str) -> set[str]:
    """Return the keys that a rule lists, required and optional."""
    return set(re.findall(r'"(\w+)":', RULES[rule]))


def validate(rule: str, body: bytes, *, may_grow: bool = False) -> None:
    """Raise `ProtocolViolation` unless `body` matches the rule.

    `may_grow` allows keys that the rule does not list, as newer peers may send them.
    """
    try:
        _schema(rule, may_grow).validate_cbor(body)
    except pycddl.ValidationError as error:
        raise ProtocolViolation(f"not a {rule} of protocol.cddl: {error}") from error
    except BaseException as error:
        # The validator panics, instead of refusing it, at a byte string in the place of a map.
        if type(error).__name__ != "PanicException":
            raise
        raise ProtocolViolation(f"not a {rule} of protocol.cddl") from error


def validate_body(body: bytes) -> None:
    """Raise `ProtocolViolation` unless `body`, a frame without its length, matches a rule."""
    item = cbor2.loads(body)
    if not isinstance(item, dict):
        raise ProtocolViolation(f"a frame must be a map, not {item!r}")
    validate(rule_of(item), body)


def unchecked(item: object) -> bytes:
    """Return a frame that holds any item, without validation."""
    body = cbor2.dumps(item)
    return len(body).to_bytes(framing.PREFIX, "big") + body


@contextmanager
def watched() -> Iterator[None]:
    """Validate every frame that `framing.pack` encodes in the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framing, "_idle_encoders", [])
        patch.setattr(framing, "cbor2", SimpleNamespace(**vars(cbor2) | {"CBOREncoder": _Encoder}))
        yield


class _Encoder:
    """An encoder that validates what it has encoded."""

    def __init__(self, file: IO[bytes]) -> None:
        self._encoder = cbor2.CBOREncoder(file)

    def encode_to_bytes(self, item: Mapping[str, object]) -> bytes:
        body = self._encoder.encode_to_bytes(item)
        try:
            validate(rule_of(item), body)
        except ProtocolViolation as violation:
            violations.append(str(violation))
            raise
        return body


@cache
def _schema(rule: str, may_grow: bool) -> pycddl.Schema:
    # One small schema for each rule, with only the rules that it refers to: pycddl is slow on long
    # documents and panics on large choices.
    texts = {name: RULES[name] for name in _needed(rule, {rule})}
    if not may_grow:
        texts = {name: text.replace(_ROOM_TO_GROW, "()") for name, text in texts.items()}
    return pycddl.Schema("\n".join(f"{name} = {text}" for name, text in texts.items()))


def _needed(rule: str, known: set[str]) -> list[str]:
    """Return `rule` followed by all rules that it refers to."""
    names = [rule]
    for word in re.findall(r"[a-z0-9-]+", re.sub(r'"[^"]*"', "", RULES[rule])):
        if word in RULES and word not in known:
            known.add(word)
            names += _needed(word, known)
    return names
