"""Folded state of a group: members, bans, invites, files, and the numbers of committed commands.

`rules.apply` applies one event after another to a `Group`. The server and every client fold the
same events and so arrive at the same state. Events change the state in place, because copying it
for each event would be too expensive. A caller that may have to roll back, as the server does when
a commit fails, applies a batch to a `copy()`.

The fields of `Group` are also its snapshot: their annotations say how each one is encoded
(`schema`), and `snapshots` encodes them. A field that is added here is automatically part of the
snapshot and of copies, and is reset when a closed group is founded anew. Adding one requires a new
`RULES` version.

Deduplication works like the anti-replay window of IPsec (RFC 4303, section 3.4.3). For each client,
the state stores the highest committed command number and a bit mask of the last `WINDOW` numbers. A
number in the window that is not committed was refused or lost and may still arrive; all numbers
below the window count as committed. So a client keeps its unanswered numbers within the window, and
a repeated command is always recognized, at the cost of two integers per client. The state does not
remember every client for ever (`compaction`), so a command that may have been sent before, by a
client that it does not know, is refused if it has forgotten any (`rules`).

A group closes when its last member leaves: the state is reset, and the store erases all events but
their headers, so replaying them gives the same state. When the group is founded anew, its seqs
continue, so that none is used twice. `floor` is then the seq of the new `created`, and nobody is
shown earlier events.
"""

from __future__ import annotations

import dataclasses
from dataclasses import MISSING, dataclass, field, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from tchat.core.group.direct import check_group, is_direct, not_yours, pair_of
from tchat.core.protocol.schema import LOCAL, Keyed, Shape, record
from tchat.core.text import fold
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from tchat.core.protocol.frames import Standing

Policy = Literal["approval", "open"]
"""Who may join a group: people whom the admin approves, or everybody."""

RULES = 8
"""The version of the fold. Increase it when `apply` or the fields of `Group` change: stored states
of another version are computed again from the log.
"""

WINDOW = 1024
"""The size of the deduplication window. One client's unanswered numbers must be closer together."""

_RECENT = (1 << WINDOW) - 1

Clients = dict[tuple[str, bytes], tuple[int, int]]

_K = TypeVar("_K")
_V = TypeVar("_V")
_Index = dict[_K, tuple[_V, ...]]
"""An index with few values for each key; a copy of the dict is independent."""


OPERATOR = "the operator"
"""The name of the author of what the server's operator does; with its space, nobody can have it."""


@dataclass(frozen=True, slots=True)
class Author:
    """The author of a command: the name, the client's random id, and the client's public key.

    Commands with numbers below `upcoming` may have been sent on an earlier connection; 0 if the
    client does not tell.
    """

    name: str
    client: bytes
    key: bytes | None = None
    upcoming: int = 0


@record
class JoinRequest(Shape):
    """A pending request to join: the person's display name and public key."""

    name: str
    key: bytes | None = None


def _requester(request: JoinRequest) -> str:
    return fold(request.name)


@record
class Invitation(Shape):
    """An open invite: created by `by` (folded) in event `seq`, valid until `expires` (Unix ms).

    `digest` is the SHA-256 of its token. With a `name` (folded), it is for that person only.
    """

    digest: bytes
    seq: int
    by: str
    expires: int
    name: str | None = None


@record
class File(Shape):
    """A file of the group: `size` in bytes, shared by `by` (display name) at `at` (ms)."""

    number: int
    name: str
    size: int
    sha256: bytes
    by: str
    at: int


@record
class MessageEdits(Shape):
    """The seqs of a message and of the events that edited it."""

    message: int
    seqs: tuple[int, ...]


@record
class Denial(Shape):
    """A request to join that the admin denied at `at` (ms): the `key` that it was made with.

    They may ask again at `until`, by the server's timer; None in what earlier versions have stored.
    """

    at: int
    key: bytes | None = None
    until: int | None = None


