"""The rules of a group.

A group is an ordered log of events, and its state is a fold over that log. Two functions say all
there is to say about it:

- `decide(group, author, command, now)` answers what a command would add to the log, or raises
  `Refused`. It changes nothing.
- `Group.apply(event)` takes one event into the state. It never fails and never asks whether the
  event was a good idea: that was decided when it was written, perhaps by an older version of the
  rules. Whatever must follow from a command is therefore written out as events (an admin who
  leaves causes `admin_transferred`, then `left`) and never left to `apply` to guess.

The server runs both; every client runs the same `apply` over the same events and so arrives at
the same state. `apply` works in place, so that an event costs no copy of the state: a caller
that may have to go back, as the server must when a commit fails, applies a batch to a `copy()`.

Exactly once: every command carries the client's random id and its count. The group remembers the
highest count per person and client, so a command that comes again is recognised for ever, at the
price of one integer, and `decide` answers it with no events.

A group closes when its last member leaves. Its numbers go on, so that no seq is ever used twice,
but whoever founds it anew begins a new life: `floor` is the seq of that `created`, and nobody is
shown events from before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tchat.core.commands import (
    Approve,
    Command,
    Deny,
    Join,
    Kick,
    Leave,
    Post,
    Share,
    TransferAdmin,
)
from tchat.core.events import (
    AdminTransferred,
    Approved,
    Body,
    Created,
    Denied,
    Event,
    FileShared,
    Kicked,
    Left,
    Posted,
    Requested,
    Withdrawn,
)
from tchat.core.text import check_text, fold, quote_name
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from tchat.core.frames import Standing


SHA256_SIZE = 32


@dataclass(frozen=True, slots=True)
class Author:
    """Who gives a command: a name, and the client (random id) through which it came."""

    name: str
    client: bytes


@dataclass(slots=True)
class Group:
    """The state of one group. People are keyed by their folded name and shown by their name.

    `members` are in order of joining; `kicked` are those who are out for that
    reason; `counts` are the highest numbers seen, per (folded name, client id).
    """

    name: str = ""
    seq: int = 0
    at: int = 0
    floor: int = 0
    admin: str | None = None
    members: dict[str, str] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    kicked: set[str] = field(default_factory=set)
    files: dict[int, FileShared] = field(default_factory=dict)
    counts: dict[tuple[str, bytes], int] = field(default_factory=dict)

    def copy(self) -> Group:
        """Return a state of its own, for events that may yet come to nothing."""
        return replace(
            self,
            members=self.members.copy(),
            requests=self.requests.copy(),
            kicked=self.kicked.copy(),
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
        return self.counts.get((fold(author.name), author.client), 0)

    def apply(self, event: Event) -> None:
        """Take the next event into the state."""
        self.seq = event.seq
        self.at = event.at
        actor = fold(event.actor)
        self.counts[actor, event.client] = event.n
        match event.body:
            case Created():
                self._begin(event)
            case Requested():
                self.requests[actor] = event.actor
            case Approved(name):
                self._admit(name)
            case Denied(name):
                self.requests.pop(fold(name), None)
            case Withdrawn():
                self.requests.pop(actor, None)
            case Left():
                self._release(actor)
            case Kicked(name):
                self.members.pop(fold(name), None)
                self.kicked.add(fold(name))
            case AdminTransferred(name):
                self.admin = fold(name)
            case FileShared() as file:
                self.files[file.number] = file

    def _begin(self, event: Event) -> None:
        self.name = event.group
        self.floor = event.seq
        self.requests.clear()
        self.kicked.clear()
        self.files.clear()
        self.admin = fold(event.actor)
        self.members = {self.admin: event.actor}

    def _admit(self, name: str) -> None:
        key = fold(name)
        self.requests.pop(key, None)
        self.kicked.discard(key)
        self.members.setdefault(key, name)

    def _release(self, key: str) -> None:
        self.members.pop(key, None)
        if not self.members:
            self.admin = None
            self.requests.clear()


def decide(group: Group, author: Author, command: Command, now: int) -> list[Event]:
    """Return the events that `command` adds to the log, in order; none if it was done before.

    `now` is in milliseconds since the Unix epoch; a clock that went back does not take the log
    with it. Raises `Refused`.
    """
    if command.n <= group.counted(author):
        return []
    bodies = _bodies(group, author.name, command)
    at = max(now, group.at)
    name = group.name if group.members else command.group
    return [
        Event(name, group.seq + offset, at, author.name, author.client, command.n, body)
        for offset, body in enumerate(bodies, start=1)
    ]


def _bodies(group: Group, actor: str, command: Command) -> list[Body]:
    match command:
        case Post(text=text):
            _require_member(group, actor)
            check_text(text)
            return [Posted(text)]
        case Join():
            return _join(group, actor)
        case Leave():
            return _leave(group, actor)
        case Approve(name=name):
            return [Approved(_requester(group, actor, name))]
        case Deny(name=name):
            return [Denied(_requester(group, actor, name))]
        case Kick(name=name):
            oneself = "You cannot kick yourself; /leave ends your membership."
            return [Kicked(_other_member(group, actor, name, oneself))]
        case TransferAdmin(name=name):
            return [AdminTransferred(_other_member(group, actor, name, "You are the admin."))]
        case Share(name=name, size=size, sha256=sha256):
            _require_member(group, actor)
            if not name or len(sha256) != SHA256_SIZE:
                raise Refused(Code.BAD_FILE, "A file needs a name and a SHA-256 digest.")
            return [FileShared(max(group.files, default=0) + 1, name, size, sha256)]
    raise TypeError(f"no rule for {type(command).__name__}")


def _join(group: Group, actor: str) -> list[Body]:
    if not group.members:
        return [Created()]
    return [Requested()] if group.standing(actor) == "outsider" else []


def _leave(group: Group, actor: str) -> list[Body]:
    if group.standing(actor) == "waiting":
        return [Withdrawn()]
    _require_member(group, actor)
    if not group.is_admin(actor) or len(group.members) == 1:
        return [Left()]
    successor = next(name for key, name in group.members.items() if key != group.admin)
    return [AdminTransferred(successor), Left()]


def _require_member(group: Group, actor: str) -> None:
    standing = group.standing(actor)
    if standing == "waiting":
        raise Refused(
            Code.NOT_MEMBER, f"You are not a member yet: {group.admin_name} has to approve you."
        )
    if standing == "outsider":
        raise Refused(Code.NOT_MEMBER, "You are not a member of this group; /join asks to be one.")


def _require_admin(group: Group, actor: str) -> None:
    _require_member(group, actor)
    if not group.is_admin(actor):
        raise Refused(
            Code.NOT_ADMIN, f"Only the admin may do this, and that is {group.admin_name}."
        )


def _requester(group: Group, actor: str, name: str) -> str:
    """Return the name, as its owner wrote it, of somebody who asked to join."""
    _require_admin(group, actor)
    asked = group.requests.get(fold(name))
    if asked is not None:
        return asked
    if fold(name) in group.members:
        raise Refused(Code.ALREADY_MEMBER, f"{quote_name(name)} is a member already.")
    raise Refused(
        Code.NO_SUCH_REQUEST, f"{quote_name(name)} has not asked to join; /1 lists who has."
    )


def _other_member(group: Group, actor: str, name: str, oneself: str) -> str:
    """Return the name, as its owner wrote it, of a member other than the admin who asks."""
    _require_admin(group, actor)
    if fold(name) == fold(actor):
        raise Refused(Code.YOURSELF, oneself)
    known = group.members.get(fold(name))
    if known is not None:
        return known
    if fold(name) in group.requests:
        raise Refused(
            Code.NO_SUCH_MEMBER, f"{quote_name(name)} is not a member yet; /deny refuses a request."
        )
    raise Refused(Code.NO_SUCH_MEMBER, f"{quote_name(name)} is not a member; /4 lists the members.")
