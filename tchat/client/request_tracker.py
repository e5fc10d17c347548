"""Track unanswered requests: match answers by id, resend after a reconnection, deduplicate.

A request keeps its id and a command its number on every connection, so the server executes a
command only once, however often it arrives (idempotent resending). To the caller, a broken
connection is only a delay.

An answer is believed only if it was asked for: it has the id of a request, and a type that the
request can have (`vocabulary.ANSWERED_BY`). A second answer, or that of a request that was
cancelled, has no effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.client.bounds import sentence_of
from tchat.client.request import PendingRequest
from tchat.client.sender import Sender
from tchat.core.protocol.frames import Ok
from tchat.core.text import clean_line
from tchat.errors import Code, ProtocolError, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.client.client_id import ClientId
    from tchat.client.journal import JournalEntry
    from tchat.client.request import Answer, MakeCommand, MakeRequest
    from tchat.core.protocol.frames import Failed
    from tchat.core.protocol.handshake import Welcome

LONGEST_WAIT_SECONDS = 60.0
"""The longest pause after a rate limit, whatever the server asks for."""


MOST_RENUMBERED = 3
"""How often a message gets another number, since the server has the one before for another."""

MOST_WRONG_ANSWERS = 3
"""Wrong answers to one request, after which it fails: others must not wait for it for ever."""


def taken_refusal() -> Refused:
    """Return the refusal of a message of which nobody can tell whether it is in the log."""
    return Refused(
        Code.OUTCOME_UNKNOWN,
        "This client's files have gone back to an earlier state, or another machine uses a copy of"
        " them, so it may have been sent already: look for it before you send it again.",
    )


class RequestTracker:
    """The unanswered requests of one session; `sender` is the queue that sends them.

    `on_all_answered` is called when the last unanswered request has got its answer, or failed.
    `answered` counts the requests that are done, except those to attach: a server can cause any
    number of these.
    """

    def __init__(self, client_id: ClientId, on_all_answered: Callable[[], None]) -> None:
        self.sender = Sender(client_id, self._fail)
        self._client_id = client_id
        self._on_all_answered = on_all_answered
        self._unanswered: dict[int, PendingRequest] = {}
        self.answered = 0
        self._last_id = 0
        self._connected = False

    def __len__(self) -> int:
        return len(self._unanswered)

    @property
    def only_attaches(self) -> bool:
        """Whether no other requests than those to attach are unanswered."""
        return all(request.attaches for request in self._unanswered.values())

    # ------------------------------------------------------------------ requests

    def submit(self, make: MakeCommand, entry: JournalEntry | None = None) -> PendingRequest:
        """Send a command, with the number of its journal entry, if that has one already."""
        request = PendingRequest(self._new_id(), make, command=True)
        if entry is not None:
            request.entry, request.number = entry, entry.number
            self.sender.track(request)
        return self._start(request)

    def ask(
        self, make: MakeRequest, check: Callable[[Answer], object] | None = None
    ) -> PendingRequest:
        """Send a request that changes no log; `check` validates its answer."""
        request = PendingRequest(self._new_id(), make, command=False)
        request.check = check or request.check
        return self._start(request)

    def ask_deduplicated(
        self, make: MakeRequest, check: Callable[[Answer], object] | None = None
    ) -> PendingRequest:
        """Return the unanswered request with the same `make`, or send a new one."""
        return self._find(make) or self.ask(make, check)

    def abandon(self, make: MakeRequest) -> None:
        """Cancel the unanswered request with this `make`, if there is one."""
        if request := self._find(make):
            self.cancel(request)

    def cancel(self, request: PendingRequest) -> None:
        """Fail a request with `cancelled`; it is not sent any more, and its answer is ignored."""
        self._fail(request, Refused(Code.CANCELLED, "The request was cancelled."))

    async def wait_for_all(self) -> None:
        """Wait until every request so far has been answered."""
        for request in list(self._unanswered.values()):
            await request.done.wait()

    # ------------------------------------------------------------------ connections

    def on_connected(self, welcome: Welcome) -> None:
        """Resend all unanswered requests on the new connection."""
        self._connected = True
        self.sender.restart(welcome, self._unanswered.values())

    def on_disconnected(self) -> None:
        """Hold new requests back until there is a connection."""
        self._connected = False

    # ------------------------------------------------------------------ answers

    def handle_answer(self, answer: Answer) -> bool:
        """Complete the request that was answered; return False if it is done already.

        Raises `ProtocolError` for an answer that was not asked for, or is wrong: the request is
        sent again on the next connection. With the last of several wrong answers, it fails.
        """
        request = self._find_asked(answer.re)
        if request is None:
            return False
        if self._is_taken(request, answer):
            self.renumber(request)
            return True
        try:
            request.validate(answer)
        except ProtocolError as error:
            request.wrong_answers += 1
            if request.wrong_answers < MOST_WRONG_ANSWERS:
                raise
            self._fail(request, Refused(error.code, error.sentence))
        else:
            self.succeed(request, answer)
        return True

    def _is_taken(self, request: PendingRequest, answer: Answer) -> bool:
        """Return whether the number of a new message turns out to be that of another command.

        Another machine with a copy of this client's files has used it since the server was asked. A
        message always adds an event, unless the server takes it for a repeat.
        """
        is_repeat = isinstance(answer, Ok) and answer.seq is None and request.entry is not None
        return is_repeat and not self.sender.is_repeat(request)

    def renumber(self, request: PendingRequest) -> None:
        """Send a message again with another number, since its number is that of another command."""
        request.renumbered += 1
        if request.entry is None or request.renumbered > MOST_RENUMBERED:
            self._fail(request, taken_refusal())
            return
        try:
            self._client_id.journal.forget_number(request.entry)
        except Refused as refusal:
            self._fail(request, refusal)
            return
        self.sender.release(request)
        self.sender.forget_count(request.group)
        self._unanswered.pop(request.id, None)
        request.number, request.id = (
            None,
            self._new_id(),
        )  # an answer to the former id means nothing
        self._start(request)

    def forget_number(self, request: PendingRequest) -> None:
        """Give a message that waits for its group's count another number than it had.

        It had that in an earlier process, and is not in the log.
        """
        if request.entry is not None:
            try:
                self._client_id.journal.forget_number(request.entry)
            except Refused as refusal:
                self._fail(request, refusal)
                return
        self.sender.release(request)
        request.number = None

    def handle_failure(self, failed: Failed) -> None:
        """Fail the refused request.

        Earlier servers refuse requests that come too fast, for example from a client that attaches
        to very many groups: these are sent again. A command is not, because it would then come
        after those behind it; a client that keeps to the rate has none refused for its speed.
        """
        request = self._find_asked(failed.re or 0)
        if request is None:
            return
        if failed.code == Code.RATE_LIMITED and failed.wait is not None and not request.command:
            self.sender.retry(request, min(failed.wait / 1000, LONGEST_WAIT_SECONDS))
            return
        self._fail(request, Refused(clean_line(failed.code), sentence_of(failed.text)))

    def refuse(self, request: PendingRequest, refusal: Refused) -> None:
        """Fail a request that is not sent any more, for a reason of this client's own."""
        self._fail(request, refusal)

    def succeed(self, request: PendingRequest, answer: Answer) -> None:
        """Complete a request, unless it is done already."""
        if self._forget(request):
            request.succeed(answer)
            self._tell_if_all_answered()

    def _fail(self, request: PendingRequest, refusal: Refused) -> None:
        if self._forget(request):
            request.fail(refusal)
            self._tell_if_all_answered()

    def _forget(self, request: PendingRequest) -> bool:
        """Remove a request that is done; return whether it was unanswered."""
        if self._unanswered.pop(request.id, None) is None:
            return False
        self.answered += not request.attaches
        self.sender.release(request)
        return True

    def _tell_if_all_answered(self) -> None:
        if not self._unanswered:  # the end of the last request may have started another
            self._on_all_answered()

    def _find_asked(self, request_id: int) -> PendingRequest | None:
        """Return an unanswered request; None if it is done. Raises `ProtocolError`."""
        if not 0 < request_id <= self._last_id:
            raise ProtocolError(Code.MALFORMED, "An answer to a request that was never sent.")
        return self._unanswered.get(request_id)

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _start(self, request: PendingRequest) -> PendingRequest:
        request.encode()  # a request that is too long fails here, in its caller
        self._unanswered[request.id] = request
        if self._connected:
            self.sender.enqueue(request)
        return request

    def _find(self, make: MakeRequest) -> PendingRequest | None:
        return next((r for r in self._unanswered.values() if r.make == make), None)
