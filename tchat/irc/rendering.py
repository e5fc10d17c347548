"""Events of the chat as IRC messages.

What IRC has is shown as such: messages, actions, joining and leaving, topics, modes. All other
events are a NOTICE of the person who did it. An event from before the channel was opened (`live` is
false) must not change the client's list of names, so it is a message or a NOTICE in any case.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tchat.api import groups as api
from tchat.core.text import fold, size_text
from tchat.irc.formatting import action, message_lines, snippet
from tchat.irc.messages import LINE_SIZE, Message, split
from tchat.irc.names import SERVICE, SERVICE_SOURCE, channel_of, nick_of, source_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_BANNED_HOW = "banned"
_MSGID = re.compile(r"([0-9]{1,15})(?:-([0-9a-f]{16}))?@(.*)")


@dataclass(frozen=True, slots=True)
class Quote:
    """A message that a reply or another event refers to."""

    who: str
    text: str
    at: datetime
    stamp: bytes


@dataclass(frozen=True, slots=True)
class Scene:
    """Where events are shown: the group, whether they happen now, and what they refer to.

    `me` is the user; `quotes` has the messages by their seqs, `admin` the admin before the event.
    """

    group: api.Group
    me: str
    live: bool = True
    admin: str | None = None
    quotes: Mapping[int, Quote] = field(default_factory=dict)


def server_time(at: datetime) -> str:
    """Return a time as IRC writes it: ISO 8601, UTC, milliseconds."""
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"


def target_of(group: api.Group) -> str:
    """Return the channel of a group, or the nickname of the other person of a conversation."""
    return nick_of(group.name) if group.direct else channel_of(group.name)


def message_id(group: api.Group, seq: int, stamp: bytes) -> str:
    """Return the `msgid` of the message with a seq, such as "57-3fa9c1d2e4b5a697@#ops".

    IRC clients keep it. The stamp says whether it is still that message: the server may have been
    restored from a backup since.
    """
    return f"{seq}-{stamp.hex()}@{fold(target_of(group))}"


def ref_of(group: api.Group, msgid: str) -> api.MessageRef | None:
    """Return which message of this group a `msgid` means; None if it is not one of this group.

    Those of earlier versions had no stamp.
    """
    found = _MSGID.fullmatch(msgid)
    if found is None or fold(found[3]) != fold(target_of(group)):
        return None
    return api.MessageRef(int(found[1]), bytes.fromhex(found[2]) if found[2] else None)


def reference_of(event: api.Event) -> int | None:
    """Return the seq of the message that an event refers to."""
    match event:
        case api.Message(reply_to=seq):
            return seq
        case api.Edited(message=seq) | api.Deleted(message=seq) | api.Pinned(message=seq):
            return seq
    return None


def render(event: api.Event, scene: Scene) -> list[Message]:
    """Return the messages for an event, with all tags that any client may have asked for."""
    if isinstance(event, api.Message):
        messages = _message(event, scene)
    elif scene.group.direct and not isinstance(event, api.Edited | api.Deleted):
        messages = []  # there is no channel whose members could change
    else:
        messages = (_change(event, scene) if scene.live else None) or _notices(event, scene)
    time = {"time": server_time(event.at)}
    return [Message(one.command, one.params, one.source, {**time, **one.tags}) for one in messages]


# ------------------------------------------------------------------ messages


def _message(event: api.Message, scene: Scene) -> list[Message]:
    tags = {"msgid": message_id(scene.group, event.seq, event.stamp)}
    lines: list[str] = []
    if event.reply_to is not None:
        tags |= _reply_tag(event.reply_to, scene)
        quote = scene.quotes.get(event.reply_to)
        lines.append(f"> {nick_of(quote.who)}: {snippet(quote.text)}" if quote else "> …")
    source, target = source_of(event.who), _target(event.who, scene)
    room = _room(source, "PRIVMSG", target)
    pieces = [piece for line in message_lines(event.text) for piece in split(line, room)]
    lines += map(action, pieces) if event.action else pieces
    return [
        Message("PRIVMSG", (target, line), source, tags if number == 0 else {})
        for number, line in enumerate(lines)
    ]


def _reply_tag(seq: int, scene: Scene) -> dict[str, str]:
    """Return the tag of a reply to a message; none if the message is not known."""
    quote = scene.quotes.get(seq)
    return {} if quote is None else {"+draft/reply": message_id(scene.group, seq, quote.stamp)}


def _target(who: str, scene: Scene) -> str:
    """Return where something of a person is shown: in a conversation of two, at its receiver."""
    if scene.group.direct and fold(who) != fold(scene.me):
        return nick_of(scene.me)
    return target_of(scene.group)


def _room(source: str, command: str, target: str) -> int:
    """Return the bytes that the text of a line may have, as an action, too."""
    return LINE_SIZE - len(f":{source} {command} {target} :\x01ACTION \x01\r\n".encode())


# ------------------------------------------------------------------ changes of the channel


def _change(event: api.Event, scene: Scene) -> list[Message] | None:
    """Return a change that IRC knows; None if it is shown as a NOTICE."""
    channel, who = target_of(scene.group), source_of(event.who)
    match event:
        case api.Joined():
            mine = fold(event.name) == fold(scene.me)  # then the channel was opened
            return [] if mine else [Message("JOIN", (channel,), source_of(event.name))]
        case api.Left(how="left"):
            return [Message("PART", (channel,), who)]
        case api.Left():
            return _removed(event, channel, scene)
        case api.Unbanned():
            return [Message("MODE", (channel, "-b", ban_mask(event.name)), who)]
        case api.TopicSet():
            return [Message("TOPIC", (channel, event.topic), who)]
        case api.PolicySet():
            mode = "-i" if event.policy == "open" else "+i"
            return [Message("MODE", (channel, mode), who)]
        case api.AdminChanged():
            before = scene.admin or event.who
            return [Message("MODE", (channel, "-o+o", nick_of(before), nick_of(event.admin)), who)]
    return None


def ban_mask(name: str) -> str:
    """Return the mask of a ban of a person."""
    return f"{nick_of(name)}!*@*"


def _removed(event: api.Left, channel: str, scene: Scene) -> list[Message]:
    who, banned = source_of(event.who), event.how == _BANNED_HOW
    messages = [Message("MODE", (channel, "+b", ban_mask(event.name)), who)] if banned else []
    if fold(event.name) != fold(scene.me):  # one's own removal closes the channel
        messages.append(Message("KICK", (channel, nick_of(event.name), event.how), who))
    return messages


# ------------------------------------------------------------------ notices


def _notices(event: api.Event, scene: Scene) -> list[Message]:
    if isinstance(event, api.JoinRequest):
        return [_request(event, scene)]
    sentence = _sentence(event, scene)
    if sentence is None:
        return []
    source, target = source_of(event.who), _target(event.who, scene)
    reference = reference_of(event)
    tags = {} if reference is None else _reply_tag(reference, scene)
    return [
        Message("NOTICE", (target, piece), source, tags)
        for line in message_lines(sentence)
        for piece in split(line, _room(source, "NOTICE", target))
    ]


def _request(event: api.JoinRequest, scene: Scene) -> Message:
    channel, nick = target_of(scene.group), nick_of(event.who)
    sentence = f"{nick} asks to join {channel}."
    if scene.group.is_admin:
        sentence += f" To approve it: /msg {SERVICE} approve {channel} {nick}"
    return Message("NOTICE", (channel, sentence), SERVICE_SOURCE)


def _sentence(event: api.Event, scene: Scene) -> str | None:
    """Return what a person did, as their NOTICE says it; None if it is not shown."""
    match event:
        case api.Edited():
            return f"edited {_quoted(event.message, scene)}: {event.text}"
        case api.Deleted():
            return _deletion(event, scene)
        case api.Pinned(message=None):
            return "unpinned the message"
        case api.Pinned(message=int(seq)):
            return f"pinned {_quoted(seq, scene)}"
        case api.FileShared():
            return file_sentence(event.file, scene.group)
        case api.FileRemoved():
            return f"removed file {event.number}"
        case api.Invited():
            return f"made an invite for {event.name or 'anybody'}"
        case api.JoinRequestEnded():
            denied = fold(event.who) != fold(event.name)
            return f"denied {event.name}'s request" if denied else "withdrew the request to join"
        case api.GroupClosed() | api.MessagesExpired() | api.EventLost() | api.Other():
            return event.sentence.removeprefix(f"{event.who} ") or None
    return None if scene.live else _past(event)


def file_sentence(file: api.File, group: api.Group) -> str:
    """Return how a shared file is announced: its number, name, size, and how to get it."""
    how = f"/msg {SERVICE} get {target_of(group)} {file.number}"
    return f"shared file {file.number}: {file.name} ({size_text(file.size)}). To get it: {how}"


def _past(event: api.Event) -> str | None:
    """Return a change of the channel that happened before it was opened."""
    match event:
        case api.Joined(how="founded"):
            return "founded the group"
        case api.Joined():
            same = fold(event.who) == fold(event.name)
            return "joined" if same else f"approved {event.name}"
        case api.Left(how="left"):
            return "left"
        case api.Left():
            return f"{event.how} {event.name}"
        case api.Unbanned():
            return f"lifted the ban of {event.name}"
        case api.TopicSet():
            return f"set the topic: {event.topic}" if event.topic else "removed the topic"
        case api.PolicySet():
            return "opened the group" if event.policy == "open" else "made joining need approval"
        case api.AdminChanged():
            return f"made {event.admin} the admin"
    return None


def _deletion(event: api.Deleted, scene: Scene) -> str:
    """Say which message was deleted without showing its text again."""
    quote = scene.quotes.get(event.message)
    if quote is None:
        return "deleted an earlier message"
    whose = "a" if fold(quote.who) == fold(event.who) else f"{nick_of(quote.who)}'s"
    return f"deleted {whose} message of {quote.at.astimezone():%H:%M}"


def _quoted(seq: int, scene: Scene) -> str:
    quote = scene.quotes.get(seq)
    return f"“{snippet(quote.text)}”" if quote else "a message"
