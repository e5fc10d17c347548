"""IRC messages: parse and format lines (RFC 2812, IRCv3 message tags), and split long texts.

Whatever its parts contain, a formatted message is exactly one line: what would begin another line,
or another parameter, is replaced. So no text or name of the chat can forge a message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LINE_SIZE = 512
"""The most bytes of a line that is sent, with CR LF and without tags (RFC 2812)."""

PARAMETERS = 15
"""The most parameters of a message."""

_ESCAPES = {";": r"\:", " ": r"\s", "\\": r"\\", "\r": r"\r", "\n": r"\n"}
_UNESCAPES = {":": ";", "s": " ", "r": "\r", "n": "\n"}
_TAG_KEY = re.compile(r"\+?[A-Za-z0-9./-]+")
_COMMAND = re.compile(r"[A-Za-z]+|[0-9]{3}")
_LINE_BREAKS = str.maketrans("\r\n\0", "   ")
_SEPARATORS = str.maketrans(" \r\n\0", "____")
_WORDS_ONLY = frozenset({"AUTHENTICATE", "BATCH", "JOIN", "MARKREAD", "MODE", "NICK", "PART"})


class MalformedError(Exception):
    """A line is not a message; `str()` says why."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message: `tags`, where it comes from (`source`), its command and its parameters."""

    command: str
    params: tuple[str, ...] = ()
    source: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the line with its CR LF; a line that is too long is cut off."""
        words = [] if self.source is None else [":" + _word(self.source)]
        words.append(self.command)
        words += map(_word, self.params[:-1])
        if self.params:
            words.append(_last(self.command, self.params[-1]))
        body = cut(" ".join(words), LINE_SIZE - 2)
        return f"{_tags_text(self.tags)}{body}\r\n".encode()


def parse(line: bytes) -> Message:
    """Return the message in a line without its CR LF. Raises `MalformedError`."""
    try:
        rest = line.decode()
    except UnicodeDecodeError as error:
        raise MalformedError("The line is not valid UTF-8.") from error
    if "\0" in rest or "\r" in rest or "\n" in rest:
        raise MalformedError("The line contains a control character that IRC does not allow.")
    tags, source = {}, None
    if rest.startswith("@"):
        text, _, rest = rest[1:].partition(" ")
        tags = _parse_tags(text)
    rest = rest.lstrip(" ")
    if rest.startswith(":"):
        source, _, rest = rest[1:].partition(" ")
    command, _, rest = rest.lstrip(" ").partition(" ")
    if not _COMMAND.fullmatch(command):
        raise MalformedError("The line has no command.")
    return Message(command.upper(), _parse_params(rest), source, tags)


def _parse_params(rest: str) -> tuple[str, ...]:
    params: list[str] = []
    rest = rest.lstrip(" ")
    while rest:
        if rest.startswith(":") or len(params) == PARAMETERS - 1:
            params.append(rest.removeprefix(":"))
            break
        word, _, rest = rest.partition(" ")
        params.append(word)
        rest = rest.lstrip(" ")
    return tuple(params)


def _parse_tags(text: str) -> dict[str, str]:
    tags: dict[str, str] = {}
    for tag in text.split(";"):
        key, _, value = tag.partition("=")
        if _TAG_KEY.fullmatch(key):
            tags[key] = _unescape(value)
    return tags


def _unescape(value: str) -> str:
    # A lone backslash at the end is dropped; before any other character it means that character.
    return re.sub(
        r"\\(.?)", lambda found: _UNESCAPES.get(found[1], found[1]), value, flags=re.DOTALL
    )


def _tags_text(tags: Mapping[str, str]) -> str:
    if not tags:
        return ""
    escaped = (
        f"{key}={''.join(_ESCAPES.get(c, c) for c in value.replace(chr(0), ''))}" if value else key
        for key, value in tags.items()
    )
    return f"@{';'.join(escaped)} "


def _word(text: str) -> str:
    """Return a parameter that is not the last: one word."""
    word = text.translate(_SEPARATORS)
    return f"_{word[1:]}" if word.startswith(":") else word or "*"


def _last(command: str, text: str) -> str:
    safe = text.translate(_LINE_BREAKS)
    plain = command in _WORDS_ONLY and safe and " " not in safe and not safe.startswith(":")
    return safe if plain else f":{safe}"


def cut(text: str, size: int) -> str:
    """Return the beginning of a text that takes at most `size` bytes of UTF-8."""
    return text if len(text) * 4 <= size else text.encode()[:size].decode(errors="ignore")


def split(text: str, size: int) -> list[str]:
    """Return a text in pieces of at most `size` bytes of UTF-8 (at least 4), if possible words."""
    pieces: list[str] = []
    while len(text.encode()) > size:
        piece = cut(text, size)
        space = piece.rfind(" ") + 1
        if space > len(piece) // 2:
            piece = piece[:space]
        pieces.append(piece)
        text = text[len(piece) :]
    return [*pieces, text]
