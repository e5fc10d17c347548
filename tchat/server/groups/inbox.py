"""Inbox of a group's actor: the items sent to it, and how they are grouped into batches.

An inbox is bounded in items and in bytes, since commands may be long. When it is full, its
senders wait in a queue, each with one item; a connection then reads nothing more (backpressure).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import trio

from tchat.core.protocol.frames import Failed, Ok, encode, failed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tchat.core.group.feature import Command, Event
    from tchat.core.group.state import Author, Group
    from tchat.core.protocol.frames import Attach
    from tchat.errors import Refused
    from tchat.server.groups.subscriptions import Subscription
    from tchat.server.send_queue import SendQueue


class OlderEdits(NamedTuple):
    """The seqs of a message's edits up to event `upto`, which the state may have forgotten."""

    upto: int
    seqs: tuple[int, ...]


@dataclass(slots=True, eq=False)
class Execute:
    """Validate and commit a command.

    `checks` may refuse the command. They run only if the command is not a repeat and the group's
    rules allow it, because a repeated command must get the reply of its first copy. `charge` is
    called with work of the store that turns out when the command is validated. `size` is that of
    the command, in bytes of memory. `older_edits` are those of a message to delete; None if they
    were not looked up.
    """

    author: Author
    command: Command
    send_queue: SendQueue
    checks: Sequence[Callable[[], None]] = ()
    charge: Callable[[float], None] = lambda _: None
    size: int = 0
    older_edits: OlderEdits | None = None

    def check(self) -> None:
        """Run the checks. Raises `Refused`."""
        for check in self.checks:
            check()

    def refuse(self, refusal: Refused) -> None:
        """Reply with a refusal, after it was taken from an inbox."""
        self.send_queue.unanswered -= 1
        self.send_queue.push(encode(failed(refusal, self.command.id)))


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Subscribe a connection to the group."""

    size: ClassVar[int] = 0
    subscription: Subscription
    request: Attach

    def refuse(self, refusal: Refused) -> None:
        """Reply with a refusal."""
        self.subscription.send_queue.push(encode(failed(refusal, self.request.id)))


@dataclass(frozen=True, slots=True)
class ReadReceipt:
    """Record that a person has read the events up to `seq`.

    The person's connections are notified, except the one with `send_queue`, which reported it.
    """

    size: ClassVar[int] = 0
    name: str
    seq: int
    send_queue: SendQueue

    def refuse(self, _: Refused) -> None:
        """Do nothing: nobody waits for a reply."""


@dataclass(frozen=True, slots=True)
class Query:
    """Call `run` with the committed state; `run` must not change it, and sends the reply.

    If the state cannot be read, `refuse` is called instead. If the actor fails, it closes
    `send_queue`, the send queue of the connection that asks.
    """

    size: ClassVar[int] = 0
    run: Callable[[Group], None]
    send_queue: SendQueue
    refuse: Callable[[Refused], None]


@dataclass(frozen=True, slots=True)
class Wake:
    """Make the actor process a batch: subscriptions or presence have changed."""

    size: ClassVar[int] = 0

    def refuse(self, _: Refused) -> None:
        """Do nothing: nobody waits for a reply."""


Item = Execute | Subscribe | ReadReceipt | Query | Wake


class Inbox:
    """The items that wait for an actor: at most `limit` of them, with about `byte_limit` bytes.

    The actor takes them; anybody may put some in.
    """

    def __init__(self, limit: int, byte_limit: int) -> None:
        self._putting, self._taking = trio.open_memory_channel[Item](limit)
        self._byte_limit = byte_limit
        self._size = 0
        self._queue = trio.Lock()  # of those who wait for space
        self._waiting = 0
        self._space = trio.Event()

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for space, although the inbox may be empty by now."""
        return bool(self._waiting)

    def wake(self) -> None:
        """Put a `Wake` in if the actor waits for an item, whoever waits for space."""
        if self._taking.statistics().tasks_waiting_receive:
            self._putting.send_nowait(Wake())

    def try_put(self, item: Item) -> bool:
        """Put an item in, unless the inbox is full or others wait for space."""
        if self._size >= self._byte_limit or self._waiting:
            return False
        try:
            self._putting.send_nowait(item)
        except trio.WouldBlock:
            return False
        self._count(item)
        return True

    def _count(self, item: Item) -> None:
        self._size += item.size
        if type(item) is Execute:
            item.send_queue.unanswered += 1

    async def put(self, item: Item) -> None:
        """Put an item in, after those that wait for space already.

        If there is space, it is in before the first checkpoint. Raises `trio.BrokenResourceError`
        if the actor has failed.
        """
        if self.try_put(item):
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        self._waiting += 1
        try:
            async with self._queue:
                while self._size >= self._byte_limit:
                    self._space = trio.Event()
                    await self._space.wait()
                await self._putting.send(item)
                self._count(item)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Let the actor take what is there, and then end."""
        self._putting.close()

    async def take(self) -> Item:
        """Wait for an item. Raises `trio.EndOfChannel` if the inbox is closed and empty."""
        item = await self._taking.receive()
        self._make_space(item)
        return item

    def try_take(self) -> Item | None:
        """Return the next item; None if there is none."""
        try:
            item = self._taking.receive_nowait()
        except (trio.WouldBlock, trio.EndOfChannel):
            return None
        if item.size:
            self._make_space(item)
        return item

    def abandon(self) -> None:
        """Let all who put something in fail: the actor has ended."""
        self._taking.close()
        self._size = 0
        self._space.set()

    def _make_space(self, item: Item) -> None:
        self._size -= item.size
        if self._waiting and self._size < self._byte_limit:
            self._space.set()


@dataclass(slots=True)
class Batch:
    """Events to commit together, and the replies to send afterwards.

    `draft` is a copy of the state with the events applied. `targets` are the events that edits and
    deletions refer to, `older_edits` the edits of the message to delete that the state may have
    forgotten, `digests` the running digests of the log after the events that subscriptions begin
    at. `acquainted` says whether the two people of a direct conversation share a group.
    `unreadable` are the targets in a damaged part of the log; `damaged` refuses what needs them.
    `strangers` are the people (folded) whom events concern, but who do not know the group. The
    first `independent` replies do not depend on events of the batch.
    """

    draft: Group
    targets: dict[int, Event] = field(default_factory=dict)
    older_edits: tuple[int, ...] = ()
    digests: dict[int, bytes] = field(default_factory=dict)
    acquainted: bool = True
    unreadable: set[int] = field(default_factory=set)
    damaged: Refused | None = None
    events: list[Event] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    replies: list[tuple[Execute, Ok | Failed]] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    read_receipts: list[ReadReceipt] = field(default_factory=list)
    strangers: set[str] = field(default_factory=set)
    size: int = 0
    independent: int = 0

    def add_reply(self, item: Execute, answer: Ok | Failed) -> None:
        """Add the reply to a command; it is sent once the events so far are committed."""
        self.replies.append((item, answer))
        if not self.events:
            self.independent = len(self.replies)

    def send_replies(self) -> None:
        """Send the replies, with a single push per connection."""
        pieces: dict[SendQueue, list[bytes]] = {}
        for item, answer in self.replies:
            pieces.setdefault(item.send_queue, []).append(encode(answer))
        for send_queue, answers in pieces.items():
            send_queue.unanswered -= len(answers)
            send_queue.push(b"".join(answers))

    def fail(self, refusal: Refused) -> None:
        """Refuse the first command with events and all after it, because the commit failed.

        Later commands, even those without events, were validated against a state that was never
        committed. The first `independent` replies stay valid.
        """
        for index in range(self.independent, len(self.replies)):
            item, _ = self.replies[index]
            self.replies[index] = (item, failed(refusal, item.command.id))
