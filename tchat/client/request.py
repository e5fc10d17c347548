"""A request on its way: sent again until it is answered, on however many connections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import trio

from tchat.core.protocol.frames import (
    AlreadyStored,
    Attached,
    DigestRequired,
    FileList,
    GroupList,
    HistoryPage,
    KeyList,
    LinkCode,
    Ok,
    SearchResults,
    Ticket,
    encode,
)
from tchat.core.protocol.schema import INT_LIMIT, Frame
from tchat.errors import Code, Refused, TchatError

if TYPE_CHECKING:
    from tchat.client.journal import JournalEntry

Answer = (
    Ok
    | Attached
    | Ticket
    | DigestRequired
    | AlreadyStored
    | FileList
    | LinkCode
    | KeyList
    | HistoryPage
    | SearchResults
    | GroupList
)
Make = Callable[[int], Frame]
"""Makes a request's frame from its id; called anew for each connection it is sent on."""

MakeCommand = Callable[[int, int], Frame]
"""Makes a command's frame from its id and its number."""


class PendingRequest:
    """A request on its way. `wait` for its answer, or drop it: it will be sent all the same.

    A command gets its `number` when it is first sent, and keeps it until it is answered. `check`
    is shown the answer before anybody else, and raises `ProtocolError` for one that cannot be;
    `ended` is called when the receipt is done, whichever way; `note` is what the outbox has of it.
    """

    def __init__(self, request_id: int, make: Make | MakeCommand, *, command: bool) -> None:
        self.id = request_id
        self.make = make
        self.command = command
        self.number: int | None = None
        self.note: JournalEntry | None = None
        self.check: Callable[[Answer], object] = _anything
        self.ended: Callable[[], None] = _nothing
        self.done = trio.Event()
        self.answer: Answer | None = None
        self.failure: TchatError | None = None

    def encode(self) -> bytes:
        """Return the request as it goes to a socket. Raises `ProtocolError` if it cannot."""
        if self.command:
            return encode(cast("MakeCommand", self.make)(self.id, self.number or INT_LIMIT - 1))
        return encode(cast("Make", self.make)(self.id))

    def succeed(self, answer: Answer) -> None:
        """Take the answer."""
        self.answer = answer
        self.done.set()
        self.ended()

    def fail(self, failure: TchatError) -> None:
        """Take a refusal."""
        self.failure = failure
        self.done.set()
        self.ended()

    async def wait(self) -> Answer:
        """Return the answer. Raises `Refused` with the server's sentence."""
        await self.done.wait()
        if self.failure is not None:
            raise self.failure
        if self.answer is None:
            raise Refused(Code.INTERNAL, "The request was given up.")
        return self.answer


@dataclass(slots=True, eq=False)
class PendingMessage:
    """A message that is not in the log yet, typed at `at` (ms since the Unix epoch).

    `failure` is why it was refused: then it stays until it is sent again or let go of.
    """

    note: JournalEntry
    receipt: PendingRequest

    @property
    def group(self) -> str:
        """The group that it is for."""
        return self.note.group

    @property
    def text(self) -> str:
        """What it says."""
        return self.note.text

    @property
    def reply(self) -> int | None:
        """The event that it is a reply to."""
        return self.note.reply

    @property
    def at(self) -> int:
        """When it was typed."""
        return self.note.at

    @property
    def failure(self) -> Refused | None:
        """Why it was refused, if it was."""
        return self.note.failure

    async def wait(self) -> Answer:
        """Return the answer when it is stored. Raises `Refused` with the server's sentence."""
        return await self.receipt.wait()


def _anything(_: Answer) -> None:
    """Take any answer for what was asked for; whoever waits for it looks at it."""


def _nothing() -> None:
    """Tell nobody."""
