"""Membership: join, approve, deny, leave, kick, ban, unban, invite, transfer the admin role.

People join with the admin's approval or with an invite; an open group (`settings`) needs neither.
An invite is a random token, and the log contains only its SHA-256. It is single-use: the event that
adds the member also removes the invite. It is valid only while its creator is a member, and people
who were kicked or banned cannot use invites created before that.

A banned person cannot join in any way until the admin lifts the ban or the group is founded anew.
The ban also holds for their keys, that is, those that the group knows them by: that of their last
request, that of their membership, and those of earlier memberships. Nobody else with one of these
keys can join; who is a member already stays one. A key that is also the admin's is not banned.

A person whose request was denied may ask again after `COOL_DOWN_MS`, under any name with the same
key. Until then, an invite lets them in.

A group has one admin while it has members. When the admin leaves, the role passes to the
longest-standing member, in a separate event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.fingerprints import SHA256_SIZE, fingerprint, token_digest
from tchat.core.group.compaction import DENIALS, KEYS_OF_A_BAN
from tchat.core.group.feature import (
    Body,
    Command,
    Context,
    Event,
    LogLine,
    Name,
    StandingChange,
    is_me,
)
from tchat.core.group.state import Denial, Group, Invitation, JoinRequest
from tchat.core.lookalikes import check_new_group
from tchat.core.protocol.schema import record
from tchat.core.text import fold, quote_name
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from tchat.core.group.feature import Reader

LONGEST_INVITE_MS = 30 * 24 * 3600 * 1000

COOL_DOWN_MS = 3600 * 1000
"""How long a person whose request was denied has to wait before the next one."""


# ------------------------------------------------------------------ join


@record
class Join(Command):
    """Found the group, or ask to join it; with an `invite` (16 bytes), join without approval.

    With `create` False, a group that does not exist is refused. It is a part of the command, so
    that nothing can happen between asking whether the group exists and joining it.
    """

    type = "join"
    needs_timer = True
    invite: bytes | None = None
    create: bool | None = None

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Found the group, use the invite, join an open group, or ask to join."""
        if self.invite is not None:
            return _join_by_invite(group, context, self.invite)
        if not group.members:
            if self.create is False:
                raise Refused(Code.NO_SUCH_GROUP, f"There is no group {quote_name(self.group)}.")
            check_new_group(self.group)
            return [Created(context.author.key)]
        if group.standing(context.name) == "member":
            return []
        group.require_not_banned(context.name, context.author.key)
        if group.policy == "open":
            _require_room(group, context)
            return [Joined(key=context.author.key)]
        if group.standing(context.name) == "waiting":
            return []
        _require_no_denial(group, context)
        if len(group.requests) >= context.limits.requests:
            raise Refused(
                Code.GROUP_FULL,
                f"{len(group.requests)} people already wait for approval here; try again later.",
            )
        return [Requested(context.author.key)]


def _join_by_invite(group: Group, context: Context, token: bytes) -> list[Body]:
    digest = token_digest(token)
    person = fold(context.name)
    if person in group.members:
        return []
    group.require_not_banned(context.name, context.author.key)
    invitation = group.invites.get(digest)
    if invitation is None:
        raise Refused(Code.BAD_INVITE, "This invite was used already, or is not for this group.")
    if invitation.expires <= context.timer:
        raise Refused(Code.BAD_INVITE, "This invite has expired.")
    if invitation.name not in (None, person):
        raise Refused(Code.BAD_INVITE, "This invite is for somebody else.")
    if group.kicked.get(person, 0) > invitation.seq:
        raise Refused(Code.BAD_INVITE, "This invite was created before you were kicked or banned.")
    _require_room(group, context)
    return [Joined(group.members[invitation.by], digest, context.author.key)]


