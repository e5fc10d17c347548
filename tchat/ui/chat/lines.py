"""Format the events of a group as lines of text, for both front ends.

This module also formats quotations, the progress of transfers, and times.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from tchat.client.clock import LATEST_MS
from tchat.core.group.feature import Reader
from tchat.core.group.log_digest import stamp_of
from tchat.core.group.membership import (
    AdminTransferred,
    Banned,
    Invited,
    Joined,
    Left,
    Requested,
    Unbanned,
)
from tchat.core.group.mentions import is_mention
from tchat.core.group.messages import Deleted, Edited, Erased, Pinned, Posted, Unpinned
from tchat.core.group.settings import PolicySet, TopicSet
from tchat.core.text import (
    NAME_LIMIT,
    TEXT_LIMIT,
    clean_line,
    clean_text,
    counted,
    fold,
    size_text,
)
from tchat.ui.chat.gathering import some_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tchat.client.files.queue import Progress
    from tchat.core.group.feature import Event

NO_KEYS: MappingProxyType[bytes, str] = MappingProxyType({})

Sort = Literal["message", "action", "notice", "error"]
"""The kind of a line: a message, an action ("/me"), a notice of the program, or a refusal."""

Fate = Literal["", "pending", "failed"]
"""The delivery state of a message: stored, being sent, or refused (/resend sends it again)."""

SPOKEN = ("message", "action")
"""The kinds of lines that people write."""

_ACTION = "/me "
_LONGEST_NAME = 128 * NAME_LIMIT
"""How much of a name is shown: a server may send anything, and measuring takes time by the length.
"""
_SHRINKAGE = 8
"""How many code points of a text may become one when it is sanitized, where it is cut."""
_EDITED_LIMIT = 20
"""Longest text of an edited message where its edit is reported, in code points."""
QUOTE_LIMIT = 60
"""Longest text in a quotation, in code points."""

CHANGES_APART = 4
"""How many changes of a group a moment apart have lines of their own; all further ones share one.
"""

_RUN_MS = 10_000

_CHANGES = (
    *(TopicSet, PolicySet, Pinned, Unpinned, Banned, Unbanned, Invited, AdminTransferred),
    *(Joined, Left),
)
"""The changes that one person can repeat as fast as they may send commands."""

_LONGEST = 99 * 3600 + 59 * 60 + 59
"""The longest time, in seconds, that is shown exactly."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a window: `at` is in ms since the Unix epoch, `who` its author or empty.

    The text is sanitized, and may have several lines if it is a message. `seq` is its event's, 0 if
    it has none. `reply` quotes the message that this one replies to. `mention` says that the text
    names the reader, and `history` that the line was seen before. A deleted message has no text.
    `code` is that of a refusal. `asking` names the people whose requests to join this line tells,
    and `changes` is how many changes of the group it tells, 0 if it tells something else. `stamp`
    is that of a message's event (see `core.group.log_digest`).
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
    code: str = ""
    asking: tuple[str, ...] = ()
    changes: int = 0
    stamp: bytes | None = None

    def is_by(self, user: str) -> bool:
        """Return whether this is a message of `user`."""
        return bool(self.who) and fold(self.who) == fold(user)


def line_of(
    event: Event,
    me: str,
    *,
    admin: bool,
    keys: Mapping[bytes, str] | None = NO_KEYS,
    file: str = "",
) -> Line | None:
    """Return an event as a line for `me`; None for an event that does not concern this person.

    `keys` maps the keys with which members joined to their names; None for a request that is no
    longer open. `file` is the name of the file that the event removes, if known.
    """
    at = latest(event.at)
    if isinstance(event.body, Posted):
        return message_line(event, event.body.text, me)
    if isinstance(event.body, Erased):
        return Line(at, "message", "", name_text(event.actor), event.seq, deleted=True)
    text = _sentence(event, Reader(fold(me), admin, keys, file))
    if not text:
        return None
    asking = (name_text(event.actor),) if admin and isinstance(event.body, Requested) else ()
    changes = int(isinstance(event.body, _CHANGES))
    text = clean_line(text[:TEXT_LIMIT])
    return Line(at, "notice", text, seq=event.seq, asking=asking, changes=changes)


def with_requests(line: Line, asking: Iterable[str]) -> Line:
    """Return a line that tells the requests to join of several people, in place of another."""
    names = tuple(dict.fromkeys(asking))
    who = f"{len(names)} people have asked to join: {some_of(names)}"
    if len(names) == 1:
        who = f"{names[0]} has asked to join"
    return replace(line, asking=names, text=f"{who}; /requests lists who waits")


def gathered(lines: Iterable[Line]) -> list[Line]:
    """Return the lines, with one line for each run of requests to join, or of many changes."""
    result: list[Line] = []
    for line in lines:
        if not gather(result, line):
            result.append(line)
    return result


def gather(lines: list[Line], line: Line) -> bool:
    """Let the last of `lines` tell one more line, too, if they are a run; return whether it does.

    A few changes stand alone, and so do those that are not a moment apart: a run is what a program
    does, or many people.
    """
    if lines and line.asking and lines[-1].asking:
        lines[-1] = with_requests(line, (*lines[-1].asking, *line.asking))
        return True
    if _is_run(lines, line):
        lines[-1] = with_changes(line, lines[-1].changes + line.changes)
        return True
    return False


def _is_run(lines: list[Line], line: Line) -> bool:
    """Return whether a line tells a change that came a moment after many others."""
    before = lines[-1:] if lines and lines[-1].changes > 1 else lines[-CHANGES_APART - 1 :]
    is_long = len(before) > CHANGES_APART or any(one.changes > 1 for one in before)
    return bool(line.changes and is_long) and all(
        one.changes and line.at - one.at <= _RUN_MS for one in before
    )


