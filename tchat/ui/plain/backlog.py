"""Backlog: what is printed of a group's log when the program has caught up with it.

Lines are held until then, because only then is it known which of them are the latest messages. A
line of the log may be a message or not, and a message may have been deleted since. If the loaded
part of the log has too few messages, earlier pages are loaded.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from tchat.core.group.membership import Approved, Joined
from tchat.core.group.messages import Erased
from tchat.core.text import fold
from tchat.errors import Refused
from tchat.ui.chat.lines import SPOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tchat.core.group.feature import Event
    from tchat.ui.chat.lines import Line
    from tchat.ui.chat.window import Window

_LOAD_SECONDS = 10.0
"""How long loading earlier pages may take."""


class Backlog:
    """The lines of a window's log, with their events, until `release`.

    `count` is how many messages are printed, also those that the person has seen. With `only`, no
    other messages are printed; otherwise all that are unread. It is of the log after so many
    `resets` of the replica.
    """

    def __init__(self, window: Window, count: int, *, only: bool) -> None:
        self.is_cut = False
        self.resets = window.replica.resets
        self._window = window
        self.count = count
        self._only = only
        self._held: list[tuple[Line, Event]] = []

    def hold(self, line: Line, event: Event) -> None:
        """Hold a line."""
        self._held.append((line, event))

    async def load(self) -> None:
        """Load earlier events until there are enough messages, or no more."""
        window, replica = self._window, self._window.replica
        with trio.move_on_after(_LOAD_SECONDS), suppress(Refused):
            while self._missing() and await window.session.load_history(replica):
                first = self._held[0][1].seq if self._held else replica.last + 1
                earlier = replica.log[: max(first - replica.first, 0)]
                lines = ((window.line_of(event), event) for event in earlier)
                self._held[:0] = [(line, event) for line, event in lines if line is not None]

    def release(self) -> Iterator[tuple[Line, Event]]:
        """Yield the lines to print, with their events, and hold none any more."""
        held, self._held = self._present(), []
        places = [place for place, (line, _) in enumerate(held) if line.sort in SPOKEN]
        begin = len(held)
        if self.count:
            begin = places[-self.count] if len(places) > self.count else 0
        is_all = begin == 0 and self._window.replica.at_beginning
        self.is_cut = bool(self.count) and not is_all
        for place, (line, event) in enumerate(held):
            if place >= begin or not (self._only or line.history):
                yield line, event

    def count_earlier(self, lines: Sequence[tuple[Line, Event]]) -> int:
        """Return how many of the printed lines are no news: seen before, or before the admission.

        What was posted while the person waited for an approval is older than what the program has
        said meanwhile.
        """
        me = fold(self._window.session.user)
        places = [
            place
            for place, (line, event) in enumerate(lines, start=1)
            if line.history or _admitted(event) == me
        ]
        return len(lines) if self._only else max(places, default=0)

    def _missing(self) -> bool:
        spoken = sum(line.sort in SPOKEN for line, _ in self._present())
        return spoken < self.count

    def _present(self) -> list[tuple[Line, Event]]:
        """Return the lines without the messages that were deleted meanwhile."""
        replica = self._window.replica
        return [
            (line, event)
            for line, event in self._held
            if event.seq not in replica.deleted and not isinstance(event.body, Erased)
        ]


def _admitted(event: Event) -> str:
    """Return who became a member with an event, folded; "" if nobody."""
    match event.body:
        case Approved(name):
            return fold(name)
        case Joined():
            return fold(event.actor)
    return ""
