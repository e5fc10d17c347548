"""One person's chat: windows, typed lines, command dispatch, and updates from the session.

A chat has one window for each open group; typed lines go to the current window. Front ends pass
typed lines to `Chat.enter`, and get the lines to show through `Frontend.show`. Nothing here blocks
the user interface on the network: requests run in the background, and their outcomes are shown when
they arrive.

The table of commands (`tchat.ui.commands`) is passed in: its handlers depend on this module, so
importing it here would be a cycle.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

import trio

from tchat.client.connector import first_visit_notice, rotation_notice
from tchat.client.files.automatic import AutomaticSaving
from tchat.client.files.queue import Transfers
from tchat.client.known_keys import KnownKeys
from tchat.client.preferences import Preferences
from tchat.client.searched import Searched
from tchat.client.updates import (
    Addressed,
    CaughtUp,
    Connected,
    Disconnected,
    EventReceived,
    GroupJoined,
    GroupUnusable,
    HeldFound,
    HistoryLoaded,
    JournalDamaged,
    KeyLinked,
    KeyRotated,
    KeyUnlinked,
    LogReplaced,
    MessageRefused,
    NewServer,
    PositionMoved,
    RefusalFound,
    StandingChanged,
    Trimmed,
    UnsentElsewhere,
    Update,
)
from tchat.core.fingerprints import fingerprint
from tchat.core.group.direct import check_group, direct_name, is_direct, other_of
from tchat.core.group.membership import Joined, Requested
from tchat.core.pace import TokenBucket
from tchat.core.text import clean_line, clean_text, fold
from tchat.errors import Code, Refused
from tchat.ui.chat.commands import (
    CommandSpec,
    CommandTable,
    Confirmation,
    Do,
    NotLoaded,
    Say,
    TextQuestion,
    WrongUsage,
    has_seq,
    without_reference,
)
from tchat.ui.chat.elsewhere import Elsewhere
from tchat.ui.chat.gathering import Gatherings, some_of
from tchat.ui.chat.hints import with_hint
from tchat.ui.chat.lines import count_text, minute_text
from tchat.ui.chat.window import QUOTE_RATE, Window, command_that_opens

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from tchat.client.pending_message import PendingMessage
    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.core.group.feature import Event
    from tchat.core.protocol.frames import GroupSummary, NameKey, SearchHit
    from tchat.ui.chat.elsewhere import Search
    from tchat.ui.chat.window import Frontend, TypedEdit

QUIT_SECONDS = 3.0
"""Seconds that quitting waits for unfinished deliveries."""

PRESENCE_SECONDS = 5.0
"""Seconds that a command waits for the server to say who is online."""

_GroupUpdate = (
    EventReceived
    | PositionMoved
    | CaughtUp
    | StandingChanged
    | HistoryLoaded
    | Trimmed
    | GroupUnusable
    | LogReplaced
)
"""What a window shows of its group."""

_Unsent = JournalDamaged | UnsentElsewhere | RefusalFound | HeldFound | MessageRefused

_CLOCK_CHANGE_MS = 60_000  # a smaller one is not worth painting the program's own lines anew

_YES, _NO = ("y", "yes"), ("n", "no")
_LISTED_CHOICES = 20
_OPENED_WINDOWS = 64
_OPENED_CONVERSATIONS = 16
"""At the start, a full screen opens a window for each group, and for the latest conversations."""
_UNINVITED_WINDOWS = 8
_UNINVITED_PRINTED = 32
"""How many conversations of strangers have a window before the person has looked into them.

A front end that prints has no windows to look into: there, the person looks by answering.
"""
_SEARCHED_PAGES = 32
"""So many pages are searched for what is new at a start, in all groups without a window together.

