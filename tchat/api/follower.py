"""Follow a session: keep its groups small in memory, wake whoever waits, and send notices."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import trio

from tchat.api.groups import Connected, Disconnected, Group, Notice, Presence, StandingChanged
from tchat.client import updates
from tchat.client.connector import first_visit_notice
from tchat.core.group.direct import is_direct, other_of
from tchat.core.text import fold
from tchat.errors import Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.core.protocol.frames import MembershipChange

logger = logging.getLogger("tchat")

LOG_SIZE = 512
"""The most events of a group that are kept in memory; older ones are read from the server."""

_MOST_NOTICES = 256


class Follower:
    """Handles the updates of a session; `updates` counts them.

    Tasks that it starts run in `nursery`, and so end with the session.
    """

    def __init__(self, session: Session, nursery: trio.Nursery) -> None:
        self.session = session
        self.updates = 0
        self._nursery = nursery
        self._groups: dict[Replica, Group] = {}
        self._notices: set[trio.MemorySendChannel[Notice]] = set()
        self._knows_conversations = False
        self._changed = trio.Event()

    @asynccontextmanager
    async def notices(self) -> AsyncIterator[trio.MemoryReceiveChannel[Notice]]:
        """Open a channel of what is in no log: presence, changed standings, the connection.

        Whoever is more than 256 notices behind misses those that follow.
        """
        sending, receiving = trio.open_memory_channel[Notice](_MOST_NOTICES)
        self._notices.add(sending)
        try:
            with receiving:
                yield receiving
        finally:
            self._notices.discard(sending)

    def group_of(self, replica: Replica) -> Group:
        """Return the one `Group` of a replica."""
        if replica not in self._groups:
            self._groups[replica] = Group(self.session, replica)
        return self._groups[replica]

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition is true that depends on the session's state."""
        while not condition():
            await self._changed.wait()

    async def wait_past(self, updates: int) -> None:
        """Wait until there were more updates than this."""
        await self.wait_until(lambda: self.updates > updates)

    def wake(self) -> None:
        """Let everybody who waits check their conditions again."""
        self.updates += 1
        self._changed.set()
        self._changed = trio.Event()

    def is_loading(self, replica: Replica) -> bool:
        """Return whether a group is not known yet, or not loaded up to the present."""
        return replica.standing is None or (replica.standing == "member" and not replica.caught_up)

    async def find_conversations(self) -> None:
        """Follow all conversations of two with this client's user, now and after reconnections."""
        self._knows_conversations = True
        for summary in await self.session.my_groups():
            if is_direct(summary.name) and fold(summary.name) not in self.session.groups:
                with suppress(Refused):  # the other person is gone
                    await self.session.write_to(other_of(summary.name, self.session.user))

    async def run(self) -> None:
        """Handle the updates of the session until it ends."""
        async for update in self.session.updates:
            self._handle(update)
            self.wake()

    def _handle(self, update: updates.Update) -> None:
        match update:
            case updates.EventReceived(replica):
                replica.trim(LOG_SIZE)
            case updates.Connected(_, again):
                self._notify(Connected(again))
                if again and self._knows_conversations:
                    self._nursery.start_soon(self.find_conversations)
            case updates.Disconnected(reason, retry_in):
                logger.info("connection lost (%s); next try in %.1f s", reason, retry_in)
                self._notify(Disconnected(reason, retry_in))
            case updates.StandingChanged(replica, news):
                self._notify_standing(replica, news)
            case updates.PresenceChanged(replica):
                self._notify(Presence(self.group_of(replica)))
            case updates.RefusalFound(pending, failure):  # nobody could send it again
                logger.warning("refused (%s), left by another process: %s", failure.code, failure)
                self.session.discard(pending)
            case _:
                _log(update)

    def _notify_standing(self, replica: Replica, news: MembershipChange | None) -> None:
        reason, by = (news.reason, news.by) if news else ("", "")
        if replica.standing is not None:
            self._notify(StandingChanged(self.group_of(replica), replica.standing, reason, by))

    def _notify(self, notice: Notice) -> None:
        for channel in self._notices:
            with suppress(trio.WouldBlock):  # a reader that is far behind misses some
                channel.send_nowait(notice)


def _log(update: updates.Update) -> None:
    """Log what the operator of a program has to know."""
    match update:
        case updates.NewServer(pin):
            logger.info("%s", first_visit_notice(pin))
        case updates.JournalDamaged(sentence):
            logger.warning("%s", sentence)
