"""Groups, and their events and files, as a program sees them.

`event_of` turns an entry of a group's log into an event. All events have the same header, so a
program can handle any of them and look only at those it knows:

    async for event in events:
        match event:
            case tchat.Message(text="!ping"):
                await event.reply("pong")
            case tchat.JoinRequest():
                await event.approve()
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

import trio

from tchat.client.clock import LATEST_MS
from tchat.client.files.transfer import fetch_file, send_file
from tchat.client.join_command import invite_command, pin_to_check
from tchat.client.program_state import KEY_LIMIT, KeyedMessage
from tchat.core.fingerprints import TOKEN_SIZE, invite_text, token_digest
from tchat.core.group import feature, files, membership, messages, operation, settings
from tchat.core.group.direct import is_direct, other_of
from tchat.core.group.log_digest import stamp_of
from tchat.core.group.mentions import is_mention
from tchat.core.protocol.frames import Ok
from tchat.core.text import clean_line, clean_text, fold, safe_filename
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tchat.client.pending_message import PendingMessage
    from tchat.client.replica import Replica
    from tchat.client.request import MakeCommand
    from tchat.client.session import Session
    from tchat.core.group import state

_ACTION = "/me "
_SEARCHED = 1000  # the latest events, among which a message is searched whose seq is unknown
_DAY = timedelta(days=1)
_EPOCH = datetime.fromtimestamp(0, UTC)


# ------------------------------------------------------------------ groups


class MessageRef(NamedTuple):
    """Which message is meant: the one with this seq, if it still has this `stamp` (see `Event`)."""

    seq: int
    stamp: bytes | None = None


def ref_of(message: Message | MessageRef | int) -> MessageRef:
    """Return the reference to a message."""
    if isinstance(message, Message):
        return MessageRef(message.seq, message.stamp or None)
    return MessageRef(message) if isinstance(message, int) else message


def _reply_of(message: Message | MessageRef | int | None) -> tuple[int | None, bytes | None]:
    """Return the seq and the stamp of the message that is replied to, if there is one."""
    return (None, None) if message is None else ref_of(message)


class Group:
    """A group that a client follows, or a conversation of two. Made by `Client.join`.

    Its properties are kept up to date by the server's events. Its methods return once the server
    has answered; a lost connection is only a delay, and what was sent is sent again. All raise
    `Refused` with the server's code and sentence if it declines, and `trio.ClosedResourceError`
    after the end of the client. None has a timeout: use `trio.move_on_after` or `fail_after`. A
    method that is cancelled while it waits for the answer may have had its effect.
    """

    def __init__(self, live_session: Callable[[], Session], user: str, replica: Replica) -> None:
        self.replica = replica
        self._live_session = live_session
        self._user = user

    def __repr__(self) -> str:
        return f"<Group {self.name!r} of {self._user!r}>"

    # ------------------------------------------------------------------ state

    @property
    def name(self) -> str:
        """The name of the group; of a conversation of two, the name of the other person."""
        name = self.replica.name
        return other_of(name, self._user) if self.direct else name

    @property
    def direct(self) -> bool:
        """Whether this is a conversation of two."""
        return is_direct(self.replica.name)

    @property
    def standing(self) -> Literal["member", "waiting", "outsider"] | None:
        """Whether this client's user is a member, waits for approval, or neither."""
        return self.replica.standing

    @property
    def admin(self) -> str | None:
        """The name of the admin; None in a conversation of two, or if it is not known."""
        return self.replica.state.admin_name or self.replica.admin

    @property
    def is_admin(self) -> bool:
        """Whether this client's user is the admin."""
        return self.replica.state.is_admin(self._user)

    @property
    def topic(self) -> str:
        """The topic; empty if there is none."""
        return self.replica.state.topic

    @property
    def policy(self) -> Literal["approval", "open"]:
        """Who may join: people whom the admin approves, or everybody."""
        return self.replica.state.policy

    @property
    def members(self) -> list[str]:
        """The names of the members, in the order of joining."""
        return list(self.replica.state.members.values())

    @property
    def requests(self) -> list[str]:
        """The names of the people who ask to join, in that order."""
        return [request.name for request in self.replica.state.requests.values()]

    @property
    def banned(self) -> list[str]:
        """The names of the banned people."""
        return list(self.replica.state.banned.values())

    @property
    def online(self) -> list[str]:
        """The names of the members who are connected; empty while this client is not."""
        return list(self.replica.online.values())

    @property
    def away(self) -> dict[str, str]:
        """The reasons of the members who are away, by their names."""
        online = self.replica.online
        return {online[person]: why for person, why in self.replica.away.items()}

    @property
    def files(self) -> list[File]:
        """The files of the group, by ascending number."""
        files = self.replica.state.files
        return [file_of(self, files[number]) for number in sorted(files)]

    @property
    def last(self) -> int:
        """The seq of the latest event; 0 if nothing was said in a conversation of two."""
        return max(self.replica.last, self.replica.head)

    @property
    def seen(self) -> int:
        """The seq of the last event that the user has read, on any device; see `Events.ack`."""
        return max(self.replica.position, self.replica.seen)

    @property
    def now(self) -> datetime:
        """The server's time, by which events are dated, whatever this machine's clock shows."""
        return time_of(self._session.clock())

    @property
    def pinned(self) -> int | None:
        """The seq of the pinned message, if there is one."""
        return self.replica.state.pinned

    def mark_read(self, event: Event | int) -> None:
        """Count the events up to this one, or up to a seq, as read, on all devices of the user.

        An event that the server has lost, because it was restored from a backup, changes nothing.
        """
        if isinstance(event, int):
            self._session.mark_seen(self.replica, event)
        elif self.replica.may_have(event.seq, ms_of(event.at), event.who):
            self._session.mark_seen(self.replica, event.seq)

    # ------------------------------------------------------------------ messages

    def post(
        self, text: str, *, reply_to: Message | MessageRef | int | None = None
    ) -> Awaitable[Message]:
        """Post a message like `say`, but return as soon as it is on this machine's disk.

        Await the result for the stored message; what is posted later is stored later.
        """
        seq, stamp = _reply_of(reply_to)
        return self._posted(self._session.post(self.replica, text, seq, stamp=stamp))

    async def say(
        self,
        text: str,
        *,
        reply_to: Message | MessageRef | int | None = None,
        key: str | None = None,
    ) -> Message:
        """Post a message, and return it once the server has it on disk.

        `text` has at most 16 KiB of UTF-8; "/me waves" is shown as an action. `reply_to` is a
        message, or its seq; if the server has lost the message, since it was restored from a
        backup, and has another one with this seq, a reply to the message is refused (log_replaced).
        With a `key`, at most 200 characters, the message is posted once: who
        says anything with the same key in the same group again, in another run or process of this
        user on this machine and within 30 days, gets the first message back.

        A message that may have been sent is sent again until the server has answered, by the next
        run if this one is killed. When this is cancelled earlier, for want of a connection, the
        message is dropped; with a key it is kept, since it can be said again without harm.

        In the rare case that the answer was lost and the message is no longer among the latest
        1,000 events, the seq of the returned message is 0.
        """
        if key is None:
            return await self.post(text, reply_to=reply_to)
        if not 0 < len(key) <= KEY_LIMIT:
            raise Refused(Code.TEXT_TOO_LONG, f"A key has 1 to {KEY_LIMIT} characters.")
        seq, stamp = _reply_of(reply_to)
        sent = await self._session.post_once(self.replica, text, key, seq, stamp)
        if isinstance(sent, KeyedMessage):
            body = messages.Posted(text, seq)
            return await self._message(sent.seq, body, self._session.clock(), sent.stamp)
        message = await self._posted(sent)
        if message.stamp:
            self._session.record_stamp(self.replica, key, KeyedMessage(message.seq, message.stamp))
        return message

    async def edit(self, message: Message | MessageRef | int, text: str) -> None:
        """Replace the text of one's own message, given by itself or its seq.

        Like `delete` and `pin`, it is refused (log_replaced) if the server was restored from a
        backup, and has lost the message, unless that is given by its seq alone.
        """
        seq, stamp = ref_of(message)
        await self._command(lambda i, n: messages.Edit(i, n, self.place, seq, text, stamp=stamp))

    async def delete(self, message: Message | MessageRef | int) -> None:
        """Delete a message, also from the server's disk (author, admin); see `edit`."""
        seq, stamp = ref_of(message)
        await self._command(lambda i, n: messages.Delete(i, n, self.place, seq, stamp=stamp))

    async def pin(self, message: Message | MessageRef | int | None) -> None:
        """Pin a message, or unpin the pinned one with None (admin); see `edit`."""
        if message is None:
            await self._command(lambda i, n: messages.Unpin(i, n, self.place))
        else:
            seq, stamp = ref_of(message)
            await self._command(lambda i, n: messages.Pin(i, n, self.place, seq, stamp=stamp))

    async def find(self, seq: int) -> Event | None:
        """Return the event with a seq; None if there is none, or the user may not read it."""
        entry = await self._entry(seq)
        return None if entry is None or entry.seq != seq else self._event(entry)

    async def history(self, *, before: int | None = None, limit: int = 200) -> list[Event]:
        """Return the `limit` latest events before the one with seq `before`, the oldest first.

        Without `before`, these are the latest of all. Only what this client's user may read is
        returned, so the list is shorter where the log begins. What was deleted is an `Other`.
        """
        return [self._event(entry) for entry in await self._entries_before(before, limit)]

    # ------------------------------------------------------------------ files

    async def send_file(
        self,
        path: Path | str,
        *,
        name: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> File:
        """Share a file, or a directory as a .tar archive, and return it once the group has it.

        Members see it as `name`, or as it is called on this disk. `progress` is called with the
        bytes sent and the size. An upload that was interrupted less than a day ago is resumed.
        """
        answer = await send_file(
            self._session, self.replica, Path(path), _Listener(progress), name=name
        )
        entry = await self._entry(answer.seq) if isinstance(answer, Ok) and answer.seq else None
        number = entry.body.number if entry and isinstance(entry.body, files.FileShared) else None
        file = self.replica.state.files.get(number or self.replica.state.numbered)
        if file is None:
            raise Refused(Code.NO_SUCH_FILE, "The file was removed as soon as it was shared.")
        return file_of(self, file)

    async def save_file(
        self,
        file: File | int,
        directory: Path | str,
        *,
        name: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Path:
        """Download a file, given by itself or its number; see `File.save`."""
        number = file.number if isinstance(file, File) else file
        shared = self.replica.state.files.get(number)
        if shared is None:
            raise Refused(Code.NO_SUCH_FILE, f"The group has no file {number}.")
        return await fetch_file(
            self._session,
            self.replica,
            shared,
            Path(directory),
            name and safe_filename(name),
            _Listener(progress),
        )

    async def remove_file(self, file: File | int) -> None:
        """Remove a file, given by itself or its number (who shared it, or the admin)."""
        number, sha256 = (file, None) if isinstance(file, int) else (file.number, file.sha256)
        await self._command(lambda i, n: files.RemoveFile(i, n, self.place, number, sha256))

    # ------------------------------------------------------------------ people

    async def approve(self, name: str) -> None:
        """Make somebody who asks to join a member (admin)."""
        await self._command(lambda i, n: membership.Approve(i, n, self.place, name))

    async def deny(self, name: str) -> None:
        """Deny somebody's request to join (admin); they can ask again an hour later."""
        await self._command(lambda i, n: membership.Deny(i, n, self.place, name))

    async def deny_all(self) -> None:
        """Deny all requests to join (admin)."""
        await self._command(lambda i, n: membership.DenyAll(i, n, self.place))

    async def kick(self, name: str) -> None:
        """Remove a member, who may ask to join again (admin)."""
        await self._command(lambda i, n: membership.Kick(i, n, self.place, name))

    async def ban(self, name: str) -> None:
        """Remove somebody, and refuse them from then on, even with an invite (admin)."""
        await self._command(lambda i, n: membership.Ban(i, n, self.place, name))

    async def unban(self, name: str) -> None:
        """Lift somebody's ban (admin)."""
        await self._command(lambda i, n: membership.Unban(i, n, self.place, name))

    async def transfer(self, name: str) -> None:
        """Make another member the admin (admin)."""
        await self._command(lambda i, n: membership.TransferAdmin(i, n, self.place, name))

    async def invite(self, name: str | None = None, *, lasts: timedelta = _DAY) -> str:
        """Return an invite: with it, `name`, or whoever uses it first, joins at once (admin).

        It is valid for at most 30 days, and is what `tchat join --invite` and `connect` take.
        """
        token = await self._make_invite(name, lasts)
        return invite_text(token, pin_to_check(self._session.connector))

    async def invite_command(self, name: str | None = None, *, lasts: timedelta = _DAY) -> str:
        """Return the command line with which somebody uses a new invite; see `invite` (admin).

        It names the server as this client reaches it: see `Client.server`.
        """
        token = await self._make_invite(name, lasts)
        return invite_command(self._session.connector, self.place, token, name)

    async def _make_invite(self, name: str | None, lasts: timedelta) -> bytes:
        token, duration = secrets.token_bytes(TOKEN_SIZE), lasts // timedelta(milliseconds=1)
        await self._command(
            lambda i, n: membership.Invite(i, n, self.place, token_digest(token), duration, name)
        )
        return token

    async def leave(self) -> None:
        """Leave the group; if nobody else is in it, its messages and files are deleted."""
        await self._command(lambda i, n: membership.Leave(i, n, self.place))

    # ------------------------------------------------------------------ settings

    async def set_topic(self, topic: str) -> None:
        """Set the topic; an empty one removes it (admin)."""
        await self._command(lambda i, n: settings.SetTopic(i, n, self.place, topic))

    async def set_policy(self, policy: Literal["approval", "open"]) -> None:
        """Set who may join: people whom the admin approves, or everybody (admin)."""
        await self._command(lambda i, n: settings.SetPolicy(i, n, self.place, policy))

    # ------------------------------------------------------------------ helpers

    @property
    def place(self) -> str:
        """The name of the group on the wire."""
        return self.replica.name

    @property
    def _session(self) -> Session:
        return self._live_session()

    async def _command(self, make: MakeCommand) -> None:
        await self._session.request(make)

    def _event(self, entry: feature.Event) -> Event:
        return event_of(entry, self, self._user)

    async def _posted(self, pending: PendingMessage) -> Message:
        """Wait until a message is stored, and return it. Raises `Refused`."""
        session = self._session
        try:
            answer = await pending.wait()
        except Refused:
            session.discard(pending)  # nobody is there to send it again
            raise
        except trio.Cancelled:
            if pending.entry.once is None:
                with suppress(Refused):  # it may have been sent, and so it is sent again
                    session.discard(pending)
            raise
        seq = answer.seq if isinstance(answer, Ok) else None
        return await self._message(
            seq or 0, messages.Posted(pending.text, pending.reply), pending.at
        )

    async def _message(
        self, seq: int, body: messages.Posted, at: int, stamp: bytes = b""
    ) -> Message:
        """Return the message with a seq (0: unknown), as it is in the log, or else as given.

        With a `stamp`, no other message is taken for it.
        """
        entry = await (self._entry(seq) if seq else self._find_own(body))
        if seq and stamp:
            if entry is None or stamp_of(entry) != stamp:  # lost, or not readable any more
                seq, entry = 0, None
        elif entry is not None and not self._is_mine(entry, body):
            # The server was restored from a backup since, and another event has this seq.
            seq, entry = 0, await self._find_own(body)
        if entry is not None:
            event = self._event(entry)
            if isinstance(event, Message):
                return event
        event = self._event(feature.Event(self.place, seq, at, self._user, b"", 0, body))
        assert isinstance(event, Message)  # noqa: S101  # what `Posted` becomes
        return event

    async def _find_own(self, body: messages.Posted) -> feature.Event | None:
        """Return the latest message of this user with a text, among the latest events.

        The server answers a request that was sent again, after a crash, without the seq.
        """
        wanted = messages.Posted(clean_text(body.text), body.reply)
        for entry in reversed(await self._entries_before(None, _SEARCHED)):
            if entry.body == wanted and self._is_mine(entry, wanted):
                return entry
        return None

    def _is_mine(self, entry: feature.Event, body: messages.Posted) -> bool:
        """Return whether an event is of this user, and can be this message, deleted or not."""
        is_message = isinstance(entry.body, messages.Posted) and entry.body.reply == body.reply
        is_message = is_message or isinstance(entry.body, messages.Erased)
        return is_message and fold(entry.actor) == fold(self._user)

    async def _entries_before(self, seq: int | None, limit: int) -> list[feature.Event]:
        """Return up to `limit` entries before one, or the latest ones, the oldest first."""
        end = self.last + 1
        if seq is not None:  # of a group that is not followed, the last seq is not known
            end = seq if self.replica.standing is None else min(seq, end)
        entries: list[feature.Event] = []
        while len(entries) < limit:
            page = await self._session.events_until(self.place, end - 1)
            if not page:
                break
            entries[:0] = page
            end = page[0].seq
        return entries[-limit:] if limit > 0 else []

    async def _entry(self, seq: int) -> feature.Event | None:
        """Return the event with a seq; None if the user may not read it (any more)."""
        replica = self.replica
        if replica.first <= seq <= replica.last:
            return replica.log[seq - replica.first]
        try:
            page = await self._session.events_until(self.place, seq)
        except Refused:
            return None
        return page[-1] if page else None


class _Listener:
    """Passes the progress of a transfer to a function: bytes done, size."""

    def __init__(self, progress: Callable[[int, int], None] | None) -> None:
        self._progress = progress
        self._size = 0

    def on_start(self, name: str, size: int) -> None:
        """Remember the size."""
        self._size = size

    def on_checked(self, done: int) -> None:
        """Ignore the progress of hashing, which is told in a worker thread."""

    def on_progress(self, done: int) -> None:
        """Pass the number of bytes on."""
        if self._progress is not None:
            self._progress(done, self._size)

    def on_sharing(self) -> None:
        """Ignore the end of the upload: the call returns soon."""


# ------------------------------------------------------------------ files and events


@dataclass(frozen=True, slots=True)
class File:
    """A file of a group: `number` names it, `size` is in bytes, `sha256` its digest (32 bytes).

    `by` shared it at `at` (UTC).
    """

    group: Group = field(repr=False)
    number: int
    name: str
    size: int
    sha256: bytes
    by: str
    at: datetime

    async def save(
        self,
        directory: Path | str,
        *,
        name: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Path:
        """Download the file into a directory, as `name` if given, and return its path.

        `progress` is called with the bytes received and the size. An interrupted download is
        resumed. An existing file is never overwritten; the same file is not downloaded again.
        Raises `Refused`.
        """
        return await self.group.save_file(self, directory, name=name, progress=progress)

    async def remove(self) -> None:
        """Remove the file from the group (who shared it, or the admin). Raises `Refused`."""
        await self.group.remove_file(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An entry of a group's log: `who` caused it at `at` (UTC); `seq` counts without gaps.

    `mine` says that this program's own user caused it, on this device or another. `kind` is its
    name in the protocol. `sentence` describes it for people, such as "bob joined"; it is empty for
    a message. `stamp` tells it from another event with its seq, in a log that was restored from a
    backup.
    """

    group: Group = field(repr=False)
    seq: int
    at: datetime
    who: str
    mine: bool
    kind: str = field(default="", repr=False)
    sentence: str = field(default="", repr=False)
    next_key: Callable[[], str] | None = field(default=None, repr=False, compare=False)
    """Makes the keys of what is said about an event that may be handled again after a crash."""
    stamp: bytes = field(default=b"", repr=False, compare=False)

    async def say(self, text: str, *, key: str | None = None) -> Message:
        """Post a message in the group of this event; see `Group.say`.

        For an event that was read with `since="seen"`, it is posted once, even if the program is
        killed before it has acknowledged the event, and then handles it again: the n-th message
        said about an event is taken for the n-th of the run before.
        """
        return await self._say(text, None, key)

    async def _say(self, text: str, reply_to: Message | None, key: str | None) -> Message:
        if key is None and self.next_key is not None:
            key = self.next_key()
        return await self.group.say(text, reply_to=reply_to, key=key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message(Event):
    """A message. An `action` is what `/me` makes: "/me waves" has the text "waves".

    `reply_to` is the seq of the message that it replies to. `mentions_me` says that the text has
    this program's user name as a word. `direct` says that it is in a conversation of two.
    """

    text: str
    action: bool = False
    reply_to: int | None = None
    mentions_me: bool = False

    @property
    def direct(self) -> bool:
        """Whether the message is in a conversation of two."""
        return self.group.direct

    async def reply(self, text: str, *, key: str | None = None) -> Message:
        """Post a message that is shown as a reply to this one; see `Event.say`."""
        return await self._say(text, self, key)

    async def edit(self, text: str) -> None:
        """Replace the text of this message, if it is one's own. Raises `Refused`."""
        await self.group.edit(self, text)

    async def delete(self) -> None:
        """Delete this message, also from the server's disk (author, admin). Raises `Refused`."""
        await self.group.delete(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited(Event):
    """`who` replaced the text of the message with seq `message`."""

    message: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted(Event):
    """`who` deleted the message with seq `message`."""

    message: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned(Event):
    """The admin pinned the message with seq `message`, or unpinned it if that is None."""

    message: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRequest(Event):
    """`who` asks to join. Only the admin can approve or deny it."""

    async def approve(self) -> None:
        """Make the person a member. Raises `Refused`, also if somebody was faster."""
        await self.group.approve(self.who)

    async def deny(self) -> None:
        """Deny the request. Raises `Refused`, also if somebody was faster."""
        await self.group.deny(self.who)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRequestEnded(Event):
    """The request of `name` ended without approval: denied by `who`, or withdrawn by the person."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined(Event):
    """`name` is a member now, for the reason `how`; `who` approved them, or is the same person."""

    name: str
    how: Literal["founded", "approved", "invited", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Left(Event):
    """`name` is no longer a member, for the reason `how`; a ban can hit somebody who was none."""

    name: str
    how: Literal["left", "kicked", "banned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unbanned(Event):
    """The admin lifted the ban of `name`."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Invited(Event):
    """`who` made an invite that is valid until `expires` (UTC), for `name` or for anybody."""

    expires: datetime
    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminChanged(Event):
    """`admin` is the admin of the group now."""

    admin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSet(Event):
    """The group's topic is `topic` now."""

    topic: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySet(Event):
    """Who may join: people whom the admin approves, or everybody."""

    policy: Literal["approval", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileShared(Event):
    """`who` shared a file; `await event.file.save(directory)` downloads it."""

    file: File


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRemoved(Event):
    """`who` removed the file with this number."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupClosed(Event):
    """The server's operator removed the group: nobody is a member any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagesExpired(Event):
    """The server erased the messages up to seq `upto`: it keeps messages only for a time."""

    upto: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLost(Event):
    """An event was lost when the server's data was damaged; the first of a run has the `count`."""

    count: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Other(Event):
    """An event of an unknown kind, or whose text was deleted."""


# ------------------------------------------------------------------ notices: not in any log


@dataclass(frozen=True, slots=True)
class Presence:
    """Somebody came online, went offline or away in a group: see `Group.online` and `away`."""

    group: Group = field(repr=False)


@dataclass(frozen=True, slots=True)
class StandingChanged:
    """This program's user is now a member, waits for approval, or is an outsider of the group.

    `reason` and `by` say why, if the server has told it.
    """

    group: Group = field(repr=False)
    standing: Literal["member", "waiting", "outsider"]
    reason: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Connected:
    """The server is connected; `again` says that the connection was lost before."""

    again: bool


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection was lost for `reason`; the next try is in `retry_in` seconds."""

    reason: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class LogReplaced:
    """The server was restored from a backup: the group's latest events are lost.

    Streams go on with the events that are later than those that they have delivered.
    """

    group: Group = field(repr=False)


Notice = Presence | StandingChanged | Connected | Disconnected | LogReplaced
"""What is in no log, and is told only to those who listen: see `Client.notices`."""


# ------------------------------------------------------------------ from the log


def time_of(ms: int) -> datetime:
    """Return a time of the log, in milliseconds since the Unix epoch, as a datetime in UTC.

    A server may send times that no datetime can have, or none in the time zone of its reader.
    """
    return _EPOCH + timedelta(milliseconds=min(ms, LATEST_MS))


def ms_of(time: datetime) -> int:
    """Return a time in milliseconds since the Unix epoch; the inverse of `time_of`."""
    return (time - _EPOCH) // timedelta(milliseconds=1)


def file_of(group: Group, file: state.File) -> File:
    """Return a file of a group's state."""
    at = time_of(file.at)
    return File(group, file.number, file.name, file.size, file.sha256, file.by, at)


class _Header(TypedDict):
    group: Group
    seq: int
    at: datetime
    who: str
    mine: bool
    kind: str
    sentence: str
    next_key: Callable[[], str] | None
    stamp: bytes


def event_of(
    entry: feature.Event, group: Group, user: str, next_key: Callable[[], str] | None = None
) -> Event:
    """Return an entry of a group's log as `user` sees it."""
    head = _Header(
        group=group,
        seq=entry.seq,
        at=time_of(entry.at),
        who=entry.actor,
        mine=fold(entry.actor) == fold(user),
        kind=entry.body.kind,
        sentence="",
        next_key=next_key,
        stamp=stamp_of(entry) if entry.client else b"",
    )
    body = entry.body
    if isinstance(body, messages.Posted):
        action = body.text.startswith(_ACTION)
        return Message(
            **head,
            text=body.text.removeprefix(_ACTION) if action else body.text,
            action=action,
            reply_to=body.reply,
            mentions_me=not head["mine"] and is_mention(body.text, user),
        )
    reader = feature.Reader(fold(user), group.is_admin, None)
    head["sentence"] = clean_line(body.sentence(entry, reader))
    make = _MAKERS.get(type(body))
    return make(body, head) if make else Other(**head)


def _joined(body: membership.Joined, head: _Header) -> Joined:
    return Joined(**head, name=head["who"], how="open" if body.by is None else "invited")


def _shared(body: files.FileShared, head: _Header) -> FileShared:
    file = File(
        head["group"], body.number, body.name, body.size, body.sha256, head["who"], head["at"]
    )
    return FileShared(**head, file=file)


_MAKERS: dict[type[feature.Body], Callable[[Any, _Header], Event]] = {
    messages.Edited: lambda body, head: Edited(**head, message=body.target, text=body.text),
    messages.Deleted: lambda body, head: Deleted(**head, message=body.target),
    messages.Pinned: lambda body, head: Pinned(**head, message=body.target),
    messages.Unpinned: lambda _, head: Pinned(**head, message=None),
    membership.Created: lambda _, head: Joined(**head, name=head["who"], how="founded"),
    membership.Requested: lambda _, head: JoinRequest(**head),
    membership.Denied: lambda body, head: JoinRequestEnded(**head, name=body.name),
    membership.Withdrawn: lambda _, head: JoinRequestEnded(**head, name=head["who"]),
    membership.Approved: lambda body, head: Joined(**head, name=body.name, how="approved"),
    membership.Joined: _joined,
    membership.Left: lambda _, head: Left(**head, name=head["who"], how="left"),
    membership.Kicked: lambda body, head: Left(**head, name=body.name, how="kicked"),
    membership.Banned: lambda body, head: Left(**head, name=body.name, how="banned"),
    membership.Unbanned: lambda body, head: Unbanned(**head, name=body.name),
    membership.Invited: lambda body, head: Invited(
        **head, expires=time_of(body.expires), name=body.name
    ),
    membership.AdminTransferred: lambda body, head: AdminChanged(**head, admin=body.name),
    settings.TopicSet: lambda body, head: TopicSet(**head, topic=body.text),
    settings.PolicySet: lambda body, head: PolicySet(**head, policy=body.policy),
    files.FileShared: _shared,
    files.FileRemoved: lambda body, head: FileRemoved(**head, number=body.number),
    operation.Closed: lambda _, head: GroupClosed(**head),
    operation.Expired: lambda body, head: MessagesExpired(**head, upto=body.upto),
    operation.Missing: lambda body, head: EventLost(**head, count=body.count),
}
"""How each kind of entry becomes an event; messages are made by `event_of` itself."""
