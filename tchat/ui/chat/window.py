"""A window onto one group: its lines, read state and outgoing messages.

A window turns the events of its group into the lines of its transcript, and into its *read state*
(`unread`). A window is *attended* while it is current and shows its newest lines. A message that
arrives in an attended window counts as read, on all devices of the person. Posting a message marks
all shown messages as read, too.

`Outgoing` holds the messages that the person has posted here and that are not in the log yet.
`WindowContext` is the part of the chat that its windows use. `Frontend` is the interface through
which the chat and its windows use the front end: the full screen, lines of text, or a test. State
that only a screen has (the scroll position, the text being typed) belongs to the front end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol

import trio

from tchat.core.group.direct import is_direct, other_of
from tchat.core.group.membership import Banned, Kicked, Requested
from tchat.core.group.messages import Deleted, Edit, Edited
from tchat.core.group.state import banned_refusal
from tchat.core.pace import Rate
from tchat.core.protocol.frames import Ok
from tchat.core.text import clean_line, fold
from tchat.errors import Code, Refused
from tchat.ui.chat.files import GroupFiles
from tchat.ui.chat.hints import with_hint
from tchat.ui.chat.lines import (
    CHANGES_APART,
    QUOTE_LIMIT,
    Line,
    Sort,
    count_text,
    gathered,
    name_text,
    named_change,
    sort_and_text,
    with_changes,
)
from tchat.ui.chat.notices import (
    blocked_refusal,
    digest,
    next_request,
    standing_changed,
    standing_found,
    welcome,
)
from tchat.ui.chat.transcript import Transcript
from tchat.ui.chat.unread import ReadState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from pathlib import Path

    from tchat.client.files.automatic import AutomaticSaving
    from tchat.client.files.queue import Transfers
    from tchat.client.pending_message import PendingMessage
    from tchat.client.replica import Replica
    from tchat.client.request import MakeCommand, PendingRequest
    from tchat.client.session import Session
    from tchat.core.group.feature import Event
    from tchat.core.pace import TokenBucket
    from tchat.core.protocol.frames import MembershipChange, Standing
    from tchat.ui.chat.gathering import Gatherings

QUOTE_RATE = Rate(1, 20)
"""How fast pages of history are loaded for the quotations in all windows together."""

_MOST_PAGES = 2000
_MOST_UNQUOTED = 1000
_MOST_OWN_LINES = 2000  # notices and errors, which are in no log
_OWN_LINES_AT_ONCE = 200  # how many more there may be until the oldest are removed
"""How many pages of history are loaded back to an event: a malicious server has no end of them."""


class Frontend(Protocol):
    """The interface that a front end implements for the chat.

    With `rewrites`, it can change lines that are already shown; otherwise it prints each line once.
    With `itemizes`, it shows each event by itself, for programs: nothing is gathered.
    `earlier_hint` says how the person loads earlier messages; it is empty if commands do so by
    themselves. Keys belong to the front end: no sentence of another module mentions one.
    """

    rewrites: bool
    itemizes: bool
    earlier_hint: str

    def show(self, window: Window, line: Line) -> None:
        """Show a line that was added at the end of a window."""

    def inserted(self, window: Window, count: int, at: int = 0) -> None:
        """React to `count` lines that were inserted at index `at`, above all others by default.

        A negative count is the number of lines that were removed there.
        """

    def cleared(self, window: Window) -> None:
        """React to the removal of all lines of a window."""

    def changed(self) -> None:
        """React to any other change: of a line, a transfer, the list of windows."""

    def attends(self, window: Window) -> bool:
        """Return whether the person sees lines as soon as they are added to a window."""

    def hand_out(self, text: str, about: Sequence[str]) -> None:
        """Show a line, below the sentences `about` it, in a form that can be copied whole.

        Nothing has to be done if `show`, which has shown all of them, does that already.
        """

    def ask(self, window: Window, question: str) -> None:
        """Show a question that the next line answers, unless the prompt shows it anyway."""

    def fill_input(self, window: Window, text: str, *, refused: bool = False) -> bool:
        """Put a text into a window's input line for editing; return False if that is impossible.

        A `refused` one makes room for what is typed next, unless it is edited.
        """

    def complete_input(self, window: Window) -> None:
        """Replace what is typed in a window with what `Chat.complete` makes of it."""

    def is_typing(self, window: Window) -> bool:
        """Return whether a window's input line has text."""

    def give_back(self, window: Window, line: str) -> str:
        """Keep a line that was refused after it was typed; return a sentence that says where.

        The window may have been closed since, and the group may have another one by now.
        """

    def reveal(self, window: Window, seq: int) -> None:
        """Scroll the current window to a message."""

    def key_lines(self) -> list[str]:
        """Return the help of the keys, a line for each."""

    def notify(self, title: str, text: str) -> None:
        """Ring the bell or otherwise call for attention."""


