"""tchat: group chat for the terminal.

The public API, for bots and programs (see examples/README.md for programs that use it):

    async with tchat.connect("chat.example.org:7777", user="robot") as client:
        group = await client.join("ops")
        await group.say("deployed")

Names are imported when they are first used: `tchat --help` needs none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tchat.api.client import Client as Client
    from tchat.api.client import connect as connect
    from tchat.api.groups import AdminChanged as AdminChanged
    from tchat.api.groups import Connected as Connected
    from tchat.api.groups import Deleted as Deleted
    from tchat.api.groups import Disconnected as Disconnected
    from tchat.api.groups import Edited as Edited
    from tchat.api.groups import Event as Event
    from tchat.api.groups import EventLost as EventLost
    from tchat.api.groups import File as File
    from tchat.api.groups import FileRemoved as FileRemoved
    from tchat.api.groups import FileShared as FileShared
    from tchat.api.groups import Group as Group
    from tchat.api.groups import GroupClosed as GroupClosed
    from tchat.api.groups import Invited as Invited
    from tchat.api.groups import Joined as Joined
    from tchat.api.groups import JoinRequest as JoinRequest
    from tchat.api.groups import JoinRequestEnded as JoinRequestEnded
    from tchat.api.groups import Left as Left
    from tchat.api.groups import LogReplaced as LogReplaced
    from tchat.api.groups import Message as Message
    from tchat.api.groups import MessagesExpired as MessagesExpired
    from tchat.api.groups import Notice as Notice
    from tchat.api.groups import Other as Other
    from tchat.api.groups import Pinned as Pinned
    from tchat.api.groups import PolicySet as PolicySet
    from tchat.api.groups import Presence as Presence
    from tchat.api.groups import StandingChanged as StandingChanged
    from tchat.api.groups import TopicSet as TopicSet
    from tchat.api.groups import Unbanned as Unbanned
    from tchat.api.runner import run as run
    from tchat.api.runner import run_bot as run_bot
    from tchat.api.stream import Events as Events
    from tchat.errors import Code as Code
    from tchat.errors import Refused as Refused
    from tchat.errors import TchatError as TchatError
    from tchat.errors import Unavailable as Unavailable
    from tchat.errors import UsageError as UsageError

__version__ = "0.2.0"

_MODULES = {
    "tchat.api.client": ("Client", "connect"),
    "tchat.api.groups": (
        "AdminChanged",
        "Connected",
        "Deleted",
        "Disconnected",
        "Edited",
        "Event",
        "EventLost",
        "File",
        "FileRemoved",
        "FileShared",
        "Group",
        "GroupClosed",
        "Invited",
        "JoinRequest",
        "JoinRequestEnded",
        "Joined",
        "Left",
        "LogReplaced",
        "Message",
        "MessagesExpired",
        "Notice",
        "Other",
        "Pinned",
        "PolicySet",
        "Presence",
        "StandingChanged",
        "TopicSet",
        "Unbanned",
    ),
    "tchat.api.runner": ("run", "run_bot"),
    "tchat.api.stream": ("Events",),
    "tchat.errors": ("Code", "Refused", "TchatError", "Unavailable", "UsageError"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *_HOMES]  # a list of strings


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tchat' has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
