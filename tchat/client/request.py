"""A pending request: keeps its id and number across reconnections until it is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import trio

from tchat.core.protocol.converters import INT_LIMIT
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
from tchat.core.protocol.schema import Frame
from tchat.core.text import fold
from tchat.core.vocabulary import ANSWERED_BY
from tchat.errors import Code, ProtocolError, Refused, TchatError

if TYPE_CHECKING:
    from tchat.client.journal import JournalEntry
    from tchat.core.group.feature import Command

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
MakeRequest = Callable[[int], Frame]
"""Makes a request's frame from its id; called again for each connection that it is sent on."""

MakeCommand = Callable[[int, int], Frame]
"""Makes a command's frame from its id and its number."""


class PendingRequest:
    """A request without an answer yet. Calling `wait` is optional: the request is sent in any case.

    A command gets its `number` when it is first sent, and keeps it until it is answered, so that
    the server can deduplicate what is sent again; `group` is the folded name of its group. `check`
    validates the answer before anybody else sees it, and raises `ProtocolError`; the type of the
    answer was validated before. `on_done` is called after success and after failure. `entry` is the
    command's entry in the journal, if it is a message. `wrong_answers` counts the answers that were
    not valid, and `renumbered` how often its number turned out to be that of another command.
    """

    def __init__(self, request_id: int, make: MakeRequest | MakeCommand, *, command: bool) -> None:
        self.id = request_id
        self.make = make
        self.command = command
        self.number: int | None = None
        self.group = ""
        self.entry: JournalEntry | None = None
        self.check: Callable[[Answer], object] = _accept
        self.on_done: Callable[[], None] = _ignore
        self.done = trio.Event()
        self.wrong_answers = 0
        self.renumbered = 0
        self._answered_by: tuple[type[Frame], ...] = ()
        self.answer: Answer | None = None
        self.failure: TchatError | None = None

    def encode(self) -> bytes:
        """Return the request's frame in bytes. Raises `ProtocolError` if it is too long."""
        if self.command:
            # A command without a number is encoded with the largest one, to check its length.
            frame = cast("MakeCommand", self.make)(self.id, self.number or INT_LIMIT - 1)
            self.group = fold(cast("Command", frame).group)
        else:
            frame = cast("MakeRequest", self.make)(self.id)
        self._answered_by = ANSWERED_BY[type(frame)]
        return encode(frame)

    @property
    def attaches(self) -> bool:
        """Whether this is a request to attach a group."""
        return Attached in self._answered_by

    def validate(self, answer: Answer) -> None:
        """Raise `ProtocolError` if this frame cannot be the answer to this request."""
        if type(answer) not in self._answered_by:
            raise ProtocolError(Code.MALFORMED, "The answer is of another type than the request.")
        self.check(answer)

    def succeed(self, answer: Answer) -> None:
        """Set the answer and wake those who wait for it."""
        self.answer = answer
        self.done.set()
        self.on_done()

    def fail(self, failure: TchatError) -> None:
        """Set the failure and wake those who wait for the answer."""
        self.failure = failure
        self.done.set()
        self.on_done()

    async def wait(self) -> Answer:
        """Return the answer. Raises `Refused` with the server's sentence."""
        await self.done.wait()
        if self.failure is not None:
            raise self.failure
        if self.answer is None:
            raise Refused(Code.INTERNAL, "The request was abandoned.")
        return self.answer


def _accept(_: Answer) -> None:
    """Accept any answer of a type that the request can have."""


def _ignore() -> None:
    """Do nothing when the request is done."""
