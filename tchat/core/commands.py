"""Commands: what a client asks a group to do. Each is answered by `Ok` or `Failed`.

`id` names the request on its connection; `n` counts the requests of one client over all its
connections, so that one which is sent again after a broken connection is done once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tchat.core.schema import Frame

Policy = Literal["approval", "open"]
"""Who may join a group: those whom the admin approves, or everybody."""


@dataclass(frozen=True, slots=True)
class Command(Frame):
    """A request that may append to a group's log."""

    id: int
    n: int
    group: str


@dataclass(frozen=True, slots=True)
class Join(Command):
    """Create the group, or ask its admin to be let in; with an `invite` (16 bytes), be in."""

    type = "join"
    invite: bytes | None = None


@dataclass(frozen=True, slots=True)
class Leave(Command):
    """End one's membership, or take one's request to join back."""

    type = "leave"


@dataclass(frozen=True, slots=True)
class Approve(Command):
    """Let somebody in who asked (admin)."""

    type = "approve"
    name: str


@dataclass(frozen=True, slots=True)
class Deny(Command):
    """Turn somebody's request down (admin)."""

    type = "deny"
    name: str


@dataclass(frozen=True, slots=True)
class Kick(Command):
    """End somebody's membership (admin)."""

    type = "kick"
    name: str


@dataclass(frozen=True, slots=True)
class TransferAdmin(Command):
    """Make another member the admin (admin)."""

    type = "transfer_admin"
    name: str


@dataclass(frozen=True, slots=True)
class Invite(Command):
    """Let whoever shows a token join once, without being approved (admin).

    `digest` is the SHA-256 of the token, which stays with the client; `lasts` is in ms; `name`
    is the only one who may use it, if it is for somebody.
    """

    type = "invite"
    digest: bytes
    lasts: int
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Post(Command):
    """Say something to the group, perhaps in reply to the message that is its event `reply`."""

    type = "post"
    text: str
    reply: int | None = None


@dataclass(frozen=True, slots=True)
class Edit(Command):
    """Say something else in the message that is event `target` (its author)."""

    type = "edit"
    target: int
    text: str


@dataclass(frozen=True, slots=True)
class Delete(Command):
    """Take the message that is event `target` away, off the disk, too (its author, the admin)."""

    type = "delete"
    target: int


@dataclass(frozen=True, slots=True)
class Ban(Command):
    """End somebody's membership or request, and let them ask no more (admin)."""

    type = "ban"
    name: str


@dataclass(frozen=True, slots=True)
class Unban(Command):
    """Let somebody ask to join again (admin)."""

    type = "unban"
    name: str


@dataclass(frozen=True, slots=True)
class SetTopic(Command):
    """Say what the group is about; an empty text takes that back (admin)."""

    type = "set_topic"
    text: str


@dataclass(frozen=True, slots=True)
class SetPolicy(Command):
    """Let everybody in who wants to join, or only who is approved (admin)."""

    type = "set_policy"
    policy: Policy


@dataclass(frozen=True, slots=True)
class Share(Command):
    """Announce a file that was uploaded before: its name, size in bytes and SHA-256."""

    type = "share"
    name: str
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class RemoveFile(Command):
    """Take a file from the group's shelf (its sender, or the admin)."""

    type = "remove_file"
    number: int


COMMANDS: tuple[type[Command], ...] = (
    Join,
    Leave,
    Approve,
    Deny,
    Kick,
    TransferAdmin,
    Invite,
    Post,
    Share,
    RemoveFile,
    Edit,
    Delete,
    Ban,
    Unban,
    SetTopic,
    SetPolicy,
)
