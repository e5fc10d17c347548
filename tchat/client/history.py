"""What a server says of the past, looked at before it is believed.

What does not fit together is a lie or a fault, and ends the connection that it came by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group.events import decode_event
from tchat.core.protocol.frames import GroupList, GroupSummary, HistoryPage, SearchResults
from tchat.core.protocol.framing import FrameBuffer
from tchat.core.text import fold
from tchat.errors import Code, ProtocolError

if TYPE_CHECKING:
    from tchat.client.request import Answer
    from tchat.core.group.events import Event


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


def read_groups(answer: Answer) -> list[GroupSummary]:
    """Return the groups of a list. Raises `ProtocolError` for another answer."""
    if not isinstance(answer, GroupList):
        raise _lie("A request was answered with something else.")
    return list(answer.groups)


def read_found(answer: Answer) -> SearchResults:
    """Return search results. Raises `ProtocolError` for another answer."""
    if not isinstance(answer, SearchResults):
        raise _lie("A request was answered with something else.")
    return answer


def _lie(sentence: str) -> ProtocolError:
    return ProtocolError(Code.MALFORMED, sentence)