class WindowContext(Protocol):
    """The part of the chat that its windows use."""

    session: Session
    frontend: Frontend
    transfers: Transfers
    automatic: AutomaticSaving
    gatherings: Gatherings
    quote_pace: TokenBucket
    ignored: set[str]
    blocked: set[str]
    muted: set[str]
    windows: list[Window]
    current: Window
    refusals: int
    founds: bool
    unanswered_edits: list[tuple[str, TypedEdit]]

    def close(self, window: Window) -> None:
        """Close a window."""

    def look_into(self, window: Window) -> None:
        """Note that the person has looked into a window, or has written there."""

    def start(
        self, window: Window, work: Callable[..., Awaitable[object]], *arguments: object
    ) -> None:
        """Run `work` in the background; its refusal is shown in the window."""

    def start_unwatched(self, work: Callable[..., Awaitable[object]], *arguments: object) -> None:
        """Run `work`, which handles its refusals, in the background; quitting does not wait."""

    async def settle(self) -> None:
        """Wait until all updates so far are handled."""


STAMP_DIGITS = 6
"""How many hexadecimal digits of a stamp a reference has: the server compares the whole stamp."""


def reference_to(seq: int, stamp: bytes | None) -> str:
    """Return a reference to a message that stays valid while others are posted: "^#57-3fa9c1".

    After the seq comes the beginning of the message's stamp: if the server is restored from a
    backup before the command is used, another message may have the seq.
    """
    return f"^#{seq}" + (f"-{stamp.hex()[:STAMP_DIGITS]}" if stamp else "")


def command_that_opens(group: str, user: str) -> str:
    """Return the command with which the person opens a window of a group."""
    if is_direct(group):
        return f"/query {clean_line(other_of(group, user))}"
    return f"/join {clean_line(group)}"


@dataclass(frozen=True, slots=True)
class TypedEdit:
    """A new `text` for message `seq`, which has this `stamp`."""

    seq: int
    text: str
    stamp: bytes | None

    @property
    def line(self) -> str:
        """The command, which means this message however many are posted after it."""
        return f"/edit {reference_to(self.seq, self.stamp)} {self.text}"


class Outgoing:
    """The messages posted in one window, from the Enter key until they are in the log.

    The session keeps them across broken connections and restarts of the program, and until an
    approval that is missing. A message typed right after `/join` or `/query` is held until the
    server has answered, because it would be refused before that.
    """

    def __init__(self, window: Window) -> None:
        self._window = window
        self._sent = list(window.replica.pending)
        self._held = [(one, window) for one in self._sent if one.held]
        """The messages that are held, or were when they were added, with their origins."""
        self._unapproved = [(one, one.request, window) for one in self._sent if one.awaits_approval]
        """Messages that wait for an approval, with their refused requests, and their origins."""

    def say(self, text: str, reply: Line | None, origin: Window) -> None:
        """Send a message; its refusal is shown in `origin`, the window that it was typed in.

        Raises `Refused` for a text that cannot be a message.
        """
        window = self._window
        seq, stamp = (None, None) if reply is None else (reply.seq, reply.stamp)
        pending = window.session.post(window.replica, text, seq, held=window.entering, stamp=stamp)
        self._sent.append(pending)
        if window.entering:
            self._held.append((pending, origin))
        else:
            origin.start(self._deliver, pending, origin)

    def hold(self, pending: PendingMessage) -> None:
        """Add a held message that another client of the person left, if it is not here already."""
        if all(pending is not one for one, _ in self._held):
            self._held.append((pending, self._window))

    def release(self) -> None:
        """Send the held messages."""
        held, self._held = self._held, []
        for pending, origin in held:
            self._window.session.release(pending)
            origin.start(self._deliver, pending, origin)

    def watch_resent(self) -> None:
        """Show refusals of the messages that were sent again when the person was approved."""
        unapproved, self._unapproved = self._unapproved, []
        for pending, refused, origin in unapproved:
            if pending.request is not refused:
                origin.start(self._deliver, pending, origin)
            elif pending.awaits_approval and pending in self._window.replica.pending:
                self._unapproved.append((pending, refused, origin))

    def drop(self) -> list[str]:
        """Discard the messages that are still held, and return their texts."""
        held = [pending for pending, _ in self._held if pending.held]
        self._held = []
        for pending in held:
            self._window.session.discard(pending)
        return [pending.text for pending in held]

    def lines(self) -> list[Line]:
        """Return the messages that are not in the log yet, in order, as lines."""
        pending = self._window.replica.pending
        here = set(pending)
        # Keep a message that was stored a moment ago until its event is shown: otherwise it would
        # vanish from the screen in between.
        late = [one for one in self._sent if one not in here and self._is_event_due(one)]
        self._sent = late + pending
        return list(map(self._line, self._sent))

    def sending(self) -> bool:
        """Return whether a message is held or on its way; not if it waits for an approval."""
        self.lines()
        return any(one.failure is None for one in self._sent)

    def count_failed(self) -> int:
        """Return the number of messages that only the person can send again."""
        pending = self._window.replica.pending
        return sum(one.failure is not None and not one.awaits_approval for one in pending)

    def _is_event_due(self, pending: PendingMessage) -> bool:
        """Return whether a message is stored but its event has not arrived yet."""
        stored, window = pending.request.answer, self._window
        due = isinstance(stored, Ok) and (stored.seq or 0) > window.shown
        return due and window.replica.standing == "member"

    def _line(self, pending: PendingMessage) -> Line:
        sort, shown = sort_and_text(pending.text)
        who = clean_line(self._window.session.user)
        failed = pending.failure is not None and not pending.awaits_approval
        # Not in the future, if the clock was ahead when it was typed.
        at = min(pending.at, self._window.session.clock())
        return Line(at, sort, shown, who, fate="failed" if failed else "pending")

    async def _deliver(self, pending: PendingMessage, origin: Window) -> None:
        """Wait until a message is stored, and confirm it if it was typed in another window."""
        window, request = self._window, pending.request
        try:
            await request.wait()
        except Refused as refusal:
            if origin is not window and refusal.code == Code.NO_COMMON_GROUP:
                self._give_up(pending)
            elif refusal.code == Code.NOT_APPROVED:
                self._unapproved.append((pending, request, origin))
                self.watch_resent()  # it may have been sent again already
                after = "Your message is kept, and sent after that; /discard deletes it."
                raise Refused(refusal.code, f"{refusal.sentence} {after}") from refusal
            elif not window.context.frontend.rewrites:  # elsewhere, the message is marked
                origin.fail(refusal)
                if window.is_open:  # otherwise, the chat says which command opens it
                    origin.notice(
                        f"Not sent, but kept: {clean_line(pending.text)} (/resend sends it again,"
                        " /discard deletes it)"
                    )
                return
            raise
        if origin is not window and window.context.frontend.rewrites:
            name = clean_line(window.partner)
            hint = "" if window.is_open else f"; /query {name} opens the conversation"
            origin.notice(f"message sent to {name}{hint}")

    def _give_up(self, pending: PendingMessage) -> None:
        """Discard a message that may not be sent to its recipient; close the window if empty."""
        window = self._window
        window.session.discard(pending)
        is_empty = not (window.replica.log or window.replica.pending)
        if window is not window.context.current and is_empty:
            window.context.close(window)


