"""What a session has asked for and not been answered yet, over as many connections as it takes.

A request keeps its id, and a command its number, so the server does it once however often it
arrives. To the caller, a broken connection is only a delay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.client.receipt import Answer, Make, MakeCommand, Receipt
from tchat.client.sending import Sender
from tchat.core.text import clean_line
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.client.outbox import Note
    from tchat.client.slot import Slot
    from tchat.core.frames import Failed
    from tchat.core.handshake import Welcome

LONGEST_WAIT_SECONDS = 60.0


class Requests:
    """The requests of one session, whose commands `slot` counts. `sender` is their queue."""

    def __init__(self, slot: Slot) -> None:
        self.sender = Sender(slot, self._refuse)
        self._waiting: dict[int, Receipt] = {}
        self._last_id = 0
        self._connected = False

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, make: MakeCommand, note: Note | None = None) -> Receipt:
        """Send a command as soon as may be, with the number that is in its note, if one is."""
        receipt = Receipt(self._new_id(), make, command=True)
        if note is not None:
            receipt.note, receipt.number = note, note.number
            self.sender.reopen(receipt)
        return self._put(receipt)

    def ask(self, make: Make, check: Callable[[Answer], object] | None = None) -> Receipt:
        """Send a request that changes no log; `check` is shown the answer when it comes."""
        receipt = Receipt(self._new_id(), make, command=False)
        receipt.check = check or receipt.check
        return self._put(receipt)

    def ask_once(self, make: Make, check: Callable[[Answer], object] | None = None) -> Receipt:
        """Send such a request unless the same is on its way: then return that."""
        return self._find(make) or self.ask(make, check)

    def give_up(self, make: Make) -> None:
        """Wait no longer for the answer to a request."""
        if receipt := self._find(make):
            self.cancel(receipt)

    def cancel(self, receipt: Receipt) -> None:
        """Send a request no more, if it was not sent yet, and wait no longer for its answer."""
        self._refuse(receipt, Refused(Code.CANCELLED, "This is not wanted any more."))

    async def settle(self) -> None:
        """Wait until every request so far has been answered."""
        for receipt in list(self._waiting.values()):
            await receipt.done.wait()

    def connected(self, welcome: Welcome) -> None:
        """Send all that is unanswered on a new connection."""
        self._connected = True
        self.sender.restart(welcome, self._waiting.values())

    def disconnected(self) -> None:
        """Send nothing until there is a connection."""
        self._connected = False

    # ------------------------------------------------------------------ what is answered

    def take_answer(self, answer: Answer) -> None:
        """Settle a request. Raises `ProtocolError` for an answer that cannot be one to it."""
        receipt = self._waiting.get(answer.re)
        if receipt is not None:
            receipt.check(answer)
            self.succeed(receipt, answer)

    def succeed(self, receipt: Receipt, answer: Answer) -> None:
        """Settle a request that is done, as the server said or as can be seen."""
        if self._waiting.pop(receipt.id, None) is not None:
            self.sender.settle(receipt)
            receipt.succeed(answer)

    def take_failure(self, failed: Failed) -> None:
        """Settle a request that is refused; send one again that only came too fast."""
        receipt = self._waiting.get(failed.re or 0)
        if receipt is None:
            return
        if failed.code == Code.RATE_LIMITED and failed.wait is not None:
            self.sender.put_back(receipt, min(failed.wait / 1000, LONGEST_WAIT_SECONDS))
            return
        self._refuse(receipt, Refused(clean_line(failed.code), clean_line(failed.text)))

    def _refuse(self, receipt: Receipt, refusal: Refused) -> None:
        if self._waiting.pop(receipt.id, None) is not None:
            self.sender.settle(receipt)
            receipt.fail(refusal)

    # ------------------------------------------------------------------ what is sent

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _put(self, receipt: Receipt) -> Receipt:
        receipt.encode()  # so that what cannot be sent fails here
        self._waiting[receipt.id] = receipt
        if self._connected:
            self.sender.put(receipt)
        return receipt

    def _find(self, make: Make) -> Receipt | None:
        return next((receipt for receipt in self._waiting.values() if receipt.make == make), None)