def with_changes(line: Line, changes: int) -> Line:
    """Return a line that tells so many changes, the last of which it tells already."""
    return replace(line, changes=changes, text=f"{changes} changes, the last: {line.text}")


def message_line(event: Event, text: str, me: str, *, edited: bool = False) -> Line:
    """Return the line of a message with its current text."""
    sort, shown = sort_and_text(text)
    return Line(
        latest(event.at),
        sort,
        shown,
        name_text(event.actor),
        event.seq,
        mention=fold(event.actor) != fold(me) and is_mention(text, me),
        edited=edited,
        stamp=stamp_of(event),
    )


def changed_line(line: Line, body: Edited | Deleted, me: str) -> Line:
    """Return a message's line after the message was edited or deleted."""
    if isinstance(body, Deleted) or line.deleted:
        return replace(line, sort="message", text="", reply="", mention=False, deleted=True)
    sort, text = sort_and_text(body.text)
    mention = fold(line.who) != fold(me) and is_mention(body.text, me)
    return replace(line, sort=sort, text=text, mention=mention, edited=True)


def named_change(sentence: Line, body: Edited | Deleted, actor: str, before: Line) -> Line:
    """Return the line about an edit or a deletion, which says of which printed message (`before`).

    A deleted text is not repeated.
    """
    actor, clock = clean_line(actor), clock_text(before.at)
    if isinstance(body, Deleted) or before.deleted:
        whose = "their" if fold(before.who) == fold(actor) else f"{before.who}'s"
        return replace(sentence, text=f"{actor} deleted {whose} message of {clock}")
    was = quotation("", before.text, _EDITED_LIMIT).removeprefix(": ")
    return replace(
        sentence,
        text=f'{actor} edited "{was}" of {clock}: {clean_line(sort_and_text(body.text)[1])}',
    )


def quotation(who: str, text: str, limit: int | None = QUOTE_LIMIT) -> str:
    """Return a message with its author, on one line; a longer text is cut at `limit`."""
    begun = text if limit is None else text[: _SHRINKAGE * limit]
    sort, shown = sort_and_text(begun)
    words = clean_line(shown)
    between = " " if sort == "action" else ": "
    is_cut = limit is not None and (len(words) > limit or len(begun) < len(text))
    return f"{name_text(who)}{between}{words[:limit]}{'…' * is_cut}"


def sort_and_text(text: str) -> tuple[Sort, str]:
    """Return whether a message is shown as a message or an action, and its sanitized text."""
    text = text[:TEXT_LIMIT]
    if text.startswith(_ACTION):
        return "action", clean_text(text.removeprefix(_ACTION))
    return "message", clean_text(text)


def name_text(name: str) -> str:
    """Return a name, cut to the longest valid name and sanitized."""
    return clean_line(name[:_LONGEST_NAME])


def literal_text(line: str) -> str:
    """Return the text of a message that shows `line` literally, even if it begins with "/me"."""
    text = clean_text(line)
    return f" {text}" if text.startswith(_ACTION) else text


def _sentence(event: Event, reader: Reader) -> str:
    """Return the event's sentence; for a request to join, with the commands that answer it."""
    sentence = event.body.sentence(event, reader)
    if sentence and isinstance(event.body, Requested) and reader.keys is not None:
        sentence += f": /approve {event.actor} or /deny {event.actor}"
    return sentence


def latest(at: int) -> int:
    """Return a time (ms since the Unix epoch), capped at the latest that can be shown."""
    return min(at, LATEST_MS)


def minute_text(at: int) -> str:
    """Return a time for people, to the minute: 2026-11-22 10:02."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(latest(at) / 1000))


def day_of(at: int) -> tuple[int, int]:
    """Return the day of a time in the local time zone."""
    moment = time.localtime(at / 1000)
    return moment.tm_year, moment.tm_yday


def date_text(at: int, *, short: bool = False) -> str:
    """Return the day of a time for people: Sunday 22 November 2026."""
    form = "%a %d %b %Y" if short else "%A %d %B %Y"
    return time.strftime(form, time.localtime(at / 1000))


def clock_text(at: int) -> str:
    """Return the time of the day: 10:02."""
    return time.strftime("%H:%M", time.localtime(at / 1000))


def count_text(number: int, noun: str) -> str:
    """Return a number with its noun: "1 file", "2 files"; empty for 0."""
    return counted(number, noun) if number else ""


def time_text(seconds: float) -> str:
    """Return a duration in the form 2:10 or 1:02:03."""
    minutes, rest = divmod(round(min(seconds, _LONGEST)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def progress_text(progress: Progress) -> str:
    """Return the progress of a transfer as a sentence without its full stop."""
    text = _moving_text(progress)
    if progress.stalled is not None:
        text += f", stalled for {time_text(progress.stalled)}"
    return text


def _moving_text(progress: Progress) -> str:
    size, name = size_text(progress.size), progress.name
    if progress.phase == "queued":
        return f"{name} is queued"
    if progress.phase == "sharing":
        return f"{name} is uploaded; sharing it with the group"
    if progress.phase == "checking":
        return f"checking {name}" + (f": {progress.percent} % of {size}" if progress.done else "")
    verb = "sending" if progress.way == "up" else "saving"
    text = f"{verb} {name}: {progress.percent} % of {size}"
    if progress.stalled is not None:
        return text
    if progress.rate:
        text += f", {size_text(round(progress.rate))}/s"
    if progress.left is not None:
        text += f", {time_text(progress.left)} left"
    return text
