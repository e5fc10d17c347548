"""The state of a group: a fold over its log.

`Group.apply(event)` takes one event into the state. It never fails and never asks whether the
event was a good idea: that was decided when it was written (see `group`), perhaps by an older
version of the rules. The server and every client run the same `apply` over the same events and
so arrive at the same state. It works in place, so that an event costs no copy of the state: a
caller that may have to go back, as the server must when a commit fails, applies a batch to a
`copy()`.

The numbers of a client's commands are remembered as IPsec remembers those of packets (RFC 4303,
section 3.4.3): the highest that was done, and which of the `WINDOW` below it were. A number in the
window that was not done is one that was refused or lost on its way, and may still come; all below
count as done. So a client keeps its unanswered numbers within the window, and a command that comes
again is recognised for ever at the price of two integers.

A group closes when its last member leaves. Its numbers go on, so that no seq is ever used twice,
but whoever founds it anew begins a new life: `floor` is the seq of that `created`, and nobody is
shown events from before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tchat.core.group.direct import check_group, is_direct, pair_of
from tchat.core.group.events import (
    AdminTransferred,
    Approved,
    Banned,
    Created,
    Deleted,
    Denied,
    Edited,
    Event,
    FileRemoved,
    FileShared,
    Invited,
    Joined,
    Kicked,
    Left,
    PolicySet,
    Posted,
    Requested,
    TopicSet,
    Unbanned,
    Withdrawn,
)
from tchat.core.text import fold

if TYPE_CHECKING:
    from tchat.core.group.commands import Policy
    from tchat.core.protocol.frames import Standing


RULES = 1
"""Which state a log leads to. Whoever changes what `apply` makes of an event, or what a `Group`
has, raises this number: states that were kept with another one are then made anew from the log.
"""

WINDOW = 1024
"""How far apart the unanswered numbers of one client may be."""

_RECENT = (1 << WINDOW) - 1


@dataclass(frozen=True, slots=True)
class Author:
    """Who gives a command: a name, the client (random id) it came through, and its public key."""

    name: str
    client: bytes
    key: bytes | None = None


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """Somebody asks to join: the name as its owner writes it, and the key they came with."""

    name: str
    key: bytes | None


@dataclass(frozen=True, slots=True)
class Invitation:
    """An open invite: given by `by` (folded) at `seq`, until `expires` (ms), perhaps for one."""

    seq: int
    by: str
    expires: int
    name: str | None


@dataclass(frozen=True, slots=True)
class File:
    """A file on the group's shelf: `size` in bytes, shared by `by` (as shown) at `at` (ms)."""

    number: int
    name: str
    size: int
    sha256: bytes
    by: str
    at: int


