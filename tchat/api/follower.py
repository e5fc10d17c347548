"""Follow a session: keep its groups small in memory, wake whoever waits, and send notices."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary, WeakValueDictionary

import trio

from tchat.api.groups import (
    Connected,
    Disconnected,
    Group,
    LogReplaced,
    Notice,
    Presence,
    StandingChanged,
)
from tchat.client import updates
from tchat.client.connector import first_visit_notice, rotation_notice
from tchat.client.replica import Replica
from tchat.client.retention import Retention
from tchat.core.group.direct import is_direct, other_of
from tchat.core.text import clean_line, fold
from tchat.errors import Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tchat.client.pending_message import PendingMessage
    from tchat.client.session import Session
    from tchat.core.protocol.frames import MembershipChange, Standing

logger = logging.getLogger("tchat")

LOG_SIZE = 512
"""The most events of a group that are kept in memory; older ones are read from the server."""

_RETENTION = Retention(events=LOG_SIZE, size=2 * 1024 * 1024, total=32 * 1024 * 1024)
_MOST_NOTICES = 256

MOST_CONVERSATIONS = 50
"""How many conversations are followed at a time, besides those that the program asks for.

A server lets a connection follow a few hundred groups, and anybody can begin a conversation. What
is new in the others is told by the server; they are then followed in the place of idle ones.
"""

_MOST_NOTED = 10_000


class Stream(Protocol):
    """A stream of the events of all conversations, as the follower sees it."""

    def has_delivered(self, replica: Replica) -> bool:
        """Return whether all events of a group that are in the client were delivered."""

    def set_aside(self, replica: Replica) -> None:
        """Remember only the place in a conversation that is not followed any more."""


class Follower:
    """Handles the updates of a session; `updates` counts them.

    Tasks that it starts run in `nursery`, and so end with the session.
    """

    def __init__(self, session: Session, nursery: trio.Nursery) -> None:
        self.session = session
        session.set_retention(_RETENTION)
        self.updates = 0
        self.closed = False
        self._nursery = nursery
        # Weak, so that the logs of groups that are not followed any more are freed.
        self._groups: WeakValueDictionary[Replica, Group] = WeakValueDictionary()
        self._standings: WeakKeyDictionary[Replica, Standing | None] = WeakKeyDictionary()
        self._notices: set[trio.MemorySendChannel[Notice]] = set()
        self._knows_conversations = False
        self._finding = trio.Lock()
        self._found: dict[str, Replica] = {}
        """The conversations that are followed because of their news, by folded name."""
        self._delivered: dict[str, int] = {}
        """The last event of conversations, by folded name, that all streams have delivered."""
        self._before_news: dict[str, int] = {}
        """The last event of conversations, by folded name, when they were not followed yet."""
        self._waits = False
        self._streams: set[Stream] = set()
        """Those that deliver the events of all conversations."""
        self._looking = False
        self._look_again = False
        self._offline = False
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
        group = self._groups.get(replica)
        if group is None:
            group = self._groups[replica] = Group(self.live_session, self.session.user, replica)
        return group

    def group_named(self, name: str) -> Group:
        """Return a group without following it: its state is unknown unless it is followed."""
        replica = self.session.groups.get(fold(name))
        if replica is None:
            return Group(self.live_session, self.session.user, Replica(name))
        return self.group_of(replica)

    def live_session(self) -> Session:
        """Return the session. Raises `trio.ClosedResourceError` after its end."""
        if self.closed:
            raise trio.ClosedResourceError("the client is not connected any more")
        return self.session

    def close(self) -> None:
        """End: whoever waits, or asks for something, gets `trio.ClosedResourceError`."""
        self.closed = True
        self.wake()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition is true that depends on the session's state."""
        self.live_session()
        while not condition():
            await self._changed.wait()
            self.live_session()

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
        if replica.unusable is not None:
            return False
        return replica.standing is None or (replica.standing == "member" and not replica.caught_up)

    async def find_conversations(self) -> None:
        """Follow the conversations of two with this client's user, now and after reconnections.

        At most `MOST_CONVERSATIONS` are followed at a time, those with something unread first. The
        others wait until the streams have delivered what is in these.
        """
        self._knows_conversations = True
        async with self._finding:
            self._look_again = False
            listed = [one for one in await self.session.my_groups() if is_direct(one.name)]
            self._waits = False
            for one in sorted(listed, key=lambda one: one.last <= one.read):
                if fold(one.name) in self.session.groups:
                    continue
                is_new = one.last > self._delivered.get(fold(one.name), 0)
                if len(self._found) < MOST_CONVERSATIONS or (is_new and self._drop_idle()):
                    await self._follow_conversation(one.name)
                elif is_new:
                    self._waits = True
                    _note(self._before_news, one.name, one.last)

    async def _follow_conversation(self, name: str) -> None:
        other = other_of(name, self.session.user)
        with suppress(Refused):
            replica = self._found[fold(name)] = self.session.follow(name)
            try:
                await self.session.write_to(other)
            except Refused:  # the other person is gone
                self._found.pop(fold(name), None)
                self.session.unfollow(replica)

    def _drop_idle(self) -> bool:
        """Follow one conversation less; return False if there is something new in all of them."""
        idle = [one for one in self._found.values() if self._is_idle(one)]
        if not idle:
            return False
        oldest = min(idle, key=lambda one: one.state.at)
        del self._found[fold(oldest.name)]
        for stream in self._streams:
            stream.set_aside(oldest)
        _note(self._delivered, oldest.name, oldest.last)
        self.session.unfollow(oldest)
        return True

    def _is_idle(self, replica: Replica) -> bool:
        """Return whether all events of a conversation were delivered, or cannot be."""
        if replica.unusable or replica.standing not in (None, "member"):
            return True
        return replica.caught_up and all(one.has_delivered(replica) for one in self._streams)

    def before_news(self, conversation: Replica) -> int:
        """Return the last event before the news for which a conversation is followed."""
        return self._before_news.get(fold(conversation.name), 0)

    def keep(self, conversation: Replica) -> None:
        """Follow a conversation for good: the program has asked for it."""
        self._found.pop(fold(conversation.name), None)

    def add_stream(self, stream: Stream) -> None:
        """Add a stream of the events of all conversations."""
        self._streams.add(stream)
        self._delivered.clear()
        self._before_news.clear()

    def remove_stream(self, stream: Stream) -> None:
        """Remove a stream that has ended."""
        self._streams.discard(stream)

    async def follow_waiting(self) -> bool:
        """Follow conversations that wait, now that others are read; return whether any does."""
        if not self._waits:
            return False
        before = set(self._found)
        try:
            await self.find_conversations()
        except Refused as refusal:
            logger.warning("conversations are not followed (%s): %s", refusal.code, refusal)
            return False
        await self.wait_until(lambda: not any(map(self.is_loading, self._found.values())))
        return set(self._found) != before

    def _look_for_conversations(self) -> None:
        """Follow new conversations in the background, once somebody wants to hear them.

        What comes while the server is being asked is found by asking once more.
        """
        if self._looking:
            self._look_again = True
        elif self._knows_conversations:
            self._looking = True
            self._nursery.start_soon(self._find_new_conversations)

    async def _find_new_conversations(self) -> None:
        self._look_again = True
        while self._look_again:
            try:
                await self.find_conversations()
            except Refused as refusal:
                logger.warning("new conversations are not followed (%s): %s", refusal.code, refusal)
        self._looking = False

    async def run(self) -> None:
        """Handle the updates of the session until it ends."""
        async for update in self.session.updates:
            self._handle(update)
            if not isinstance(update, updates.AllAnswered):  # whoever asked has the answer already
                self.wake()

    def _handle(self, update: updates.Update) -> None:
        match update:
            case updates.Connected(_, again):
                self._offline = False
                self._notify(Connected(again))
                self._look_for_conversations()
            case updates.Disconnected(reason, retry_in):
                # Once for each outage, not for each attempt.
                level = logging.INFO if self._offline else logging.WARNING
                self._offline = True
                logger.log(level, "connection lost (%s); next try in %.1f s", reason, retry_in)
                self._notify(Disconnected(reason, retry_in))
            case updates.Addressed(group, seq, _):
                if fold(group) not in self._before_news:
                    _note(self._before_news, group, seq - 1)
                self._look_for_conversations()
            case updates.StandingChanged(replica, news):
                self._notify_standing(replica, news)
                self._log_standing(replica, news)
            case updates.PresenceChanged(replica):
                self._notify(Presence(self.group_of(replica)))
            case updates.LogReplaced(replica, is_damaged):
                if not is_damaged:
                    # The server was restored, so that positions are those of other events.
                    self._delivered.clear()
                    self._before_news.clear()
                    self._notify(LogReplaced(self.group_of(replica)))
                # Otherwise, streams go on where they are, and have an `EventLost` for the damage.
                logger.warning("%s", clean_line(f"{replica.name}: {update.sentence}"))
            case updates.RefusalFound(pending, failure):
                self._discard_refused(pending, failure)
            case _:
                _log(update)

    def _discard_refused(self, pending: PendingMessage, failure: Refused) -> None:
        """Log a refusal, and discard the message of a program; a person may send theirs again."""
        logger.warning("refused (%s), left by another process: %s", failure.code, failure)
        if pending.entry.once is not None:
            self.session.discard(pending)

    def _notify_standing(self, replica: Replica, news: MembershipChange | None) -> None:
        reason, by = (news.reason, news.by) if news else ("", "")
        if replica.standing is not None:
            self._notify(StandingChanged(self.group_of(replica), replica.standing, reason, by))

    def _log_standing(self, replica: Replica, news: MembershipChange | None) -> None:
        """Log that the user waits, is a member, or is out; nothing about a newcomer."""
        before, now = self._standings.get(replica), replica.standing
        self._standings[replica] = now
        sentence = ""
        if now == "waiting":
            sentence = f"waiting for {replica.admin or 'the admin'} to approve"
        elif now == "member":
            sentence = "a member" if before is not None else ""
        elif news is not None:
            sentence = f"no longer a member ({news.reason} by {news.by})"
        elif replica.banned:
            sentence = "banned; only the admin can lift the ban"
        elif replica.kicked:
            sentence = "kicked; an invite lets the user in again"
        elif before is not None:
            sentence = "no longer a member" if before == "member" else "not approved"
        if sentence:
            logger.info("%s", clean_line(f"{self.session.user} in {replica.name}: {sentence}"))

    def _notify(self, notice: Notice) -> None:
        for channel in self._notices:
            with suppress(trio.WouldBlock):  # a reader that is far behind misses some
                channel.send_nowait(notice)


def _note(seqs: dict[str, int], group: str, seq: int) -> None:
    """Note an event of a group; forget the earliest note if there are too many."""
    seqs[fold(group)] = seq
    if len(seqs) > _MOST_NOTED:
        del seqs[next(iter(seqs))]


def _log(update: updates.Update) -> None:
    """Log what the operator of a program has to know."""
    match update:
        case updates.NewServer(pin):
            logger.warning("%s", first_visit_notice(pin))
        case updates.KeyRotated(pin):
            logger.warning("%s", rotation_notice(pin))
        case updates.GroupUnusable(_, refusal):
            logger.warning("%s", refusal)
        case updates.JournalDamaged(sentence):
            logger.warning("%s", sentence)
        case updates.UnsentElsewhere():
            logger.warning("%s", update.sentence)
