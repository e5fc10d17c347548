"""Model of the screen: all data that is drawn, copied from the chat.

Drawing is a pure function of a `Model`; only `Model.refresh` fills the model from the chat.
Anything new on the screen needs a field here and a drawing function.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from tchat.core.text import clean_line, fold
from tchat.ui.chat.chat import QUIT_SECONDS
from tchat.ui.tui.lineedit import LineEdit

if TYPE_CHECKING:
    from collections.abc import Collection

    from tchat.client.files.queue import Progress
    from tchat.ui.chat.chat import Chat
    from tchat.ui.chat.lines import Line
    from tchat.ui.chat.window import Window

_LONGEST_ROW = 512
"""How many code points of a text are sanitized and measured if only one row of it is shown."""

_QUIT_QUESTION = "Quit? Ctrl-D again, or y Enter"
_QUITTING = (
    f"Quitting: up to {QUIT_SECONDS:.0f} s for what is not sent yet; Ctrl-D quits now. What you"
    " type is not sent, but kept as a draft."
)


@dataclass(frozen=True, slots=True)
class Person:
    """A member in the member list; `away` is the reason, if the person is away.

    `online` is None while it is unknown: when disconnected, and until the server has sent it.
    """

    name: str
    admin: bool
    online: bool | None
    away: str = ""


@dataclass(frozen=True, slots=True)
class Tab:
    """A window in the list of windows: Alt and its `number` switch there.

    `unread` counts messages, files, and requests to join that wait for this person. `mentions`
    counts those of them that are meant for this person: mentions, direct messages, requests.
    """

    number: int
    title: str
    unread: int = 0
    mentions: int = 0
    current: bool = False


@dataclass(frozen=True, slots=True)
class Position:
    """A scroll position above the bottom: line `index` is the lowest visible one.

    `hidden` is how many of its rows are below the pane.
    """

    index: int
    hidden: int = 0


@dataclass(slots=True)
class WindowView:
    """A window's state that belongs to the screen: the input line and the scroll position.

    `position` is None at the bottom; `below` counts the lines that were added while scrolled up.
    `added` counts all lines that were added at the end. `found` is the seq of the message that
    /jump went to, until the next key; otherwise 0. `rule` is the seq of the first event below the
    line "new", and `shown_from` that of the first event that was visible since that line was put
    there; 0 if there was none.
    """

    edit: LineEdit = field(default_factory=LineEdit)
    position: Position | None = None
    below: int = 0
    added: int = 0
    found: int = 0
    rule: int = 0
    shown_from: int = 0

    def on_shown(self, rule: int, first: int) -> None:
        """Remember that event `first` was visible while the line "new" was at event `rule`."""
        if rule != self.rule:
            self.rule, self.shown_from = rule, 0
        self.shown_from = min(first, self.shown_from) if self.shown_from else first

    def on_added(self, count: int) -> None:
        """Keep the scroll position after a line was added; there are `count` lines now."""
        self.added += 1
        if self.position is None:
            return
        self.below += 1
        if self.position.index >= count - 1:  # a pending message, which has moved down
            self.on_inserted(1)

    def on_inserted(self, count: int, at: int = 0) -> None:
        """Keep the scroll position after `count` lines were inserted at `at`, or removed."""
        if self.position is not None and self.position.index >= at:
            self.position = replace(self.position, index=max(self.position.index + count, 0))

    def to_bottom(self) -> None:
        """Go to the newest lines."""
        self.position, self.below = None, 0


@dataclass(slots=True)
class Model:
    """Everything that is drawn; window-specific fields are about the current window.

    `lines` are the oldest first, `pending` the person's messages that are not stored yet.
    `new_from` is the seq of the first unread event, `shown_from` that of the first event that was
    visible since it became the first, and `found` that of the message to point out; each is 0 if
    there is none. `past` says what is above the first line: more to load, a page being loaded, or
    nothing. `hint` is a sentence that the status bar shows instead of everything else (`Hint`).
    `connection` is empty while connected, and `security` says how the connection is protected.
    `unanswered` counts requests without an answer yet, `requests` names the people who ask to join,
    first the one whom F9 approves. `pinned` is the first line of the pinned message. `waiting`
    counts the conversations with something new that have no window, and such groups.
    """

    user: str
    title: str
    topic: str = ""
    pinned: str = ""
    direct: bool = False
    lines: list[Line] = field(default_factory=list)
    pending: list[Line] = field(default_factory=list)
    position: Position | None = None
    below: int = 0
    new_from: int = 0
    found: int = 0
    shown_from: int = 0
    past: Literal["more", "loading", "all"] = "all"
    people: list[Person] = field(default_factory=list)
    show_people: bool = True
    bare: bool = False
    edit: LineEdit = field(default_factory=LineEdit)
    question: str = ""
    hint: str = ""
    connection: str = "connecting"
    security: str = "TLS"
    standing: str = ""
    requests: list[str] = field(default_factory=list)
    unanswered: int = 0
    transfers: list[Progress] = field(default_factory=list)
    tabs: list[Tab] = field(default_factory=list)
    waiting: tuple[int, int] = (0, 0)
    _people_of: object = None
    """What `people` was made from."""

    @property
    def admin(self) -> str:
        """The admin's name; empty if not known."""
        return next((person.name for person in self.people if person.admin), "")

    @property
    def online(self) -> int | None:
        """How many members are online; None if it is not known."""
        if any(person.online is None for person in self.people):
            return None
        return sum(bool(person.online) for person in self.people)

    @property
    def activity(self) -> object:
        """What the status bar shows that may call for attention; comparable with an earlier one."""
        tabs = tuple((tab.title, tab.unread) for tab in self.tabs)
        return tabs, tuple(self.requests), self.below, self.waiting

    def refresh(self, chat: Chat, view: WindowView, *, asked_to_quit: bool) -> None:
        """Fill the model from a chat and the view of its current window."""
        window, session = chat.current, chat.session
        self.user = session.user
        self.security = "not encrypted" if session.connector.plain else "TLS"
        self.connection = chat.connection
        self.title, self.direct = window.title, window.direct
        self.topic = clean_line(window.replica.state.topic[:_LONGEST_ROW])
        pinned = window.replica.state.pinned
        quote = window.quote_of(pinned, limit=_LONGEST_ROW) if pinned else ""
        self.pinned = quote.partition("↵")[0]  # its first line; ↵ stands for the end of a line
        self.lines, self.pending = window.lines, window.pending()
        self.new_from, self.past = window.new_from, window.past
        self.shown_from = view.shown_from if view.rule == self.new_from else 0
        self.edit, self.position, self.below = view.edit, view.position, view.below
        self.found = view.found
        window.replica.held = view.position is not None or window.past == "loading"
        self.standing = "banned" if window.replica.banned else window.replica.standing or ""
        self.question = _question(chat, asked_to_quit=asked_to_quit)
        # Before the first connection, only the person's own messages: joining is no message.
        # Messages without a window count, too: an earlier process may have left them.
        waiting = sum(map(len, session.waiting()))
        self.unanswered = session.unanswered if session.reached else waiting
        self.transfers = chat.transfers.progress()
        self.requests = _requests(chat)
        self._refresh_people(window, chat.ignored)
        self.waiting = chat.elsewhere.count_waiting
        self.tabs = [_tab(number, one, window) for number, one in enumerate(chat.windows, start=1)]

    def _refresh_people(self, window: Window, hidden: Collection[str]) -> None:
        """List the members, unless nothing about them has changed: there may be thousands."""
        replica = window.replica
        people_of = (
            replica.standing == "member",
            replica.presence_known,
            replica.state.admin,
            replica.state.members.copy(),
            replica.online.copy(),
            replica.away.copy(),
            set(hidden),
        )
        if people_of != self._people_of:
            self._people_of = people_of
            self.people = _people(window, hidden)


def _question(chat: Chat, *, asked_to_quit: bool) -> str:
    if chat.done.is_set():
        return _QUITTING
    if asked_to_quit:
        return _QUIT_QUESTION
    return chat.asked_text


def _requests(chat: Chat) -> list[str]:
    """Return who asks to join, those of the current window first; of others with the title."""
    current = [clean_line(name) for name in chat.current.requests]
    return current + [
        f"{clean_line(name)} ({window.title})"
        for window in chat.windows
        if window is not chat.current
        for name in window.requests
    ]


def _tab(number: int, window: Window, current: Window) -> Tab:
    """Return a window of the list; requests count as mentions: they wait for this person."""
    requests = window.waiting_for_approval
    unread, personal = window.unread + requests, window.mentions + requests
    return Tab(number, window.title, unread, personal, window is current)


def _people(window: Window, hidden: Collection[str]) -> list[Person]:
    """Return the members without the `hidden` people (folded), as /who does."""
    replica = window.replica
    if replica.standing != "member":
        return []
    return [
        Person(
            name,
            replica.state.is_admin(name),
            fold(name) in replica.online if replica.presence_known else None,
            replica.away.get(fold(name), ""),
        )
        for name in window.members()
        if fold(name) not in hidden
    ]
