"""Base classes of a feature: commands and their rules, events and how they are folded.

A feature module (`membership`, `messages`, `files`, `settings`) declares, side by side,

- its *commands*: what a client asks for, who may, and the rule that turns it into events;
- its *events*: what is appended to the log, the fold that applies it to the state, and what else
  follows from it: the server's log line, the sentence that people read, whose standing changes,
  what is erased.

`features` chains them to one table, from which all else follows: `rules.decide` and `rules.apply`,
the frames of the protocol and their checks, the cleaning of what people typed (`Clean` markers),
the server's log, its index updates and notices. No other module lists commands or events.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Formatter
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from tchat.core.protocol.schema import Clean, Frame, Shape, record
from tchat.core.text import check_name, clean_message, fold, safe_filename

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tchat.core.group.state import Author, Group
    from tchat.core.protocol.frames import Standing

Name = Annotated[str, Clean(check_name)]
"""A person's name, as somebody typed it."""

MessageText = Annotated[str, Clean(clean_message)]
"""The text of a message."""

FileName = Annotated[str, Clean(safe_filename)]
"""A file's name, as somebody's file system has it."""

Facts = dict[str, str | int]
Reason = Literal["approved", "joined", "denied", "kicked", "banned", "left", "closed"]
"""Why somebody's standing in a group has changed."""


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """How large a group may become: members, pending requests, open invites, bans, files.

    Its snapshot has to fit into `snapshots.SNAPSHOT_LIMIT`.
    """

    members: int = 2000
    requests: int = 100
    invites: int = 100
    bans: int = 2000
    files: int = 30_000


DEFAULT_LIMITS = GroupLimits()


# ------------------------------------------------------------------ commands


@dataclass(frozen=True, slots=True)
class Context:
    """What a rule may consult beside the group's state.

    `at` is the time of the decision (ms since the Unix epoch); `target` is the event that a
    `TargetedCommand` names, if the log has it: the state does not hold what was said.
    """

    author: Author
    at: int
    limits: GroupLimits
    target: Event | None = None

    @property
    def name(self) -> str:
        """The name of the person who gives the command."""
        return self.author.name


@record
class Command(Frame):
    """A request that may append to a group's log. Answered by `Ok` or `Failed`.

    `id` names the request on its connection; `n` counts the commands of one client over all its
    connections, so that one which is sent again after a broken connection is done once.

    `allowed` says who may give it; `in_direct` that it can be given in a conversation of two;
    `erases` that its events erase texts, so that nothing else is committed together with them.
    """

    allowed: ClassVar[Literal["anybody", "member", "admin"]] = "anybody"
    in_direct: ClassVar[bool] = False
    erases: ClassVar[bool] = False

    id: int
    n: int
    group: str

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Return the events that follow, in order; none if nothing changes. Raises `Refused`."""
        raise NotImplementedError


@record
class TargetedCommand(Command):
    """A command about the message that is event `target`, which its rule gets to see."""

    target: int


# ------------------------------------------------------------------ events


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads a sentence: `me` (folded), and what this person's client knows.

    `keys` are those that members came with, and whose they were; None for requests that were
    answered long ago. `file` is the name of a removed file, if the client has heard of it.
    """

    me: str
    is_admin: bool
    keys: Mapping[bytes, str] | None
    file: str = ""


@dataclass(frozen=True, slots=True)
class StandingChange:
    """A person (folded) became something else to the group, by the hand of `by`."""

    person: str
    standing: Standing
    reason: Reason
    by: str


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the server's log: its stable word, and how it reads, with facts in braces."""

    word: str
    text: str


class Body(Shape):
    """What happened; `kind` is its word on the wire.

    `log_lines` are the lines that the server may log for it. `changes_audience` says that from this
    event on others may hear what comes next; `changes_files` that the file index follows it;
    `erases` that texts are erased by it.
    """

    __slots__ = ()
    kind: ClassVar[str]
    log_lines: ClassVar[tuple[LogLine, ...]] = ()
    changes_standing: ClassVar[bool] = False
    changes_audience: ClassVar[bool] = False
    changes_files: ClassVar[bool] = False
    erases: ClassVar[bool] = False

    def apply(self, group: Group, event: Event) -> None:
        """Take the event into the state. Never fails: whether it is allowed was decided before."""

    def standing_change(self, event: Event) -> StandingChange | None:
        """Return whose standing the event changes, for the person to be notified."""

    def erased(self, before: Group) -> tuple[int, ...]:
        """Return the events whose texts the event erases, given the state before it."""
        return ()

    def sentence(self, event: Event, reader: Reader) -> str:
        """Return how the event reads, before cleaning; empty if it does not concern the reader."""
        return ""

    def log_line(self) -> LogLine | None:
        """Return which of `log_lines` applies."""
        return self.log_lines[0] if self.log_lines else None

    def log_facts(self) -> Facts:
        """Return the facts of the log line, besides the group and the actor (`user`)."""
        line = self.log_line()
        fields = [name for _, name, _, _ in Formatter().parse(line.text)] if line else []
        return {name: getattr(self, name) for name in fields if name and hasattr(self, name)}


@record
class Unknown(Body):
    """A body of a kind that a newer version wrote: it counts, and changes nothing."""

    kind = "unknown"
    word: str = ""


@record
class Event(Frame):
    """One entry of a group's log: a header, the same for all kinds, and a body for its kind.

    `group` is the group's name as it is shown, `seq` counts its events without gaps, `at` is in
    milliseconds since the Unix epoch and never decreases, `actor` is who did it. `client` and
    `n` name the request behind it, so that a repeated request is recognized.
    """

    type = "event"
    group: str
    seq: int
    at: int
    actor: str
    client: bytes
    n: int
    body: Body

    def to_map(self) -> dict[str, object]:
        """Return header and body as one flat map: `kind` names the body."""
        return {
            "type": "event",
            "kind": self.body.kind,
            "group": self.group,
            "seq": self.seq,
            "at": self.at,
            "actor": self.actor,
            "client": self.client,
            "n": self.n,
            **self.body.to_map(),
        }


def is_me(name: str, reader: Reader) -> bool:
    """Return whether a name is the reader's."""
    return fold(name) == reader.me