@dataclass(slots=True)
class Group(Shape):
    """The state of one group. Folded names are the keys of people; values have the display name.

    - `members` are in order of joining;
    - `kicked` maps kicked and banned people to the seq of the event that removed them, in that
      order;
    - `banned` maps banned people to their display names;
    - `keys` maps the public keys of present and former members to their names, in order of the
      last admission with the key;
    - `invites` is keyed by digest, and `files` by number; no file number is used twice, and
      `numbered` is the highest so far;
    - `pinned` is the seq of the pinned message, if there is one;
    - `edits` maps the seq of a message to the seqs of its edits, in order of the last edit.

    Only the server needs the others, so they are in no snapshot that members get, and no fold of
    another field may depend on them:

    - `joined` maps members to the seq of the event that admitted them;
    - `held` maps members to their key, if `keys` has the name of another person for it, who was
      admitted later with the same one;
    - `banned_keys` maps banned people to the keys that they are known by;
    - `denied` maps people to the denial of their last request, the earliest first;
    - `counts` maps (folded name, client id) to the highest committed command number and a bit mask
      of the numbers up to it, whose lowest bit is that number, in order of the last command;
    - `forgotten` says how many clients are no longer in `counts`.

    `compaction` says how large each of them can become.

    Three more are indexes of the others, since no command may take time in proportion to a large
    group; only `requests` and `invites`, whose limits are low, are searched. Indexes are in no
    snapshot, and follow from what is (`reindex`).

    - `keys_by_person` maps people to the keys in `keys` with their name, in order;
    - `bans_by_key` maps the keys in `banned_keys` to the banned people, in order;
    - `denials_by_key` maps the keys in `denied` to the people.
    """

    name: str = ""
    seq: Annotated[int, LOCAL] = 0
    at: int = 0
    floor: int = 0
    admin: str | None = None
    topic: str = ""
    policy: Policy = "approval"
    pinned: int | None = None
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
    joined: Annotated[dict[str, int], LOCAL] = field(default_factory=dict)
    held: Annotated[dict[str, bytes], LOCAL] = field(default_factory=dict)
    banned_keys: Annotated[dict[str, tuple[bytes, ...]], LOCAL] = field(default_factory=dict)
    denied: Annotated[dict[str, Denial], LOCAL] = field(default_factory=dict)
    counts: Annotated[Clients, LOCAL] = field(default_factory=dict)
    forgotten: Annotated[int, LOCAL] = 0
    keys_by_person: Annotated[_Index[str, bytes], LOCAL] = field(
        default_factory=dict, compare=False
    )
    bans_by_key: Annotated[_Index[bytes, str], LOCAL] = field(default_factory=dict, compare=False)
    denials_by_key: Annotated[_Index[bytes, str], LOCAL] = field(
        default_factory=dict, compare=False
    )

    @classmethod
    def unwritten(cls, name: str) -> Group:
        """Return the state of a group with an empty log.

        A direct conversation has its two members from the start. Raises `Refused` if the name of a
        direct conversation does not contain two valid names.
        """
        if not is_direct(name):
            return cls()
        name = check_group(name)
        return cls(name, members={fold(person): person for person in pair_of(name)})

    @property
    def direct(self) -> bool:
        """Whether this is a direct conversation."""
        return is_direct(self.name)

    def copy(self) -> Group:
        """Return an independent copy, for events that may have to be rolled back."""
        return replace(self, **{name: getattr(self, name).copy() for name in _DICTS})

    def count_entries(self) -> int:
        """Return how many entries all collections of the state have together."""
        return sum(len(getattr(self, name)) for name in _DICTS)

    def reset(self) -> None:
        """Reset everything except the numbers that must not be reused if it is founded anew."""
        for name, default in _DEFAULTS:
            setattr(self, name, default() if callable(default) else default)

    # ------------------------------------------------------------------ people

    def standing(self, name: str) -> Standing:
        """Return whether a person is a member, waits for approval, or neither."""
        key = fold(name)
        if key in self.members:
            return "member"
        return "waiting" if key in self.requests else "outsider"

    def is_known_to(self, person: str) -> bool:
        """Return whether a person (folded) is or was a member, or asks to join.

        Members from logs without keys are known only as long as they are members.
        """
        return self.standing(person) != "outsider" or person in self.keys_by_person

    def is_admin(self, name: str) -> bool:
        """Return whether the person is the admin."""
        return self.admin == fold(name)

    @property
    def admin_name(self) -> str:
        """The admin's display name; empty while the group is closed."""
        return self.members.get(self.admin or "", "")

    @property
    def successor(self) -> str:
        """The display name of the admin's successor, the longest-standing other member, or ""."""
        return next((name for key, name in self.members.items() if key != self.admin), "")

    def ban_on(self, name: str, key: bytes | None) -> str | None:
        """Return the name in the ban on a person or their key; None if there is no such ban."""
        if (banned := self.banned.get(fold(name))) is not None:
            return banned
        holders = self.bans_by_key.get(key) if key is not None else None
        return self.banned.get(holders[0], holders[0]) if holders else None

    def require_not_banned(self, name: str, key: bytes | None = None) -> None:
        """Raise `Refused` (banned) if the person is banned, or somebody who has the same key."""
        banned = self.ban_on(name, key)
        if banned is not None:
            raise banned_refusal("" if fold(banned) == fold(name) else banned)

    def require_member(self, name: str) -> None:
        """Raise `Refused` (not_member, not_approved, banned) unless the person is a member."""
        if fold(name) in self.members:
            return
        if self.direct:
            raise not_yours()
        if self.standing(name) == "waiting":
            raise not_approved_refusal(self.admin_name)
        self.require_not_banned(name)
        raise Refused(Code.NOT_MEMBER, "You are not a member of this group.")

    def require_admin(self, name: str) -> None:
        """Raise `Refused` (as `require_member`, or not_admin) unless the person is the admin."""
        self.require_member(name)
        if not self.is_admin(name):
            raise Refused(Code.NOT_ADMIN, f"Only the admin, {self.admin_name}, may do this.")

    # ------------------------------------------------------------------ keys, bans, denials

    def add_key(self, key: bytes, name: str) -> None:
        """Record that a person was admitted with a key, now as the last one."""
        self.drop_key(key)
        self.keys[key] = name
        _add(self.keys_by_person, fold(name), key)

    def drop_key(self, key: bytes) -> None:
        """Forget a key, if it is known."""
        if (name := self.keys.pop(key, None)) is not None:
            _discard(self.keys_by_person, fold(name), key)

    def drop_keys(self, keys: Collection[bytes]) -> None:
        """Forget many keys, also of one person, in linear time."""
        dropped = set(keys)
        people = {fold(name) for key in dropped if (name := self.keys.pop(key, None)) is not None}
        for person in people:
            rest = tuple(key for key in self.keys_by_person[person] if key not in dropped)
            if rest:
                self.keys_by_person[person] = rest
            else:
                del self.keys_by_person[person]

    def ban(self, name: str, keys: tuple[bytes, ...]) -> None:
        """Ban a person with these keys."""
        person = fold(name)
        for key in self.banned_keys.get(person, ()):
            _discard(self.bans_by_key, key, person)
        self.banned[person], self.banned_keys[person] = name, keys
        for key in keys:
            _add(self.bans_by_key, key, person)

    def unban(self, person: str) -> None:
        """Lift the ban on a person (folded) and their keys, if there is one."""
        self.banned.pop(person, None)
        for key in self.banned_keys.pop(person, ()):
            _discard(self.bans_by_key, key, person)

    def deny(self, person: str, denial: Denial) -> None:
        """Remember the denial of a person's (folded) request, as the latest."""
        self.forget_denial(person)
        self.denied[person] = denial
        if denial.key is not None:
            _add(self.denials_by_key, denial.key, person)

    def forget_denial(self, person: str) -> None:
        """Forget the denial of a person's (folded) request, if there is one."""
        denial = self.denied.pop(person, None)
        if denial is not None and denial.key is not None:
            _discard(self.denials_by_key, denial.key, person)

    def reindex(self) -> None:
        """Compute the indexes, for a state that was loaded."""
        _fill(self.keys_by_person, ((fold(name), key) for key, name in self.keys.items()))
        banned = ((key, person) for person, keys in self.banned_keys.items() for key in keys)
        _fill(self.bans_by_key, banned)
        denied = ((denial.key, person) for person, denial in self.denied.items())
        _fill(self.denials_by_key, ((key, person) for key, person in denied if key is not None))

    # ------------------------------------------------------------------ messages

    def edits_of(self, message: int) -> tuple[int, ...]:
        """Return the seqs of the events that edited a message."""
        edits = self.edits.get(message)
        return edits.seqs if edits else ()

    # ------------------------------------------------------------------ deduplication

    def counted(self, author: Author) -> int:
        """Return the highest committed command number of this person's client."""
        return self.counts.get((fold(author.name), author.client), (0, 0))[0]

    def may_have_forgotten(self, author: Author, n: int) -> bool:
        """Return whether command `n` may be committed although `has_done` does not say so.

        If any clients were forgotten, that is possible for a command from an earlier connection,
        below all numbers that are known to be committed: the client may have come back since.
        """
        if not self.forgotten or n >= author.upcoming:
            return False
        highest, done = self.counts.get((fold(author.name), author.client), (n, 0))
        return n <= highest - done.bit_length()

    def has_done(self, author: Author, n: int) -> bool:
        """Return whether command `n` of this client is committed, or is below the window."""
        highest, done = self.counts.get((fold(author.name), author.client), (0, 0))
        below = highest - n
        return below >= 0 and (below >= WINDOW or bool(done >> below & 1))

    def count(self, person: str, client: bytes, n: int) -> None:
        """Record that command `n` of a person's (folded) client is committed."""
        key = (person, client)
        highest, done = self.counts.pop(key, (0, 0))  # put back last: the order is that of use
        step = n - highest
        if step > 0:
            # A step beyond the window clears the mask without a shift: the client chooses the step,
            # and a huge shift would exhaust the memory.
            self.counts[key] = (n, (done << step & _RECENT if step < WINDOW else 0) | 1)
        else:
            self.counts[key] = (highest, done | (1 << -step if -step < WINDOW else 0))


