"""Validate history pages, lists of groups and keys, and search results before they are used.

An inconsistent answer is a fault of the server or an attack; it ends the connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
from tchat.errors import Code, ProtocolError

if TYPE_CHECKING:
    from tchat.client.request import Answer
    from tchat.core.group.feature import Event


def read_page(answer: Answer, group: str, before: int) -> list[Event]:
    """Return the events of a page that ends right before seq `before`; none at the log's start.

    Raises `ProtocolError` if the page is not contiguous or does not match its header.
    """
    if not isinstance(answer, HistoryPage):
        raise _malformed("The answer is of another type than the request.")
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
    return events


def read_groups(answer: Answer) -> list[GroupSummary]:
    """Return the groups of a list. Raises `ProtocolError` for another answer."""
    if not isinstance(answer, GroupList):
        raise _malformed("The answer is of another type than the request.")
    return list(answer.groups)


def read_keys(answer: Answer) -> tuple[NameKey, ...]:
    """Return the keys of a list. Raises `ProtocolError` for another answer."""
    if not isinstance(answer, KeyList):
        raise _malformed("The answer is of another type than the request.")
    return answer.keys


def read_found(answer: Answer) -> SearchResults:
    """Return search results. Raises `ProtocolError` for another answer."""
    if not isinstance(answer, SearchResults):
        raise _malformed("The answer is of another type than the request.")
    return answer


def _malformed(sentence: str) -> ProtocolError:
    return ProtocolError(Code.MALFORMED, sentence)
