"""Validate history pages, lists of groups and keys, and search results before they are used.

An inconsistent answer is a fault of the server or an attack; it ends the connection. A list of
groups or of messages loses the entries whose group cannot exist: nobody can open it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from tchat.client.bounds import check_event
from tchat.core.group.direct import check_group, is_others
from tchat.core.group.features import decode_event
from tchat.core.protocol.frames import (
    GroupList,
    GroupSummary,
    HistoryPage,
    KeyList,
    NameKey,
    SearchResults,
)
from tchat.core.protocol.framing import FrameBuffer
from tchat.core.text import fold
from tchat.errors import Code, ProtocolError, Refused

if TYPE_CHECKING:
    from tchat.client.request import Answer
    from tchat.core.group.feature import Event
    from tchat.core.protocol.schema import Frame

A = TypeVar("A", bound="Frame")


def read_page(answer: Answer, group: str, before: int) -> list[Event]:
    """Return the events of a page that ends right before seq `before`; none at the log's start.

    Raises `ProtocolError` if the page is not contiguous or does not match its header.
    """
    answer = expect(answer, HistoryPage)
    if not answer.frames:
        return []
    frames = FrameBuffer()
    frames.feed(answer.frames)
    events = [decode_event(body) for body in frames]
    if frames.rest():
        raise _malformed("A page of history ends in the middle of an event.")
    seqs = [event.seq for event in events]
    if seqs != list(range(before - len(seqs), before)) or seqs[0] < 1:
        raise _malformed("A page of history does not have the requested events.")
    if (seqs[0], seqs[-1]) != (answer.first, answer.last):
        raise _malformed("A page of history does not match its header.")
    if any(fold(event.group) != fold(group) for event in events):
        raise _malformed("A page of history is of another group.")
    for event in events:
        check_event(event)
    return events


def read_groups(me: str, answer: Answer) -> list[GroupSummary]:
    """Return the listed groups, without those that `me` cannot be in. Raises `ProtocolError`."""
    return [one for one in expect(answer, GroupList).groups if may_be_in(one.name, me)]


def read_keys(answer: Answer) -> tuple[NameKey, ...]:
    """Return the keys of a list. Raises `ProtocolError` for another answer."""
    return expect(answer, KeyList).keys


def read_found(me: str, answer: Answer) -> SearchResults:
    """Return the hits, without those in groups that `me` cannot be in. Raises `ProtocolError`."""
    results = expect(answer, SearchResults)
    hits = tuple(hit for hit in results.hits if may_be_in(hit.group, me))
    return SearchResults(results.re, hits, results.older)


def expect(answer: Answer, kind: type[A]) -> A:
    """Return the answer, which is of this type. Raises `ProtocolError` for another answer."""
    if not isinstance(answer, kind):
        raise _malformed("The answer is of another type than the request.")
    return answer


def may_be_in(group: str, person: str) -> bool:
    """Return whether a person can be in a group of this name, or in this conversation of two.

    A server that says otherwise lies: no group has such a name, or it belongs to other people.
    """
    try:
        return not is_others(check_group(group), person)
    except Refused:
        return False


def _malformed(sentence: str) -> ProtocolError:
    return ProtocolError(Code.MALFORMED, sentence)
