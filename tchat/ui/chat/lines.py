"""How what happens reads: one line of text for each event, the same in both faces.

What a person is told about where they stand with a group, as sentences.
"""

from __future__ import annotations

import re
import time
import unicodedata
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from tchat.core.fingerprints import fingerprint
from tchat.core.group.events import (
    AdminTransferred,
    Approved,
    Banned,
    Created,
    Deleted,
    Denied,
    Edited,
    Erased,
    FileRemoved,
    FileShared,
    Invited,
    Joined,
    Kicked,
    Left,
    PolicySet,
    Posted,
    Requested,
    TopicSet,
    Unbanned,
    Withdrawn,
)
from tchat.core.text import SPACELESS, clean_line, clean_text, fold, size_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tchat.client.files.queue import Progress
    from tchat.client.replica import Replica
    from tchat.core.group.events import Body, Event
    from tchat.core.protocol.frames import MembershipChange, Standing


def welcome(replica: Replica, me: str) -> str:
    """Return the sentence for one who has everything of the group there is so far."""
    count = len(replica.state.members)
    others = "you alone" if count == 1 else f"{count} members"
    requests = len(replica.state.requests)
    if requests and replica.state.is_admin(me):
        others += f"; {requests} waiting for approval, /1 lists them"
    return f"in {replica.name} with {others}; /help lists the commands"


def standing_found(replica: Replica, before: Standing | None) -> str:
    """Return what the server's answer means to one who was `before`; empty if nothing new."""
    if replica.standing == "waiting":
        return f"waiting for {replica.admin or 'the admin'} to approve you; /3 leaves"
    if replica.standing == "member":
        return ""
    if replica.kicked:
        return "you were kicked from this group; /join asks to come back"
    if before == "waiting":
        return "your request was not approved; /join asks again, /3 leaves"
    if before == "member":
        return "you are not a member any more; /join asks to be one, /3 leaves"
    return ""


def standing_changed(news: MembershipChange, *, on_purpose: bool) -> str:
    """Return what somebody has done to this person's standing; empty for what they know."""
    if news.reason == "left" and on_purpose:
        return ""
    sentence = {
        "denied": f"{news.by} denied your request",
        "kicked": f"{news.by} kicked you out of the group",
        "banned": f"{news.by} banned you from the group; only the admin can undo that",
        "left": "you left the group from another terminal",
        "closed": f"{news.by}, the last member, left, and the group is closed",
    }
    if news.reason == "banned":
        return sentence["banned"]
    return f"{sentence.get(news.reason, news.reason)}; /join asks again, /3 leaves"


def digest(missed: Sequence[Event], me: str, *, direct: bool) -> str | None:
    """Return what came while the person was away, in one line; None if nothing did."""
    texts = [event.body.text for event in missed if isinstance(event.body, Posted)]
    files = sum(isinstance(event.body, FileShared) for event in missed)
    mentions = 0 if direct else sum(is_mention(text, me) for text in texts)
    counts = [
        count_text(len(texts), "message"),
        f"{mentions} mention{'s' * (mentions == 1)} you" if mentions else "",
        count_text(files, "file"),
    ]
    told = ", ".join(filter(None, counts))
    if not told:
        return None
    began = time.localtime(latest(missed[0].at) / 1000)
    return f"since {time.strftime('%a %H:%M', began)}: {told}"


def count_text(number: int, what: str) -> str:
    """Return a number of things: "1 file", "2 files"; nothing for none."""
    return f"{number} {what}{'s' * (number != 1)}" if number else ""


NO_KEYS: MappingProxyType[bytes, str] = MappingProxyType({})
Sort = Literal["message", "action", "notice", "error"]
"""What a line is: said, done ("/me"), told by the program, or refused."""

Fate = Literal["", "pending", "failed"]
"""Whether a message is stored, on its way, or was refused and may be sent again."""

_ACTION = "/me "
_QUOTE = 60

_SPACELESS = re.compile(f"[{SPACELESS}]")
_LETTER = rf"[^\W{SPACELESS}]"

_LATEST = 253_370_764_800_000
"""The beginning of the year 9999: no calendar reaches as far as a server's number could."""

_LONGEST = 99 * 3600 + 59 * 60 + 59
"""The longest time, in seconds, that is told exactly."""


@dataclass(frozen=True, slots=True)
class Line:
    """Something to show: `at` in ms since the Unix epoch, and who said it, if somebody did.

    The text is clean, and may have several lines if it is a message. `seq` is its event's, 0 if
    none is behind it. `reply` is what a message answers, in a few words. A `mention` is meant for
    the person who reads. A deleted message has no text. What is `history` had been seen before.
    """

    at: int
    sort: Sort
    text: str
    who: str = ""
    seq: int = 0
    reply: str = ""
    mention: bool = False
    edited: bool = False
    deleted: bool = False
    fate: Fate = ""
    history: bool = False


def line_of(
    event: Event,
    me: str,
    *,
    admin: bool,
    keys: Mapping[bytes, str] | None = NO_KEYS,
    file: str = "",
) -> Line | None:
    """Return an event as a line for `me`; None for what does not concern this person.

    `keys` are those that members came with, and whose they were; None for a request that was
    answered long ago. `file` is the name of a file that is removed, if it is known.
    """
    at = latest(event.at)
    if isinstance(event.body, Posted):
        return message_line(event, event.body.text, me)
    if isinstance(event.body, Erased):
        return Line(at, "message", "", clean_line(event.actor), event.seq, deleted=True)
    if isinstance(event.body, FileRemoved):
        text = f"{event.actor} removed file {event.body.number}{f' ({file})' if file else ''}"
    else:
        text = _sentence(event, fold(me), admin=admin, keys=keys)
    return Line(at, "notice", clean_line(text), seq=event.seq) if text else None


