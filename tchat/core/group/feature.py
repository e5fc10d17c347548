"""Base classes of a feature: commands with their rules, events with their folds.

A feature module (`membership`, `messages`, `files`, `settings`) declares, side by side,

- its *commands*: requests of a client, with the permission they require and the rule that turns
  them into events;
- its *events*: entries of the log, with the fold that applies them to the state and their side
  effects: the server's log line, the sentence shown to people, changed standings (member, waiting,
  outsider), erased texts.

`features` joins the features into one table. Everything else is generated from it: `rules.decide`
and `rules.apply`, the frames of the protocol and their checks, the sanitizing of typed text
(`Clean` markers), the server's log, its index updates and notices. No other module lists commands
or events.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from string import Formatter
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from tchat.core.protocol.schema import Clean, Frame, Shape, record
from tchat.core.text import check_name, clean_message, fold, safe_filename

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from tchat.core.group.state import Author, Group
    from tchat.core.protocol.frames import Reason, Standing

Name = Annotated[str, Clean(check_name)]
"""A person's name; the server normalizes it and refuses an invalid one."""

MessageText = Annotated[str, Clean(clean_message)]
"""The text of a message; the server sanitizes it."""

FileName = Annotated[str, Clean(safe_filename)]
"""A file's name; the server makes it safe for every file system."""

Facts = dict[str, str | int]


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """The most members, pending requests, open invites, bans and files of a group."""

    members: int = 2000
    requests: int = 100
    invites: int = 100
    bans: int = 2000
    files: int = 22_000


DEFAULT_LIMITS = GroupLimits()

HIGHEST_LIMITS = GroupLimits(members=10_000, requests=1000, invites=1000)
"""The highest limits that an operator can set: see `compaction`."""


# ------------------------------------------------------------------ commands


class Context(NamedTuple):
    """The input of a rule besides the group's state.

    `at` is the date of the decision (ms since the Unix epoch). `timer` is the time by which periods
    are measured: it never goes back, nor slower than real time, as `at` does when the server's
    clock was ahead. `target` is the event that the command `refers_to`, or None if the log lacks
    it; the state does not contain messages.
    """

    author: Author
    at: int
    limits: GroupLimits
    target: Event | None = None
    timer: int = 0

    @property
    def name(self) -> str:
        """The name of the person who sent the command."""
        return self.author.name


@record
class Command(Frame):
    """A request that may append to a group's log. Answered by `Ok` or `Failed`.

    `id` identifies the request on its connection; `n` counts the commands of one client over all
    its connections, so that a command that is resent after a lost connection takes effect once.

    `allowed` says who may send the command, `in_direct` whether a direct conversation allows it,
    and `erases` whether its events erase texts; such events are committed in a separate batch.
    `needs_timer` says whether its rule looks at `Context.timer`.
    """

    allowed: ClassVar[Literal["anybody", "member", "admin", "operator"]] = "anybody"
    in_direct: ClassVar[bool] = False
    erases: ClassVar[bool] = False
    needs_timer: ClassVar[bool] = False

    id: int
    n: int
    group: str

    @property
    def message_text(self) -> str:
        """The text of the message that the command posts or edits; empty for other commands."""
        return ""

    @property
    def refers_to(self) -> int | None:
        """The seq of the event that the rule needs as `Context.target`; None if it needs none."""
        return None

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Return the events that follow, in order; none if nothing changes. Raises `Refused`."""
        raise NotImplementedError


@record
class TargetedCommand(Command):
    """A command about the message with seq `target`.

    It is refused if that is not the event with this `stamp` (see `log_digest`).
    """

    target: int
    stamp: bytes | None = field(default=None, kw_only=True)

    @property
    def refers_to(self) -> int | None:
        """The seq of the message."""
        return self.target


# ------------------------------------------------------------------ events


@dataclass(frozen=True, slots=True)
class Reader:
    """The person to whom an event is shown: `me` (folded), and the facts their client has.

    `keys` maps the members' public keys to their names, to describe the key of a join request; it
    is None if the request has been answered. `file` is the name of a removed file, if it is known.
    """

    me: str
    is_admin: bool
    keys: Mapping[bytes, str] | None
    file: str = ""


@dataclass(frozen=True, slots=True)
class StandingChange:
    """The new standing of `person` (folded) in the group; `by` caused the change."""

    person: str
    standing: Standing
    reason: Reason
    by: str

    @property
    def changes_audience(self) -> bool:
        """Whether the person may be sent more events from now on, or fewer: the batch ends."""
        return self.reason not in ("created", "requested", "unbanned")


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the server's log: `word` is its stable id, `text` its template for `str.format`."""

    word: str
    text: str


class Body(Shape):
    """The body of an event; `kind` identifies its type on the wire.

    `log_lines` are the lines that the server may log for the event. `changes_standing` says that
    the event changes somebody's standing, `changes_files` that the file index has to be updated.
    `names` are the fields with the name of a person whom the event is about, besides its actor.
    `has_side_effects` is computed from these and from `erased`. Most events are messages, which
    have no side effects; the server makes no further calls for them. `has_addressees` is computed
    from `addressees`.
    """

    __slots__ = ()
    kind: ClassVar[str]
    log_lines: ClassVar[tuple[LogLine, ...]] = ()
    changes_standing: ClassVar[bool] = False
    changes_files: ClassVar[bool] = False
    names: ClassVar[tuple[str, ...]] = ()
    has_side_effects: ClassVar[bool] = False
    has_addressees: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        cls.has_side_effects = (
            bool(cls.log_lines)
            or cls.changes_standing
            or cls.changes_files
            or cls.erased is not Body.erased
        )
        cls.has_addressees = cls.addressees is not Body.addressees

    @property
    def message_text(self) -> str:
        """The text of the message, if the event is one or edits one; otherwise empty."""
        return ""

    def concerns(self, person: str) -> bool:
        """Return whether the event is about a person (folded), who need not be its actor."""
        return any(name and fold(name) == person for name in map(self.__getattribute__, self.names))

    def apply(self, group: Group, event: Event) -> None:
        """Apply the event to the state. Never fails: `decide` has already allowed the event."""

    def standing_change(self, event: Event) -> StandingChange | None:
        """Return the change of standing that the person is told of, if there is one."""

    def addressees(self, group: Group, people: Collection[str]) -> Collection[str]:
        """Return those of these members (folded) whom the event is meant for.

        They are told even if they do not follow the group.
        """
        return ()

    def erased(self, before: Group) -> tuple[int, ...]:
        """Return the events whose texts the event erases, given the state before it."""
        return ()

    def sentence(self, event: Event, reader: Reader) -> str:
        """Return the event as a sentence, not sanitized; empty if it is not for the reader."""
        return ""

    def log_line(self) -> LogLine | None:
        """Return the one of `log_lines` that applies."""
        return self.log_lines[0] if self.log_lines else None

    def log_facts(self) -> Facts:
        """Return the values of the log line's fields, except the group and the actor (`user`)."""
        line = self.log_line()
        fields = [name for _, name, _, _ in Formatter().parse(line.text)] if line else []
        return {name: getattr(self, name) for name in fields if name and hasattr(self, name)}


@record
class Unknown(Body):
    """A body of an unknown kind, written by a newer version; it does not change the state."""

    kind = "unknown"
    word: str = ""


@record
class Event(Frame):
    """One entry of a group's log: a header, the same for all kinds, and a body for its kind.

    `group` is the group's display name, `seq` counts its events without gaps, `at` is in
    milliseconds since the Unix epoch and never decreases, `actor` is the person who caused it.
    `client` and `n` identify the command that caused it, so that a repeated command is recognized.
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
