"""A connection to a server as one person: `connect` opens it, `Client` joins groups and reads them.

A client stays connected: it reconnects by itself, catches up, and sends again what was not
answered. Errors arrive as they are, never inside an `ExceptionGroup`: one that ends the connection
for good is raised at the end of the `async with` block of `connect`, whose body is cancelled.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from tchat.api.bare import raising_bare
from tchat.api.follower import Follower, logger
from tchat.api.groups import Message, event_of
from tchat.api.stream import Events
from tchat.client.config.opening import expected_pin, find_server, open_user_session
from tchat.core.fingerprints import read_invite, read_pin
from tchat.core.group.direct import is_direct
from tchat.core.group.feature import Event as Entry
from tchat.core.group.membership import Leave
from tchat.core.group.messages import Posted
from tchat.core.text import check_name
from tchat.errors import Code, Refused, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from tchat.api.groups import Event, Group, Notice
    from tchat.api.stream import Since
    from tchat.client.session import Session

T = TypeVar("T")

_SKIPPED_PER_ACK = 100  # events of other classes, since each acknowledgement is a write to disk


@asynccontextmanager
async def connect(
    server: str,
    *,
    user: str | None = None,
    home: Path | str | None = None,
    pin: str | None = None,
    invite: str | None = None,
    link: str | None = None,
    tls: bool = True,
) -> AsyncIterator[Client]:
    """Be connected to a server, as `user`, while the block runs.

    `server` is HOST:PORT, or a nickname in config.toml, which also has the default `user`. `home`
    is the directory of the identity (a key made at the first run, which owns the name from then on)
    and of the configuration; the default is that of the `tchat` command. `pin` (sha256:...) is what
    the server's key has to match; without one, the first key seen is remembered. `invite` is what
    `Group.invite` returns: its pin is checked, and `Client.join` uses it. `link` is a code from
    /link, to use a name on another device. With `tls` false, nothing is encrypted, which is
    possible on this machine only.

    Raises `Unavailable` if the server cannot be reached at first, `Refused` if it declines this
    person (name_taken, server_changed ...), `UsageError` if `user` is missing or an argument is not
    valid, `StartupError` if `pin` and `invite` are of different servers.
    """
    token, invited_pin = _read(read_invite, invite) if invite else (None, b"")
    home = None if home is None else Path(home)
    found = find_server(server, home)
    name = user or found.user
    if name is None:
        raise UsageError(Code.MISSING_ARGUMENT, "The user name is missing.")
    no_tls = found.no_tls or not tls
    given = _read(read_pin, pin) if pin else found.pin
    chosen = replace(found, pin=expected_pin(given, invited_pin, no_tls=no_tls), no_tls=no_tls)
    session = open_user_session(
        chosen, check_name(name, "username"), link=link, home=home, recent=0, unread=False
    )
    async with client_on(session, invite=token) as client:
        yield client


def _read(read: Callable[[str], T], text: str) -> T:
    """Return a pin or an invite. Raises `UsageError`."""
    try:
        return read(text)
    except ValueError as error:
        raise UsageError(Code.MISSING_ARGUMENT, f"{error}.") from error


def client_on(
    opening: AbstractAsyncContextManager[Session], invite: bytes | None = None
) -> AbstractAsyncContextManager[Client]:
    """Run a client on a session while the block runs; see `connect` for the errors.

    The session begins groups with `recent` 0 and without what is unread.
    """
    return raising_bare(_client_on(opening, invite))


@asynccontextmanager
async def _client_on(
    opening: AbstractAsyncContextManager[Session], invite: bytes | None
) -> AsyncIterator[Client]:
    async with opening as session, trio.open_nursery() as nursery:
        follower = Follower(session, nursery)
        nursery.start_soon(follower.run)
        await follower.wait_until(lambda: session.connected)
        try:
            yield Client(follower, invite)
        finally:
            follower.close()
        nursery.cancel_scope.cancel()


class Client:
    """One person's connection to a server; made by `connect`."""

    def __init__(self, follower: Follower, invite: bytes | None) -> None:
        self._follower = follower
        self._invite = invite
        self.options: argparse.Namespace | None = None
        """The command line, in a program that is run by `tchat.run` or `tchat.run_bot`."""

    @property
    def user(self) -> str:
        """This client's user name, as the server spells it."""
        return self._follower.session.user

    @property
    def server(self) -> str:
        """The server's address, HOST:PORT, as this client reaches it."""
        return str(self._follower.session.connector.address)

    @property
    def connected(self) -> bool:
        """Whether there is a connection at this moment."""
        return self._follower.session.connected

    @property
    def groups(self) -> list[Group]:
        """The groups and conversations that this client follows and is a member of.

        They are in the order of joining, opening or finding them.
        """
        followed = self._follower.session.groups.values()
        return [self._follower.group_of(one) for one in followed if one.standing == "member"]

    @property
    def _session(self) -> Session:
        return self._follower.live_session()

    # ------------------------------------------------------------------ groups

    async def join(self, group: str, *, create: bool = False, invite: str | None = None) -> Group:
        """Return a group once this client's user is a member of it.

        Asks to join if necessary, and waits for the admin's approval; use `trio.fail_after` to wait
        no longer than some seconds. The request to join stays, and the next call goes on waiting.
        With an `invite`, no approval is needed. A group that does not exist is refused
        (no_such_group) unless `create` is true, and then founded. Raises `Refused`, also if the
        request is denied (not_member), or was less than an hour ago (denied), or the user was
        banned or removed.
        """
        token = _read(read_invite, invite)[0] if invite else self._invite
        replica = self._session.follow(group)
        try:
            replica = await self._session.enter(group, invite=token, create=create)
            await self._follower.wait_until(
                lambda: replica.standing != "waiting" and not self._follower.is_loading(replica)
            )
            if replica.standing != "member" or replica.unusable:
                raise replica.unusable or replica.not_member_refusal()
        except Refused:
            if replica.standing != "member" or replica.unusable:
                self._session.unfollow(replica)
            raise
        return self._follower.group_of(replica)

    async def ask_to_join(self, group: str, *, invite: str | None = None) -> Group:
        """Ask to join a group, and return it without waiting for the admin's approval.

        Its `standing` is "member" or "waiting". Raises `Refused` as `join` does.
        """
        token = _read(read_invite, invite)[0] if invite else self._invite
        replica = self._session.follow(group)
        try:
            replica = await self._session.enter(group, invite=token, create=False)
            await self._follower.wait_until(lambda: not self._follower.is_loading(replica))
            if replica.standing == "outsider":
                raise replica.not_member_refusal()
        except Refused:
            if replica.standing not in ("member", "waiting"):
                self._session.unfollow(replica)
            raise
        return self._follower.group_of(replica)

    async def withdraw(self, group: str) -> None:
        """Withdraw the request to join a group. Raises `Refused`, if there is none."""
        await self._session.request(lambda i, n: Leave(i, n, group))

    async def open(self, group: str) -> Group:
        """Return a group of which this client's user is a member already; ask nothing of anybody.

        Raises `Refused` (not_member, banned).
        """
        replica = await self._session.enter(group, join=False)
        await self._follower.wait_until(lambda: not self._follower.is_loading(replica))
        if replica.standing != "member" or replica.unusable:
            refusal = replica.unusable or replica.not_member_refusal()
            self._session.unfollow(replica)
            raise refusal
        return self._follower.group_of(replica)

    async def talk_to(self, name: str) -> Group:
        """Return the conversation of two with a person. Raises `Refused`."""
        replica = await self._session.write_to(name)
        self._follower.keep(replica)
        await self._follower.wait_until(lambda: not self._follower.is_loading(replica))
        return self._follower.group_of(replica)

    async def my_groups(self) -> list[str]:
        """Return the names of all groups that this client's user is a member of."""
        summaries = await self._session.my_groups()
        return [
            one.name for one in summaries if one.standing == "member" and not is_direct(one.name)
        ]

    async def search(
        self, words: str, group: Group | None = None, *, limit: int = 50
    ) -> list[Message]:
        """Return messages with all these words, the newest first, at most `limit`.

        Without a group, all groups of this client's user are searched. Texts are cut off after some
        hundred characters. Raises `Refused`.
        """
        found: list[Message] = []
        place = None if group is None else group.place
        while len(found) < limit:
            results = await self._session.search(words, place, len(found))
            for hit in results.hits:
                owner = self._follower.group_named(hit.group)
                entry = Entry(hit.group, hit.seq, hit.at, hit.actor, b"", 0, Posted(hit.text))
                message = event_of(entry, owner, self.user)
                if isinstance(message, Message):
                    found.append(message)
            if not (results.older and results.hits):
                break
        return found[:limit]

    async def set_away(self, reason: str | None) -> None:
        """Tell the members of this client's groups that its user is away, or back with None."""
        await self._session.set_away(reason)

    # ------------------------------------------------------------------ events

    def events(
        self,
        *groups: Group,
        since: Since = "now",
        own: bool = False,
        cursor: str = "",
        while_member: bool = False,
    ) -> Events:
        """Return the events of these groups, as a channel to iterate over in `async with`.

        Without groups, these are the events of all groups that this client joins, sooner or later,
        and of all conversations of two with its user. `since` is where to begin:

        - "now": with the first event after this call;
        - "seen": after the last event that was acknowledged (`Events.ack`) with the same `cursor`,
          a name for this reader, in an earlier run; if there is none, after what the user has read;
        - "unread": after what the user has read, on any device;
        - "start": with the first event that the user may read;
        - a seq: after that event, in one group; with the next event, if there is none yet.

        Events of the client's own user are left out unless `own` is true, and so are deleted
        messages. Where the user is admitted later, "now" is the first event after the admission.
        A reader that is slow, or begins far back, costs no memory: it reads from the server.

        When the user is removed from a group, leaves it on another device, or the group is closed,
        the stream waits until the user is admitted again; `notices` tells of both. With
        `while_member`, which needs groups, it raises `Refused` (not_member, banned) instead.

        With "seen", nothing is lost and nothing is delivered again after an event that was
        acknowledged, also if the program is killed. What is not acknowledged is delivered again by
        the next run: use `Event.say` and `Message.reply`, or keys, to answer it once.
        """
        return Events(
            self._follower, groups, since, own=own, cursor=cursor, while_member=while_member
        )

    def notices(self) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[Notice]]:
        """Open a channel of what is in no log: presence, changed standings, the connection.

        Whoever is more than 256 notices behind misses those that follow.
        """
        return self._follower.notices()

    async def for_each(
        self,
        handler: Callable[[Any], Awaitable[object]],
        *groups: Group,
        of: type[Event] | tuple[type[Event], ...] = Message,
        since: Since = "now",
        cursor: str = "",
        while_member: bool = False,
    ) -> None:
        """Call `handler` for each event of these classes, one after the other, until cancelled.

        Each event is acknowledged after it was handled. An exception of the handler is logged (with
        `logging`, as "tchat"), and the next event follows. See `events` for the other arguments.
        """
        skipped = 0
        async with self.events(
            *groups, since=since, cursor=cursor, while_member=while_member
        ) as events:
            async for event in events:
                if isinstance(event, of):
                    try:
                        await handler(event)
                    except Refused as refusal:
                        logger.warning("%r was refused (%s): %s", event, refusal.code, refusal)
                    except Exception:  # noqa: BLE001  # a fault of the handler must not end the bot
                        logger.exception("The handler failed for %r", event)
                    await events.ack(event)
                else:  # it may be skipped again without harm
                    skipped += 1
                    if skipped % _SKIPPED_PER_ACK == 0:
                        await events.ack(event)
