"""What the events of a group are to one who reads them.

A message may have been changed or deleted since it was said, and the group may be further than
what is shown; so a line is made of an event and of what is known of the group at this moment.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tchat.core.group.events import Edited, Erased, Event, FileShared, Posted
from tchat.core.text import fold
from tchat.ui.chat.lines import changed_line, line_of, message_line, quotation

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.core.group.events import Deleted
    from tchat.ui.chat.lines import Line


class Reader:
    """One who reads a group, but not what the `ignored` (folded names) say.

    `removed` gives the name of the file that an event takes away.
    """

    def __init__(
        self,
        session: Session,
        replica: Replica,
        ignored: Collection[str],
        removed: Callable[[Event], str],
    ) -> None:
        self._session = session
        self._replica = replica
        self._ignored = ignored
        self._removed = removed

    def hides(self, event: Event) -> bool:
        """Return whether it is something of one who is ignored: said, changed, or shared."""
        own = isinstance(event.body, Posted | Edited | Erased | FileShared)
        return own and fold(event.actor) in self._ignored

    def line(self, event: Event, *, now: bool = False) -> Line | None:
        """Return an event as a line; None for what is hidden, or does not concern this person.

        It reads as it was said, for what changes it is still to be shown; or, with `now`, as it
        does now. What was deleted is shown in neither case.
        """
        if self.hides(event):
            return None
        me, state = self._session.user, self._replica.state
        if isinstance(event.body, Posted):
            return self._message(event, event.body, now=now)
        keys = state.keys if fold(event.actor) in state.requests else None
        admin, file = state.is_admin(me), self._removed(event)
        return line_of(event, me, admin=admin, keys=keys, file=file)

    def rewrite(self, lines: list[Line], index: int | None, body: Edited | Deleted) -> None:
        """Change the message at `index`, if it is there, and what is quoted of it further down."""
        if index is not None and lines[index].seq == body.target:
            lines[index] = changed_line(lines[index], body, self._session.user)
        for later in range(index or 0, len(lines)):
            line = lines[later]
            if line.reply and self._target(line.seq) == body.target:
                lines[later] = replace(line, reply=self._quote(body.target))

    def _message(self, event: Event, body: Posted, *, now: bool) -> Line | None:
        me = self._session.user
        if event.seq in self._replica.deleted:
            return line_of(replace(event, body=Erased()), me, admin=False)
        text = self._replica.texts.get(event.seq) if now else None
        line = message_line(event, text or body.text, me, edited=text is not None)
        return replace(line, reply=self._quote(body.reply)) if body.reply else line

    def _quote(self, seq: int) -> str:
        """Return who said what in the message of that number, in a few words."""
        if seq in self._replica.deleted:
            return "a message that was deleted"
        event = self._event(seq)
        if event is None or not isinstance(event.body, Posted):
            return "an earlier message"
        if self.hides(event):
            return "a message that is hidden"
        return quotation(event.actor, self._replica.texts.get(seq, event.body.text))

    def _target(self, seq: int) -> int | None:
        """Return to which event the message of that number replies."""
        event = self._event(seq)
        return event.body.reply if event and isinstance(event.body, Posted) else None

    def _event(self, seq: int) -> Event | None:
        place = seq - self._replica.first
        return self._replica.log[place] if 0 <= place < len(self._replica.log) else None
