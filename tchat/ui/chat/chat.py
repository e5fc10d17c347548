"""One person's chat, without a face: lines go in, lines come out.

A chat has rooms, one for each group that the person has in front of them, and one of them is
current: what is typed goes there. Faces give what was typed to `enter` and show what rooms tell
them. Nothing here waits for the network where a person could notice: commands are sent off, and
what comes of them is shown when it comes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from tchat.client.connector import first_visit_notice
from tchat.client.files.queue import Transfers
from tchat.client.updates import (
    CaughtUp,
    Connected,
    ConversationOpened,
    Disconnected,
    EventReceived,
    HistoryLoaded,
    JournalDamaged,
    NewServer,
    StandingChanged,
    Update,
)
from tchat.core.group.direct import is_direct, other_of
from tchat.core.text import clean_line, clean_text, fold
from tchat.errors import Code, Refused
from tchat.ui.chat.commands import CommandSpec, Do, Say, answers, parse, speaks_of_messages
from tchat.ui.chat.completion import choices
from tchat.ui.chat.window import Window
from tchat.ui.commands import access, messages, people, windows

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.core.protocol.frames import GroupSummary
    from tchat.ui.chat.window import Frontend

LEAVE_SECONDS = 3.0
"""How long one who leaves waits for what is on its way."""

_MOST_OFFERS = 20
_MOST_OPENED = 64
_ABOUT_FILES = ("send", "files", "get", "cancel", "remove")
_ACTS: dict[str, Callable[[Window, str], None]] = {
    **people.COMMANDS,
    **messages.COMMANDS,
    **windows.COMMANDS,
}


@dataclass(frozen=True, slots=True)
class Start:
    """What a face begins with: a session, groups to enter, perhaps an invite's token to the first.

    `mute` are groups that do not call for attention, `ignore` people who are not shown.
    """

    session: Session
    groups: tuple[str, ...]
    downloads: Path
    invite: bytes | None = None
    mute: frozenset[str] = field(default_factory=frozenset)
    ignore: frozenset[str] = field(default_factory=frozenset)


class Chat:
    """What a person does on one server. `done` is set when there is no reason to stay.

    `question` is the command whose argument the next line is; `refusals` counts what went wrong;
    `found` is what was searched for, by group and seq, `searching` how many answers are to come.
    """

    def __init__(self, start: Start, nursery: trio.Nursery, face: Frontend) -> None:
        self.session = start.session
        self.face = face
        self.transfers = Transfers(start.session, face.changed)
        self.rooms: list[Window] = []
        self.question: CommandSpec | None = None
        self.refusals = 0
        self.done = trio.Event()
        self.ignored = {fold(name) for name in start.ignore}
        self.found: list[tuple[str, int]] = []
        self.searching = 0
        self._start = start
        self._working = 0
        self._complete = False
        self._progress = trio.Event()
        self._nursery = nursery
        self._offline = False
        self._last: Window | None = None
        self.current = self._room(start.session.follow(start.groups[0]))

    # ------------------------------------------------------------------ rooms

    async def begin(self) -> None:
        """Enter the group that was asked for, and begin to open what else there is.

        Raises `Refused` if there is no other group in which one could be instead.
        """
        first, others = self.rooms[0], self._start.groups[1:]
        try:
            await first.enter(invite=self._start.invite)
        except Refused as refusal:
            if not others:
                raise
            first.fail(refusal)
        self._progress.set()
        for name in others:
            self.open(name)
        self._nursery.start_soon(self._open_others)

    async def _open_others(self) -> None:
        """Open every group one is in, if there are windows for them, and whoever has written."""
        try:
            for group in await self.session.my_groups():
                if self._is_wanted(group) and len(self.rooms) < _MOST_OPENED:
                    self.open(group.name)
        except Refused as refusal:
            self.rooms[0].fail(refusal)
        self._complete = True
        self._progress.set()

    def _is_wanted(self, group: GroupSummary) -> bool:
        if is_direct(group.name):
            return group.last > group.read and not self._ignores(group.name)
        return self.face.rewrites

    def _ignores(self, group: str) -> bool:
        """Return whether that is a conversation with somebody who is not to be heard."""
        return fold(other_of(group, self.session.user)) in self.ignored

    def open(self, group: str, *, asks: bool = False) -> Window:
        """Return the room of a group, a new one if need be; `asks` says to ask to be let in."""
        replica = self.session.follow(group)
        room = self._room_of(replica)
        if room is None:
            room = self._room(replica)
            room.come(asks=asks)
        elif asks and replica.standing == "outsider":
            room.come(asks=True)
        self.face.changed()
        return room

    def go(self, room: Window) -> None:
        """Have another room in front."""
        if room is self.current or room not in self.rooms:
            return
        self._last, self.current.new_from = self.current, 0
        self.question = None
        self.current = room
        if room.attended:
            room.attend()
        self.face.changed()

    def go_back(self) -> None:
        """Go to the room that was in front before this one."""
        if self._last is not None:
            self.go(self._last)

    def close(self, room: Window) -> None:
        """Have a room no more; without any, the chat is done."""
        if room not in self.rooms:
            return
        room.release()
        if len(self.rooms) == 1:
            self.done.set()
            return
        place = self.rooms.index(room)
        if room is self.current:
            self.go(self.rooms[place - 1] if place else self.rooms[1])
        self.rooms.remove(room)
        self._last = None if self._last is room else self._last
        self.session.unfollow(room.replica)
        self.face.changed()

    def title_of(self, group: str) -> str:
        """Return a group's name as people write it: #ops, or @bob."""
        if is_direct(group):
            return f"@{clean_line(other_of(group, self.session.user))}"
        return f"#{clean_line(group)}"

    def people(self) -> dict[str, str]:
        """Return everybody of all rooms, by their folded names, those of the current one first."""
        everybody: dict[str, str] = {}
        for room in (self.current, *self.rooms):
            for person, name in room.replica.state.members.items():
                everybody.setdefault(person, name)
        return everybody

    def _room(self, replica: Replica) -> Window:
        room = Window(self, replica, self._start.downloads)
        room.muted = fold(replica.name) in {fold(name) for name in self._start.mute}
        self.rooms.append(room)
        for pending in replica.pending:  # typed before this program started
            if pending.failure is None:
                room.start(pending.wait)
        return room

    def _room_of(self, replica: Replica) -> Window | None:
        return next((room for room in self.rooms if room.replica is replica), None)

    # ------------------------------------------------------------------ what the person types

    def enter(self, line: str) -> None:
        """Take a typed line: a message, a command, or the answer to a question."""
        question = self.question if line.strip().isdecimal() else self.asked  # a late answer
        self.question, room = None, self.current
        offered = room.offered
        try:
            if question is not None and answers(question, line):
                self._answer(room, question, line.strip())
                return
            match parse(line):
                case Say(text):
                    room.say(clean_text(text))
                case Do(command, argument):
                    self.run(room, command, argument)
        except Refused as refusal:
            room.fail(refusal)
        if room.offered is offered:
            room.offered = None

    @property
    def asked(self) -> CommandSpec | None:
        """The question, unless all has ended meanwhile that could have been its answer."""
        is_idle = self.question and self.question.choice == "transfer" and not self.transfers.active
        return None if is_idle else self.question

    def end_of_input(self) -> None:
        """Know that nothing more will be typed."""
        if self.question is not None:
            self.enter("")

    def run(self, room: Window, command: CommandSpec, argument: str) -> None:
        """Run a command, or ask for what it needs. Raises `Refused`."""
        if command.admin:
            room.require_admin()
        if command.needs_argument and not argument:
            self._ask(room, command)
        elif command.word in _ABOUT_FILES:
            room.filing.run(command.word, argument)
        elif command.word in access.COMMANDS:
            room.start(access.COMMANDS[command.word], room, argument)
        else:
            _ACTS[command.word](room, argument)

    def _answer(self, room: Window, question: CommandSpec, argument: str) -> None:
        if not argument:
            raise Refused(Code.MISSING_ARGUMENT, f"Nothing was done: it is {question.usage}.")
        self.run(room, question, argument)

    def _ask(self, room: Window, command: CommandSpec) -> None:
        if command.choice == "transfer":
            room.filing.show_transfers()
        self.question = command
        offers = choices(self, command)
        listed = ", ".join(offers[:_MOST_OFFERS]) + " …" * (len(offers) > _MOST_OFFERS)
        room.notice(f"{command.question} ({listed})" if offers else command.question)

    # ------------------------------------------------------------------ what comes of it

    def start(
        self, room: Window, work: Callable[..., Awaitable[object]], *arguments: object
    ) -> None:
        """Begin some work, of which a refusal is shown and for which one who leaves waits."""
        self._working += 1
        self._nursery.start_soon(self._watch, room, work, arguments)

    async def _watch(
        self, room: Window, work: Callable[..., Awaitable[object]], arguments: tuple[object, ...]
    ) -> None:
        """Wait for what was started, and show the refusal if it was one."""
        try:
            await work(*arguments)
        except Refused as refusal:
            room.fail(refusal)
        self._working -= 1
        self._progress.set()

    async def finish(self, patience: float, *, everything: bool = False) -> bool:
        """Wait, at most `patience` seconds, for what was typed to be stored and files to be saved.

        With `everything`, also until what was there at the start has been shown. Says what was
        left undone, and returns whether all was done.
        """
        with trio.move_on_after(patience):
            while self._is_busy() or (everything and self._is_behind()):
                await self._next()
        if self._working:
            undone = f"{self._working} of what you typed or were sent had to be left undone."
            if any(room.pending() for room in self.rooms):
                undone += " What you said is kept, and sent when you are here again."
            if self.transfers.active:
                undone += " A file that is sent or saved again goes on from where it is now."
            self.current.fail(Refused(Code.SHUTTING_DOWN, undone))
        return not self._working

    @property
    def has_news(self) -> bool:
        """Whether the session has told what was not taken yet."""
        channel = self.session.updates.statistics()
        # One that was handed to who takes them, and not taken yet, is in no buffer.
        return channel.current_buffer_used > 0 or not channel.tasks_waiting_receive

    async def ready(self, room: Window) -> None:
        """Wait until a room has what there is of its group for one who comes. Raises `Refused`."""
        if room.replica.standing is None:
            await self.session.enter(room.replica.name)
        while room.coming and room in self.rooms:
            await self._next()

    async def prepare(self, line: str) -> None:
        """Wait until a line will find the group as it is meant; not without a connection."""
        speaks = speaks_of_messages(line)
        while self.session.connected and not self.done.is_set():
            room = self.current
            if not (room.coming or room.leaving or (speaks and (room.sending or self.searching))):
                return
            await self._next()

    async def settle(self) -> None:
        """Wait until all that the session has told so far was taken."""
        while self.has_news:
            await self._next()

    async def _next(self) -> None:
        """Wait until something was taken or done. Several may wait at a time."""
        if self._progress.is_set():
            self._progress = trio.Event()
        await self._progress.wait()

    def _is_behind(self) -> bool:
        return not self._complete or any(room.coming for room in self.rooms)

    def _is_busy(self) -> bool:
        """Return whether something is under way, or was done and not shown yet."""
        return bool(self._working) or self.has_news or any(room.sending for room in self.rooms)

    # ------------------------------------------------------------------ what the session tells

    def take(self, update: Update) -> None:
        """Show what an update says, and do what follows from it."""
        match update:
            case ConversationOpened(replica):
                self._take_summons(replica)
            case JournalDamaged(sentence):
                self.current.fail(Refused(Code.FILE_UNREADABLE, sentence))
            case NewServer() | Connected() | Disconnected():
                self._tell_connection(update)
            case EventReceived() | CaughtUp() | StandingChanged() | HistoryLoaded():
                if (room := self._room_of(update.replica)) is not None:
                    self._take_for(room, update)
        self._progress.set()
        self.face.changed()

    def _take_summons(self, replica: Replica) -> None:
        if self._room_of(replica) is None and self._ignores(replica.name):
            self.session.unfollow(replica)
        else:
            self.open(replica.name).summoned = True

    def _take_for(
        self, room: Window, update: EventReceived | CaughtUp | StandingChanged | HistoryLoaded
    ) -> None:
        match update:
            case EventReceived(_, event, unseen):
                room.take(event, unseen=unseen)
            case StandingChanged(_, news):
                room.take_standing(news)
            case CaughtUp():
                room.take_caught_up(on_purpose=room is self.current)
            case HistoryLoaded(_, events):
                room.take_past(events)

    def mark_seen(self) -> None:
        """Let the server know what was seen of each room."""
        for room in self.rooms:
            room.mark_seen()

    def _tell_connection(self, update: NewServer | Connected | Disconnected) -> None:
        room = self.current
        match update:
            case NewServer(pin):
                room.notice(first_visit_notice(pin))
            case Connected(again=again):
                self._offline = False
                if again:
                    room.notice("connected again")
            case Disconnected(reason) if not self._offline:  # once, however many tries fail
                self._offline = True
                known = any(room.replica.standing for room in self.rooms)
                what = "connection lost" if known else "no connection yet"
                room.notice(f"{what} ({reason}); trying again")
