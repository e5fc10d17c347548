"""What a server says of the past, looked at before it is believed.

What does not fit together is a lie or a fault, and ends the connection that it came by.
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
    """A group in which one is, or asks to be: its last event, and the last that one has seen."""

    name: str
    standing: Standing
    seq: int
    read: int


def read_page(answer: Answer, group: str, before: int) -> list[Event]:
    """Return the events that come right before `before`; none at the beginning of the log.

    Raises `ProtocolError` unless they are these and no others.
    """
    if not isinstance(answer, HistoryPage):
        raise _lie("A request was answered with something else.")
    if not answer.frames:
        return []
    frames = FrameBuffer()
    frames.feed(answer.frames)
    events = [decode_event(body) for body in frames]
    if frames.rest():
        raise _lie("A page of the past is cut short.")
    seqs = [event.seq for event in events]
    if seqs != list(range(before - len(seqs), before)) or seqs[0] < 1:
        raise _lie("A page of the past has other events than were asked for.")
    if (seqs[0], seqs[-1]) != (answer.first, answer.last):
        raise _lie("A page of the past is not what its head says.")
    if any(fold(event.group) != fold(group) for event in events):
        raise _lie("A page of the past is of another group.")
    return events


def read_groups(answer: Answer) -> list[MyGroup]:
    """Return the groups of a list. Raises `ProtocolError`."""
    if not isinstance(answer, GroupList):
        raise _lie("A request was answered with something else.")
    lists = (answer.groups, answer.standings, answer.seqs, answer.reads)
    if len({*map(len, lists)}) > 1 or not {*answer.standings} <= _STANDINGS.keys():
        raise _lie("The lists of groups do not match.")
    return [
        MyGroup(name, _STANDINGS[standing], seq, read)
        for name, standing, seq, read in zip(
            answer.groups, answer.standings, answer.seqs, answer.reads, strict=True
        )
    ]


def read_found(answer: Answer) -> SearchResults:
    """Return what was found. Raises `ProtocolError` unless its lists are side by side."""
    if not isinstance(answer, SearchResults):
        raise _lie("A request was answered with something else.")
    lists = (answer.groups, answer.seqs, answer.ats, answer.actors, answer.texts)
    if len({*map(len, lists)}) > 1:
        raise _lie("The lists of what was found do not match.")
    return answer


def _lie(sentence: str) -> ProtocolError:
    return ProtocolError(Code.MALFORMED, sentence)