@record
class Created(Body):
    """The actor founded the group, or a closed group anew, and is its admin.

    Here and below, `key` is the public key (Ed25519, 32 bytes) that the actor authenticated with;
    it is absent in logs from versions without keys.
    """

    kind = "created"
    changes_standing = True
    changes_files = True
    log_lines = (LogLine("group_created", "new group {group} by {user}"),)
    key: bytes | None = None

    def apply(self, group: Group, event: Event) -> None:
        """Reset the group to one member, its admin."""
        group.reset()
        group.name, group.floor = event.group, event.seq
        group.admin = fold(event.actor)
        _admit(group, event.actor, self.key, event.seq)

    def standing_change(self, event: Event) -> StandingChange:
        """Return that the actor is a member."""
        return StandingChange(fold(event.actor), "member", "created", event.actor)

    def sentence(self, event: Event, reader: Reader) -> str:
        """Return who founded the group."""
        mine = ", and you are its admin" * is_me(event.actor, reader)
        return f"{event.actor} created {event.group}{mine}"


@record
class Requested(Body):
    """The actor asks to join."""

    kind = "requested"
    changes_standing = True
    log_lines = (LogLine("join_requested", "{user} asks to join {group}"),)
    key: bytes | None = None

    def apply(self, group: Group, event: Event) -> None:
        """Add the request."""
        group.requests[fold(event.actor)] = JoinRequest(event.actor, self.key)

    def standing_change(self, event: Event) -> StandingChange:
        """Return that the actor waits for approval."""
        return StandingChange(fold(event.actor), "waiting", "requested", event.actor)

    def addressees(self, group: Group, people: Collection[str]) -> Collection[str]:
        """Return the admin."""
        return [group.admin] if group.admin is not None and group.admin in people else ()

    def sentence(self, event: Event, reader: Reader) -> str:
        """Return who asks to join, with a note about their key, if the reader is the admin."""
        if not reader.is_admin:
            return ""
        if reader.keys is None:
            return f"{event.actor} asked to join"
        note = f" ({key_note(self.key, reader.keys)})" if self.key else ""
        return f"{event.actor} asks to join{note}"


@record
class Joined(Body):
    """The actor joined: with an `invite` that `by` created, or because the group is open."""

    kind = "joined"
    names = ("by",)
    changes_standing = True
    log_lines = (
        LogLine("member_joined", "{user} joined {group}, invited by {name}"),
        LogLine("open_group_joined", "{user} joined {group}, which is open"),
    )
    by: str | None = None
    invite: bytes | None = None
    key: bytes | None = None

    def apply(self, group: Group, event: Event) -> None:
        """Add the member, and remove the invite."""
        group.invites.pop(self.invite or b"", None)
        _admit(group, event.actor, self.key, event.seq)

    def standing_change(self, event: Event) -> StandingChange:
        """Return that the actor is a member."""
        return StandingChange(fold(event.actor), "member", "joined", self.by or event.actor)

    def log_line(self) -> LogLine:
        """Return the line for an invite, or for an open group."""
        by_invite, by_policy = self.log_lines
        return by_invite if self.by else by_policy

    def log_facts(self) -> dict[str, str | int]:
        """Return who created the invite."""
        return {"name": self.by} if self.by else {}

    def sentence(self, event: Event, reader: Reader) -> str:
        """Return who joined, and by whose invite."""
        return f"{event.actor} joined" + (f", invited by {self.by}" if self.by else "")


# ------------------------------------------------------------------ approve, deny


@record
class Approve(Command):
    """Admit somebody who asked to join (admin)."""

    type = "approve"
    allowed = "admin"
    name: Name

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Admit the person, if the group has room."""
        requester = _requester(group, self.name)
        banned = group.ban_on(requester, group.requests[fold(requester)].key)
        if banned is not None:
            raise Refused(
                Code.BANNED,
                f"{quote_name(requester)} has the key of {quote_name(banned)}, who is banned; lift"
                " the ban first.",
            )
        _require_room(group, context)
        return [Approved(requester)]


@record
class Approved(Body):
    """The actor, the admin, approved the request of `name`, who is a member from now on."""

    kind = "approved"
    names = ("name",)
    changes_standing = True
    log_lines = (LogLine("join_approved", "{user} approved {name} for {group}"),)
    name: str

    def apply(self, group: Group, event: Event) -> None:
        """Turn the request into a membership."""
        request = group.requests.get(fold(self.name))
        _admit(group, self.name, request.key if request else None, event.seq)

    def standing_change(self, event: Event) -> StandingChange:
        """Return that the person is a member."""
        return StandingChange(fold(self.name), "member", "approved", event.actor)

    def sentence(self, event: Event, reader: Reader) -> str:
        """Return who joined, and who approved it."""
        return f"{self.name} joined, approved by {event.actor}"


@record
class Deny(Command):
    """Turn down somebody's request to join (admin)."""

    type = "deny"
    allowed = "admin"
    needs_timer = True
    name: Name

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Turn the request down."""
        return [Denied(_requester(group, self.name), context.timer + COOL_DOWN_MS)]


@record
class DenyAll(Command):
    """Turn down all requests to join (admin)."""

    type = "deny_all"
    allowed = "admin"
    needs_timer = True

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Turn each request down."""
        if not group.requests:
            raise Refused(Code.NO_SUCH_REQUEST, "Nobody is asking to join.")
        until = context.timer + COOL_DOWN_MS
        return [Denied(request.name, until) for request in group.requests.values()]


