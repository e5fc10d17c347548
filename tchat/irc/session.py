"""Session of a registered IRC client: its channels, what it is told, and what it has received.

All IRC clients share one connection to the server. A client has all groups of the user open from
the start, like that of a bouncer; each channel is a task that reads the group's events, beginning
with what is unread. IRC has no read marks, so what was sent to a client counts as read, once the
client has answered a PING that was sent after it.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from tchat.api import groups as api
from tchat.core.text import fold
from tchat.errors import Refused
from tchat.irc.channel import Channel
from tchat.irc.messages import Message
from tchat.irc.names import SERVER, SERVICE_SOURCE, channel_of, nick_of, person_of, source_of
from tchat.irc.rendering import render, server_time, target_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from tchat.api.client import Client
    from tchat.api.groups import Group
    from tchat.irc.connection import Connection

    Job = Callable[[], Awaitable[None]]

REPLAY = 1000
"""The usual `Door.replay`."""

IDLE_SECONDS = 90.0
"""Seconds without a line of the client after which it gets a PING."""

PATIENCE_SECONDS = 60.0
"""Seconds after a PING in which the client has to answer."""

OFFLINE = "offline"
"""The reason for which people who are not connected are away: IRC knows only away people."""

LOG_LOST = "The server was restored from a backup: what was said here since that backup is lost."

_NAMES_SIZE = 400
_MOST_JOBS = 32


@dataclass(frozen=True, slots=True)
class Door:
    """What all IRC clients share: the client of tchat, and a nursery for what outlives them.

    `downloads` is where files are saved, `replay` the most unread events of a group that are shown
    when a client opens it.
    """

    client: Client
    nursery: trio.Nursery
    downloads: Path
    replay: int = REPLAY


class Session:
    """One IRC client; `channels` are those it has open, by their folded targets.

    `opening` counts the messages to conversations that the server has not opened yet.
    """

    def __init__(self, door: Door, connection: Connection) -> None:
        self.door = door
        self.client = door.client
        self.connection = connection
        self.channels: dict[str, Channel] = {}
        self.opening: Counter[str] = Counter()
        self._parted: set[str] = set()
        self._presence: dict[str, str | None] = {}
        self._lost = False
        self._delivered: dict[Channel, api.Event] = {}
        self._asked: dict[Channel, api.Event] | None = None
        self._asking = 0
        self._jobs, self._queue = trio.open_memory_channel["Job"](_MOST_JOBS)
        self._nursery: trio.Nursery

    @property
    def me(self) -> str:
        """The name of the user."""
        return self.client.user

    async def run(self, handle: Callable[[Session, Message], Awaitable[bool]]) -> None:
        """Serve the client until it quits: `handle` answers a message, and says whether to go on.

        Raises `trio.BrokenResourceError` if it is gone.
        """
        async with trio.open_nursery() as self._nursery:
            self.open_channels()
            for task in (self._follow, self._tell, self._keep_alive, self._work):
                self._nursery.start_soon(task)
            while (message := await self.connection.receive()) is not None:
                if not await handle(self, message):
                    break
            self._nursery.cancel_scope.cancel()

    async def notice(self, text: str, *, source: str = SERVER) -> None:
        """Send a NOTICE to the client, which is in no group."""
        await self.connection.send(Message("NOTICE", (self.connection.nick, text), source))

    # ------------------------------------------------------------------ jobs

    def submit(self, job: Job) -> bool:
        """Do something that waits for the server, after all such jobs before; False if too many.

        Meanwhile the client is answered: it may ask whether we are alive.
        """
        try:
            self._jobs.send_nowait(job)
        except trio.WouldBlock:
            return False
        return True

    async def _work(self) -> None:
        async for job in self._queue:
            await job()

    # ------------------------------------------------------------------ channels

    def find(self, target: str) -> Channel | None:
        """Return the open channel or conversation with a target."""
        return self.channels.get(fold(target))

    def find_group(self, target: str) -> Group | None:
        """Return a group or conversation of the user, whether it is open or not."""
        found = (one for one in self.client.groups if fold(target_of(one)) == fold(target))
        return next((one for one in found if one.standing == "member"), None)

    def open_channels(self) -> None:
        """Open all groups and conversations of the user, except those that the client has left."""
        for group in self.client.groups:
            self._open(group)

    def _open(self, group: Group) -> None:
        if group.standing == "member" and fold(target_of(group)) not in self._parted:
            self.channel_of(group)

    def channel_of(self, group: Group) -> Channel:
        """Return the open channel of a group, opening it if need be."""
        channel = self.find(target_of(group))
        if channel is None:
            channel = self.channels[fold(target_of(group))] = Channel(group)
            self._nursery.start_soon(self._run_channel, channel)
        return channel

    def reopen(self, target: str) -> None:
        """Open a channel again that the client has left."""
        self._parted.discard(fold(target))
        self.open_channels()

    async def part(self, channel: Channel, reason: str = "") -> None:
        """Close a channel in this client; the user stays a member."""
        self._parted.add(fold(channel.target))
        await self._close(channel, Message("PART", (channel.target, reason), source_of(self.me)))

    async def _close(self, channel: Channel, message: Message) -> None:
        if self.channels.pop(fold(channel.target), None) is not None:
            channel.scope.cancel()
            await self.connection.send(message)

    async def _run_channel(self, channel: Channel) -> None:
        with channel.scope:
            try:
                await self._show(channel)
            except Refused as refusal:
                await self.notice(f"{channel.target}: {refusal}")
                self.channels.pop(fold(channel.target), None)

    async def _show(self, channel: Channel) -> None:
        """Open a channel, and show what is unread and then all that happens."""
        group, client = channel.group, self.client
        async with client.events(group, since="unread", own=True):  # waits until it is loaded
            start = max(group.seen, group.last - self.door.replay)
            left_out = start - group.seen
        if self.connection.has("draft/chathistory"):  # it asks for what it wants
            start, left_out = group.last, 0
        async with client.events(group, since=start, own=True) as events:
            opened_at, channel.admin = group.last, group.admin
            replacements = group.replica.replacements
            if not group.direct:
                await self.connection.send(*self._opening(channel))
            await self._send_mark(channel)
            if left_out > 0:
                sentence = f"{left_out} earlier unread events are not shown"
                await self.connection.send(Message("NOTICE", (channel.target, sentence), SERVER))
            async for event in events:
                # After a restore of the server, what is delivered is new, with lower seqs.
                is_live = event.seq > opened_at or replacements != group.replica.replacements
                await self._deliver(channel, event, live=is_live)

    def _opening(self, channel: Channel) -> list[Message]:
        group, numeric = channel.group, self.connection.numeric_message
        messages = [Message("JOIN", (channel.target,), source_of(self.me))]
        if group.topic:
            messages.append(numeric("332", channel.target, group.topic))
        return [*messages, *self.names(channel.target, group)]

    def names(self, target: str, group: Group) -> Iterable[Message]:
        """Return the list of a channel's members."""
        numeric, line = self.connection.numeric_message, ""
        absences, admin = self.absences_in(group), fold(group.admin or "")
        for name in group.members:
            nick = ("@" if fold(name) == admin else "") + nick_of(name)
            if line and len(f"{line} {nick}".encode()) > _NAMES_SIZE:
                yield numeric("353", "=", target, line)
                line = nick
            else:
                line = f"{line} {nick}".strip()
            self._presence.setdefault(fold(name), absences.get(fold(name), OFFLINE))
        if line:
            yield numeric("353", "=", target, line)
        yield numeric("366", target, "End of /NAMES list")

    async def _deliver(self, channel: Channel, event: api.Event, *, live: bool) -> None:
        connection = self.connection
        own, label = False, None
        if isinstance(event, api.Message):
            channel.remember(event)
            if event.mine and live:
                own, label = await channel.own.find(event.seq)
        removed = isinstance(event, api.Left) and fold(event.name) == fold(self.me)
        if not (own and not connection.has("echo-message")) and not (removed and live):
            scene = await channel.scene(event, self.me, live=live)
            messages = render(event, scene)
            if label is not None and messages:
                first = messages[0]
                tags = {**first.tags, "label": label}
                messages[0] = Message(first.command, first.params, first.source, tags)
            await connection.send(*messages)
        if isinstance(event, api.AdminChanged):
            channel.admin = event.admin
        await self._count_as_delivered(channel, event)

    # ------------------------------------------------------------------ read marks

    async def _count_as_delivered(self, channel: Channel, event: api.Event) -> None:
        if not self.connection.has("draft/read-marker"):
            self._delivered[channel] = event
            await self._ask_whether_received()

    async def _ask_whether_received(self) -> None:
        if self._asked is None and self._delivered:
            self._asked, self._delivered = self._delivered, {}
            self._asking += 1
            await self.connection.send(Message("PING", (str(self._asking),), SERVER))

    async def on_pong(self, token: str) -> None:
        """Count what was sent before a PING as read, now that the client has answered it."""
        if self._asked is not None and token == str(self._asking):
            for channel, event in self._asked.items():
                channel.group.mark_read(event)
            self._asked = None
            await self._ask_whether_received()

    async def _send_mark(self, channel: Channel) -> None:
        if self.connection.has("draft/read-marker"):
            await self.connection.send(await self.mark_of(channel.group))

    async def mark_of(self, group: Group) -> Message:
        """Return the read mark of a group as a message. Raises `Refused`."""
        read = await group.history(before=group.seen + 1, limit=1)
        mark = f"timestamp={server_time(read[-1].at)}" if read else "*"
        return Message("MARKREAD", (target_of(group), mark), SERVER)

    # ------------------------------------------------------------------ what is in no log

    async def _follow(self) -> None:
        """Open what is new: groups that were joined, conversations that somebody has begun.

        It never waits for the IRC client, so that it misses no notice.
        """
        async with self.client.notices() as notices:
            with suppress(Refused):  # there are no new conversations to be found
                async with self.client.events():  # finds the conversations, now and later
                    self.open_channels()
                    async for notice in notices:
                        if isinstance(notice, api.StandingChanged):
                            self._open(notice.group)

    async def _tell(self) -> None:
        async with self.client.notices() as notices:
            async for notice in notices:
                match notice:
                    case api.Disconnected(reason):
                        await self._tell_loss(reason)
                    case api.Connected():
                        self._lost = False
                        await self.notice("Connected to the server again.")
                    case api.LogReplaced(group):
                        await self._tell_restored(group)
                    case api.Presence(group):
                        await self._tell_presence(group)
                    case api.StandingChanged():
                        await self._tell_standing(notice)

    async def _tell_loss(self, reason: str) -> None:
        if not self._lost:
            self._lost = True
            await self.notice(
                f"The connection to the server is lost ({reason}). What you write is kept, and sent"
                " as soon as it is back."
            )

    async def _tell_restored(self, group: Group) -> None:
        if (channel := self.find(target_of(group))) is not None:
            channel.forget_lost()
            await self.connection.send(Message("NOTICE", (channel.target, LOG_LOST), SERVER))

    async def _tell_presence(self, group: Group) -> None:
        if not group.online or not self.connection.has("away-notify"):
            return
        messages: list[Message] = []
        absences = self.absences_in(group)
        for name in group.members:
            absence = absences.get(fold(name), OFFLINE)
            if fold(name) != fold(self.me) and self._presence.get(fold(name)) != absence:
                params = () if absence is None else (absence,)
                messages.append(Message("AWAY", params, source_of(name)))
            self._presence[fold(name)] = absence
        await self.connection.send(*messages)

    async def _tell_standing(self, notice: api.StandingChanged) -> None:
        group = notice.group
        channel = self.find(target_of(group))
        if notice.standing == "member":
            return  # `_follow` opens it
        self._parted.discard(fold(target_of(group)))  # being admitted again opens it
        if channel is not None and notice.reason in ("kicked", "banned"):
            params = (channel.target, nick_of(self.me), notice.reason)
            source = source_of(notice.by) if notice.by else SERVICE_SOURCE
            await self._close(channel, Message("KICK", params, source))
        elif channel is not None:
            message = Message("PART", (channel.target, notice.reason), source_of(self.me))
            await self._close(channel, message)
        elif notice.reason == "denied":
            await self.notice(f"{notice.by} denied your request to join {target_of(group)}.")

    # ------------------------------------------------------------------ people

    def people(self) -> dict[str, str]:
        """Return the names of all people in the user's groups, by their folded names."""
        return {fold(name): name for group in self.client.groups for name in group.members}

    def find_person(self, nick: str) -> str | None:
        """Return the name of a person in one of the user's groups."""
        return self.people().get(fold(person_of(nick)))

    def absences_in(self, group: Group) -> dict[str, str | None]:
        """Return the members who are connected, by folded name: why they are away, or None.

        For all members at once, since looking one up in the group takes as long as that. While the
        server cannot be reached, nobody is known to be offline: all members count as connected.
        """
        away = group.away
        here = group.online if self.client.connected else group.members
        return {fold(name): away.get(name) for name in here}

    def absences(self) -> dict[str, str | None]:
        """Return those who are connected, in all groups, as `absences_in` does."""
        found: dict[str, str | None] = {}
        for group in self.client.groups:
            found |= self.absences_in(group)
        return found

    def absence_of(self, name: str) -> str | None:
        """Return why a person is away; None if they are here."""
        return self.absences().get(fold(name), OFFLINE)

    def channels_of(self, name: str) -> list[str]:
        """Return the channels that the user has in common with a person."""
        return [
            ("@" if fold(group.admin or "") == fold(name) else "") + channel_of(group.name)
            for group in self.client.groups
            if not group.direct and any(fold(one) == fold(name) for one in group.members)
        ]

    # ------------------------------------------------------------------ keeping alive

    async def _keep_alive(self) -> None:
        connection = self.connection
        while True:
            quiet = trio.current_time() - connection.heard
            if quiet >= IDLE_SECONDS + PATIENCE_SECONDS:
                raise trio.BrokenResourceError("the IRC client is silent")
            if quiet >= IDLE_SECONDS:
                await connection.send(Message("PING", (SERVER,), SERVER))
                await trio.sleep(PATIENCE_SECONDS)
            else:
                await trio.sleep(IDLE_SECONDS - quiet)
