"""One person in one group, without a face: lines go in, lines come out.

Both faces give what was typed to `enter` and show what `show` is called with. Nothing here
waits for the network where a person could notice: commands are sent off, and what comes of them
is shown when it comes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import trio

from tchat.client.connector import meeting
from tchat.client.updates import (
    CaughtUp,
    Connected,
    Disconnected,
    Happened,
    ServerMet,
    StandingChanged,
    Update,
)
from tchat.core import commands as core
from tchat.core.text import clean_line, clean_text, fold
from tchat.errors import Code, Refused
from tchat.ui import access
from tchat.ui.commands import Command, Do, Say, answers, help_lines, parse
from tchat.ui.filing import Filing
from tchat.ui.lines import Line, Sort, key_note, line_of
from tchat.ui.news import standing_changed, standing_found, welcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.core.frames import Membership, Standing

    Make = Callable[[int, int], core.Command]

LEAVE_SECONDS = 3.0
"""How long one who leaves waits for what is on its way."""

_ABOUT_PEOPLE = {
    "approve": core.Approve,
    "deny": core.Deny,
    "kick": core.Kick,
    "transfer": core.TransferAdmin,
}
_MOST_OFFERS = 20


@dataclass(frozen=True, slots=True)
class Start:
    """What a face begins with: a session, a group to enter, perhaps an invite's token."""

    session: Session
    group: str
    downloads: Path
    invite: bytes | None = None


