"""A group or conversation that one IRC client has open, and which messages that client wrote."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from tchat.api.groups import Event, Group, Message
from tchat.core.pace import Rate, TokenBucket
from tchat.errors import Refused
from tchat.irc.rendering import Quote, Scene, reference_of, target_of

if TYPE_CHECKING:
    from collections.abc import Awaitable

_REMEMBERED = 500
_QUOTE_RATE = Rate(1, 20)


class OwnMessages:
    """The messages that were written in this IRC client, which has shown them already.

    A message's event may arrive before the answer that tells its seq.
    """

    def __init__(self) -> None:
        self._unanswered = 0
        self._labels: dict[int, str | None] = {}
        self._newest = 0
        self._changed = trio.Event()

    def begin(self) -> None:
        """Expect an answer: a message was posted, and `wait` will be called."""
        self._unanswered += 1

    async def wait(self, stored: Awaitable[Message], label: str | None) -> None:
        """Wait until a message is stored. Raises `Refused`."""
        try:
            message = await stored
            self._labels[message.seq] = label
            self._newest = max(self._newest, message.seq)
        finally:
            self._unanswered -= 1
            self._changed.set()
            self._changed = trio.Event()

    async def settle(self) -> None:
        """Wait until all messages so far are stored or refused."""
        while self._unanswered:
            await self._changed.wait()

    def forget(self) -> None:
        """Forget the messages that are stored: other ones may have their seqs now."""
        self._labels.clear()
        self._newest = 0

    async def find(self, seq: int) -> tuple[bool, str | None]:
        """Return whether this client wrote a message, and with which label."""
        # Messages are answered in order: an answer for a later one comes after that for this one.
        while self._unanswered and seq not in self._labels and self._newest < seq:
            await self._changed.wait()
        return seq in self._labels, self._labels.pop(seq, None)


class Channel:
    """A group or conversation that an IRC client has open, as `target`.

    Cancelling `scope` closes it. `last_own` is the seq of the user's latest message.
    """

    def __init__(self, group: Group) -> None:
        self.group = group
        self.target = target_of(group)
        self.scope = trio.CancelScope()
        self.own = OwnMessages()
        self.admin = group.admin
        self.last_own: int | None = None
        self._quotes: dict[int, Quote] = {}
        self._replacements = group.replica.replacements
        self._pace = TokenBucket(_QUOTE_RATE, 0)

    def remember(self, message: Message) -> None:
        """Remember a message, for replies to it."""
        self.forget_lost()
        self._quotes[message.seq] = Quote(message.who, message.text, message.at, message.stamp)
        if len(self._quotes) > _REMEMBERED:
            del self._quotes[next(iter(self._quotes))]
        if message.mine:
            self.last_own = message.seq

    def forget_lost(self) -> None:
        """Forget all messages if the log was replaced: others may have their seqs."""
        if self._replacements != self.group.replica.replacements:
            self._replacements = self.group.replica.replacements
            self._quotes.clear()
            self.own.forget()
            self.last_own = None

    def _may_load(self, *, live: bool) -> bool:
        """Return whether to load a quoted message: not for any number of new replies.

        Each member can write many replies to old messages, and each page costs the server a hundred
        times as much as a reply.
        """
        return not live or not self._pace.take(trio.current_time())

    async def scene(self, event: Event, me: str, *, live: bool) -> Scene:
        """Return what an event is shown with."""
        self.forget_lost()
        seq = reference_of(event)
        if seq is not None and seq not in self._quotes and self._may_load(live=live):
            with suppress(Refused):
                for older in await self.group.history(before=seq + 1, limit=1):
                    if isinstance(older, Message) and older.seq == seq:
                        self._quotes[seq] = Quote(older.who, older.text, older.at, older.stamp)
        quotes = {seq: self._quotes[seq]} if seq in self._quotes else {}
        return Scene(self.group, me, live, self.admin, quotes)