What is left is searched at the next start.
"""
_MOST_UNANSWERED = 256
"""The most unanswered requests at a time, so that a fast pipe fills neither memory nor disk."""


@dataclass(frozen=True, slots=True)
class Start:
    """The parameters of a new chat.

    `invite` is a token to join the first of `groups`. `preferences` has the ignored people and the
    muted groups, `searched` the events that need not be searched again, and `known_keys` the keys
    of the person's name that need not be reported again. `automatic` decides which files are saved
    without being asked for. With `founds`, joining a group that does
    not exist creates it; scripts do not set it, so that a mistyped name creates nothing. With
    `assume_yes`, nothing has to be confirmed. `linked` says that this start links the device to the
    person's name. Drafts are saved in the directory `drafts`, if there
    is one. `on_entered` is called once the server has let the person into the first group, or has
    taken their request to join.
    """

    session: Session
    groups: tuple[str, ...]
    downloads: Path
    invite: bytes | None = None
    preferences: Preferences = field(default_factory=Preferences)
    searched: Searched = field(default_factory=Searched)
    known_keys: KnownKeys = field(default_factory=KnownKeys)
    automatic: AutomaticSaving = field(default_factory=AutomaticSaving)
    founds: bool = True
    assume_yes: bool = False
    linked: bool = False
    drafts: Path | None = None
    on_entered: Callable[[], None] | None = None


Question = CommandSpec["Chat"] | TextQuestion | Confirmation
"""What the next line can answer: the argument of a command, a message, or y or n."""


class Chat:
    """One person's chat on one server. `done` is set when the program should end.

    If `question` is set, the next line answers it: as the argument of that command, as the text of
    a message, or with y or n.
    `unanswered` is the last yes-or-no question, until it is answered or a message is sent: the
    answer may still be typed after the question has gone, and must not be posted. `refusals` counts
    the errors shown. `found` has the results of the last search, as group and seq; `searching`
    counts the searches under way. `connection` describes a broken connection; it is empty while
    connected. `unanswered_edits` are listed with their groups (folded): they outlive the windows.
    """

    def __init__(
        self,
        start: Start,
        commands: CommandTable[Chat],
        nursery: trio.Nursery,
        frontend: Frontend,
    ) -> None:
        self.session = start.session
        self.commands = commands
        self.frontend = frontend
        self.transfers = Transfers(start.session, frontend.changed)
        self.automatic = start.automatic
        self.gatherings = Gatherings(self.start_unwatched)
        self.quote_pace = TokenBucket(QUOTE_RATE, 0)
        self._news = self.gatherings.new(self._tell_news)
        self.windows: list[Window] = []
        self.question: Question | None = None
        self.unanswered = ""
        self._missed = ""
        self.refusals = 0
        self.done = trio.Event()
        self.founds = start.founds
        self.preferences = start.preferences
        self.ignored, self.muted = start.preferences.ignored, start.preferences.muted
        self.blocked = start.preferences.blocked
        self._recognised: WeakKeyDictionary[Replica, int] = WeakKeyDictionary()
        """The groups whose members' keys were compared, and how often each was reset before."""
        self.elsewhere = Elsewhere(start.session, self.ignored, start.searched)
        self.unanswered_edits: list[tuple[str, TypedEdit]] = []
        self.found: list[SearchHit] = []
        self.searching = 0
        self.connection = "connecting"
        self._start = start
        self._working = 0
        self._looking_back = 0
        self._refused = {fold(messages[0].group) for messages in start.session.refused()}
        """The groups (folded) with refused messages that the person may not know of."""
        self._tells_refused = False
        """Whether such groups are named already: once the windows of the start are open."""
        self._progress = trio.Event()
        self._nursery = nursery
        self._previous: Window | None = None
        self.current = self._new_window(start.session.follow(start.groups[0]))

    # ------------------------------------------------------------------ windows

    async def begin(self) -> None:
        """Enter the first group, and start to open the others.

        Raises `Refused` if the first group refuses the person and there is no other.
        """
        first, others = self.windows[0], self._start.groups[1:]
        if others:
            self.elsewhere.put_first(self._start.groups)
        if self.preferences.damage is not None:
            first.fail(Refused(Code.FILE_UNREADABLE, self.preferences.damage))
        try:
            await first.enter(invite=self._start.invite)
        except Refused as refusal:
            if not others:
                raise Refused(refusal.code, with_hint(refusal, first.replica.standing)) from refusal
            first.fail(refusal)
        else:
            if self._start.on_entered is not None:
                self._start.on_entered()
        self._progress.set()
        # The person had asked to enter those with held messages when the program before was killed.
        for name in (*others, *self.session.held()):
            self.open(name)
        self._nursery.start_soon(self._open_others)

    async def _open_others(self, *, again: bool = False) -> None:
        """Open the windows that belong on the screen, and where something new is for the person.

        Called after each connection; `again` says that it is not the first.
        """
        try:
            groups = await self.session.my_groups()
            for group in groups:
                check_group(group.name)  # nothing is requested under an invalid name
        except Refused as refusal:
            self.current.fail(refusal)
            return
        self.elsewhere.update(groups)
        for group in [*self._wanted(groups), *self._approved(groups)]:
            # The person may have left it a moment ago, on another device.
            self.open(group.name, joins=False)
        self._admit_strangers(groups)
        if not again:
            self._sort_windows()
        if not self._tells_refused:
            self._tells_refused = True
            self._tell_refused(fold(one.name) for one in groups if one.standing == "waiting")
        await self._search_others(groups, again=again)

    def _approved(self, groups: list[GroupSummary]) -> list[GroupSummary]:
        """Return the groups that have let the person in, where messages waited for that."""
        unsent = {
            fold(pending.group)
            for messages in self.session.refused()
            for pending in messages
            if pending.awaits_approval
        }
        return [one for one in groups if one.standing == "member" and fold(one.name) in unsent]

    def _tell_refused(self, waiting: Iterable[str] = ()) -> None:
        """Name the groups without a window to which messages were refused since the last call.

        Windows show their own. Messages to the groups `waiting` (folded) wait for an approval.
        """
        groups, self._refused = self._refused, set()
        groups -= {fold(window.replica.name) for window in self.windows} | set(waiting)
        for messages in self.session.refused():
            group, count = messages[-1].group, len(messages)
            if fold(group) in groups:
                self.current.notice(
                    f"not sent: {count_text(count, 'message')} to {self.title_of(group)};"
                    f" {command_that_opens(group, self.session.user)} shows what to do"
                )

    def refused_elsewhere(self, window: Window) -> str:
        """Return a sentence about the refused messages of all other groups; "" if there are none.

        It says where they are, with the command that goes there.
        """
        open_ones = {fold(one.replica.name): f"/window {one.title}" for one in self.windows}
        places = []
        for messages in self.session.refused():
            group, count = messages[-1].group, sum(not one.awaits_approval for one in messages)
            if count and fold(group) != fold(window.replica.name):
                opens = open_ones.get(fold(group)) or command_that_opens(group, self.session.user)
                places.append(f"{count_text(count, 'message')} to {self.title_of(group)} ({opens})")
        return f"Not sent elsewhere: {', '.join(places)}." if places else ""

    async def _search_others(self, groups: list[GroupSummary], *, again: bool) -> None:
        """Search the groups without a window for something new: the latest pages of all first."""
        searches = [self.elsewhere.search(one) for one in groups if self._is_searched(one)]
        pages = _SEARCHED_PAGES
        while searches and pages:
            searches, remaining = [one for one in searches if not one.done][:pages], []
            pages -= len(searches)
            for search in searches:
                if fold(search.group.name) in self.session.groups:
                    continue  # a window was opened meanwhile
                try:
                    if await self._is_new(search):
                        self._open_news(search.group.name, by_other=again)
                        continue
                except Refused as refusal:
                    self.current.fail(refusal)
                    continue
                search.remember()
                remaining.append(search)
            searches = remaining
        self.elsewhere.searched.save()

    def _is_searched(self, group: GroupSummary) -> bool:
        is_open = fold(group.name) in self.session.groups
        skipped = self._is_ignored(group.name) or self.elsewhere.is_of_stranger(group.name)
        return group.standing == "member" and not (is_open or skipped)

    async def _is_new(self, search: Search) -> bool:
        """Return whether the next page of a search has something for the person."""
        page = await search.load_page()
        if search.is_meant():
            return True
        has_requests = any(isinstance(event.body, Requested) for event in page)
        return has_requests and await self._has_to_decide(search.group)

    async def _has_to_decide(self, group: GroupSummary) -> bool:
        """Return whether the person is the admin, and somebody asks to join.

        Also return True if something else for the person arrives meanwhile: the server does not
        announce events of a group that is followed. Raises `Refused`.
        """
        replica = self.session.follow(group.name)
        try:
            await self.session.enter(group.name, join=False)
            while (
                self.session.groups.get(fold(group.name)) is replica
                and replica.standing == "member"
                and not (replica.caught_up or replica.unusable)
            ):
                await self._wait_for_progress()
            me = fold(self.session.user)
            asking = replica.state.requests.keys() - self.blocked
            is_asked = replica.state.is_admin(me) and bool(asking)
            return is_asked or any(
                event.seq > group.last
                and fold(event.actor) not in (me, *self.ignored)
                and bool(event.body.addressees(replica.state, [me]))
                for event in replica.log
            )
        finally:
            if self._window_of(replica) is None:
                self.session.unfollow(replica)

    def _wanted(self, groups: list[GroupSummary]) -> list[GroupSummary]:
        """Return the groups that have a window in a full screen until the person closes it."""
        if not self.frontend.rewrites:
            return []
        others = [one for one in groups if not self.elsewhere.was_closed(one.name)]
        conversations = [
            one
            for one in others
            if is_direct(one.name)
            and not (self._is_ignored(one.name) or self.elsewhere.is_of_stranger(one.name))
        ]
        wanted = [one for one in others if not is_direct(one.name)]
        wanted += conversations[:_OPENED_CONVERSATIONS]
        wanted = [one for one in wanted if fold(one.name) not in self.session.groups]
        return wanted[: max(_OPENED_WINDOWS - len(self.windows), 0)]

    def _sort_windows(self) -> None:
        """Sort the windows, so that their numbers are the same tomorrow and on all devices.

        Only once: later, the person may be about to switch to a window by its number. Windows that
        are opened later are the last ones until the program ends.
        """
        self.windows.sort(key=lambda window: self.elsewhere.place_of(window.replica.name))

    def _is_ignored(self, group: str) -> bool:
        """Return whether this is a conversation with an ignored person."""
        return is_direct(group) and fold(other_of(group, self.session.user)) in self.ignored

    def open(self, group: str, *, asks: bool = False, joins: bool = True) -> Window:
        """Return a group's window, opened if necessary.

        `asks` asks to join again after a kick; without `joins`, nothing is asked.
        """
        replica = self.session.follow(group)
        window = self._window_of(replica)
        if window is None:
            if replica.standing is not None:  # a new window has to see its events from the start
                self.session.unfollow(replica)
                replica = self.session.follow(group)
            window = self._new_window(replica)
            self.elsewhere.stop_waiting(group)
            window.begin_entering(asks=asks, joins=joins)
        elif window.unreachable is not None:
            window.begin_entering(joins=joins)
        elif asks and replica.standing == "outsider":
            window.begin_entering(asks=True)
        self.frontend.changed()
        return window

    def switch_to(self, window: Window) -> None:
        """Make another window the current one."""
        if window is self.current or window not in self.windows:
            return
        self.cancel_question()
        self.current.turn_away()
        self._previous = self.current
        self.current = window
        self.look_into(window)
        if window.attended:
            window.attend()
        self.frontend.changed()

    def look_into(self, window: Window) -> None:
        """Note that the person has looked into a window, or has written there."""
        window.uninvited = False
        self.elsewhere.look_into(window.replica.name)

    def switch_back(self) -> None:
        """Switch to the window that was current before this one."""
        if self._previous is not None:
            self.switch_to(self._previous)

    def close(self, window: Window) -> None:
        """Close a window; the chat is done when it was the last one."""
        if window not in self.windows:
            return
        window.release()
        if len(self.windows) == 1:
            self.done.set()
            return
        index = self.windows.index(window)
        if window is self.current:
            neighbour = self.windows[index - 1] if index else self.windows[1]
            self.switch_to(self._previous or neighbour)
        # A line that is left there has to mean the same in another window of the group.
        self.frontend.complete_input(window)
        self.windows.remove(window)
        self._previous = None if self._previous is window else self._previous
        self.elsewhere.on_closed(window.replica)
        self.session.unfollow(window.replica)
        if window.replica.standing in ("member", None) and not window.replica.caught_up:
            self.start_unwatched(self._open_others)  # what it has not got may be for the person
        self.frontend.changed()

    def title_of(self, group: str) -> str:
        """Return the title of a group's window: #ops, or @bob."""
        if is_direct(group):
            return f"@{clean_line(other_of(group, self.session.user))}"
        return f"#{clean_line(group)}"

    def people(self) -> dict[str, str]:
        """Return the members of all windows by folded name, those of the current one first."""
        everybody: dict[str, str] = {}
        for window in (self.current, *self.windows):
            for person, name in window.replica.state.members.items():
                everybody.setdefault(person, name)
        return everybody

    def knows(self, name: str) -> bool:
        """Return whether a person is, was, or wants to be in a group here, or a conversation."""
        person = fold(name)
        if self.elsewhere.lists(direct_name(self.session.user, name)):
            return True
        for window in self.windows:
            state = window.replica.state
            owners = [owner for _, owner in self._owners(window.replica)]
            if person in (*state.members, *state.requests, *state.banned, *map(fold, owners)):
                return True
            if any(fold(line.who) == person for line in window.lines):
                return True
        return False

    def _new_window(self, replica: Replica) -> Window:
        window = Window(self, replica, self._start.downloads)
        self.windows.append(window)
        for pending in replica.pending:  # typed before this program started
            if pending.failure is None and not pending.held:
                window.start(pending.wait)
        return window

    def window_for(self, group: str) -> Window | None:
        """Return the open window of a group; None if there is none."""
        name = fold(group)
        return next((one for one in self.windows if fold(one.replica.name) == name), None)

    def edits_of(self, group: str) -> list[str]:
        """Return the edits of a group that the server has not answered, as commands.

        The window may be closed. Unlike messages, they are on no disk.
        """
        return [edit.line for name, edit in self.unanswered_edits if name == fold(group)]

    def _window_of(self, replica: Replica) -> Window | None:
        return next((window for window in self.windows if window.replica is replica), None)

    # ------------------------------------------------------------------ preferences

    def set_ignored(self, name: str, *, on: bool) -> None:
        """Hide or show somebody's messages. Raises `Refused` if the change cannot be saved."""
        before = set(self.ignored)
        try:
            self.preferences.change("ignore", name, on=on)
        finally:
            self._show_and_hide(before)

    def block(self, name: str) -> list[str]:
        """Block somebody, by name and by key; return the names that were blocked.

        Raises `Refused` if the change cannot be saved.
        """
        before, person = set(self.ignored), fold(name)
        owners = [one for window in self.windows for one in self._owners(window.replica)]
        keys = {key for key, owner in owners if fold(owner) == person}
        names: dict[str, set[bytes]] = {name: keys}
        for key, owner in owners:
            if key in keys:
                names.setdefault(owner, set()).add(key)
        try:
            self.preferences.block(names)
        finally:
            self._show_and_hide(before)
        return list(dict.fromkeys(map(fold, names)))

    def unblock(self, name: str) -> list[str]:
        """Lift a block, also of other names with the same key; return the names, folded.

        Raises `Refused` if the change cannot be saved.
        """
        before = set(self.ignored)
        try:
            return self.preferences.unblock(name)
        finally:
            self._show_and_hide(before)

    def _recognise(self, replica: Replica, event: Event | None = None) -> None:
        """Block whoever uses a blocked key in a group; only the author of an event if it is given.

        The keys of a group's members are compared once, before its first line: its state may come
        as a snapshot, after the first update about the group, and anew after a reset.
        """
        if not (blocked := self.preferences.blocked_keys):
            return
        if not replica.state.seq:
            return
        if self._recognised.get(replica) != replica.resets:
            self._recognised[replica] = replica.resets
            owners = self._owners(replica)
        elif event is not None and isinstance(event.body, Requested | Joined) and event.body.key:
            owners = [(event.body.key, event.actor)]
        else:
            return
        aliases = {
            owner: {key}
            for key, owner in owners
            if fold(owner) not in self.blocked and fingerprint(key) in blocked
        }
        if aliases:
            before = set(self.ignored)
            with suppress(Refused):  # what cannot be saved holds until the program ends
                self.preferences.block(aliases)
            self._show_and_hide(before)

    def _owners(self, replica: Replica) -> list[tuple[bytes, str]]:
        """Return who else has used which key in a group, or asks to join with it."""
        state, me = replica.state, fold(self.session.user)
        asking = [(asked.key, asked.name) for asked in state.requests.values() if asked.key]
        return [
            (key, name)
            for key, name in [*state.keys.items(), *asking]
            if key != self.session.key and fold(name) != me
        ]

    def _refresh_preferences(self) -> None:
        """Apply changes of the preferences by another client of the same person."""
        before = set(self.ignored)
        if self.preferences.refresh():
            self._show_and_hide(before)

    def _show_and_hide(self, before: set[str]) -> None:
        """Bring all windows in line with `ignored`, which was `before`."""
        self.elsewhere.drop_ignored()
        for window in self.windows:
            window.hide_ignored()
            for person in before - self.ignored:
                window.show_unignored(person)
        if before - self.ignored:
            self.elsewhere.searched.forget()
            self.start(self.windows[0], self._open_for, before - self.ignored)
        self.frontend.changed()

    async def _open_for(self, people: set[str]) -> None:
        """Open the windows in which something is new by people (folded) who were ignored."""
        groups = await self.session.my_groups()
        for group in groups:
            is_unread = is_direct(group.name) and group.last > group.read
            if is_unread and fold(other_of(group.name, self.session.user)) in people:
                self.open(group.name)
        await self._search_others(groups, again=False)

    # ------------------------------------------------------------------ typed lines

    def enter(self, line: str) -> None:
        """Handle a typed line: a message, a command, or the answer to a question."""
        # If the question has lapsed, a number still counts as its answer: otherwise the number
        # would be posted as a message.
        question = self.question if line.strip().isdecimal() else self.asked
        self.question, window, typed = None, self.current, line
        self._refresh_preferences()
        try:
            if isinstance(question, Confirmation):
                if not self._is_command(line):
                    self._decide(question, line)
                    return
                window.fail(_not_confirmed(question))
            elif question is not None and self.commands.is_answer(question, line):
                line = question.complete(line)
            elif question is not None:
                self._leave_unanswered(question)
            self._say_or_do(window, line)
        except Refused as refusal:
            window.fail(refusal)
            is_open = question is not None and self._stays_open(question, typed, refusal)
            line = typed if is_open else line
            if window is self.current and self._is_text(line):
                # Nothing is wrong with a message that was no answer: it can be continued.
                was_no_answer = isinstance(question, Confirmation) and not self._is_command(line)
                self.frontend.fill_input(window, line, refused=not was_no_answer)
            self.question = question if is_open else self.question

    def _say_or_do(self, window: Window, line: str) -> None:
        match self.commands.parse(line):
            case Say(text):
                self._stop_stray_answer(text)
                window.say(clean_text(text))
            case Do(command, argument):
                self.run(command, argument)

    def _stays_open(self, question: Question, line: str, refusal: Refused) -> bool:
        """Return whether a question is still asked after a line was refused.

        Without an input line that the answer could return to as a complete command, the next line
        would otherwise be posted here.
        """
        if isinstance(question, Confirmation) or not line.strip():
            return False
        if refusal.code == Code.UNKNOWN_COMMAND:
            return True
        is_text = question.takes_text and self.commands.is_answer(question, line)
        return is_text and (isinstance(question, TextQuestion) or not self.frontend.rewrites)

    def complete(self, window: Window, line: str) -> str:
        """Return a line of a window as a command that means the same at any later time.

        The answer to a question becomes the command that it completes, and a reference to a message
        becomes its seq. So a line that leaves the input line cannot reach another message or place.
        """
        question = self.asked if window is self.current else None
        if question is not None and not isinstance(question, Confirmation):
            is_answer = bool(line.strip()) and self.commands.is_answer(question, line)
            line = question.complete(line) if is_answer else line
        return self._bound(window, line) or line

    def to_save(self, window: Window | None, line: str) -> str:
        """Return a complete line for the disk; without a `window`, of a group that has none.

        Of a command whose message is not known, only the text is saved, since its reference would
        mean another message after a restart.
        """
        bound = self._bound(window, line)
        if bound is None:
            word, _, argument = line.partition(" ")
            command = self.commands.find(word)
            return without_reference(argument) if command and command.takes_text else ""
        return bound

    def _bound(self, window: Window | None, line: str) -> str | None:
        """Return a line with its message's seq; None if it refers to a message that is not known.

        Lines that refer to no message are returned as they are.
        """
        try:
            found = self.commands.parse(line)
        except Refused:
            return line
        if not isinstance(found, Do) or found.command.bind is None:
            return line
        if window is None:  # what could be found was found before the window was closed
            return line if has_seq(found.argument) else None
        try:
            bound = found.command.bind(window, found.argument)
        except Refused:
            return None
        return f"/{found.command.word} {bound}" if bound else line

    def _is_text(self, line: str) -> bool:
        """Return whether a line is a message, or a command whose argument is a message."""
        if not line.startswith("/") or line.startswith("//"):
            return bool(line.strip())
        word, _, rest = line.partition(" ")
        command = self.commands.find(word)
        # An unknown command, or one with too many words, may be a message that begins with a slash.
        is_command = command is not None and command.argument and not command.takes_text
        return bool(rest.strip()) and not is_command

    @property
    def asked(self) -> Question | None:
        """The open question, if there is one that can still be answered."""
        question = self.question
        if not isinstance(question, CommandSpec):
            return question
        if question.lapses and question.choices and not question.choices(self):
            return None
        return question

    @property
    def asked_text(self) -> str:
        """The open question as people read it, with possible answers; empty if there is none."""
        question = self.asked
        if not isinstance(question, CommandSpec):
            return question.question if question else ""
        choices = question.choices(self) if question.choices else []
        listed = ", ".join(choices[:_LISTED_CHOICES]) + " …" * (len(choices) > _LISTED_CHOICES)
        return f"{question.question} ({listed})" if choices else question.question

    def cancel_question(self) -> None:
        """Withdraw the open question, if there is one; say so if it asked for a confirmation.

        The half-typed answer to any other becomes a complete command.
        """
        if self.question is None:
            return
        if not isinstance(self.question, Confirmation):
            self.frontend.complete_input(self.current)
        question, self.question = self.question, None
        if isinstance(question, Confirmation):
            self.current.notice(_declined(question))
        else:
            self._leave_unanswered(question)

    def _leave_unanswered(self, question: Question) -> None:
        """Remember a question for a text whose answer may still be typed.

        In a full screen, the prompt shows that the question is gone.
        """
        if not isinstance(question, Confirmation) and question.takes_text:
            self._missed = "" if self.frontend.rewrites else question.question

    def end_of_input(self) -> None:
        """Answer an open question with a blank line, since the input has ended."""
        if self.question is not None:
            self.enter("")

    def run(self, command: CommandSpec[Chat], argument: str) -> None:
        """Run a command in the current window, or ask for its argument. Raises `Refused`."""
        if command.admin:
            self.current.require_admin()
        if command.needs_argument and not argument:
            self._ask(command)
        elif iscoroutinefunction(command.run):
            self.start(self.current, self._run_in_background, command, self.current, argument)
        else:
            self._run_at_once(command, self.current, argument)

    async def _run_in_background(
        self, command: CommandSpec[Chat], window: Window, argument: str
    ) -> None:
        try:
            await cast("Awaitable[None]", command.run(self, window, argument))
        except WrongUsage as refusal:
            raise Refused(refusal.code, command.usage_sentence) from None

    def _run_at_once(self, command: CommandSpec[Chat], window: Window, argument: str) -> None:
        try:
            command.run(self, window, argument)
        except WrongUsage as refusal:
            raise Refused(refusal.code, command.usage_sentence) from None
        except NotLoaded as refusal:
            hint = self.frontend.earlier_hint
            if hint:  # the person can scroll back to the message
                raise Refused(refusal.code, f"{refusal.sentence} {hint}") from None
            self._looking_back += 1  # at once: the next line of a script has to wait for it
            self.start(window, self._run_looking_back, command, window, argument)

    async def _run_looking_back(
        self, command: CommandSpec[Chat], window: Window, argument: str
    ) -> None:
        """Load the history page by page until a command finds its message, and run it."""
        try:
            while True:
                await window.load_page()
                await self.settle()
                try:
                    command.run(self, window, argument)
                except NotLoaded:
                    continue
                return
        finally:
            self._looking_back -= 1

    def confirm(self, ask: Callable[[], str | None], run: Callable[[], None]) -> None:
        """Ask the yes-or-no question that `ask` returns, and do `run` once it is answered with yes.

        It is done at once if `ask` returns None, or if everything is confirmed beforehand. `ask` is
        called again at the answer, and raises `Refused` if nothing is left to do by then.
        """
        text = None if self._start.assume_yes else ask()
        if text is None:
            run()
            return
        self._ask(Confirmation(text, ask, run))
        self.unanswered = text

    def ask_text(self, window: Window, ask: Callable[[], str], command: str) -> None:
        """Ask in a window for the text that completes a command. Raises `Refused`."""
        self.require_idle(window)
        self._ask(TextQuestion(ask, command))

    def require_idle(self, window: Window) -> None:
        """Raise `Refused` if something else is being typed, or elsewhere, since the command.

        A command that has loaded the history must not change the meaning of what is being typed.
        """
        cause = ""
        if window is not self.current:
            cause = f"You have switched from {window.title} to {self.current.title}"
        elif self.frontend.is_typing(window):
            cause = "You have begun to type something else"
        if cause:
            sentence = f"{cause}, so the command has stopped. Repeat it if you still need it."
            raise Refused(Code.NOT_CONFIRMED, sentence)

    def _decide(self, question: Confirmation, line: str) -> None:
        """Take a line as the answer to a yes-or-no question. Raises `Refused` unless it is one."""
        answer = line.strip().lower()
        if answer in (*_YES, *_NO):
            self.unanswered = ""
        if answer in _NO:
            self.current.notice(_declined(question))
        elif answer not in _YES:
            # `enter` puts the line back, if there is an input line.
            raise _not_confirmed(question, line, returned=self.frontend.rewrites)
        else:
            self._confirmed(question)

    def _confirmed(self, question: Confirmation) -> None:
        """Do what was confirmed, unless something else is at stake by now."""
        try:
            text = question.ask()
        except Refused as refusal:
            self.current.fail(refusal)  # the answer itself is no text that comes back
            return
        if text in (None, question.text):
            question.run()
        else:
            self.confirm(question.ask, question.run)  # the consequences have changed: ask again

    def is_yes_or_no(self, line: str) -> bool:
        """Return whether a line answers the yes-or-no question that is open."""
        return isinstance(self.asked, Confirmation) and line.strip().lower() in (*_YES, *_NO)

    def _stop_stray_answer(self, text: str) -> None:
        """Raise `Refused` for an answer to a question that is not open any more; only once.

        A command, a key or another window may have withdrawn the question unnoticed.
        """
        missed, self._missed = self._missed, ""
        if missed:
            raise Refused(
                Code.NOT_CONFIRMED,
                f'"{missed}" is no longer asked, so this was not sent: {clean_line(text)}'
                f" Type it again to send it to {self.current.title}.",
            )
        question, self.unanswered = self.unanswered, ""
        if question and text.strip().lower() in (*_YES, *_NO):
            raise Refused(
                Code.NOT_CONFIRMED,
                f'"{question}" is no longer asked: nothing was done, and {clean_line(text)} was not'
                " sent. Send it again if it is a message.",
            )

    def _is_command(self, line: str) -> bool:
        return line.startswith("/") and not line.startswith("//")

    def _ask(self, question: Question) -> None:
        if isinstance(question, CommandSpec) and question.before_asking is not None:
            question.before_asking(self)
        self.cancel_question()
        self.frontend.fill_input(self.current, "")  # what is being typed is no answer to this
        self._missed = ""
        self.question = question
        self.frontend.ask(self.current, self.asked_text)

    # ------------------------------------------------------------------ background work

    def start(
        self, window: Window, work: Callable[..., Awaitable[object]], *arguments: object
    ) -> None:
        """Run `work` in the background and show its refusal; quitting waits for the work."""
        self._working += 1
        self._nursery.start_soon(self._watch, window, work, arguments)

    def start_unwatched(self, work: Callable[..., Awaitable[object]], *arguments: object) -> None:
        """Run `work`, which handles its refusals, in the background; quitting does not wait."""
        self._nursery.start_soon(cast("Callable[..., Awaitable[Any]]", work), *arguments)

    async def _watch(
        self, window: Window, work: Callable[..., Awaitable[object]], arguments: tuple[object, ...]
    ) -> None:
        """Wait for background work, and show its refusal if there is one."""
        try:
            await work(*arguments)
        except Refused as refusal:
            window.fail(refusal)
        self._working -= 1
        self._progress.set()
        # The answer may arrive after the command's event: without this, the screen would show the
        # command as pending until the next change.
        self.frontend.changed()

    async def finish(self, seconds: float, *, everything: bool = False) -> bool:
        """Wait, at most `seconds`, for messages to be stored and files to be saved.

        With `everything`, also wait until the backlog has been shown. Show an error
        about unfinished work; return whether all work was finished.
        """
        with trio.move_on_after(seconds):
            while self._is_busy() or (everything and self._is_behind()):
                await self._wait_for_progress()
            if everything:
                await self.session.wait_until_sent()  # also to groups without a window
        self.gatherings.flush()
        if self._working:
            undone = f"Not finished in time: {self._working} of your messages, commands or files."
            if self.transfers.active:
                undone += " Transfers resume when the files are sent or saved again."
            if not_entered := self._not_entered():
                undone += f" {not_entered}"
            if unsent := self.session.unsent():
                undone += f" {unsent}"
            self.current.fail(Refused(Code.SHUTTING_DOWN, undone))
        return not (self._working or self._is_left(self.session.waiting()))

    def tell_unsent(self) -> None:
        """Tell of messages that wait, or were refused, unless `finish` has told of them."""
        if not self._working and (unsent := self.session.unsent()):
            self.current.notice(unsent)

    def _is_left(self, waiting: list[list[PendingMessage]]) -> bool:
        """Return whether a message is left for the next start, not only for an approval."""
        return any(not one.awaits_approval for messages in waiting for one in messages)

    def _not_entered(self) -> str:
        """Return a sentence about groups that the person has asked to join in vain; "" if none."""
        own = set(map(fold, self._start.groups))
        names = [
            window.title
            for window in self.windows
            if window.joining and fold(window.replica.name) not in own
        ]
        return f"Not joined: {', '.join(names)}." if names else ""

    @property
    def left(self) -> str:
        """What is not finished at the end of the chat, for after the screen; "" if nothing."""
        parts = [self._not_entered(), self.session.unsent()]
        if self.transfers.active:
            parts.insert(0, "Transfers resume when the files are sent or saved again.")
        return " ".join(filter(None, parts))

    @property
    def has_updates(self) -> bool:
        """Whether the session has updates that are not handled yet."""
        return not self.session.updates.is_idle

    async def ready(self, window: Window) -> None:
        """Wait until a window has caught up with its group. Raises `Refused`."""
        if window.replica.standing is None:
            await self.session.enter(window.replica.name)
        while window.catching_up and window in self.windows:
            await self._wait_for_progress()

    async def prepare(self, line: str) -> None:
        """Wait until the lines before `line` have taken effect; do not wait while offline.

        This lets a script join, post and edit line by line without pauses.
        """
        counts = self.commands.counts_messages(line)
        while self.session.connected and not self.done.is_set():
            window = self.current
            # A message that is being sent or deleted changes which message is the newest.
            unsettled = window.sending or window.commanding or self.searching or self.has_updates
            moving = counts and unsettled
            crowded = self.session.unanswered > _MOST_UNANSWERED
            waits = window.catching_up or window.leaving or self._looking_back or crowded
            if not (waits or moving):
                return
            await self._wait_for_progress()

    async def wait_for_presence(self, window: Window) -> None:
        """Wait until the server has told who is online in a window, if it is about to."""
        with trio.move_on_after(PRESENCE_SECONDS):
            while self.expects_presence(window):
                await self._wait_for_progress()

    def expects_presence(self, window: Window) -> bool:
        """Return whether the server has not told who is online yet, although it will.

        It does so once it has sent the log. Nobody is online in a conversation without messages.
        """
        replica = window.replica
        if replica.standing == "member":
            waits = replica.head > 0 and not replica.presence_known
        else:
            waits = window.entering
        return waits and self.session.connected and window.is_open

    async def settle(self) -> None:
        """Wait until all updates so far are handled."""
        while self.has_updates:
            await self._wait_for_progress()

    async def _wait_for_progress(self) -> None:
        """Wait until an update is handled or background work ends. Several tasks may wait."""
        if self._progress.is_set():
            self._progress = trio.Event()
        await self._progress.wait()

    def _is_behind(self) -> bool:
        return any(window.catching_up for window in self.windows)

    def _is_busy(self) -> bool:
        """Return whether work is under way, or is finished but not shown yet."""
        sending = any(window.sending for window in self.windows)
        return bool(self._working) or self.has_updates or sending

    # ------------------------------------------------------------------ updates of the session

    def handle(self, update: Update) -> None:
        """Show an update and react to it."""
        match update:
            case Addressed(group, _, by):
                if fold(by) not in self.ignored and not self._is_ignored(group):
                    self._open_addressed(group, by)
            case GroupJoined(group):
                if self._opens_joined(group):
                    self.open(group, joins=False)
            case (
                JournalDamaged()
                | UnsentElsewhere()
                | RefusalFound()
                | HeldFound()
                | MessageRefused()
            ):
                self._handle_unsent(update)
            case NewServer() | KeyRotated() | Connected() | Disconnected():
                self._handle_connection(update)
            case KeyLinked() | KeyUnlinked():
                self._handle_key(update)
            case (
                EventReceived()
                | PositionMoved()
                | CaughtUp()
                | StandingChanged()
                | HistoryLoaded()
                | Trimmed()
                | GroupUnusable()
                | LogReplaced()
            ):
                self._recognise(update.replica, getattr(update, "event", None))
                if (window := self._window_of(update.replica)) is not None:
                    self._handle_in(window, update)
        self._progress.set()
        self.frontend.changed()

    def _handle_unsent(self, update: _Unsent) -> None:
        match update:
            case UnsentElsewhere():
                self.current.notice(update.sentence)
            case JournalDamaged(sentence):
                self.current.fail(Refused(Code.FILE_UNREADABLE, sentence))
            case RefusalFound(pending, failure):
                self._show_found(pending, failure)
            case HeldFound(pending):
                self.open(pending.group).adopt_held(pending)
            case MessageRefused(group):
                if self._tells_refused and not self._refused:
                    self.start_unwatched(self._tell_refused_soon)
                self._refused.add(fold(group))

    def _opens_joined(self, group: str) -> bool:
        """Return whether a group gets a window that the person has just become a member of.

        A window sends what was waiting for the approval.
        """
        is_wanted = self.frontend.rewrites and len(self.windows) < _OPENED_WINDOWS
        refused = self.session.refused()
        return is_wanted or any(fold(group) == fold(messages[0].group) for messages in refused)

    def _open_addressed(self, group: str, by: str) -> None:
        """Open the window of a group with an event for the person, unless there are too many."""
        if fold(by) == fold(self.session.user):
            self.elsewhere.look_into(group)  # on another device
        if not self._open_news(group, by_other=True) and fold(group) not in self.muted:
            self.frontend.notify(self.title_of(group), f"{by} wrote to you")

    def _open_news(self, group: str, *, by_other: bool) -> bool:
        """Open the window of a group with news for the person, if there is room for it.

        `by_other` says that it is not opened as a part of the start. Return False if there is no
        room: then the group waits, and the person is told.
        """
        is_open = fold(group) in self.session.groups
        is_of_stranger = self.elsewhere.is_of_stranger(group)
        if not is_open and not self._has_room(is_of_stranger):
            if self.elsewhere.wait(group):
                self._news.add(group)
                self.frontend.changed()
            return False
        window = self.open(group, joins=False)
        window.opened_by_other = by_other
        if not is_open:
            window.uninvited = is_of_stranger
        return True

    def _has_room(self, is_of_stranger: bool) -> bool:
        """Return whether one more window may open by itself."""
        if not is_of_stranger:
            return len(self.windows) < _OPENED_WINDOWS
        most = _UNINVITED_WINDOWS if self.frontend.rewrites else _UNINVITED_PRINTED
        uninvited = sum(window.uninvited for window in self.windows)
        return uninvited < most and len(self.windows) < _OPENED_WINDOWS

    def _admit_strangers(self, groups: list[GroupSummary]) -> None:
        """Open windows for unread conversations of strangers, or keep them waiting for one."""
        for one in groups:
            is_new = self.elsewhere.is_of_stranger(one.name) and one.last > one.read
            skipped = fold(one.name) in self.session.groups or self._is_ignored(one.name)
            if is_new and not skipped and one.standing == "member":
                self._open_news(one.name, by_other=False)

    def _tell_news(self, groups: list[str]) -> None:
        """Tell in which groups without a window something is new, in one line."""
        waiting = self.elsewhere.waiting
        groups = [group for group in groups if group in waiting]
        if len(groups) == 1:
            command = command_that_opens(groups[0], self.session.user)
            self.current.notice(f"new for you in {self.title_of(groups[0])}; {command} opens it")
        elif groups and all(map(is_direct, groups)):
            names = [clean_line(other_of(group, self.session.user)) for group in groups]
            self.current.notice(
                f"{len(names)} people wrote to you: {some_of(names)}; /query NAME opens a"
                " conversation, /list lists all"
            )
        elif groups:
            titles = some_of([self.title_of(group) for group in groups])
            self.current.notice(f"new for you in {titles}; /list lists all")

    def open_waiting(self) -> bool:
        """Switch to the first group that waits, and open its window; return False without any."""
        waiting = self.elsewhere.waiting
        if waiting:
            self.switch_to(self.open(waiting[0], joins=False))
        return bool(waiting)

    async def _tell_refused_soon(self) -> None:
        """Tell refused messages without a window once: several are often refused together."""
        await self.settle()
        self._tell_refused()

    def _show_found(self, pending: PendingMessage, failure: Refused) -> None:
        """Show that a message that another client left unsent was refused."""
        replica = self.session.groups.get(fold(pending.group))
        window = self._window_of(replica) if replica is not None else None
        what = "/resend sends it, /discard deletes it"
        if window is None:
            what = f"{command_that_opens(pending.group, self.session.user)} shows what to do"
        (window or self.current).notice(
            f"A message to {self.title_of(pending.group)} that another client of yours left unsent"
            f" was refused ({failure.sentence}) {what}: {pending.text}"
        )

    def _handle_in(self, window: Window, update: _GroupUpdate) -> None:
        match update:
            case PositionMoved(_, position, anew):
                window.handle_position(position, anew=anew)
            case EventReceived(_, event, unseen):
                window.handle_event(event, unseen=unseen)
            case StandingChanged(_, news):
                window.handle_standing(news)
            case CaughtUp():
                window.handle_caught_up(greet=window is self.current)
            case HistoryLoaded(_, events):
                window.handle_past(events)
            case Trimmed(_, first):
                window.handle_trimmed(first)
            case LogReplaced():
                self.elsewhere.on_log_replaced()
                window.handle_replaced(update.sentence)
            case GroupUnusable(_, refusal):
                window.fail(refusal)

    def mark_seen(self) -> None:
        """Send the read position of each window."""
        for window in self.windows:
            window.mark_seen()

    async def _check_keys(self) -> None:
        """Tell which keys of the person's name were added or removed since the last connection."""
        with suppress(Refused):  # then the next connection tells
            new, removed = self._start.known_keys.compare(await self.session.my_keys())
            for key in new:
                self._tell_new_key(key)
            for digits in removed:
                self._tell_removed_key(digits)

    def _handle_key(self, update: KeyLinked | KeyUnlinked) -> None:
        match update:
            case KeyLinked(key):
                self._start.known_keys.add(key)
                self._tell_new_key(key)
            case KeyUnlinked(removed):
                self._start.known_keys.remove(removed)
                self._tell_removed_key(fingerprint(removed))

    def _tell_new_key(self, key: NameKey) -> None:
        if key.key != self.session.key:
            digits = fingerprint(key.key)
            self.current.notice(
                f"A device was linked to your name: its key is {digits}, added"
                f" {minute_text(key.since)}. If that was not you, /unlink {digits} removes it."
            )

    def _tell_removed_key(self, digits: str) -> None:
        self.current.notice(
            f"A device was removed from your name: its key was {digits}. If that was not you,"
            " /keys lists those that are left."
        )

    def _handle_connection(self, update: NewServer | KeyRotated | Connected | Disconnected) -> None:
        window = self.current
        match update:
            case NewServer(pin):
                window.notice(first_visit_notice(pin))
            case KeyRotated(pin):
                window.notice(rotation_notice(pin))
            case Connected(again=again, clock_change=change):
                self.connection = ""
                if abs(change) >= _CLOCK_CHANGE_MS:
                    for one in self.windows:
                        one.redate_own(change)
                self._refresh_preferences()
                self.start_unwatched(self._check_keys)
                if self._start.linked and not again:
                    user = clean_line(self.session.user)
                    window.notice(
                        f"This device is linked to your name, {user}; /keys lists all that are."
                    )
                if again:
                    window.notice("connected again")
                    self.start_unwatched(partial(self._open_others, again=True))
            case Disconnected(reason):
                is_first = not self.connection.startswith("offline")
                self.connection = f"offline: {reason}"
                if is_first:  # one notice, however many attempts fail
                    known = any(window.replica.standing for window in self.windows)
                    state = "connection lost" if known else "no connection yet"
                    window.notice(f"{state} ({reason}); trying again")


def _declined(question: Confirmation) -> str:
    """Return the outcome of a yes-or-no question that was answered with n, or withdrawn."""
    return f'Nothing was done: "{question.text}" was not confirmed.'


def _not_confirmed(question: Confirmation, line: str = "", *, returned: bool = False) -> Refused:
    """Return the refusal for a line that is no answer to a yes-or-no question.

    The line was not sent: it is back in the input line (`returned`), or repeated in the sentence.
    """
    sentence = f'Nothing was done: "{question.text}" was not answered with y.'
    if line.strip():
        where = "is back in the input line." if returned else f"was: {clean_line(line)}"
        sentence += f" What you typed was not sent; it {where}"
    return Refused(Code.NOT_CONFIRMED, sentence)
