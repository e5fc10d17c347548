"""What the screen shows, before anybody has thought about rows and columns. Pure data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tchat.ui.lineedit import LineEdit

if TYPE_CHECKING:
    from tchat.client.transfers import Progress
    from tchat.ui.lines import Line


@dataclass(frozen=True, slots=True)
class Person:
    """A member as the member pane shows them."""

    name: str
    admin: bool
    online: bool


@dataclass(slots=True)
class Model:
    """Everything that a face with windows needs to know.

    `scroll` is how many rows the message pane is above its bottom; `below` counts the lines that
    came while it was; `connection` is empty while all is well, and `security` says how well.
    """

    user: str
    group: str
    lines: list[Line] = field(default_factory=list)
    people: list[Person] = field(default_factory=list)
    edit: LineEdit = field(default_factory=LineEdit)
    question: str = ""
    connection: str = "connecting"
    security: str = "TLS"
    standing: str = ""
    waiting: int = 0
    unanswered: int = 0
    transfers: list[Progress] = field(default_factory=list)
    scroll: int = 0
    below: int = 0

    @property
    def admin(self) -> str:
        """The admin's name; empty if not known."""
        return next((person.name for person in self.people if person.admin), "")

    @property
    def online(self) -> int:
        """How many members are online."""
        return sum(person.online for person in self.people)
