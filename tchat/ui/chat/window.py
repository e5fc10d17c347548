"""One group in front of one person: what it has shown, and what of it was not seen yet.

A room turns what happens in its group into lines. Lines are kept in the order of the log, with the
program's own notices between them where they were said. What is changed or deleted later is
changed where it stands, if the face can do that, and told if it cannot.

*Unread* is what others have said that the person cannot have seen: it counts from when the room is
not attended (another one is in front, or the person reads further up), and the server hears how
far somebody has seen only from a room that is.

What a person says in a room, from when it is typed until it is in the log, or refused.

What is typed right behind `/join` or `/query` waits here until the server has said what the person
is to the group: before that it would be refused. All else is given to the session at once, which
keeps it over broken connections and the end of the program.

What a chat wants of whatever shows it: a full screen, lines of text, or a test.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol

from tchat.core.group.direct import other_of
from tchat.core.group.events import Deleted, Edited, FileShared
from tchat.core.protocol.frames import Ok
from tchat.core.text import check_text, clean_line, fold
from tchat.errors import Code, Refused
from tchat.ui.chat.files import GroupFiles
from tchat.ui.chat.lines import (
    Line,
    Sort,
    count_text,
    digest,
    said,
    standing_changed,
    standing_found,
    welcome,
)
from tchat.ui.chat.transcript import Reader
from tchat.ui.tui.lineedit import LineEdit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from tchat.client.replica import Replica
    from tchat.core.group import commands as core
    from tchat.core.group.events import Event
    from tchat.core.protocol.frames import MembershipChange, Standing
    from tchat.ui.chat.chat import Chat
    from tchat.ui.tui.model import Position

    Make = Callable[[int, int], core.Command]
    from tchat.client.pending_message import PendingMessage


class Frontend(Protocol):
    """Shows rooms. One that `rewrites` shows again what it has shown, and so can change it."""

    rewrites: bool

    def show(self, room: Window, line: Line) -> None:
        """Show a line that a room has just got."""

    def changed(self) -> None:
        """Know that something is not as it was: a room, a transfer, the list of rooms."""

    def attends(self, room: Window) -> bool:
        """Return whether the person sees what comes to a room."""

    def hand_out(self, text: str) -> None:
        """Show a line where it can be copied whole, if that needs more than showing it."""

    def offer(self, text: str) -> bool:
        """Put a text where the person types, to be changed; return whether that can be done."""

    def reveal(self, room: Window, seq: int) -> None:
        """Bring a message of the room in front into sight."""

    def key_lines(self) -> list[str]:
        """Return what keys do here, a line each."""

    def notify(self, title: str, text: str) -> None:
        """Call for the person's attention."""


class Outgoing:
    """What is on its way to the log of one room."""

    def __init__(self, room: Window) -> None:
        self._room = room
        self._held: list[tuple[str, int | None, Window]] = []
        self._waiting = list(room.replica.pending)

    def say(self, text: str, reply: int | None, asker: Window) -> None:
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

    def _is_coming(self, pending: PendingMessage) -> bool:
        """Return whether a message is stored, and the event that shows it is still to come."""
        stored, room = pending.request.answer, self._room
        coming = isinstance(stored, Ok) and (stored.seq or 0) > room.shown
        return coming and room.replica.standing == "member"

    def _line(self, at: int, text: str, failed: bool = False) -> Line:
        sort, shown = said(text)
        who = clean_line(self._room.session.user)
        return Line(at, sort, shown, who, fate="failed" if failed else "pending")

    async def _deliver(self, pending: PendingMessage, asker: Window) -> None:
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

    def _give_up(self, pending: PendingMessage) -> None:
        """Forget what was written to somebody who will never read it."""
        room = self._room
        room.session.discard(pending)
        if room is not room.chat.current and not (room.replica.log or room.replica.pending):
            room.chat.close(room)


_SAID = ("message", "action")


