"""What a person says in a room, from when it is typed until it is in the log, or refused.

What is typed right behind `/join` or `/query` waits here until the server has said what the person
is to the group: before that it would be refused. All else is given to the session at once, which
keeps it over broken connections and the end of the program.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tchat.core.frames import Ok
from tchat.core.text import check_text, clean_line
from tchat.errors import Code, Refused
from tchat.ui.lines import Line, said

if TYPE_CHECKING:
    from tchat.client.delivery import Pending
    from tchat.ui.room import Room


class Saying:
    """What is on its way to the log of one room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._held: list[tuple[str, int | None, Room]] = []
        self._waiting = list(room.replica.pending)

    def say(self, text: str, reply: int | None, asker: Room) -> None:
        """Say something, and tell `asker`, which may be another room, what comes of it.

        Raises `Refused` for what cannot be said.
        """
        check_text(text)
        if self._room.entering:
            self._held.append((text, reply, asker))
        else:
            pending = self._room.session.post(self._room.replica, text, reply)
            self._waiting.append(pending)
            asker.start(self._deliver, pending, asker)

    def release(self) -> None:
        """Say what had to wait."""
        held, self._held = self._held, []
        for text, reply, asker in held:
            self.say(text, reply, asker)

    def drop(self) -> None:
        """Say nothing of what had to wait."""
        self._held.clear()

    def lines(self) -> list[Line]:
        """Return what is not in the log yet, in order, as it is shown."""
        now, pending = time.time_ns() // 1_000_000, self._room.replica.pending
        here = set(pending)
        # What was stored just now stays until its event is shown, and is never missing in between.
        late = [one for one in self._waiting if one not in here and self._is_coming(one)]
        self._waiting = late + pending
        lines = [self._line(one.at, one.text, one.failure is not None) for one in self._waiting]
        return lines + [self._line(now, text) for text, *_ in self._held]

    def _is_coming(self, pending: Pending) -> bool:
        """Return whether a message is stored, and the event that shows it is still to come."""
        stored, room = pending.receipt.answer, self._room
        coming = isinstance(stored, Ok) and (stored.seq or 0) > room.shown
        return coming and room.replica.standing == "member"

    def _line(self, at: int, text: str, failed: bool = False) -> Line:
        sort, shown = said(text)
        who = clean_line(self._room.session.user)
        return Line(at, sort, shown, who, fate="failed" if failed else "pending")

    async def _deliver(self, pending: Pending, asker: Room) -> None:
        """Wait until a message is stored; tell it where it cannot be seen."""
        room = self._room
        try:
            await pending.wait()
        except Refused as refusal:
            if asker is not room and refusal.code == Code.NO_COMMON_GROUP:
                self._give_up(pending)
            raise
        if asker is not room and room.chat.face.rewrites:
            name = clean_line(room.partner)
            asker.notice(f"written to {name}; /query {name} shows the conversation")

    def _give_up(self, pending: Pending) -> None:
        """Forget what was written to somebody who will never read it."""
        room = self._room
        room.session.discard(pending)
        if room is not room.chat.current and not (room.replica.log or room.replica.pending):
            room.chat.close(room)