def _add(index: _Index[_K, _V], key: _K, value: _V) -> None:
    index[key] = (*index.get(key, ()), value)


def _fill(index: _Index[_K, _V], entries: Iterable[tuple[_K, _V]]) -> None:
    """Replace what an index contains; in linear time, however many values a key has."""
    found: dict[_K, list[_V]] = {}
    for key, value in entries:
        found.setdefault(key, []).append(value)
    index.clear()
    for key, values in found.items():
        index[key] = tuple(values)


def _discard(index: _Index[_K, _V], key: _K, value: _V) -> None:
    values = index.get(key, ())
    if value not in values:
        return
    at = values.index(value)
    if rest := values[:at] + values[at + 1 :]:
        index[key] = rest
    else:
        del index[key]


def not_approved_refusal(admin: str) -> Refused:
    """Return the refusal of what a person who waits for approval tries to do in the group."""
    return Refused(Code.NOT_APPROVED, f"You are not a member yet: {admin} has to approve you.")


def banned_refusal(banned: str = "") -> Refused:
    """Return the refusal of whatever a banned person tries to do in the group.

    `banned` is another name, whose key is that of the person.
    """
    who = f"You have the key of {banned}, who was" if banned else "You were"
    return Refused(Code.BANNED, f"{who} banned from this group; only its admin can lift the ban.")


_LASTING = {"seq", "at", "numbered", "counts", "forgotten"}
"""The fields that a group keeps when it is closed, and when it is founded anew."""

_DICTS = tuple(f.name for f in dataclasses.fields(Group) if f.default_factory is dict)
_DEFAULTS = tuple(
    (f.name, f.default if f.default is not MISSING else f.default_factory)
    for f in dataclasses.fields(Group)
    if f.name not in _LASTING
)
