"""Commands: what a client asks a group to do. Each is answered by `Ok` or `Failed`.

`id` names the request on its connection; `n` counts the requests of one client over all its
connections, so that one which is sent again after a broken connection is done once.
"""

from __future__ import annotations

from typing import Literal

from tchat.core.protocol.schema import Frame, record

Policy = Literal["approval", "open"]
"""Who may join a group: those whom the admin approves, or everybody."""


@record
class Command(Frame):
    """A request that may append to a group's log."""

    id: int
    n: int
    group: str


@record
class Join(Command):
    """Create the group, or ask its admin to be let in; with an `invite` (16 bytes), be in."""

    type = "join"
    invite: bytes | None = None


@record
class Leave(Command):
    """End one's membership, or take one's request to join back."""

    type = "leave"


@record
class Approve(Command):
    """Let somebody in who asked (admin)."""

    type = "approve"
    name: str


@record
class Deny(Command):
    """Turn somebody's request down (admin)."""

    type = "deny"
    name: str


@record
class Kick(Command):
    """End somebody's membership (admin)."""

    type = "kick"
    name: str


@record
class TransferAdmin(Command):
    """Make another member the admin (admin)."""

    type = "transfer_admin"
    name: str


@record
class Invite(Command):
    """Let whoever shows a token join once, without being approved (admin).

    `digest` is the SHA-256 of the token, which stays with the client; `lasts` is in ms; `name`
    is the only one who may use it, if it is for somebody.
    """

    type = "invite"
    digest: bytes
    lasts: int
    name: str | None = None


@record
class Post(Command):
    """Say something to the group, perhaps in reply to the message that is its event `reply`."""

    type = "post"
    text: str
    reply: int | None = None


@record
class Edit(Command):
    """Say something else in the message that is event `target` (its author)."""

    type = "edit"
    target: int
    text: str


@record
class Delete(Command):
    """Take the message that is event `target` away, off the disk, too (its author, the admin)."""

    type = "delete"
    target: int


@record
class Ban(Command):
    """End somebody's membership or request, and let them ask no more (admin)."""

    type = "ban"
    name: str


@record
class Unban(Command):
    """Let somebody ask to join again (admin)."""

    type = "unban"
    name: str


@record
class SetTopic(Command):
    """Say what the group is about; an empty text takes that back (admin)."""

    type = "set_topic"
    text: str


@record
class SetPolicy(Command):
    """Let everybody in who wants to join, or only who is approved (admin)."""

    type = "set_policy"
    policy: Policy


@record
class Share(Command):
    """Announce a file that was uploaded before: its name, size in bytes and SHA-256."""

    type = "share"
    name: str
    size: int
    sha256: bytes


@record
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