@record
class Denied(Body):
    """The actor, the admin, turned down the request of `name`.

    They may ask again at `until`, by the server's timer (see `Context.timer`); events of earlier
    versions lack it.
    """

    kind = "denied"
    names = ("name",)
    changes_standing = True
    name: str
    until: int | None = None

    def apply(self, group: Group, event: Event) -> None:
        """Remove the request, and remember when it was denied."""
        person = fold(self.name)
        request = group.requests.pop(person, None)
        group.deny(person, Denial(event.at, request.key if request else None, self.until))
        _drop_old_denials(group, event.at)

    def standing_change(self, event: Event) -> StandingChange:
        """Return that the person is no longer waiting."""
        return StandingChange(fold(self.name), "outsider", "denied", event.actor)

    def sentence(self, event: Event, reader: Reader) -> str:
        """Return who was denied, for the admin."""
        return f"{event.actor} denied {self.name}" if reader.is_admin else ""


# ------------------------------------------------------------------ leave


@record
class Leave(Command):
    """End one's own membership, or withdraw one's own request to join.

    The last member's leave closes the group, and all its events are erased.
    """

    type = "leave"
    erases = True

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Leave; first pass the admin role to the longest-standing other member."""
        if group.standing(context.name) == "waiting":
            return [Withdrawn()]
        group.require_member(context.name)
        if not group.is_admin(context.name) or len(group.members) == 1:
            return [Left()]
        return [AdminTransferred(group.successor), Left()]


@record
class Left(Body):
    """The actor left the group. A group without members is closed."""

    kind = "left"
    changes_standing = changes_files = True

    def apply(self, group: Group, event: Event) -> None:
        """Remove the member."""
        _remove(group, fold(event.actor))

    def standing_change(self, event: Event) -> StandingChange:
        """Return that the actor is no longer a member."""
        return StandingChange(fold(event.actor), "outsider", "left", event.actor)

    def sentence(self, event: Event, reader: Reader) -> str:
        """Return who left."""
        return f"{event.actor} left the group"


@record
class Withdrawn(Body):
    """The actor withdrew the request to join."""

    kind = "withdrawn"
    changes_standing = True

    def apply(self, group: Group, event: Event) -> None:
        """Remove the request."""
        group.requests.pop(fold(event.actor), None)

    def standing_change(self, event: Event) -> StandingChange:
        """Return that the actor is no longer waiting."""
        return StandingChange(fold(event.actor), "outsider", "left", event.actor)

    def sentence(self, event: Event, reader: Reader) -> str:
        """Return who withdrew a request, for the admin."""
        return f"{event.actor} no longer asks to join" if reader.is_admin else ""


# ------------------------------------------------------------------ kick, ban, unban


@record
class Kick(Command):
    """End somebody's membership (admin)."""

    type = "kick"
    allowed = "admin"
    name: Name

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Remove the member."""
        yourself = "You cannot kick yourself; leave the group instead."
        return [Kicked(_other_member(group, context, self.name, yourself))]


@record
class Kicked(Body):
    """The actor, the admin, ended the membership of `name`."""

    kind = "kicked"
    names = ("name",)
    changes_standing = True
    log_lines = (LogLine("member_kicked", "{user} kicked {name} from {group}"),)
    name: str

    def apply(self, group: Group, event: Event) -> None:
        """Remove the member, and record the seq: older invites are void for them."""
        _expel(group, fold(self.name), event.seq)

    def standing_change(self, event: Event) -> StandingChange:
        """Return that the person is an outsider now."""
        return StandingChange(fold(self.name), "outsider", "kicked", event.actor)

    def sentence(self, event: Event, reader: Reader) -> str:
        """Return who kicked whom."""
        return f"{event.actor} kicked {self.name}"


@record
class Ban(Command):
    """End somebody's membership or request, and keep them from coming back (admin)."""

    type = "ban"
    allowed = "admin"
    name: Name

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Ban the person, member or not, unless they are banned already."""
        person = fold(self.name)
        if person == fold(context.name):
            raise Refused(Code.YOURSELF, "You cannot ban yourself; leave the group instead.")
        if person in group.banned:
            return []
        if len(group.banned) >= context.limits.bans:
            raise Refused(
                Code.GROUP_FULL,
                f"The group has reached its limit of {context.limits.bans} bans; lift one first.",
            )
        request = group.requests.get(person)
        name = request.name if request else group.members.get(person, self.name)
        return [Banned(name), *self._requests_with_same_key(group, person)]

    def _requests_with_same_key(self, group: Group, person: str) -> list[Body]:
        """Deny the requests that the ban makes hopeless."""
        keys = _keys_of(group, person)
        others = (request for asking, request in group.requests.items() if asking != person)
        return [Denied(request.name) for request in others if request.key in keys]


@record
class Banned(Body):
    """The actor, the admin, banned `name` and ended their membership or request."""

    kind = "banned"
    names = ("name",)
    changes_standing = True
    log_lines = (LogLine("person_banned", "{user} banned {name} from {group}"),)
    name: str

    def apply(self, group: Group, event: Event) -> None:
        """Remove the member or the request, and record the ban."""
        person = fold(self.name)
        keys = _keys_of(group, person)  # as long as the group knows them
        _expel(group, person, event.seq)
        group.requests.pop(person, None)
        group.ban(self.name, keys)

    def standing_change(self, event: Event) -> StandingChange:
        """Return that the person is an outsider now."""
        return StandingChange(fold(self.name), "outsider", "banned", event.actor)

    def sentence(self, event: Event, reader: Reader) -> str:
        """Return who banned whom."""
        return f"{event.actor} banned {self.name}"


@record
class Unban(Command):
    """Lift a ban, on the name and the keys, so that the person may ask to join again (admin)."""

    type = "unban"
    allowed = "admin"
    name: Name

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Lift the ban."""
        if fold(self.name) not in group.banned:
            raise Refused(Code.NO_SUCH_BAN, f"{quote_name(self.name)} is not banned.")
        return [Unbanned(group.banned[fold(self.name)])]


