"""Validate history pages, group lists and search results before they are used.

An inconsistent answer is a fault of the server or an attack; it ends the connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from tchat.core.group.events import decode_event
from tchat.core.protocol.frames import GroupList, HistoryPage, SearchResults, Standing
from tchat.core.protocol.framing import FrameBuffer
from tchat.core.text import fold
from tchat.errors import Code, ProtocolError

if TYPE_CHECKING:
    from tchat.client.request import Answer
    from tchat.core.group.events import Event

_STANDINGS: dict[str, Standing] = {standing: standing for standing in get_args(Standing)}


@dataclass(frozen=True, slots=True)
class MyGroup:
    """A group of the person's: name, standing, seq of its last event, and of the last one read."""

    name: str
    standing: Standing
    seq: int
    read: int


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
        raise _malformed("A page of history has other events than were requested.")
    if (seqs[0], seqs[-1]) != (answer.first, answer.last):
        raise _malformed("A page of history does not match its header.")
    if any(fold(event.group) != fold(group) for event in events):
        raise _malformed("A page of history is of another group.")
    return events


def read_groups(answer: Answer) -> list[MyGroup]:
    """Return the groups of a list. Raises `ProtocolError`."""
    if not isinstance(answer, GroupList):
        raise _malformed("The answer is of another type than the request.")
    lists = (answer.groups, answer.standings, answer.seqs, answer.reads)
    if len({*map(len, lists)}) > 1 or not {*answer.standings} <= _STANDINGS.keys():
        raise _malformed("The lists of groups do not match.")
    return [
        MyGroup(name, _STANDINGS[standing], seq, read)
        for name, standing, seq, read in zip(
            answer.groups, answer.standings, answer.seqs, answer.reads, strict=True
        )
    ]


def read_found(answer: Answer) -> SearchResults:
    """Return search results. Raises `ProtocolError` if they are not consistent."""
    if not isinstance(answer, SearchResults):
        raise _malformed("The answer is of another type than the request.")
    lists = (answer.groups, answer.seqs, answer.ats, answer.actors, answer.texts)
    if len({*map(len, lists)}) > 1:
        raise _malformed("The lists of what was found do not match.")
    return answer


def _malformed(sentence: str) -> ProtocolError:
    return ProtocolError(Code.MALFORMED, sentence)