@dataclass(slots=True)
class Group:
    """The state of one group. People are keyed by their folded name and shown by their name.

    `members` are in order of joining; `kicked` are those whom the admin put out, by kick or ban,
    and at which seq, and `banned` those who cannot come back, as shown; `keys` are those that
    members came with, and whose they were then; `invites` are known by digest; `files` are the
    shelf, by numbers of which none is used twice, and `numbered` is the highest so far; `edits`
    are, by the seq of a message, those of the events that changed it; `counts` are, per (folded
    name, client id), the highest number that was done and a mask of those up to it, the lowest bit
    for itself.
    """

    name: str = ""
    seq: int = 0
    at: int = 0
    floor: int = 0
    admin: str | None = None
    topic: str = ""
    policy: Policy = "approval"
    members: dict[str, str] = field(default_factory=dict)
    requests: dict[str, JoinRequest] = field(default_factory=dict)
    kicked: dict[str, int] = field(default_factory=dict)
    banned: dict[str, str] = field(default_factory=dict)
    edits: dict[int, tuple[int, ...]] = field(default_factory=dict)
    keys: dict[bytes, str] = field(default_factory=dict)
    invites: dict[bytes, Invitation] = field(default_factory=dict)
    files: dict[int, File] = field(default_factory=dict)
    numbered: int = 0
    counts: dict[tuple[str, bytes], tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def unwritten(cls, name: str) -> Group:
        """Return the state of a group in whose log nothing is; a direct one has its members.

        Raises `Refused` for a direct name that says no two people.
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
        """Return a state of its own, for events that may yet come to nothing."""
        return replace(
            self,
            members=self.members.copy(),
            requests=self.requests.copy(),
            kicked=self.kicked.copy(),
            banned=self.banned.copy(),
            edits=self.edits.copy(),
            keys=self.keys.copy(),
            invites=self.invites.copy(),
            files=self.files.copy(),
            counts=self.counts.copy(),
        )

    def standing(self, name: str) -> Standing:
        """Return what a person is to this group."""
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

    def counted(self, author: Author) -> int:
        """Return the highest count the group has from this person's client."""
        return self.counts.get((fold(author.name), author.client), (0, 0))[0]

    def has_done(self, author: Author, n: int) -> bool:
        """Return whether a number of this person's client was done, or is too old to tell."""
        highest, done = self.counts.get((fold(author.name), author.client), (0, 0))
        below = highest - n
        return below >= 0 and (below >= WINDOW or bool(done >> below & 1))

    def apply(self, event: Event) -> None:
        """Take the next event into the state."""
        self.seq = event.seq
        self.at = event.at
        actor = fold(event.actor)
        self._count((actor, event.client), event.n)
        match event.body:
            case Posted() | Edited() | Deleted():
                self._apply_to_message(event, actor)
            case Created(key):
                self._begin(event, key)
            case AdminTransferred(name):
                self.admin = fold(name)
            case Invited():
                self._invite(event, event.body)
            case FileShared(number, name, size, sha256):
                self.files[number] = File(number, name, size, sha256, event.actor, event.at)
                self.numbered = max(self.numbered, number)
            case FileRemoved(number):
                self.files.pop(number, None)
            case TopicSet(text):
                self.topic = text
            case PolicySet(policy):
                self.policy = policy
            case _:
                self._apply_to_person(event, actor)

    def _apply_to_message(self, event: Event, actor: str) -> None:
        """Take in what was said: of that, the state knows next to nothing."""
        match event.body:
            case Edited(target):
                self.edits[target] = (*self.edits.get(target, ()), event.seq)
            case Deleted(target):
                self.edits.pop(target, None)
        if self.direct:  # its name does not say how they write themselves
            self.members[actor] = event.actor

    def _apply_to_person(self, event: Event, actor: str) -> None:
        """Take in what makes somebody something else to the group."""
        match event.body:
            case Requested(key):
                self.requests[actor] = JoinRequest(event.actor, key)
            case Approved(name):
                asked = self.requests.get(fold(name))
                self._admit(name, asked.key if asked else None)
            case Joined(_, invite, key):
                self.invites.pop(invite or b"", None)
                self._admit(event.actor, key)
            case Denied(name):
                self.requests.pop(fold(name), None)
            case Withdrawn():
                self.requests.pop(actor, None)
            case Left():
                self._release(actor)
            case Kicked(name):
                self._put_out(fold(name), event.seq)
            case Banned(name):
                self._put_out(fold(name), event.seq)
                self.requests.pop(fold(name), None)
                self.banned[fold(name)] = name
            case Unbanned(name):
                self.banned.pop(fold(name), None)

    def _count(self, client: tuple[str, bytes], n: int) -> None:
        highest, done = self.counts.get(client, (0, 0))
        step = n - highest
        if step > 0:
            # A step beyond the window leaves nothing of it; to shift by it could fill the memory.
            self.counts[client] = (n, (done << step & _RECENT if step < WINDOW else 0) | 1)
        elif -step < WINDOW:
            self.counts[client] = (highest, done | 1 << -step)

    def _begin(self, event: Event, key: bytes | None) -> None:
        self.name = event.group
        self.floor = event.seq
        self.topic, self.policy = "", "approval"
        for past in (self.members, self.requests, self.kicked, self.banned, self.keys):
            past.clear()
        for past_things in (self.invites, self.files, self.edits):
            past_things.clear()
        self.admin = fold(event.actor)
        self._admit(event.actor, key)

    def _admit(self, name: str, key: bytes | None) -> None:
        person = fold(name)
        self.requests.pop(person, None)
        self.kicked.pop(person, None)
        self.members.setdefault(person, name)
        if key is not None:
            self.keys[key] = name

    def _put_out(self, person: str, seq: int) -> None:
        self._release(person)
        self.kicked[person] = seq

    def _release(self, person: str) -> None:
        self.members.pop(person, None)
        for digest in [d for d, invitation in self.invites.items() if invitation.by == person]:
            del self.invites[digest]
        if not self.members:
            self.admin = None
            self.requests.clear()
            self.files.clear()

    def _invite(self, event: Event, body: Invited) -> None:
        for digest in [d for d, invitation in self.invites.items() if invitation.expires < self.at]:
            del self.invites[digest]
        by, name = fold(event.actor), fold(body.name) if body.name else None
        self.invites[body.invite] = Invitation(event.seq, by, body.expires, name)