def message_line(event: Event, text: str, me: str, *, edited: bool = False) -> Line:
    """Return the line of a message that says `text` now."""
    sort, shown = said(text)
    return Line(
        latest(event.at),
        sort,
        shown,
        clean_line(event.actor),
        event.seq,
        mention=fold(event.actor) != fold(me) and is_mention(text, me),
        edited=edited,
    )


def changed_line(line: Line, body: Edited | Deleted, me: str) -> Line:
    """Return a message's line after the message was changed or deleted."""
    if isinstance(body, Deleted) or line.deleted:
        return replace(line, sort="message", text="", reply="", mention=False, deleted=True)
    sort, text = said(body.text)
    mention = fold(line.who) != fold(me) and is_mention(body.text, me)
    return replace(line, sort=sort, text=text, mention=mention, edited=True)


def quotation(who: str, text: str) -> str:
    """Return who said what, in a few words."""
    sort, shown = said(text)
    words = clean_line(shown)
    between = " " if sort == "action" else ": "
    return f"{clean_line(who)}{between}{words[:_QUOTE]}{'…' * (len(words) > _QUOTE)}"


def said(text: str) -> tuple[Sort, str]:
    """Return how a message's text is shown: as something said, or done, and the clean text."""
    if text.startswith(_ACTION):
        return "action", clean_text(text.removeprefix(_ACTION))
    return "message", clean_text(text)


def is_mention(text: str, me: str) -> bool:
    """Return whether a text has somebody's name in it, as a word of its own.

    Where words are written without spaces, nothing says where one ends: there the name will do.
    """
    name = fold(me)
    folded = unicodedata.normalize("NFKC", text).casefold()
    return name in folded and _mention_of(name).search(folded) is not None


@lru_cache(maxsize=16)
def _mention_of(name: str) -> re.Pattern[str]:
    """Return what finds a name, but neither within a word nor within other-names or.hosts."""
    whole = len(name) > 1
    before = "" if whole and _SPACELESS.match(name) else rf"(?<!{_LETTER})(?<!{_LETTER}[.-])"
    after = "" if whole and _SPACELESS.match(name[-1]) else rf"(?!{_LETTER}|[.-]{_LETTER})"
    return re.compile(before + re.escape(name) + after)


def _sentence(event: Event, me: str, *, admin: bool, keys: Mapping[bytes, str] | None) -> str:
    actor = event.actor
    match event.body:
        case Created():
            mine = " and you are its admin" * (fold(actor) == me)
            return f"{actor} created {event.group}{mine}"
        case AdminTransferred(name):
            return f"{actor} made {name} the admin" + ": that is you" * (fold(name) == me)
        case Invited(name=name):
            return f"{actor} gave an invite" + (f" for {name}" if name else "")
        case FileShared(number, name, size):
            return f"{actor} shared {name} ({size_text(size)}), file {number}"
        case Edited(text=text):
            return f"{actor} changed a message: {text}"
        case Deleted():
            return f"{actor} deleted a message"
        case TopicSet(text):
            return f"{actor} set the topic: {text}" if text else f"{actor} took the topic away"
        case Requested() | Denied() | Withdrawn():
            return _about_request(actor, event.body, keys) if admin else ""
    return _about_member(actor, event.body)


def _about_request(
    actor: str, body: Requested | Denied | Withdrawn, keys: Mapping[bytes, str] | None
) -> str:
    match body:
        case Requested(key):
            if keys is None:
                return f"{actor} asked to join"
            whose = f" ({key_note(key, keys)})" if key else ""
            return f"{actor} asks to join{whose}: /approve {actor} or /deny {actor}"
        case Denied(name):
            return f"{actor} denied {name}"
        case Withdrawn():
            return f"{actor} does not ask to join any more"


def _about_member(actor: str, body: Body) -> str:
    match body:
        case Approved(name):
            return f"{name} joined, approved by {actor}"
        case Joined(by):
            return f"{actor} joined, invited by {by}" if by else f"{actor} joined"
        case Left():
            return f"{actor} left the group"
        case Kicked(name):
            return f"{actor} kicked {name}"
        case Banned(name):
            return f"{actor} banned {name}"
        case Unbanned(name):
            return f"{actor} lifted the ban of {name}"
        case PolicySet(policy):
            whom = "everybody" if policy == "open" else "only who is approved"
            return f"{actor} lets {whom} join from now on"
    return ""


def key_note(key: bytes, keys: Mapping[bytes, str]) -> str:
    """Return whose key that is, as far as the group knows: "key 3f2a-91c4-77de-0b12, new here"."""
    known = keys.get(key)
    was = f"was a member as {known}" if known else "new here"
    return f"key {fingerprint(key)}, {was}"


def latest(at: int) -> int:
    """Return a time (ms since the Unix epoch), or the latest that can be shown."""
    return min(at, _LATEST)


def time_text(seconds: float) -> str:
    """Return a length of time as clocks show it: 2:10, or 1:02:03."""
    minutes, rest = divmod(round(min(seconds, _LONGEST)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def progress_text(progress: Progress) -> str:
    """Return how far a transfer is, as a sentence without its end."""
    size, name = size_text(progress.size), progress.name
    if progress.phase == "queued":
        return f"{name} waits for its turn"
    if progress.phase == "sharing":
        return f"{name} is across, and is shared now"
    if progress.phase == "checking":
        return f"checking {name}" + (f": {progress.percent} % of {size}" if progress.done else "")
    verb = "sending" if progress.way == "up" else "saving"
    text = f"{verb} {name}: {progress.percent} % of {size}"
    if progress.rate:
        text += f", {size_text(round(progress.rate))}/s"
    if progress.left is not None:
        text += f", {time_text(progress.left)} left"
    return text