class Window:
    """One group of a chat. `edit` is what is being typed there, `position` where one reads.

    `shown` is the last event that was shown, or passed over. `offered` is the message that was put
    where one types, to be changed: how it was referred to, and its seq.
    """

    def __init__(self, chat: Chat, replica: Replica, downloads: Path) -> None:
        self.chat = chat
        self.session = chat.session
        self.replica = replica
        self.lines: list[Line] = []
        self.edit = LineEdit()
        self.position: Position | None = None
        self.below = self.unread = self.mentions = self.new_from = 0
        self.muted = False
        self.entering = True
        self.leaving = False
        self.caught_up = False
        self.summoned = False
        self.loading = False
        self.offered: tuple[str, int] | None = None
        self.filing = GroupFiles(self, downloads, chat.transfers)
        self._saying = Outgoing(self)
        self._reader = Reader(self.session, replica, chat.ignored, self.filing.name_of_removed)
        self.shown = 0
        self._cleared = False
        self._missed: list[Event] = []
        self._standing: Standing | None = None

    @property
    def title(self) -> str:
        """The room's name as people write it: #ops, or @bob."""
        if self.replica.state.direct:
            return f"@{clean_line(self.partner)}"
        return f"#{clean_line(self.replica.state.name or self.replica.name)}"

    @property
    def direct(self) -> bool:
        """Whether this is a conversation of two."""
        return self.replica.state.direct

    @property
    def partner(self) -> str:
        """The other one of a conversation of two."""
        other = other_of(self.replica.name, self.session.user)
        return self.replica.state.members.get(fold(other), other)

    @property
    def attended(self) -> bool:
        """Whether the person sees what comes."""
        return self.chat.face.attends(self)

    @property
    def coming(self) -> bool:
        """Whether the server has not said yet all that it says to one who comes."""
        return self.entering or (self.replica.standing == "member" and not self.caught_up)

    # ------------------------------------------------------------------ coming in

    def come(self, *, asks: bool = False) -> None:
        """Begin to enter the group; `asks` says to ask to be let in again after a kick."""
        self.entering = True
        self.start(partial(self.enter, although_kicked=asks))

    async def enter(self, *, although_kicked: bool = False, invite: bytes | None = None) -> None:
        """Have the server say what the person is to the group, and say what was typed meanwhile.

        Raises `Refused`; there is no room for a conversation that there cannot be.
        """
        try:
            if self.direct:
                await self.session.write_to(self.partner)
            else:
                name = self.replica.name
                await self.session.enter(name, although_kicked=although_kicked, invite=invite)
        except Refused:
            if self not in self.chat.rooms:
                return  # closed meanwhile
            if self.direct:
                self._saying.drop()
                self.chat.close(self)
            raise
        finally:
            self.release()

    def release(self) -> None:
        """Say what was typed while it was not known what the person is to the group."""
        self.entering = False
        self._saying.release()

    # ------------------------------------------------------------------ people

    def members(self) -> list[str]:
        """Return the members' names: the admin first, then those online, then by name."""
        state, online = self.replica.state, self.replica.online
        order = sorted(state.members, key=lambda k: (k != state.admin, k not in online, k))
        return [clean_line(state.members[key]) for key in order]

    def online(self) -> list[str]:
        """Return the names of the members who are online, in the order of `members`."""
        return [name for name in self.members() if fold(name) in self.replica.online]

    def require_member(self) -> None:
        """Raise `Refused` unless the person is a member."""
        if self.entering and self.replica.standing is None:
            raise Refused(Code.NOT_MEMBER, "The server has not let you in yet; try again.")
        if self.replica.standing == "waiting":
            raise Refused(Code.NOT_MEMBER, "You are not a member yet; /3 leaves.")
        if self.replica.standing != "member":
            raise Refused(Code.NOT_MEMBER, "You are not a member; /join asks to be one.")

    def require_admin(self) -> None:
        """Raise `Refused` unless the person is the admin."""
        self.require_member()
        if self.direct:
            raise Refused(Code.DIRECT, "A conversation of two has no admin.")
        if not self.replica.state.is_admin(self.session.user):
            name = self.replica.state.admin_name
            raise Refused(Code.NOT_ADMIN, f"Only the admin may do this, and that is {name}.")

    # ------------------------------------------------------------------ what is said and done here

    def say(self, text: str, reply: int | None = None, asker: Window | None = None) -> None:
        """Say something; it shows at once, as on its way. Raises `Refused` for what cannot be said.

        What is typed right behind /join is said when that is done. What comes of it is told where
        it was typed, in `asker` if that is another room.
        """
        self._saying.say(text, reply, asker or self)

    def submit(self, make: Make) -> None:
        """Send a command; a refusal is shown."""
        self.start(self.session.submit(make).wait)

    def start(self, work: Callable[..., Awaitable[object]], *arguments: object) -> None:
        """Begin some work, of which a refusal is shown here."""
        self.chat.start(self, work, *arguments)

    def mark_seen(self) -> None:
        """Let the server know what was seen, short of the first file that is not saved yet."""
        if self.attended:
            self.session.mark_seen(self.replica, self.filing.seen(self.shown))

    def attend(self) -> None:
        """Know that the person sees all there is."""
        self.unread = self.mentions = self.below = 0
        self.mark_seen()

    def notice(self, text: str) -> None:
        """Show something that is not a message."""
        self._tell("notice", text)

    def fail(self, refusal: Refused) -> None:
        """Show that something was refused."""
        self.chat.refusals += 1
        self._tell("error", refusal.sentence)

    def hand_out(self, text: str) -> None:
        """Show a line that is to be copied, whatever the face has to do for that."""
        self.notice(text)
        self.chat.face.hand_out(clean_line(text))

    def _tell(self, sort: Sort, text: str) -> None:
        there = self if self in self.chat.rooms else self.chat.current
        there.show(Line(time.time_ns() // 1_000_000, sort, clean_line(text)))

    def show(self, line: Line) -> None:
        """Put a line below all others."""
        if self.position is not None:
            self.below += 1
            if self.position.index >= len(self.lines):  # among what is pending, which moves down
                self.position = replace(self.position, index=self.position.index + 1)
        self.lines.append(line)
        self.chat.face.show(self, line)

    # ------------------------------------------------------------------ messages

    def messages(self) -> Iterator[Line]:
        """Give the messages that are here, the newest first."""
        return (
            line for line in reversed(self.lines) if line.sort in _SAID and line.seq and line.text
        )

    def pending(self) -> list[Line]:
        """Return what the person has said here that is not shown as stored yet."""
        return self._saying.lines()

    @property
    def sending(self) -> bool:
        """Whether something that was said here is still on its way."""
        return any(line.fate == "pending" for line in self.pending())

    def index_of(self, seq: int) -> int | None:
        """Return where the line of an event is, or would be; None if it lies before all here."""
        for index in range(len(self.lines) - 1, -1, -1):
            if 0 < self.lines[index].seq <= seq:
                return index
        return None

    def clear(self) -> None:
        """Show nothing of what there was so far, until somebody asks for the past."""
        self.lines = []
        self.position, self.below = None, 0
        self._cleared = True

    # ------------------------------------------------------------------ what happens

    def take(self, event: Event, *, unseen: bool) -> None:
        """Show what an event says, and do what follows from it."""
        self.shown = max(self.shown, event.seq)
        if not self._rewrite(event):
            line = self._reader.line(event)
            if line is not None:
                self.show(replace(line, history=not unseen))
                self._count(event, line, unseen=unseen)
        self.filing.take(event, unseen=unseen and not self._reader.hides(event))

    @property
    def past(self) -> Literal["more", "loading", "all"]:
        """Whether there is something above the first line that can be had."""
        if self.loading:
            return "loading"
        begins = max(self.replica.state.floor, 1)
        return "more" if self._cleared or self.replica.first > begins else "all"

    def load_past(self) -> None:
        """Have what is above the first line: what was cleared away, or a page from the server."""
        if self._cleared:
            self.uncover()
        elif self.past == "more":
            self.loading = True
            self.start(self._load_past)

    def uncover(self) -> None:
        """Show again what was cleared away."""
        if self._cleared:
            self._cleared = False
            first = next((line.seq for line in self.lines if line.seq), self.replica.last + 1)
            self._put_in_front([event for event in self.replica.log if event.seq < first])

    async def _load_past(self) -> None:
        try:
            await self.session.load_history(self.replica)
        except Refused:
            if self in self.chat.rooms:
                raise
        finally:
            self.loading = False
            self.chat.face.changed()

    def take_past(self, events: Sequence[Event]) -> None:
        """Put what was before all here in front of it, unless that was cleared away."""
        if not self._cleared:
            self._put_in_front(events)

    def _put_in_front(self, events: Iterable[Event]) -> None:
        """Show events above all others; what later ones changed is in the messages already."""
        kept = (event for event in events if not isinstance(event.body, Edited | Deleted))
        lines = [
            replace(line, history=True)
            for event in kept
            if (line := self._reader.line(event, now=True))
        ]
        self.lines[:0] = lines
        if self.position is not None:
            self.position = replace(self.position, index=self.position.index + len(lines))

    def take_caught_up(self, *, on_purpose: bool) -> None:
        """Know that all of the log is here; say what was missed."""
        if self.caught_up:
            return
        self.caught_up = True
        missed = digest(self._missed, self.session.user, direct=self.direct)
        if missed is not None and self.replica.read:
            self.notice(missed)
        self._missed = []
        if on_purpose and not self.direct:
            self.notice(welcome(self.replica, self.session.user))
        unsent = sum(pending.failure is not None for pending in self.replica.pending)
        if unsent:
            self.notice(f"not sent: {count_text(unsent, 'message')}; /resend, or /discard")

    def take_standing(self, news: MembershipChange | None) -> None:
        """Show what the person is to the group now, or what somebody made of that."""
        sentence = (
            standing_found(self.replica, self._standing)
            if news is None
            else standing_changed(news, on_purpose=self.leaving)
        )
        if sentence:
            self.notice(sentence)
        self._standing = self.replica.standing
        if self._standing != "member":
            self.caught_up = False

    def _rewrite(self, event: Event) -> bool:
        """Change the line that an event speaks of, where it stands; return whether that is all."""
        if not isinstance(event.body, Edited | Deleted):
            return False
        self._reader.rewrite(self.lines, self.index_of(event.body.target), event.body)
        self.chat.face.changed()
        return self.chat.face.rewrites

    def _count(self, event: Event, line: Line, *, unseen: bool) -> None:
        """Count what the person has not seen, and call for attention where that is due."""
        if not unseen or fold(event.actor) == fold(self.session.user):
            return
        live = self.caught_up or self.summoned
        if not (live or self.direct or self.replica.read):  # one who is new has missed nothing
            return
        if not live:
            self._missed.append(event)
        said_here = line.sort in _SAID
        if not said_here and not isinstance(event.body, FileShared):
            return
        attended = self.attended
        if not self.new_from and not (self.caught_up and attended):
            self.new_from = event.seq
        personal = said_here and (line.mention or self.direct)
        if not attended:
            self.unread += 1
            self.mentions += personal
        if personal and live and not self.muted:
            self.chat.face.notify(self.title, f"{line.who}: {line.text}")