class Chat:
    """What a person does in one group. `done` is set when there is no reason to stay.

    `question` is the command whose argument the next line is; `refusals` counts what went wrong.
    `hand_out` shows a line where it can be copied, if `show` does not. `moved` is called when a
    file is further on its way; without it, that is shown as lines.
    """

    def __init__(
        self,
        session: Session,
        replica: Replica,
        downloads: Path,
        nursery: trio.Nursery,
        show: Callable[[Line], None],
        hand_out: Callable[[str], None] | None = None,
        moved: Callable[[], None] | None = None,
    ) -> None:
        self.session = session
        self.replica = replica
        self.question: Command | None = None
        self.refusals = 0
        self.done = trio.Event()
        self._caught_up = False
        self._working = 0
        self._shown = 0
        self._progress = trio.Event()
        self._standing: Standing | None = None
        self._nursery = nursery
        self._show = show
        self._hand_out = hand_out
        self._leaving = False
        self._offline = False
        self.filing = Filing(self, downloads, nursery, moved)

    # ------------------------------------------------------------------ what the person types

    def enter(self, line: str) -> None:
        """Take a typed line: a message, a command, or the answer to a question."""
        question, self.question = self.question, None
        try:
            if question is not None and answers(question, line):
                self._answer(question, line.strip())
                return
            match parse(line):
                case Say(text):
                    self._say(text)
                case Do(command, argument):
                    self._run(command, argument)
        except Refused as refusal:
            self.fail(refusal)

    def end_of_input(self) -> None:
        """Know that nothing more will be typed."""
        if self.question is not None:
            self.enter("")

    async def finish(self, patience: float, *, everything: bool = False) -> bool:
        """Wait, at most `patience` seconds, for what was typed to be stored and files to be saved.

        With `everything`, also until what was there at the start has been shown. Says what was
        left undone, and returns whether all was done.
        """
        with trio.move_on_after(patience):
            while self._working or self._has_news() or (everything and self._is_behind()):
                self._progress = trio.Event()
                await self._progress.wait()
        if self._working:
            undone = f"{self._working} of what you typed or were sent had to be left undone."
            if self.filing.transfers.active:
                undone += " A file that is sent or saved again goes on from where it is now."
            self.fail(Refused(Code.SHUTTING_DOWN, undone))
        return not self._working

    def _has_news(self) -> bool:
        return self.session.updates.statistics().current_buffer_used > 0

    def _is_behind(self) -> bool:
        return self.replica.standing == "member" and not self._caught_up

    def mark_seen(self) -> None:
        """Let the server know what was shown, short of the first file that is not saved yet."""
        self.session.mark_seen(self.replica, self.filing.seen(self._shown))

    def _answer(self, question: Command, argument: str) -> None:
        if not argument:
            raise Refused(Code.MISSING_ARGUMENT, f"Nothing was done: it takes {question.usage}.")
        self._run(question, argument)

    def _say(self, text: str) -> None:
        receipt = self.session.post(self.replica, clean_text(text))
        self.start(receipt.wait)

    def _run(self, command: Command, argument: str) -> None:
        if command.admin:
            self._require_admin()
        if command.needs_argument and not argument:
            self._ask(command)
            return
        group = self.replica.name
        match command.word:
            case "approve" | "deny" | "kick" | "transfer":
                make = _ABOUT_PEOPLE[command.word]
                self._request(lambda i, n: make(i, n, group, argument))
            case "invite" | "link" | "keys" | "unlink":
                self.start(access.COMMANDS[command.word], self, argument)
            case "send" | "files" | "get" | "cancel" | "remove":
                self.filing.run(command.word, argument)
            case _:
                self._run_simple(command.word)

    def _run_simple(self, word: str) -> None:
        """Run a command that takes no argument."""
        state = self.replica.state
        match word:
            case "quit":
                self.done.set()
            case "help":
                for line in help_lines():
                    self.notice(line)
            case "join":
                self.start(self._join)
            case "leave":
                self._leaving = True
                self.start(self._leave)
            case "requests":
                self.notice(_listed("asking to join", list(self._requests())))
            case "members":
                self.require_member()
                self.notice(_listed("members", [self._mark(name) for name in self.members()]))
            case "online":
                self.require_member()
                self.notice(_listed("online", [self._mark(name) for name in self.online()]))
            case "admin":
                self.require_member()
                self.notice(f"the admin is {state.admin_name}")

    def _ask(self, command: Command) -> None:
        if command.choice == "transfer":
            self.filing.show_transfers()
        self.question = command
        offers = self.choices(command)
        listed = ", ".join(offers[:_MOST_OFFERS]) + " …" * (len(offers) > _MOST_OFFERS)
        self.notice(f"{command.question} ({listed})" if offers else command.question)

    def choices(self, command: Command) -> list[str]:
        """Return what the command's argument could be; for paths, the keyboard knows better."""
        state = self.replica.state
        if command.choice == "request":
            return [clean_line(request.name) for request in state.requests.values()]
        if command.choice == "member":
            me = fold(self.session.user)
            return [clean_line(name) for key, name in state.members.items() if key != me]
        return self.filing.choices(command)

    def _requests(self) -> Iterator[str]:
        state = self.replica.state
        for name, key in ((asked.name, asked.key) for asked in state.requests.values()):
            yield f"{name} ({key_note(key, state.keys)})" if key else name

    def members(self) -> list[str]:
        """Return the members' names: the admin first, then those online, then by name."""
        state, online = self.replica.state, self.replica.online
        order = sorted(state.members, key=lambda k: (k != state.admin, k not in online, k))
        return [clean_line(state.members[key]) for key in order]

    def online(self) -> list[str]:
        """Return the names of the members who are online, in the order of `members`."""
        return [name for name in self.members() if fold(name) in self.replica.online]

    def _mark(self, name: str) -> str:
        return f"{name} (admin)" if self.replica.state.is_admin(name) else name

    def require_member(self) -> None:
        """Raise `Refused` unless the person is a member."""
        if self.replica.standing == "waiting":
            raise Refused(Code.NOT_MEMBER, "You are not a member yet; /3 leaves.")
        if self.replica.standing != "member":
            raise Refused(Code.NOT_MEMBER, "You are not a member; /join asks to be one.")

    def _require_admin(self) -> None:
        self.require_member()
        if not self.replica.state.is_admin(self.session.user):
            name = self.replica.state.admin_name
            raise Refused(Code.NOT_ADMIN, f"Only the admin may do this, and that is {name}.")

    # ------------------------------------------------------------------ what comes of it

    def _request(self, make: Make) -> None:
        self.start(self.session.submit(make).wait)

    def start(self, work: Callable[..., Awaitable[object]], *arguments: object) -> None:
        """Begin some work, of which a refusal is shown and for which one who leaves waits."""
        self._working += 1
        self._nursery.start_soon(self._watch, work, arguments)

    async def _watch(
        self, work: Callable[..., Awaitable[object]], arguments: tuple[object, ...]
    ) -> None:
        """Wait for what was started, and show the refusal if it was one."""
        try:
            await work(*arguments)
        except Refused as refusal:
            self.fail(refusal)
        self._working -= 1
        self._progress.set()

    async def _join(self) -> None:
        if self.replica.standing == "member":
            raise Refused(Code.ALREADY_MEMBER, "You are a member already.")
        await self.session.enter(self.replica.name, although_kicked=True)

    async def _leave(self) -> None:
        await self.session.request(lambda i, n: core.Leave(i, n, self.replica.name))
        self.done.set()

    # ------------------------------------------------------------------ what the session tells

    def take(self, update: Update) -> None:
        """Show what an update says, and do what follows from it."""
        match update:
            case Happened(replica, event, unseen) if replica is self.replica:
                admin = replica.state.is_admin(self.session.user)
                self._shown = event.seq
                waits = fold(event.actor) in replica.state.requests
                keys = replica.state.keys if waits else None
                file = self.filing.name_of_removed(event)
                line = line_of(event, self.session.user, admin=admin, keys=keys, file=file)
                if line is not None:
                    missed = unseen and event.seq <= replica.head
                    self._show(replace(line, history=not unseen, missed=missed))
                self.filing.take(event, unseen=unseen)
            case StandingChanged(replica, news) if replica is self.replica:
                self._tell_standing(news)
            case CaughtUp(replica) if replica is self.replica and not self._caught_up:
                self._caught_up = True
                self.notice(welcome(replica, self.session.user))
            case ServerMet() | Connected() | Disconnected():
                self._tell_connection(update)
        self._progress.set()

    def _tell_connection(self, update: Update) -> None:
        match update:
            case ServerMet(met):
                self.notice(meeting(met))
            case Connected(again=again):
                self._offline = False
                if again:
                    self.notice("connected again")
            case Disconnected(reason) if not self._offline:  # once, however many tries fail
                self._offline = True
                what = "connection lost" if self.replica.standing else "no connection yet"
                self.notice(f"{what} ({reason}); trying again")

    def _tell_standing(self, news: Membership | None) -> None:
        sentence = (
            standing_found(self.replica, self._standing)
            if news is None
            else standing_changed(news, on_purpose=self._leaving)
        )
        if sentence:
            self.notice(sentence)
        self._standing = self.replica.standing

    def hand_out(self, text: str) -> None:
        """Show a line that is to be copied, whatever the face has to do for that."""
        self.notice(text)
        if self._hand_out is not None:
            self._hand_out(clean_line(text))

    def notice(self, text: str) -> None:
        """Show something that is not a message."""
        self._say_line("notice", text)

    def fail(self, refusal: Refused) -> None:
        """Show that something was refused."""
        self.refusals += 1
        self._say_line("error", refusal.sentence)

    def _say_line(self, sort: Sort, text: str) -> None:
        self._show(Line(time.time_ns() // 1_000_000, sort, clean_line(text)))


def _listed(what: str, names: list[str]) -> str:
    return f"{what} ({len(names)}): {', '.join(names)}" if names else f"{what}: nobody"
