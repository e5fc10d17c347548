"""Names in IRC: nicknames of people, channels of groups, and the way back.

Names of people and groups have letters and digits of any script and _ - . which IRC clients show
and complete (UTF-8 only). But a nickname must not begin with a digit, a hyphen or a dot: clients
take it for a number, an option or a server. Then ^ is put in front of it, which no name has.
"""

from __future__ import annotations

SERVICE = "*tchat"
"""The nickname to which commands of tchat are written; no person can have it."""

HOST = "tchat"
SERVER = "tchat.localhost"
"""The name of the IRC server: with a dot, so that clients do not take it for a person."""

_MARK = "^"
_NOT_FIRST = frozenset("0123456789-.")


def nick_of(name: str) -> str:
    """Return the nickname of a person."""
    return _MARK + name if name[:1] in _NOT_FIRST else name


def person_of(nick: str) -> str:
    """Return the name of the person with a nickname."""
    return nick.removeprefix(_MARK)


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
