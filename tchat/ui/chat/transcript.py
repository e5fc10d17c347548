"""Transcript of a window: its lines, kept up to date by edits and deletions, and quotations.

Lines are in the order of the log, with the program's own notices between them. A line is made from
an event and from the group's present state, because a message may have been edited or deleted
since, and the state may be ahead of the lines. A deleted message is shown as one line, a tombstone,
and its erased edits have no lines. A client that attaches later gets both as `erased` events, and
cannot distinguish them until it has the event of the deletion, which names the message.

A reply quotes its message even if that message is not loaded: `quote_of` then requests the message
once, through `on_missing`, and `add_messages` fills in the quotations when it arrives. If the
message was edited, the event of its last edit is requested, too, so that the quotation has the
present text. The state has the seqs of edits.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from tchat.core.group.files import FileRemoved, FileShared
from tchat.core.group.membership import Requested, Withdrawn
from tchat.core.group.messages import Deleted, Edited, Erased, Posted
from tchat.core.text import fold
from tchat.ui.chat.lines import (
    QUOTE_LIMIT,
    SPOKEN,
    changed_line,
    gather,
    gathered,
    line_of,
    message_line,
    quotation,
    with_requests,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.core.group.feature import Event
    from tchat.ui.chat.lines import Line

_HIDDEN = Posted | Erased | FileShared | FileRemoved | Requested
"""The events with lines of their own that are hidden of ignored or blocked people."""

_MOST_ELSEWHERE = 500
"""How many quoted events outside the loaded log are kept in memory."""

UNKNOWN_QUOTE = "an earlier message"
"""The placeholder for a quotation whose message is not known (yet)."""


class Transcript:
    """The lines of one window, without those of `ignored` people (folded names).

    Requests to join of `blocked` people have no lines either. `name_of_removed` gives the name of
    the file that an event removes. `on_missing` is called once for each quoted message that is not
    loaded.
    """

    def __init__(
        self,
        session: Session,
        replica: Replica,
        ignored: Collection[str],
        blocked: Collection[str],
        name_of_removed: Callable[[Event], str],
        on_missing: Callable[[int], None],
    ) -> None:
        self.lines: list[Line] = []
        self.cleared = False
        self._session = session
        self._replica = replica
        self._ignored = ignored
        self._blocked = blocked
        self._name_of_removed = name_of_removed
        self._on_missing = on_missing
        self._cleared_to = 0
        self._quoted: set[int] = set()
        """The messages that some line quotes, or has quoted."""
        self._elsewhere: dict[int, Event | None] = {}
        """Events outside the loaded log, by seq; None if requested and not received (yet)."""

    def messages(self) -> Iterator[Line]:
        """Yield the messages that are shown, then those that were cleared, the newest first."""
        shown = reversed(self.lines)
        return (line for line in chain(shown, self._cleared_lines()) if _is_message(line))

    def _cleared_lines(self) -> Iterator[Line]:
        """Yield the lines that `uncover` would bring back, the newest first."""
        if self.cleared:
            count = self._first_shown() - self._replica.first
            events = reversed(self._replica.log[: max(count, 0)])
            kept = (event for event in events if not isinstance(event.body, Edited | Deleted))
            yield from filter(None, (self.line(event, now=True) for event in kept))

    def index_of(self, seq: int) -> int | None:
        """Return the index of the last line with this seq or a lower one; None if there is none."""
        for index in range(len(self.lines) - 1, -1, -1):
            if 0 < self.lines[index].seq <= seq:
                return index
        return None

    # ------------------------------------------------------------------ events as lines

    def hides(self, event: Event) -> bool:
        """Return whether an ignored person wrote, edited, shared or removed this.

        Their other events are shown, such as joining, or acting as the admin; of blocked people,
        their requests are hidden as well.
        """
        match event.body:
            case Posted() | Edited() | Erased() | FileShared() | FileRemoved():
                return fold(event.actor) in self._ignored
            case Requested() | Withdrawn():
                return fold(event.actor) in self._blocked
            case Deleted(target):
                message = self._event(target)
                return fold((message or event).actor) in self._ignored
        return False

    def line(self, event: Event, *, now: bool = False) -> Line | None:
        """Return an event as a line; None if it is hidden or does not concern this person.

        A message has the text with which it was posted, because its edits follow as events; with
        `now`, the text after all edits. A deleted message has no text in either case.
        """
        if self.hides(event):
            return None
        me, state = self._session.user, self._replica.state
        if isinstance(event.body, Posted):
            return self._message(event, event.body, now=now)
        if isinstance(event.body, Erased) and event.seq not in self._replica.deleted:
            return None  # an erased edit, or a message whose deletion has not been applied yet
        if isinstance(event.body, Edited) and event.body.target in self._replica.deleted:
            return None
        keys = state.keys if fold(event.actor) in state.requests else None
        admin, file = state.is_admin(me), self._name_of_removed(event)
        return line_of(event, me, admin=admin, keys=keys, file=file)

    def _message(self, event: Event, body: Posted, *, now: bool) -> Line | None:
        me = self._session.user
        if event.seq in self._replica.deleted:
            return line_of(replace(event, body=Erased()), me, admin=False)
        text = self._replica.texts.get(event.seq) if now else None
        line = message_line(event, text or body.text, me, edited=text is not None)
        if not body.reply:
            return line
        self._quoted.add(body.reply)
        return replace(line, reply=self.quote_of(body.reply))

    def shown(self, seq: int) -> Line | None:
        """Return the line of a message as it is shown now; None if it is not."""
        index = self.index_of(seq)
        return self.lines[index] if index is not None and self.lines[index].seq == seq else None

    def apply_change(self, body: Edited | Deleted) -> int | None:
        """Update the message that was edited or deleted, and every quotation of it.

        If a deleted message had arrived erased, insert its tombstone and return the index.
        """
        if isinstance(body, Deleted):
            self._forget(body.target)
        index, inserted = self.index_of(body.target), None
        if index is not None and self.lines[index].seq == body.target:
            self.lines[index] = changed_line(self.lines[index], body, self._session.user)
        elif isinstance(body, Deleted) and body.target > self._cleared_to:
            event = self._event(body.target)
            line = event and isinstance(event.body, Erased) and self.line(event)
            inserted = self._insert(line) if line else None
        self._quote_again({body.target}, index or 0)
        return inserted

    # ------------------------------------------------------------------ ignored people

    def hide(self) -> list[int]:
        """Remove the lines of ignored people; return their indices, the highest first."""
        for index, line in enumerate(self.lines):
            shown = [name for name in line.asking if fold(name) not in self._blocked]
            if 0 < len(shown) < len(line.asking):
                self.lines[index] = with_requests(line, shown)
        hidden = [
            index
            for index in range(len(self.lines) - 1, -1, -1)
            if (seq := self.lines[index].seq)
            and not self._asks(self.lines[index])
            and (event := self._event(seq)) is not None
            and self.hides(event)
        ]
        for index in hidden:
            del self.lines[index]
        self._quote_again(None, 0)
        return hidden

    def _asks(self, line: Line) -> bool:
        """Return whether a line tells a request to join of somebody who is not blocked."""
        return any(fold(name) not in self._blocked for name in line.asking)

    def unhide(self, person: str, upto: int) -> list[int]:
        """Insert the lines that were hidden of a person, up to event `upto`; return their indices.

        They are in the order of the insertions: each index counts the lines inserted before it.
        Cleared lines are not inserted before `uncover`.
        """
        here = {line.seq for line in self.lines}
        asking = {fold(name) for line in self.lines for name in line.asking}
        missing = [
            line
            for event in self._replica.log
            if self._cleared_to < event.seq <= upto
            and event.seq not in here
            and fold(event.actor) == person
            and isinstance(event.body, _HIDDEN)
            and not (isinstance(event.body, Requested) and person in asking)
            and (line := self.line(event, now=True)) is not None
        ]
        indices = [self._insert(line) for line in missing]
        self._quote_again(None, 0)
        return indices

    def _insert(self, line: Line) -> int:
        """Insert an event's line in its place, as history; return its index."""
        before = self.index_of(line.seq)
        index = 0 if before is None else before + 1
        while index < len(self.lines) and not self.lines[index].seq:
            if self.lines[index].at > line.at:
                break
            index += 1
        self.lines.insert(index, replace(line, history=True))
        return index

    # ------------------------------------------------------------------ history

    def prepend(self, events: Iterable[Event]) -> int:
        """Insert events above all lines, with their current text; return the number of lines.

        Edits and deletions among them have no lines: the messages include them already.
        """
        kept = [event for event in events if not isinstance(event.body, Edited | Deleted)]
        lines = [
            replace(line, history=True) for event in kept if (line := self.line(event, now=True))
        ]
        lines = gathered(lines)
        self.lines[:0] = lines
        self._quote_again(None, len(lines))
        return len(lines)

    def gather(self, line: Line) -> bool:
        """Let the last line tell one more, too, if they are a run; return whether it does."""
        return gather(self.lines, line)

    def trim(self, first: int) -> int:
        """Remove the lines up to the last one before event `first`; return their number."""
        old = (index for index, line in enumerate(self.lines) if 0 < line.seq < first)
        count = max(old, default=-1) + 1
        del self.lines[:count]
        targets = set(map(self._target, {line.seq for line in self.lines if line.reply}))
        edits = {seq for one in targets if one for seq in self._replica.state.edits_of(one)}
        kept = targets | edits
        self._elsewhere = {seq: one for seq, one in self._elsewhere.items() if seq in kept}
        return count

    def trim_own(self, most: int) -> list[int]:
        """Remove the oldest of more than `most` notices and errors of the program.

        Those that the server causes are in no log, and so are not cut with it. Returns the indices
        of the removed lines, the highest first.
        """
        own = [index for index, line in enumerate(self.lines) if not line.seq]
        old = own[: max(len(own) - most, 0)][::-1]
        for index in old:
            del self.lines[index]
        return old

    def redate_own(self, change: int) -> None:
        """Change the times of the lines without an event by `change` ms."""
        for index, line in enumerate(self.lines):
            if not line.seq:
                self.lines[index] = replace(line, at=max(line.at + change, 0))

    def restart(self) -> None:
        """Remove all lines: the log that they are from was replaced by another."""
        self.lines = []
        self.cleared, self._cleared_to = False, 0
        self._quoted.clear()
        self._elsewhere.clear()

    def clear(self, upto: int) -> None:
        """Remove all lines, of events up to `upto`; `uncover` shows the events again."""
        self.lines = []
        self.cleared, self._cleared_to = True, upto

    def uncover(self) -> int:
        """Bring back the cleared lines; return their number."""
        if not self.cleared:
            return 0
        self.cleared, self._cleared_to = False, 0
        first = next((line.seq for line in self.lines if line.seq), self._replica.last + 1)
        return self.prepend([event for event in self._replica.log if event.seq < first])

    def _first_shown(self) -> int:
        """Return the seq of the first event with a line; of the next event if there is none."""
        return next((line.seq for line in self.lines if line.seq), self._replica.last + 1)

    # ------------------------------------------------------------------ quotations

    def quote_of(self, seq: int, limit: int | None = QUOTE_LIMIT) -> str:
        """Return a quotation of a message: "alice: hello". Longer texts are cut at `limit`.

        A message that is not loaded is requested once; `UNKNOWN_QUOTE` until it arrives.
        """
        if seq in self._replica.deleted:
            return "a deleted message"
        event = self._look_up(seq)
        if event is not None and isinstance(event.body, Erased):
            return "a deleted message"
        if event is None or not isinstance(event.body, Posted):
            return UNKNOWN_QUOTE
        if self.hides(event):
            return "a hidden message"
        return quotation(event.actor, self._present_text(seq, event.body), limit)

    def _present_text(self, seq: int, posted: Posted) -> str:
        """Return the text of a message after its last edit, if that edit is loaded."""
        if seq in self._replica.texts:
            return self._replica.texts[seq]
        edits = self._replica.state.edits_of(seq)
        last = self._look_up(edits[-1]) if edits else None
        return last.body.text if last and isinstance(last.body, Edited) else posted.text

    def missing_for(self, seq: int) -> list[int]:
        """Return the events that a quotation of a message needs and that are not loaded.

        They count as requested from now on: pass them to `add_messages` when they arrive.
        """
        needed = (seq, *self._replica.state.edits_of(seq)[-1:])
        missing = [n for n in needed if 0 < n < self._replica.first and self._event(n) is None]
        self._elsewhere.update(dict.fromkeys(missing))
        return missing

    def add_messages(self, events: Iterable[Event]) -> None:
        """Store the requested events among these, and fill in the quotations that need them."""
        wanted = [
            event
            for event in events
            # The text of a message that was deleted meanwhile must not be kept here.
            if event.seq in self._elsewhere and _message_of(event) not in self._replica.deleted
        ]
        self._elsewhere.update({event.seq: event for event in wanted})
        self._bound_elsewhere()
        self._quote_again(set(map(_message_of, wanted)), 0)

    def _bound_elsewhere(self) -> None:
        """Drop the events that were received first, if there are too many.

        The quotations of them that are shown stay, and are not requested again. Each event may have
        a text of 16 KiB.
        """
        pinned = self._replica.state.pinned or 0
        kept = {pinned, *self._replica.state.edits_of(pinned)[-1:]}
        loaded = [seq for seq, event in self._elsewhere.items() if event and seq not in kept]
        for seq in loaded[: max(len(loaded) - _MOST_ELSEWHERE, 0)]:
            self._elsewhere[seq] = None

    def _forget(self, message: int) -> None:
        """Drop the text of a deleted message, and those of its edits."""
        self._elsewhere = {
            seq: event
            for seq, event in self._elsewhere.items()
            if seq != message and not (event and _message_of(event) == message)
        }

    def _quote_again(self, targets: set[int] | None, start: int) -> None:
        """Update the quotations of these messages (None: of all) in the lines from `start`."""
        if targets is not None and self._quoted.isdisjoint(targets):
            return
        for index in range(start, len(self.lines)):
            line = self.lines[index]
            target = self._target(line.seq) if line.reply else None
            if target and (targets is None or target in targets):
                self.lines[index] = replace(line, reply=self.quote_of(target))

    def _target(self, seq: int) -> int | None:
        """Return the seq of the message that a message replies to."""
        event = self._event(seq)
        return event.body.reply if event and isinstance(event.body, Posted) else None

    def _look_up(self, seq: int) -> Event | None:
        """Return an event; if it is not loaded, request it once and return None."""
        event = self._event(seq)
        if event is None and 0 < seq < self._replica.first and seq not in self._elsewhere:
            self._elsewhere[seq] = None
            self._on_missing(seq)
        return event

    def _event(self, seq: int) -> Event | None:
        index = seq - self._replica.first
        if 0 <= index < len(self._replica.log):
            return self._replica.log[index]
        return self._elsewhere.get(seq)


def _is_message(line: Line) -> bool:
    """Return whether a line is a message that is in the log and was not deleted."""
    return bool(line.sort in SPOKEN and line.seq and line.text)


def _message_of(event: Event) -> int:
    """Return the seq of the message that an event posts or edits."""
    return event.body.target if isinstance(event.body, Edited) else event.seq
