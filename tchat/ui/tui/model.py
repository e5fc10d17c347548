"""What the screen shows, before anybody has thought about rows and columns. Pure data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tchat.ui.tui.lineedit import LineEdit

if TYPE_CHECKING:
    from tchat.client.files.queue import Progress
    from tchat.ui.chat.lines import Line


@dataclass(frozen=True, slots=True)
class Person:
    """A member as the member pane shows them; `away` says why, if they said so."""

    name: str
    admin: bool
    online: bool
    away: str = ""


@dataclass(frozen=True, slots=True)
class Tab:
    """A window as the list of windows shows it: `number` is the Alt key that goes there.

    `unread` counts messages, `mentions` those among them that are meant for this person.
    """

    number: int
    title: str
    unread: int = 0
    mentions: int = 0
    current: bool = False


@dataclass(frozen=True, slots=True)
class Position:
    """Where one reads, above the newest: line `index` is the lowest that is seen, in part or whole.

    `hidden` is how many of its rows are below the pane.
    """

    index: int
    hidden: int = 0


@dataclass(slots=True)
class Model:
    """Everything that a face with windows needs to know; what is of a group is of the one shown.

    `lines` are the oldest first, and `pending` what this person has said that is not stored yet.
    `position` is None at the bottom, and `below` counts the lines that came while it was not.
    `new_from` is the seq of the first event that was not seen; 0 if all were. `past` says what is
    above the first line: more that can be had, what is being fetched, or nothing. `connection` is
    empty while all is well, and `security` says how well.
    """

    user: str
    title: str
    topic: str = ""
    direct: bool = False
    lines: list[Line] = field(default_factory=list)
    pending: list[Line] = field(default_factory=list)
    position: Position | None = None
    below: int = 0
    new_from: int = 0
    past: Literal["more", "loading", "all"] = "all"
    people: list[Person] = field(default_factory=list)
    show_people: bool = True
    bare: bool = False
    edit: LineEdit = field(default_factory=LineEdit)
    question: str = ""
    connection: str = "connecting"
    security: str = "TLS"
    standing: str = ""
    requests: int = 0
    unanswered: int = 0
    transfers: list[Progress] = field(default_factory=list)
    tabs: list[Tab] = field(default_factory=list)

    @property
    def admin(self) -> str:
        """The admin's name; empty if not known."""
        return next((person.name for person in self.people if person.admin), "")

    @property
    def online(self) -> int:
        """How many members are online."""
        return sum(person.online for person in self.people)
