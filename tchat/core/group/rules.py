"""The rules of a group.

A group is an ordered log of events, and its state is a fold over that log. Two functions say all
there is to say about it:

- `decide(group, author, command, now)` answers what a command would add to the log, or raises
  `Refused`. It changes nothing.
- `Group.apply(event)`, in `state`, takes one event into the state, and never fails. Whatever
  must follow from a command is therefore written out as events (an admin who leaves causes
  `admin_transferred`, then `left`) and never left to `apply` to guess.

Exactly once: every command carries the client's random id and its number. The group remembers
which numbers were done, so a command that comes again is recognised for ever, and `decide` answers
it with no events.

People come in by the admin's approval or by an invite, a token that the log knows by its digest
alone. It is used once, since using it and becoming a member are one event, and it holds only
while who gave it is a member. Whoever the admin put out, by kick or ban, uses none from before.

An open group lets in whoever asks, and opening it lets in whoever waits. A ban holds against all
of these, until the admin takes it back or the group is founded anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tchat.core.fingerprints import token_digest
from tchat.core.group.commands import (
    Approve,
    Ban,
    Command,
    Delete,
    Deny,
    Edit,
    Invite,
    Join,
    Kick,
    Leave,
    Post,
    RemoveFile,
    SetPolicy,
    SetTopic,
    Share,
    TransferAdmin,
    Unban,
)
from tchat.core.group.events import (
    AdminTransferred,
    Approved,
    Banned,
    Body,
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
from tchat.core.text import check_text, fold, quote_name
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from tchat.core.group.commands import Policy
    from tchat.core.group.state import Author, Group

SHA256_SIZE = 32
LONGEST_INVITE_MS = 30 * 24 * 3600 * 1000
TOPIC_LIMIT = 200
"""Longest topic, in code points."""

MOST_EDITS = 100
"""How often a message may be changed: the state remembers each time."""

_FOR_TWO = (Post, Edit, Delete)


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """How large a group may become: members, pending requests, open invites, bans, files.

    Its state travels in one piece (`core.snapshots`), which all of that has to fit into.
    """

    members: int = 2000
    requests: int = 100
    invites: int = 100
    bans: int = 2000
    files: int = 30_000


DEFAULT_LIMITS = GroupLimits()


def decide(
    group: Group,
    author: Author,
    command: Command,
    now: int,
    limits: GroupLimits = DEFAULT_LIMITS,
    target: Event | None = None,
) -> list[Event]:
    """Return the events that `command` adds to the log, in order; none if it was done before.

    `now` is in milliseconds since the Unix epoch; a clock that went back does not take the log
    with it. `target` is the event that the command speaks of, if the log has it: the state does
    not hold what was said. Raises `Refused`.
    """
    if group.has_done(author, command.n):
        return []
    at = max(now, group.at)
    if group.direct and not isinstance(command, _FOR_TWO):
        raise Refused(Code.DIRECT, "This cannot be done in a conversation of two.")
    if isinstance(command, Edit | Delete):
        bodies = [_change_message(group, author.name, command, target)]
    else:
        bodies = _bodies(group, author, command, at, limits)
    name = group.name if group.members else command.group
    return [
        Event(name, group.seq + offset, at, author.name, author.client, command.n, body)
        for offset, body in enumerate(bodies, start=1)
    ]


def _bodies(
    group: Group, author: Author, command: Command, at: int, limits: GroupLimits
) -> list[Body]:
    actor = author.name
    match command:
        case Post(text=text, reply=reply):
            return _post(group, actor, text, reply)
        case Share(name=name, size=size, sha256=sha256):
            _require_member(group, actor)
            if not name or len(sha256) != SHA256_SIZE:
                raise Refused(Code.BAD_FILE, "A file needs a name and a SHA-256 digest.")
            if len(group.files) >= limits.files:
                raise Refused(
                    Code.GROUP_FULL, f"The group has {limits.files} files; /remove some of them."
                )
            return [FileShared(group.numbered + 1, name, size, sha256)]
        case RemoveFile(number=number):
            return _remove_file(group, actor, number)
        case Join(invite=token):
            if token is None:
                return _join(group, author, limits)
            return _join_invited(group, author, token, at, limits)
        case Leave():
            return _leave(group, actor)
    return _bodies_by_admin(group, actor, command, at, limits)


def _bodies_by_admin(
    group: Group, actor: str, command: Command, at: int, limits: GroupLimits
) -> list[Body]:
    match command:
        case Approve(name=name):
            requester = _requester(group, actor, name)
            _require_room(group, limits)
            return [Approved(requester)]
        case Deny(name=name):
            return [Denied(_requester(group, actor, name))]
        case Kick(name=name):
            oneself = "You cannot kick yourself; /leave ends your membership."
            return [Kicked(_other_member(group, actor, name, oneself))]
        case TransferAdmin(name=name):
            return [AdminTransferred(_other_member(group, actor, name, "You are the admin."))]
        case Invite():
            return _invite(group, actor, command, at, limits)
        case Ban(name=name):
            return _ban(group, actor, name, limits)
        case Unban(name=name):
            return _unban(group, actor, name)
        case SetTopic(text=text):
            return _set_topic(group, actor, text)
        case SetPolicy(policy=policy):
            return _set_policy(group, actor, policy, limits)
    raise TypeError(f"no rule for {type(command).__name__}")


def _post(group: Group, actor: str, text: str, reply: int | None) -> list[Body]:
    _require_member(group, actor)
    check_text(text)
    if reply is not None and not max(group.floor, 1) <= reply <= group.seq:
        raise _no_such_message()
    return [Posted(text, reply)]


def _join(group: Group, author: Author, limits: GroupLimits) -> list[Body]:
    if not group.members:
        return [Created(author.key)]
    if group.standing(author.name) == "member":
        return []
    _require_not_banned(group, author.name)
    if group.policy == "open":
        _require_room(group, limits)
        return [Joined(key=author.key)]
    if group.standing(author.name) == "waiting":
        return []
    if len(group.requests) >= limits.requests:
        raise Refused(
            Code.GROUP_FULL,
            f"{len(group.requests)} people wait for approval here already; try again later.",
        )
    return [Requested(author.key)]


def _join_invited(
    group: Group, author: Author, token: bytes, at: int, limits: GroupLimits
) -> list[Body]:
    digest = token_digest(token)
    person = fold(author.name)
    if person in group.members:
        return []
    _require_not_banned(group, author.name)
    invitation = group.invites.get(digest)
    if invitation is None:
        raise Refused(Code.BAD_INVITE, "This invite was used already, or is not for this group.")
    if invitation.expires <= at:
        raise Refused(Code.BAD_INVITE, "This invite has expired.")
    if invitation.name not in (None, person):
        raise Refused(Code.BAD_INVITE, "This invite is for somebody of another name.")
    if group.kicked.get(person, 0) > invitation.seq:
        raise Refused(Code.BAD_INVITE, "You were kicked after this invite was given.")
    _require_room(group, limits)
    return [Joined(group.members[invitation.by], digest, author.key)]


def _invite(group: Group, actor: str, command: Invite, at: int, limits: GroupLimits) -> list[Body]:
    _require_admin(group, actor)
    if len(command.digest) != SHA256_SIZE or not 0 < command.lasts <= LONGEST_INVITE_MS:
        raise Refused(Code.BAD_INVITE, "An invite lasts for some time, and at most 30 days.")
    if command.name is not None and fold(command.name) in group.banned:
        raise Refused(
            Code.BANNED, f"{quote_name(command.name)} is banned, and no invite changes that."
        )
    if sum(invitation.expires > at for invitation in group.invites.values()) >= limits.invites:
        raise Refused(
            Code.GROUP_FULL, f"{limits.invites} invites are open already; wait until some expire."
        )
    return [Invited(command.digest, at + command.lasts, command.name)]


def _require_room(group: Group, limits: GroupLimits) -> None:
    if len(group.members) >= limits.members:
        raise Refused(
            Code.GROUP_FULL, f"The group has {limits.members} members, which is all it may have."
        )


def _no_such_message() -> Refused:
    return Refused(Code.NO_SUCH_MESSAGE, "There is no such message, or not any more.")


def _change_message(group: Group, actor: str, command: Edit | Delete, target: Event | None) -> Body:
    """Return what becomes of a message. One of a former life of the group is not there any more."""
    _require_member(group, actor)
    if target is None or target.seq < group.floor or not isinstance(target.body, Posted):
        raise _no_such_message()
    is_author = fold(target.actor) == fold(actor)
    if isinstance(command, Edit):
        if not is_author:
            raise Refused(Code.NOT_AUTHOR, f"Only {target.actor} may change this message.")
        if len(group.edits.get(target.seq, ())) >= MOST_EDITS:
            raise Refused(Code.EDITED_OFTEN, f"A message may be changed {MOST_EDITS} times.")
        check_text(command.text)
        return Edited(command.target, command.text)
    if not (is_author or group.is_admin(actor)):
        who = target.actor if group.direct else f"{target.actor} or the admin"
        raise Refused(Code.NOT_AUTHOR, f"Only {who} may delete this message.")
    return Deleted(command.target)


def _ban(group: Group, actor: str, name: str, limits: GroupLimits) -> list[Body]:
    _require_admin(group, actor)
    person = fold(name)
    if person == fold(actor):
        raise Refused(Code.YOURSELF, "You cannot ban yourself; /leave ends your membership.")
    if person in group.banned:
        return []
    if len(group.banned) >= limits.bans:
        raise Refused(
            Code.GROUP_FULL, f"{limits.bans} people are banned already; take some of that back."
        )
    asked = group.requests.get(person)
    return [Banned(asked.name if asked else group.members.get(person, name))]


def _unban(group: Group, actor: str, name: str) -> list[Body]:
    _require_admin(group, actor)
    if fold(name) not in group.banned:
        raise Refused(Code.NO_SUCH_BAN, f"{quote_name(name)} is not banned.")
    return [Unbanned(group.banned[fold(name)])]


def _set_topic(group: Group, actor: str, text: str) -> list[Body]:
    _require_admin(group, actor)
    if len(text) > TOPIC_LIMIT:
        raise Refused(Code.TEXT_TOO_LONG, f"A topic has at most {TOPIC_LIMIT} characters.")
    return [TopicSet(text)] if text != group.topic else []


def _set_policy(group: Group, actor: str, policy: Policy, limits: GroupLimits) -> list[Body]:
    """Return the change and, in a group that opens, the approval of those who wait for it."""
    _require_admin(group, actor)
    if policy == group.policy:
        return []
    room = max(limits.members - len(group.members), 0) if policy == "open" else 0
    waiting = list(group.requests.values())[:room]
    return [PolicySet(policy), *(Approved(request.name) for request in waiting)]


def _require_not_banned(group: Group, actor: str) -> None:
    if fold(actor) in group.banned:
        raise Refused(Code.BANNED, "You were banned from this group; only its admin can undo that.")


def _remove_file(group: Group, actor: str, number: int) -> list[Body]:
    _require_member(group, actor)
    file = group.files.get(number)
    if file is None:
        raise Refused(Code.NO_SUCH_FILE, f"There is no file {number}; /files lists what there is.")
    if fold(file.by) != fold(actor) and not group.is_admin(actor):
        raise Refused(
            Code.NOT_ADMIN, f"Only {file.by}, who shared it, or the admin may remove this file."
        )
    return [FileRemoved(number)]


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
    if standing == "outsider" and group.direct:
        raise Refused(Code.NOT_MEMBER, "This is a conversation of two others.")
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
        return asked.name
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
