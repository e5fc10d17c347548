"""How what happens reads: one line of text for each event, the same in both faces."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from tchat.core.events import (
    AdminTransferred,
    Approved,
    Created,
    Denied,
    FileRemoved,
    FileShared,
    Invited,
    Joined,
    Kicked,
    Left,
    Posted,
    Requested,
    Withdrawn,
)
from tchat.core.fingerprints import fingerprint
from tchat.core.text import clean_line, clean_text, fold, size_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tchat.client.transfers import Progress
    from tchat.core.events import Body, Event

NO_KEYS: MappingProxyType[bytes, str] = MappingProxyType({})
Sort = Literal["message", "notice", "error"]

_LATEST = 253_370_764_800_000
"""The beginning of the year 9999: no calendar reaches as far as a server's number could."""

_LONGEST = 99 * 3600 + 59 * 60 + 59
"""The longest time, in seconds, that is told exactly."""


@dataclass(frozen=True, slots=True)
class Line:
    """Something to show: `at` in ms since the Unix epoch, and who said it, if somebody did.

    The text is clean, and may have several lines if it is a message. When the program starts,
    `history` has been seen before, and what is `missed` came while the person was away.
    """

    at: int
    sort: Sort
    text: str
    who: str = ""
    history: bool = False
    missed: bool = False


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
        return Line(at, "message", clean_text(event.body.text), clean_line(event.actor))
    if isinstance(event.body, FileRemoved):
        text = f"{event.actor} removed file {event.body.number}{f' ({file})' if file else ''}"
    else:
        text = _sentence(event, fold(me), admin=admin, keys=keys)
    return Line(at, "notice", clean_line(text)) if text else None


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
            return f"{actor} joined, invited by {by}"
        case Left():
            return f"{actor} left the group"
        case Kicked(name):
            return f"{actor} kicked {name}"
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
    if progress.phase == "checking":
        return f"checking {name}" + (f": {progress.percent} % of {size}" if progress.done else "")
    verb = "sending" if progress.way == "up" else "saving"
    text = f"{verb} {name}: {progress.percent} % of {size}"
    if progress.rate:
        text += f", {size_text(round(progress.rate))}/s"
    if progress.left is not None:
        text += f", {time_text(progress.left)} left"
    return text