@record
class Unbanned(Body):
    """The actor, the admin, lifted the ban on `name`."""

    kind = "unbanned"
    names = ("name",)
    changes_standing = True
    log_lines = (LogLine("person_unbanned", "{user} unbanned {name} from {group}"),)
    name: str

    def apply(self, group: Group, event: Event) -> None:
        """Lift the ban."""
        group.unban(fold(self.name))

    def standing_change(self, event: Event) -> StandingChange:
        """Return that the person, still an outsider, may ask to join again."""
        return StandingChange(fold(self.name), "outsider", "unbanned", event.actor)

    def sentence(self, event: Event, reader: Reader) -> str:
        """Return who unbanned whom."""
        return f"{event.actor} unbanned {self.name}"


# ------------------------------------------------------------------ the admin role


@record
class TransferAdmin(Command):
    """Make another member the admin (admin)."""

    type = "transfer_admin"
    allowed = "admin"
    name: Name

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Transfer the role to another member."""
        return [
            AdminTransferred(_other_member(group, context, self.name, "You are the admin already."))
        ]


@record
class AdminTransferred(Body):
    """The actor, until now the admin, made `name` the admin."""

    kind = "admin_transferred"
    names = ("name",)
    log_lines = (LogLine("admin_transferred", "{user} made {name} the admin of {group}"),)
    name: str

    def apply(self, group: Group, event: Event) -> None:
        """Set the admin."""
        group.admin = fold(self.name)

    def addressees(self, group: Group, people: Collection[str]) -> Collection[str]:
        """Return the new admin."""
        return [fold(self.name)] if fold(self.name) in people else ()

    def sentence(self, event: Event, reader: Reader) -> str:
        """Return who is the admin now."""
        mine = ": that is you" * is_me(self.name, reader)
        return f"{event.actor} made {self.name} the admin{mine}"


# ------------------------------------------------------------------ invites


@record
class Invite(Command):
    """Create a single-use invite to join without approval (admin).

    `digest` is the SHA-256 of the token; the token itself is not sent. `lasts` is the validity in
    ms. An invite with a `name` is for that person only.
    """

    type = "invite"
    allowed = "admin"
    needs_timer = True
    digest: bytes
    lasts: int
    name: Name | None = None

    def decide(self, group: Group, context: Context) -> list[Body]:
        """Add the invite if there are not too many; expired ones do not count."""
        if len(self.digest) != SHA256_SIZE:
            raise Refused(Code.BAD_INVITE, "An invite needs the SHA-256 digest of its token.")
        if not 0 < self.lasts <= LONGEST_INVITE_MS:
            raise Refused(
                Code.BAD_INVITE, "An invite is valid for at most 30 days, and at least 1 ms."
            )
        if self.name is not None and fold(self.name) in group.banned:
            raise Refused(
                Code.BANNED,
                f"{quote_name(self.name)} is banned; lift the ban before inviting them.",
            )
        valid = sum(invitation.expires > context.timer for invitation in group.invites.values())
        if valid >= context.limits.invites:
            raise Refused(
                Code.GROUP_FULL,
                f"The group has reached its limit of {context.limits.invites} open invites;"
                " wait until one expires.",
            )
        return [Invited(self.digest, context.timer + self.lasts, self.name)]


@record
class Invited(Body):
    """The actor, the admin, created a single-use invite; `invite` is the SHA-256 of its token.

    It is valid until `expires` (ms since the Unix epoch), and only for `name` if that is given.
    """

    kind = "invited"
    names = ("name",)
    invite: bytes
    expires: int
    name: str | None = None

    def apply(self, group: Group, event: Event) -> None:
        """Add the invite, and drop those that have expired."""
        for digest in [d for d, open_one in group.invites.items() if open_one.expires <= event.at]:
            del group.invites[digest]
        name = fold(self.name) if self.name else None
        group.invites[self.invite] = Invitation(
            self.invite, event.seq, fold(event.actor), self.expires, name
        )

    def sentence(self, event: Event, reader: Reader) -> str:
        """Return who created an invite, and for whom."""
        return f"{event.actor} made an invite" + (f" for {self.name}" if self.name else "")


# ------------------------------------------------------------------ shared rules and folds


def key_note(key: bytes, keys: Mapping[bytes, str]) -> str:
    """Return a note about a key: "key 3f2a-91c4-77de-0b12, new here".

    `keys` maps the public keys of present and former members to their names.
    """
    known = keys.get(key)
    was = f"its owner was a member as {known}" if known else "new here"
    return f"key {fingerprint(key)}, {was}"


def _require_room(group: Group, context: Context) -> None:
    if len(group.members) >= context.limits.members:
        raise Refused(
            Code.GROUP_FULL,
            f"The group has reached its limit of {context.limits.members} members.",
        )


def _require_no_denial(group: Group, context: Context) -> None:
    """Raise `Refused` (denied) if the person's last request was denied a short time ago."""
    wait = wait_after_denial(group, context.name, context.author.key, context.timer)
    if not wait:
        return
    minutes = -(-wait // 60_000)
    when = "a minute" if minutes == 1 else f"{minutes} minutes"
    raise Refused(
        Code.DENIED,
        f"{group.admin_name}, the admin, denied your request; you can ask again in {when}. With an"
        " invite, you can join at once.",
    )


def wait_after_denial(group: Group, name: str, key: bytes | None, timer: int) -> int:
    """Return after how many ms a person may ask to join again; 0 if they may do so now.

    `timer` is as in `Context`. The dates of events do not say how much time has passed: if a clock
    was ahead and was set back, they stand still for as long.
    """
    people = {fold(name)}
    if key is not None:
        people.update(group.denials_by_key.get(key, ()))
    theirs = [group.denied[person] for person in people if person in group.denied]
    ends = [one.at + COOL_DOWN_MS if one.until is None else one.until for one in theirs]
    return min(max(max(ends, default=0) - timer, 0), COOL_DOWN_MS)


def _drop_old_denials(group: Group, now: int) -> None:
    while group.denied:
        person, earliest = next(iter(group.denied.items()))
        if len(group.denied) <= DENIALS and earliest.at + COOL_DOWN_MS > now:
            return
        group.forget_denial(person)


def _keys_of(group: Group, person: str) -> tuple[bytes, ...]:
    """Return the latest keys that a person (folded) is known by, except that of the admin."""
    request = group.requests.get(person)
    asked = {request.key: None} if request and request.key else {}
    keys = _keys_of_member(group, person) | asked
    of_admin = _keys_of_member(group, group.admin or "")
    return tuple(key for key in keys if key not in of_admin)[-KEYS_OF_A_BAN:]


def _keys_of_member(group: Group, person: str) -> dict[bytes, None]:
    """Return the keys that a present or former member (folded) was admitted with, in order."""
    keys = dict.fromkeys(group.keys_by_person.get(person, ()))
    if person in group.held:
        keys[group.held[person]] = None
    return keys


def _requester(group: Group, name: str) -> str:
    """Return the display name of a person who asked to join."""
    request = group.requests.get(fold(name))
    if request is not None:
        return request.name
    if fold(name) in group.members:
        raise Refused(Code.ALREADY_MEMBER, f"{quote_name(name)} is a member already.")
    raise Refused(Code.NO_SUCH_REQUEST, f"{quote_name(name)} has not asked to join.")


def _other_member(group: Group, context: Context, name: str, yourself: str) -> str:
    """Return the display name of a member other than the author."""
    if fold(name) == fold(context.name):
        raise Refused(Code.YOURSELF, yourself)
    known = group.members.get(fold(name))
    if known is not None:
        return known
    if fold(name) in group.requests:
        raise Refused(
            Code.NO_SUCH_MEMBER, f"{quote_name(name)} is not a member yet, but has asked to join."
        )
    raise Refused(Code.NO_SUCH_MEMBER, f"{quote_name(name)} is not a member.")


def _admit(group: Group, name: str, key: bytes | None, seq: int) -> None:
    person = fold(name)
    group.joined.setdefault(person, seq)
    group.requests.pop(person, None)
    group.kicked.pop(person, None)
    group.forget_denial(person)
    group.members.setdefault(person, name)
    if key is not None:
        holder = fold(group.keys.get(key, name))
        group.add_key(key, name)
        if holder != person and holder in group.members:
            group.held[holder] = key


def _expel(group: Group, person: str, seq: int) -> None:
    _remove(group, person)
    group.kicked.pop(person, None)  # put back last: the order is that of the kicks
    group.kicked[person] = seq


def _remove(group: Group, person: str) -> None:
    """Remove a member and the invites they created; close the group if it has no members left."""
    group.members.pop(person, None)
    group.joined.pop(person, None)
    group.held.pop(person, None)
    for digest in [d for d, invitation in group.invites.items() if invitation.by == person]:
        del group.invites[digest]
    if not group.members:
        group.reset()


COMMANDS: tuple[type[Command], ...] = (
    Join,
    Approve,
    Deny,
    DenyAll,
    Leave,
    Kick,
    Ban,
    Unban,
    TransferAdmin,
    Invite,
)
EVENTS: tuple[type[Body], ...] = (
    Created,
    Requested,
    Joined,
    Approved,
    Denied,
    Left,
    Withdrawn,
    Kicked,
    Banned,
    Unbanned,
    AdminTransferred,
    Invited,
)
