"""A group as this client knows it: the same fold over the same events as on the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.events import Created, Event
from tchat.core.frames import Attach
from tchat.core.state import Group
from tchat.core.text import fold

if TYPE_CHECKING:
    from tchat.core.frames import Attached, Presence, Standing


class GapError(Exception):
    """An event is missing in front of this one; the log has to be asked for again."""


class Replica:
    """One group's state, log, and who of it is online.

    `head` is where the server's log stood when the group was last attached: events up to it are
    history. `read` is the last event that the person had seen, on any device, at that time.
    `came_as` is what the person was when it was attached for the first time.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.standing: Standing | None = None
        self.came_as: Standing | None = None
        self.admin: str | None = None
        self.kicked = False
        self.head = 0
        self.read = 0
        self.seen = 0
        self.state = Group()
        self.log: list[Event] = []
        self.online: dict[str, str] = {}

    @property
    def caught_up(self) -> bool:
        """Whether every event that there was at the time of attaching is here."""
        return self.standing == "member" and self.state.seq >= self.head

    def attached(self, answer: Attached) -> bool:
        """Take the answer to an attach; return whether the log here is still of use."""
        first_time = self.standing != "member"
        self.came_as = self.came_as or answer.standing
        self.name = answer.group
        self.standing = answer.standing
        self.admin = answer.admin
        self.kicked = answer.kicked
        self.head = answer.seq
        if first_time:
            self.read = answer.read
        if answer.seq >= self.state.seq or answer.standing != "member":
            return True
        self.forget()
        return False

    def attach(self, request_id: int) -> Attach:
        """Return the request for what this replica does not have yet."""
        return Attach(request_id, self.name, self.state.seq)

    def take(self, event: Event) -> bool:
        """Apply the next event; return False for one that is here already.

        Raises `GapError` when events are missing in front of it.
        """
        if event.seq <= self.state.seq:
            return False
        if event.seq != self.state.seq + 1 and not isinstance(event.body, Created):
            raise GapError
        self.state.apply(event)
        self.log.append(event)
        return True

    def take_presence(self, news: Presence) -> None:
        """Note who came online and who went."""
        if news.reset:
            self.online = {}
        self.online.update({fold(name): name for name in news.online})
        for name in news.offline:
            self.online.pop(fold(name), None)

    def forget(self) -> None:
        """Begin again from nothing: the server's log is not the one that was followed."""
        self.state = Group()
        self.log = []
        self.online = {}