class Window:
    """One group of a chat; `transfers` are those of the whole chat.

    `shown` is the seq of the last event that was shown or skipped. `reading` is the read state of
    the group. While the group is `entering`, nothing is sent; `joining` says that the person asks
    to join it. `commanding` counts the commands without an answer. `opened_by_other` says that the
    window opened by itself after the start, and `uninvited` that it is the conversation of a
    stranger into which the person has not looked yet.
    """

    def __init__(self, context: WindowContext, replica: Replica, downloads: Path) -> None:
        self.context = context
        self.session = context.session
        self.transfers = context.transfers
        self.automatic, self.gatherings = context.automatic, context.gatherings
        self.replica = replica
        self.reading = ReadState(context.session.user, context.ignored, direct=replica.state.direct)
        self.reading.restart(replica.position)
        self.entering = True
        self.joining = False
        self.unreachable: Refused | None = None
        self.leaving = False
        self.commanding = 0
        self.caught_up = False
        self.opened_by_other = False
        self.uninvited = False
        self._loads = 0
        self._own_lines = 0
        self.shown = 0
        self.files = GroupFiles(self, downloads)
        self._outgoing = Outgoing(self)
        self._transcript = Transcript(
            self.session,
            replica,
            context.ignored,
            context.blocked,
            self.files.name_of_removed,
            self._request_quote,
        )
        self._requests = context.gatherings.new(self._print_requests)
        self._changes = context.gatherings.new(self._print_changes, at_once=CHANGES_APART)
        self._standings = context.gatherings.new(self._tell_standing, at_once=CHANGES_APART)
        self._standing: Standing | None = None
        self._left_at = 0
        self._looked_at: set[str] = set()
        """The requests to join, by folded names, that the person has had in front already."""
        self._unquoted: set[int] = set()
        self._loading_quotes = False

    @property
    def unread(self) -> int:
        """How many messages and files of others the person has not seen on any device."""
        return 0 if self._is_reading else self.reading.counts.total

    @property
    def mentions(self) -> int:
        """How many of these are meant for the person."""
        return 0 if self._is_reading else self.reading.counts.mentions

    @property
    def new_requests(self) -> int:
        """How many requests have come since the window was in front."""
        return sum(fold(name) not in self._looked_at for name in self.requests)

    @property
    def has_news(self) -> bool:
        """Whether requests, messages or files have come since the window was in front.

        What was left there then, because the person had scrolled up or did not decide, is not new.
        """
        return bool(self.new_requests or (self.unread and self.shown > self._left_at))

    @property
    def new_from(self) -> int:
        """The seq of the first event below the line "new", 0 if there is none."""
        return self.reading.first_new

    @property
    def _is_reading(self) -> bool:
        """Whether the person is looking at the window while it is still catching up."""
        return not self.caught_up and self.attended

    @property
    def lines(self) -> list[Line]:
        """The shown lines, the oldest first; without messages that are not in the log yet."""
        return self._transcript.lines

    @property
    def title(self) -> str:
        """The name of the window: #ops, or @bob."""
        if self.replica.state.direct:
            return f"@{clean_line(self.partner)}"
        return f"#{clean_line(self.replica.state.name or self.replica.name)}"

    @property
    def direct(self) -> bool:
        """Whether this is a direct conversation."""
        return self.replica.state.direct

    @property
    def partner(self) -> str:
        """The other person of a direct conversation."""
        other = other_of(self.replica.name, self.session.user)
        return self.replica.state.members.get(fold(other), other)

    @property
    def opening_command(self) -> str:
        """The command that opens a window of this group."""
        return command_that_opens(self.replica.name, self.session.user)

    @property
    def attended(self) -> bool:
        """Whether the person sees lines as soon as they are added."""
        return self.context.frontend.attends(self)

    @property
    def muted(self) -> bool:
        """Whether the bell is off here."""
        return fold(self.replica.name) in self.context.muted

    @property
    def is_open(self) -> bool:
        """Whether the window has not been closed."""
        return self in self.context.windows

    @property
    def catching_up(self) -> bool:
        """Whether the group is being entered, or its log is not complete yet."""
        if self.replica.unusable:
            return False
        return self.entering or (self.replica.standing == "member" and not self.caught_up)

    # ------------------------------------------------------------------ entering the group

    def begin_entering(self, *, asks: bool = False, joins: bool = True) -> None:
        """Enter the group in the background.

        `asks` requests to join again after a kick; without `joins`, nothing is requested.
        """
        self.entering, self.unreachable = True, None
        self.joining = joins and not self.direct
        self.start(partial(self.enter, although_kicked=asks, joins=joins))

    async def enter(
        self, *, although_kicked: bool = False, invite: bytes | None = None, joins: bool = True
    ) -> None:
        """Enter the group, then send the messages that were typed meanwhile.

        Raises `Refused`, and then closes the window of a direct conversation, unless the person is
        typing there: the rest would land in another group.
        """
        try:
            if self.direct:
                await self.session.write_to(self.partner)
            else:
                name = self.replica.name
                await self.session.enter(
                    name,
                    although_kicked=although_kicked,
                    invite=invite,
                    create=self.context.founds,
                    join=joins,
                )
        except Refused as refusal:
            if not self.is_open:
                return  # closed meanwhile
            if not self.direct and refusal is self.replica.unusable:
                return  # it is shown with the update, and tried again later
            if self.direct and self is self.context.current:
                raise self._keep_unreachable(refusal) from refusal
            if self.direct:
                dropped = self._outgoing.drop()
                self.context.close(self)
                for text in dropped:
                    self.notice(f"not sent to {clean_line(self.partner)}: {text}")
            raise
        finally:
            self.release()

    def _keep_unreachable(self, refusal: Refused) -> Refused:
        """Refuse what is typed here from now on, and give back what was; return the refusal."""
        sentence = f"{refusal.sentence} /part closes this window."
        self.unreachable = Refused(refusal.code, sentence)
        returned = [self.context.frontend.give_back(self, text) for text in self._outgoing.drop()]
        return Refused(refusal.code, " ".join([sentence, *returned]))

    def stay_after_leaving(self, left: str) -> None:
        """Keep the window although the membership has ended, since the person is typing here.

        The rest of the text would land in another window. `left` says that the person has left.
        """
        self.leaving = False
        self.unreachable = Refused(Code.NOT_MEMBER, f"{left} /part closes this window.")
        self.notice(f"{left} You are typing here: /part closes this window.")

    def release(self) -> None:
        """Send the messages that were typed while entering."""
        self.entering = self.joining = False
        self._outgoing.release()

    def adopt_held(self, pending: PendingMessage) -> None:
        """Send a held message that another client left, once the group is entered."""
        self._outgoing.hold(pending)
        if not self.entering:
            self._outgoing.release()

    # ------------------------------------------------------------------ people

    def members(self) -> list[str]:
        """Return the members' names: the admin first, then those online, then by name."""
        state, online = self.replica.state, self.replica.online
        order = sorted(state.members, key=lambda k: (k != state.admin, k not in online, k))
        return [name_text(state.members[key]) for key in order]

    def online(self) -> list[str]:
        """Return the names of the members who are online, in the order of `members`."""
        return [name for name in self.members() if fold(name) in self.replica.online]

    @property
    def waiting_for_approval(self) -> int:
        """How many requests to join wait for this person; 0 unless they are the admin."""
        return len(self.requests)

    @property
    def requests(self) -> list[str]:
        """The names of those whose requests to join wait for this person, in their order.

        Blocked people are not among them.
        """
        state, blocked = self.replica.state, self.context.blocked
        if not state.is_admin(self.session.user):
            return []
        return [asked.name for person, asked in state.requests.items() if person not in blocked]

    def require_member(self) -> None:
        """Raise `Refused` unless the person is a member."""
        if self.entering and self.replica.standing in (None, "outsider"):
            raise Refused(Code.NOT_MEMBER, "The server has not answered yet; try again.")
        if self.replica.standing == "waiting":
            raise Refused(
                Code.NOT_APPROVED,
                "You are not a member yet. /leave withdraws your request to join.",
            )
        if self.replica.standing != "member":
            if self.replica.banned:
                raise banned_refusal()
            how = next_request(self.replica) or "/join asks to join."
            raise Refused(Code.NOT_MEMBER, f"You are not a member. {how}")

    def require_admin(self) -> None:
        """Raise `Refused` unless the person is the admin."""
        self.require_member()
        if self.direct:
            raise Refused(
                Code.DIRECT,
                "This command is for groups; a conversation of two people has no admin.",
            )
        if not self.replica.state.is_admin(self.session.user):
            name = self.replica.state.admin_name
            raise Refused(Code.NOT_ADMIN, f"Only the admin, {name}, may do this.")

    # ------------------------------------------------------------------ what the person does

    def say(self, text: str, reply: Line | None = None, origin: Window | None = None) -> None:
        """Send a message; it is shown at once, as pending. Raises `Refused` for a bad text.

        A later refusal is shown in `origin`, the window that it was typed in (default: this one).
        A message that is typed here marks all lines here as read, even those scrolled out of sight.
        """
        if self.unreachable is not None:
            raise self.unreachable
        if self.direct and fold(self.partner) in self.context.blocked:
            raise blocked_refusal(self.partner)
        self.context.look_into(self)
        self._outgoing.say(text, reply, origin or self)
        if self.caught_up and origin in (None, self):
            self.reading.see(self.shown)
            self.reading.settle()
            self.mark_seen()

    def submit(self, make: MakeCommand) -> None:
        """Send a command; a refusal is shown."""
        self.commanding += 1
        self.start(self._wait_for_command, self.session.submit(make))

    def submit_all(self, makes: Sequence[MakeCommand]) -> None:
        """Send commands of one kind; what is refused of them is shown in one line."""
        self.commanding += 1
        self.start(self._wait_for_all, [*map(self.session.submit, makes)])

    async def _wait_for_all(self, requests: Sequence[PendingRequest]) -> None:
        refused: list[Refused] = []
        try:
            for request in requests:
                try:
                    await request.wait()
                except Refused as refusal:
                    refused.append(refusal)
        finally:
            self.commanding -= 1
        if refused:
            sentence = f"{len(refused)} of {len(requests)} were refused: {refused[0].sentence}"
            raise Refused(refused[0].code, sentence)

    async def _wait_for_command(self, request: PendingRequest) -> None:
        try:
            await request.wait()
        finally:
            self.commanding -= 1

    def submit_edit(self, edit: TypedEdit) -> None:
        """Send an edit; if it is refused, the person gets its text back."""
        group = self.replica.name
        request = self.session.submit(
            lambda i, n: Edit(i, n, group, edit.seq, edit.text, stamp=edit.stamp)
        )
        self.commanding += 1
        self.context.unanswered_edits.append((fold(group), edit))
        self.start(self._wait_for_edit, request, edit)

    async def _wait_for_edit(self, request: PendingRequest, edit: TypedEdit) -> None:
        try:
            await self._wait_for_command(request)
        except Refused as refusal:
            where = self.context.frontend.give_back(self, edit.line)
            raise Refused(refusal.code, f"{refusal.sentence} {where}") from refusal
        finally:
            self.context.unanswered_edits.remove((fold(self.replica.name), edit))

    def start(self, work: Callable[..., Awaitable[object]], *arguments: object) -> None:
        """Run `work` in the background; its refusal is shown here."""
        self.context.start(self, work, *arguments)

    def pending(self) -> list[Line]:
        """Return the person's messages that are not in the log yet, as lines."""
        return self._outgoing.lines()

    @property
    def sending(self) -> bool:
        """Whether a message of this window is being sent."""
        return self._outgoing.sending()

    def mark_seen(self) -> None:
        """Send the read position, which stays before the first file that is not saved yet.

        If the window is not attended, do not send back a position that came from the server: for a
        group that the person has never looked into, the server has to keep the position 0.
        """
        seen = self.files.seen(self.reading.read)
        if seen > self.replica.position or (self.caught_up and self.attended):
            self.session.mark_seen(self.replica, seen)

    def attend(self) -> None:
        """Count everything shown as read, once the window has caught up.

        Nothing more comes for somebody who is not a member any more.
        """
        if self.caught_up or self._standing in ("waiting", "outsider"):
            self.reading.see(self.shown)
            self.mark_seen()

    def turn_away(self) -> None:
        """Remove the line "new": another window is in front now."""
        self.reading.settle()
        self._left_at, self._looked_at = self.shown, set(map(fold, self.requests))

    # ------------------------------------------------------------------ lines of the program

    def notice(self, text: str) -> None:
        """Show a notice."""
        self._show_own("notice", text)

    def fail(self, refusal: Refused) -> None:
        """Show a refusal, with a hint about the command that helps."""
        self.context.refusals += 1
        if self.is_open:
            sentence = with_hint(refusal, self.replica.standing, next_request(self.replica))
        else:
            # The refusal is shown in another window, where "this group" and the hint would refer
            # to the group of that window.
            sentence = f"{self.title}: {refusal.sentence}"
        self._show_own("error", sentence, refusal.code)

    def hand_out(self, text: str, about: Sequence[str]) -> None:
        """Show a line for copying, below the sentences `about` it."""
        for sentence in (*about, text):
            self.notice(sentence)
        self.context.frontend.hand_out(clean_line(text), [*map(clean_line, about)])

    def _show_own(self, sort: Sort, text: str, code: str = "") -> None:
        # If the window was closed since the work was started, show the result in the current one.
        window = self if self.is_open else self.context.current
        window.show(Line(self.session.clock(), sort, clean_line(text), code=code))

    def redate_own(self, change: int) -> None:
        """Change the times of the program's own lines, since its clock was set by `change` ms."""
        self._transcript.redate_own(change)
        self.context.frontend.changed()

    def show(self, line: Line) -> None:
        """Add a line below all others."""
        self._requests.flush()  # they came before it
        self._changes.flush()
        self.lines.append(line)
        self.context.frontend.show(self, line)
        if not line.seq:
            self._own_lines += 1
            if self._own_lines % _OWN_LINES_AT_ONCE == 0:
                for index in self._transcript.trim_own(_MOST_OWN_LINES):
                    self.context.frontend.inserted(self, -1, index)

    # ------------------------------------------------------------------ messages

    def messages(self) -> Iterator[Line]:
        """Yield the messages that are shown, then those that were cleared, the newest first."""
        return self._transcript.messages()

    def line_of(self, event: Event) -> Line | None:
        """Return the line of a loaded event that the person has seen; None if it has none."""
        line = self._transcript.line(event)
        return line and replace(line, history=True)

    def index_of(self, seq: int) -> int | None:
        """Return the index of the last line with this seq or a lower one; None if there is none."""
        return self._transcript.index_of(seq)

    def quote_of(self, seq: int, limit: int | None = QUOTE_LIMIT) -> str:
        """Return a quotation of a message: "alice: hello". Longer texts are cut at `limit`.

        A message that is not loaded is requested once, in the background. Until it arrives and
        `Frontend.changed` is called, the quotation is a placeholder.
        """
        return self._transcript.quote_of(seq, limit)

    async def load_quote(self, seq: int, limit: int | None = QUOTE_LIMIT) -> str:
        """Return a quotation of a message, loading it first if necessary. Raises `Refused`."""
        for needed in self._transcript.missing_for(seq):
            page = await self.session.events_until(self.replica.name, needed)
            self._transcript.add_messages(page)
        return self._transcript.quote_of(seq, limit)

    async def load_quote_to_print(self, seq: int) -> None:
        """Load a message that a new one replies to, unless too many were loaded of late."""
        for needed in self._transcript.missing_for(seq):
            if self.context.quote_pace.take(trio.current_time()):
                return
            page = await self.session.events_until(self.replica.name, needed)
            self._transcript.add_messages(page)

    def _request_quote(self, seq: int) -> None:
        if not self.context.frontend.rewrites:
            return  # printed lines cannot be changed
        self._unquoted.add(seq)
        if len(self._unquoted) > _MOST_UNQUOTED:
            self._unquoted.remove(min(self._unquoted))
        if not self._loading_quotes:
            self._loading_quotes = True
            self.context.start_unwatched(self._load_quotes)

    async def _load_quotes(self) -> None:
        """Load the quoted messages that are missing, the newest first.

        Load a page of history at a time, because a page often contains several of them, and slowly:
        any member can write many replies to old messages, and each page costs the server a hundred
        times as much as a reply.
        """
        try:
            while self._unquoted and self.is_open:
                pace = self.context.quote_pace
                await trio.sleep(pace.reserve(trio.current_time(), math.inf))
                newest = max(self._unquoted)  # others may be added while the page is loaded
                page = await self.session.events_until(self.replica.name, newest)
                self._unquoted -= {newest, *(event.seq for event in page)}
                self._transcript.add_messages(page)
                self.context.frontend.changed()
        except Refused:
            self._unquoted.clear()  # no error is shown: the person did not ask for this
        finally:
            self._loading_quotes = False

    # ------------------------------------------------------------------ history

    @property
    def past(self) -> Literal["more", "loading", "all"]:
        """Whether earlier events can be loaded, or are being loaded."""
        if self._loads:
            return "loading"
        begins = max(self.replica.state.floor, 1)
        return "more" if self._transcript.cleared or self.replica.first > begins else "all"

    def load_history(self) -> None:
        """Load lines above the first one: cleared lines, or a page from the server."""
        if self._transcript.cleared:
            self.uncover()
        elif self.past == "more":
            self._loads += 1  # at once: the next key must not load the same page again
            self.start(self._load_past)

    async def load_page(self) -> None:
        """Load one page of lines above the first one. Raises `Refused`."""
        if self._transcript.cleared:
            self.uncover()
        else:
            await self.session.load_history(self.replica)

    async def _load_past(self) -> None:
        try:
            await self.session.load_history(self.replica)
        except Refused:
            if self.is_open:
                raise
        finally:
            self._loads -= 1
            self.context.frontend.changed()

    async def load_back_to(self, seq: int) -> None:
        """Load history until event `seq` is among it, if it can be. Raises `Refused`.

        Closing the window ends it. The updates of each page are handled before the next one. The
        pages are held, as if the person looked at them already, so that new messages do not have
        them removed.
        """
        self.uncover()
        self.replica.held = True
        self._loads += 1
        self.context.frontend.changed()
        try:
            for _ in range(_MOST_PAGES):
                if self.replica.first <= seq or not self.is_open:
                    break
                if not await self.session.load_history(self.replica):
                    break
                await self.context.settle()
        finally:
            self._loads -= 1
            self.context.frontend.changed()

    def handle_past(self, events: Sequence[Event]) -> None:
        """Show a page of history that was loaded, unless the window was cleared."""
        if not self._transcript.cleared:
            self._inserted(self._transcript.prepend(events))

    def handle_trimmed(self, first: int) -> None:
        """Remove the lines before event `first`, which can be loaded again."""
        self.reading.trim(first)
        self._inserted(-self._transcript.trim(first))

    def handle_replaced(self, sentence: str) -> None:
        """Remove all lines, and say why: the log is loaded anew."""
        self.context.gatherings.flush()
        # What is being typed refers to the lines that are shown until now.
        self.context.frontend.complete_input(self)
        self._transcript.restart()
        self._unquoted.clear()
        self.reading.restart(0)
        self.caught_up = False
        self.shown = self._left_at = 0
        self.context.frontend.cleared(self)
        self.notice(sentence)

    def clear(self) -> None:
        """Remove all lines, until the person asks for the history."""
        self._transcript.clear(self.shown)
        self.reading.settle()
        self.context.frontend.cleared(self)

    def uncover(self) -> None:
        """Show the cleared lines again."""
        self._inserted(self._transcript.uncover())

    def _inserted(self, count: int) -> None:
        if count:
            self.context.frontend.inserted(self, count)

    # ------------------------------------------------------------------ ignored people

    def hide_ignored(self) -> None:
        """Remove the lines of people who are ignored from now on."""
        for index in self._transcript.hide():
            self.context.frontend.inserted(self, -1, index)
        self.reading.reconsider()

    def show_unignored(self, person: str) -> None:
        """Put the lines of somebody (folded) back in their places.

        A front end that cannot rewrite lines prints those it has not printed.
        """
        indices = self._transcript.unhide(person, self.shown)
        for index in indices:
            if self.context.frontend.rewrites:
                self.context.frontend.inserted(self, 1, index)
            elif self.lines[index].seq > self.replica.read:
                self.context.frontend.show(self, replace(self.lines[index], history=False))
        self.reading.reconsider()

    # ------------------------------------------------------------------ events and the read state

    def handle_event(self, event: Event, *, unseen: bool) -> None:
        """Show an event, count it, and save its file."""
        self.shown = max(self.shown, event.seq)
        if isinstance(event.body, Requested):
            self._looked_at.discard(fold(event.actor))  # they may have asked before
        is_change = isinstance(event.body, Edited | Deleted)
        before = None
        if isinstance(event.body, Edited | Deleted):
            before = self._transcript.shown(event.body.target)
            tombstone = self._transcript.apply_change(event.body)
            if tombstone is not None:
                self.context.frontend.inserted(self, 1, tombstone)
            self.context.frontend.changed()
        # A front end that cannot rewrite lines needs a new line that reports the change.
        line = None
        if not (self.context.frontend.rewrites and (is_change or self._is_expulsion(event))):
            line = self._transcript.line(event)
        if isinstance(event.body, Edited | Deleted) and line is not None and before is not None:
            line = named_change(line, event.body, event.actor, before)
        if line is not None:
            self._show_event(replace(line, history=not unseen))
        unread = self.reading.apply(event, seen=self.caught_up and self.attended)
        if unread is not None and unread.personal and line is not None:
            self._call(line)
        self.files.handle_event(event, unseen=unseen and not self._transcript.hides(event))

    def _is_expulsion(self, event: Event) -> bool:
        """Return whether an event ends this membership now: a notice says so, and what to do."""
        body, me = event.body, fold(self.session.user)
        return self.caught_up and isinstance(body, Kicked | Banned) and fold(body.name) == me

    def _show_event(self, line: Line) -> None:
        """Add the line of an event below all others; of a missed one, in its place by its time.

        While the log is not complete, the program has said things already, such as whom the person
        waits for: what is older than that belongs above it.
        """
        lines, at = self.lines, len(self.lines)
        if self._gathers(line):
            return
        if not self.caught_up and self.context.frontend.rewrites:
            while at and not lines[at - 1].seq and lines[at - 1].at > line.at:
                at -= 1
        if at == len(lines):
            self.show(line)
        else:
            lines.insert(at, line)
            self.context.frontend.inserted(self, 1, at)

    def _gathers(self, line: Line) -> bool:
        """Tell a line together with those before it, if they are a run; otherwise return False.

        A front end that cannot rewrite lines prints the first at once, and the rest a little later,
        or before the next line.
        """
        frontend = self.context.frontend
        if frontend.rewrites:
            is_gathered = self._transcript.gather(line)
            if is_gathered:
                frontend.changed()
            return is_gathered
        gathering = self._requests if line.asking else self._changes if line.changes else None
        if gathering is None or not self.caught_up or frontend.itemizes:
            return False
        self.lines.append(line)
        other = self._changes if gathering is self._requests else self._requests
        other.flush()
        gathering.add(line)
        return True

    def _print_requests(self, lines: list[Line]) -> None:
        for line in gathered(lines):
            self.context.frontend.show(self, line)

    def _print_changes(self, lines: list[Line]) -> None:
        line = lines[-1] if len(lines) == 1 else with_changes(lines[-1], len(lines))
        self.context.frontend.show(self, line)

    def _tell_standing(self, sentences: list[str]) -> None:
        earlier = len(sentences) - 1
        also = f" Before that, your standing changed {earlier} times." if earlier else ""
        self.notice(sentences[-1] + also)

    def handle_caught_up(self, *, greet: bool) -> None:
        """Show a summary of the missed events once the log is complete; `greet` adds a welcome."""
        if self.caught_up:
            return
        self.caught_up = True
        if self.context.frontend.rewrites:  # otherwise, the summary is printed before the events
            self.tell_missed()
        if self.attended:
            self.attend()
        if greet and not self.direct:
            self.notice(welcome(self.replica, self.waiting_for_approval))
        self._report_unsent()

    def tell_missed(self) -> None:
        """Show a summary of what is unread, unless the person has never been here."""
        counts = self.reading.counts
        if counts.total and self.reading.read:
            self.notice(digest(counts, direct=self.direct))

    def _report_unsent(self) -> None:
        if unsent := self._outgoing.count_failed():
            them = "it" if unsent == 1 else "them"
            self.notice(
                f"not sent: {count_text(unsent, 'message')}; /resend sends {them}, /discard deletes"
                f" {them}"
            )

    def handle_standing(self, news: MembershipChange | None) -> None:
        """Show a notice about the person's standing, which `news` has changed.

        Without `news`, it is the standing that the server reported when the group was attached.
        """
        sentence = (
            standing_found(self.replica, self._standing)
            if news is None
            else standing_changed(news, self.session.user, on_purpose=self.leaving)
        )
        if sentence:
            self._standings.add(sentence)
        if (self._standing, self.replica.standing) == ("waiting", "outsider"):
            self._report_unsent()
        self._standing = self.replica.standing
        self._outgoing.watch_resent()
        if self._standing == "member":
            self.unreachable = None  # the person joined again, perhaps on another device
        else:
            self.caught_up = False
        if news is not None and news.reason == "left":
            self.reading.see(self.shown)  # nothing is unread in a group that was left

    def handle_position(self, position: int, *, anew: bool) -> None:
        """Apply a read position from the server; with `anew`, restart the read state from it."""
        if anew:
            self.reading.restart(position)
        else:
            self.reading.move(position)

    def _call(self, line: Line) -> None:
        """Notify the person of a message for them, unless it arrives during catch-up, or muted."""
        if (self.caught_up or self.opened_by_other) and not self.muted:
            self.context.frontend.notify(self.title, f"{line.who}: {line.text}")
