"""Names in IRC: nicknames of people, channels of groups, and the way back.

Names of people and groups have letters and digits of any script and _ - . which IRC clients show
and complete (UTF-8 only). But a nickname must not begin with a digit, a hyphen or a dot: clients
take it for a number, an option or a server. Then ^ is put in front of it, which no name has.

A server may send anything as a name, such as the nickname of the service, or a text with the marks
of a user and a host. Whatever is no valid name has its invalid characters as ^HEX^, the code point,
so that it cannot be taken for anybody or anything else. If it is too long, it becomes a digest.
"""

from __future__ import annotations

import hashlib
import re
import sys
from functools import lru_cache

from tchat.core.text import check_name, fold
from tchat.errors import Refused

SERVICE = "*tchat"
"""The nickname to which commands of tchat are written; no person can have it."""

HOST = "tchat"
SERVER = "tchat.localhost"
"""The name of the IRC server: with a dot, so that clients do not take it for a person."""

_MARK = "^"
_NOT_FIRST = frozenset("0123456789-.")
_ESCAPED = re.compile(r"\^([0-9a-f]{1,6})\^")
_LONGEST_ESCAPED = 128  # bytes: a line has room for the nickname twice, and a text
_DIGEST_DIGITS = 16
_SURROGATES = range(0xD800, 0xE000)


@lru_cache(4096)
def nick_of(name: str) -> str:
    """Return the nickname of a person."""
    if _is_valid(name) and fold(name) != SERVER:
        return _MARK + name if name[0] in _NOT_FIRST else name
    first, others = _escape(name[:1]), name[1:]
    nick = first + "".join(one if _is_valid(one) else _escape(one) for one in others)
    if not name or len(nick.encode()) > _LONGEST_ESCAPED:
        digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()
        return f"{_MARK}x{digest[:_DIGEST_DIGITS]}{_MARK}"
    return nick


def _is_valid(name: str) -> bool:
    try:
        return check_name(name) == name
    except Refused:
        return False


def _escape(character: str) -> str:
    return f"{_MARK}{ord(character):x}{_MARK}" if character else ""


def person_of(nick: str) -> str:
    """Return the name of the person with a nickname; of a digest, itself."""
    if nick.count(_MARK) > 1:
        return _ESCAPED.sub(_unescape, nick)
    return nick.removeprefix(_MARK)


def _unescape(found: re.Match[str]) -> str:
    """Return the character with a code point; what was typed, if there is none."""
    code = int(found[1], 16)
    is_character = code <= sys.maxunicode and code not in _SURROGATES
    return chr(code) if is_character else found[0]


def channel_of(group: str) -> str:
    """Return the channel of a group."""
    return f"#{group}"


def group_of(channel: str) -> str:
    """Return the group of a channel, also if it was typed without #."""
    return channel.removeprefix("#")


def is_channel(target: str) -> bool:
    """Return whether a target is a channel, not a nickname."""
    return target.startswith("#")


def source_of(name: str) -> str:
    """Return a person as the source of a message."""
    nick = nick_of(name)
    return f"{nick}!{nick}@{HOST}"


SERVICE_SOURCE = f"{SERVICE}!tchat@{HOST}"
