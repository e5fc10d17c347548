"""Folded state of a group: members, bans, invites, files, and which commands were done already.

`rules.apply` takes one event after another into a `Group`. The server and every client fold the
same events and so arrive at the same state. The state is changed in place, so that an event costs
no copy of it: a caller that may have to roll back, as the server must when a commit fails, applies
a batch to a `copy()`.

The fields of `Group` are also its snapshot: their annotations say how each travels (`schema`), and
`snapshots` encodes them. A field that is added here is in the snapshot, is copied, and is reset
when a closed group is founded anew; whoever adds one raises `RULES`.

Deduplication: the numbers of a client's commands are remembered as IPsec remembers those of packets
(RFC 4303, section 3.4.3): the highest that was done, and a bit mask of the `WINDOW` below it. A
number in the window that was not done was refused or lost on its way and may still come; all
below the window count as done. So a client keeps its unanswered numbers within the window, and a
command that is sent again is recognized for ever, at the price of two integers.

A group closes when its last member leaves. Its numbers go on, so that no seq is ever used twice,
but whoever founds it anew begins a new life: `floor` is the seq of that `created`, and nobody is
shown events from before it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import MISSING, dataclass, field, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Literal

from tchat.core.group.direct import check_group, is_direct, pair_of
from tchat.core.protocol.schema import LOCAL, Keyed, Shape, record
from tchat.core.text import fold
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from tchat.core.protocol.frames import Standing

Policy = Literal["approval", "open"]
"""Who may join a group: those whom the admin approves, or everybody."""

RULES = 2
"""The version of the fold. Raise it with every change of what `apply` makes of an event, or of the
fields of `Group`: states that were kept with another version are made anew from the log.
"""

WINDOW = 1024
"""How far apart the unanswered numbers of one client may be."""

_RECENT = (1 << WINDOW) - 1

Clients = dict[tuple[str, bytes], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Author:
    """Who gives a command: a name, the client (random id) it came through, and its public key."""

    name: str
    client: bytes
    key: bytes | None = None


@record
class JoinRequest(Shape):
    """A pending request to join: the name as its owner writes it, and the key they came with."""

    name: str
    key: bytes | None = None


def _requester(request: JoinRequest) -> str:
    return fold(request.name)


@record
class Invitation(Shape):
    """An open invite: given by `by` (folded) at `seq`, valid until `expires` (ms since the epoch).

    `digest` is the SHA-256 of its token; with a `name` (folded) it is for that person alone.
    """

    digest: bytes
    seq: int
    by: str
    expires: int
    name: str | None = None


@record
class File(Shape):
    """A file of the group: `size` in bytes, shared by `by` (as shown) at `at` (ms)."""

    number: int
    name: str
    size: int
    sha256: bytes
    by: str
    at: int


@record
class MessageEdits(Shape):
    """The events that edited a message, by the seq of the message."""

    message: int
    seqs: tuple[int, ...]


@dataclass(slots=True)
class Group(Shape):
    """The state of one group. People are keyed by their folded name and shown by their name.

    `members` are in order of joining; `kicked` maps those whom the admin removed, by kick or ban,
    to the seq of that; `banned` are those who cannot come back, as shown; `keys` are the public
    keys that members came with, and whose they were then; `invites` are known by digest; `files` by
    numbers of which none is used twice, and `numbered` is the highest so far; `edits` maps the seq
    of a message to the events that edited it; `counts` maps (folded name, client id) to the highest
    number that was done and a mask of those up to it, the lowest bit for itself.
    """

    name: str = ""
    seq: Annotated[int, LOCAL] = 0
    at: int = 0
    floor: int = 0
    admin: str | None = None
    topic: str = ""
    policy: Policy = "approval"
    members: Annotated[dict[str, str], Keyed(fold)] = field(default_factory=dict)
    requests: Annotated[dict[str, JoinRequest], Keyed(_requester)] = field(default_factory=dict)
    kicked: dict[str, int] = field(default_factory=dict)
    banned: Annotated[dict[str, str], Keyed(fold)] = field(default_factory=dict)
    edits: Annotated[dict[int, MessageEdits], Keyed(attrgetter("message"))] = field(
        default_factory=dict
    )
    keys: dict[bytes, str] = field(default_factory=dict)
    invites: Annotated[dict[bytes, Invitation], Keyed(attrgetter("digest"))] = field(
        default_factory=dict
    )
    files: Annotated[dict[int, File], Keyed(attrgetter("number"))] = field(default_factory=dict)
    numbered: int = 0
    counts: Annotated[Clients, LOCAL] = field(default_factory=dict)

    @classmethod
    def unwritten(cls, name: str) -> Group:
        """Return the state of a group with an empty log; a conversation of two has its members.

        Raises `Refused` for the name of a conversation that does not name two people.
        """
        if not is_direct(name):
            return cls()
        name = check_group(name)
        return cls(name, members={fold(person): person for person in pair_of(name)})

    @property
    def direct(self) -> bool:
        """Whether this is a conversation of two."""
        return is_direct(self.name)

    def copy(self) -> Group:
        """Return an independent copy, for events that may yet be rolled back."""
        return replace(self, **{name: getattr(self, name).copy() for name in _DICTS})

    def reset(self) -> None:
        """Forget everything but the numbers that no new life of the group may use again."""
        for name, default in _DEFAULTS:
            setattr(self, name, default() if callable(default) else default)

    # ------------------------------------------------------------------ people

    def standing(self, name: str) -> Standing:
        """Return whether a person is a member, waits for approval, or neither."""
        key = fold(name)
        if key in self.members:
            return "member"
        return "waiting" if key in self.requests else "outsider"

    def is_admin(self, name: str) -> bool:
        """Return whether the person is the admin."""
        return self.admin == fold(name)

    @property
    def admin_name(self) -> str:
        """The admin's name as it is shown; empty while the group is closed."""
        return self.members.get(self.admin or "", "")

    def require_member(self, name: str) -> None:
        """Raise `Refused` (not_member) unless the person is a member."""
        standing = self.standing(name)
        if standing == "member":
            return
        if self.direct:
            raise Refused(Code.NOT_MEMBER, "This is a conversation of two others.")
        if standing == "waiting":
            raise Refused(
                Code.NOT_MEMBER, f"You are not a member yet: {self.admin_name} has to approve you."
            )
        raise Refused(Code.NOT_MEMBER, "You are not a member of this group.")

    def require_admin(self, name: str) -> None:
        """Raise `Refused` (not_member, not_admin) unless the person is the admin."""
        self.require_member(name)
        if not self.is_admin(name):
            raise Refused(Code.NOT_ADMIN, f"Only the admin, {self.admin_name}, may do this.")

    # ------------------------------------------------------------------ messages

    def edits_of(self, message: int) -> tuple[int, ...]:
        """Return the events that edited a message."""
        edits = self.edits.get(message)
        return edits.seqs if edits else ()

    # ------------------------------------------------------------------ deduplication

    def counted(self, author: Author) -> int:
        """Return the highest number that the group has from this person's client."""
        return self.counts.get((fold(author.name), author.client), (0, 0))[0]

    def has_done(self, author: Author, n: int) -> bool:
        """Return whether a number of this person's client was done, or is too old to tell."""
        highest, done = self.counts.get((fold(author.name), author.client), (0, 0))
        below = highest - n
        return below >= 0 and (below >= WINDOW or bool(done >> below & 1))

    def count(self, person: str, client: bytes, n: int) -> None:
        """Remember that number `n` of a client of a person (folded) was done."""
        key = (person, client)
        highest, done = self.counts.get(key, (0, 0))
        step = n - highest
        if step > 0:
            # A step beyond the window leaves nothing of the mask; shifting by it could fill the
            # memory, since a client chooses its numbers.
            self.counts[key] = (n, (done << step & _RECENT if step < WINDOW else 0) | 1)
        elif -step < WINDOW:
            self.counts[key] = (highest, done | 1 << -step)


_LASTING = {"seq", "at", "numbered", "counts"}
"""What a group keeps when it is founded anew."""

_DICTS = tuple(f.name for f in dataclasses.fields(Group) if f.default_factory is dict)
_DEFAULTS = tuple(
    (f.name, f.default if f.default is not MISSING else f.default_factory)
    for f in dataclasses.fields(Group)
    if f.name not in _LASTING
)
