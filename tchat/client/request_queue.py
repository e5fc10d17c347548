"""What a session has asked for and not been answered yet, over as many connections as it takes.

A request keeps its id, and a command its number, so the server does it once however often it
arrives. To the caller, a broken connection is only a delay.

What a session has to send, in order and at the pace that the server takes it.

Commands are counted when they are sent, not when they are given, and only so far beyond the first
that is unanswered as a group remembers numbers. Those that were sent before a connection broke, or
before the program was started anew, go first on the next. They are also sent no faster than the
server takes them, so that a long paste flows in by itself instead of being refused. Read positions
are in no hurry: one frame says what a hundred would.

A server that stands still for a while finds at once all that was sent meanwhile, and a full bucket
has gained nothing by it. So of what it takes at once, no more than half is sent at once, and no
more than half is unanswered at any time: it has a token for each command, whenever that comes.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import trio

from tchat.client.request import PendingRequest
from tchat.core.group.state import WINDOW
from tchat.core.pace import Rate, TokenBucket
from tchat.core.protocol.frames import Seen, encode_all
from tchat.core.text import clean_line, fold
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tchat.client.client_id import ClientId
    from tchat.client.journal import JournalEntry
    from tchat.client.request import Answer, Make, MakeCommand
    from tchat.core.protocol.frames import Failed
    from tchat.core.protocol.handshake import Welcome
    from tchat.net.link import Link

SEEN_SECONDS = 0.5
_MOST_AT_ONCE = 256
_SHARE = 0.8
_LONGEST_INTERVAL_SECONDS = 10.0  # whatever a server says


class Sender:
    """The queue of one session, whose numbers come from `slot`, and are noted in its outbox.

    `refuse` is called with a request that cannot have one, or whose cannot be noted.
    """

    def __init__(self, slot: ClientId, refuse: Callable[[PendingRequest, Refused], None]) -> None:
        self._slot = slot
        self._refuse = refuse
        self._queue: deque[PendingRequest] = deque()
        self._open: dict[int, PendingRequest] = {}
        self._going: set[int] = set()  # of these, what this connection has carried
        self._urgent: list[bytes] = []
        self._seen: dict[str, Seen] = {}
        self._news = trio.Event()
        self._rate: Rate | None = None
        self._bucket: TokenBucket | None = None
        self._not_before = -math.inf

    def put(self, receipt: PendingRequest) -> None:
        """Queue a request behind all others."""
        self._queue.append(receipt)
        self._news.set()

    def reopen(self, receipt: PendingRequest) -> None:
        """Know of a command that has a number, and may have been sent, by whichever process."""
        if receipt.number is not None:
            self._open[receipt.number] = receipt

    def put_urgent(self, frame: bytes) -> None:
        """Queue a frame that waits for nothing."""
        self._urgent.append(frame)
        self._news.set()

    def put_back(self, receipt: PendingRequest, seconds: float) -> None:
        """Queue a request anew that came too fast, in its place, and wait before going on."""
        self._going.discard(receipt.number or 0)
        if receipt not in self._queue:
            self._queue.append(receipt)
        self._queue = deque(sorted(self._queue, key=_order))
        self._not_before = max(self._not_before, trio.current_time() + seconds)
        self._news.set()

    def settle(self, receipt: PendingRequest) -> None:
        """Know that a request was answered: others may be sent in its place."""
        self._going.discard(receipt.number or 0)
        if receipt.number is not None and self._open.pop(receipt.number, None) is not None:
            self._news.set()

    def note_seen(self, seen: Seen) -> None:
        """Queue a read position, in the place of an earlier one."""
        if not self._seen:
            self._news.set()
        self._seen[fold(seen.group)] = seen

    def restart(self, welcome: Welcome, receipts: Iterable[PendingRequest]) -> None:
        """Begin anew on a new connection, with all that is unanswered, at the server's pace."""
        self._urgent.clear()
        self._going.clear()
        self._queue = deque(sorted(receipts, key=_order))
        self._not_before = -math.inf
        rate = _pace_of(welcome)
        if rate != self._rate:  # the server's own bucket is not filled by a new connection either
            self._rate = rate
            self._bucket = TokenBucket(rate, trio.current_time()) if rate else None
        self._news.set()

    async def run(self, link: Link) -> None:
        """Send what there is, and what comes, until cancelled."""
        while True:
            frames, wait = self._take()
            if not frames:
                self._news = trio.Event()
                with trio.move_on_after(min(wait, SEEN_SECONDS if self._seen else math.inf)):
                    await self._news.wait()
                    continue
            await self._send(link, frames)

    async def send_rest(self, link: Link) -> None:
        """Send what may go at once: requests that wait, and read positions."""
        frames, _ = self._take()
        await self._send(link, frames)

    async def _send(self, link: Link, frames: bytes) -> None:
        """Send frames, and read positions with them; these wait until they are sent."""
        seen = dict(self._seen)
        data = frames + encode_all(seen.values())
        if data:
            await link.send(data)
        for group, position in seen.items():
            if self._seen[group] is position:
                del self._seen[group]

    def _take(self) -> tuple[bytes, float]:
        """Return what may be sent now, and how many seconds to wait for the rest."""
        urgent, self._urgent = self._urgent, []
        due: list[PendingRequest] = []
        counted: list[PendingRequest] = []
        wait = 0.0
        while self._queue and len(due) < _MOST_AT_ONCE:
            receipt = self._queue[0]
            if wait := self._wait(receipt):
                break
            self._queue.popleft()
            if receipt.done.is_set():
                continue  # refused and queued anew, and then the first sending was answered
            due.append(receipt)
            if receipt.command and receipt.number is None and self._number(receipt):
                counted.append(receipt)
            if receipt.number is not None:
                self._going.add(receipt.number)
        self._keep(counted)
        frames = [receipt.encode() for receipt in due if not receipt.done.is_set()]
        return b"".join([*urgent, *frames]), wait or math.inf

    def _number(self, receipt: PendingRequest) -> bool:
        """Count a command; refuse it, and return False, if the number cannot be kept on disk."""
        try:
            receipt.number = self._slot.count()
        except Refused as refusal:
            self._refuse(receipt, refusal)
            return False
        self.reopen(receipt)
        return True

    def _keep(self, counted: list[PendingRequest]) -> None:
        """Note the numbers of commands before they are sent; if that cannot be, refuse these."""
        notes = [(r.note, r.number) for r in counted if r.note is not None and r.number is not None]
        try:
            self._slot.journal.count(notes)
        except Refused as refusal:
            for receipt in counted:
                self._refuse(receipt, refusal)

    def _wait(self, receipt: PendingRequest) -> float:
        """Return 0.0 if the request may be sent, or after how many seconds to ask again."""
        now = trio.current_time()
        if now < self._not_before:
            return self._not_before - now
        if not receipt.command:
            return 0.0
        if receipt.number is None and self._is_window_full():
            return math.inf
        if self._rate and len(self._going) >= self._rate.burst:
            return math.inf
        return self._bucket.take(now) if self._bucket else 0.0

    def _is_window_full(self) -> bool:
        """Return whether the next number is too far from the first that is unanswered."""
        first = next(iter(self._open), self._slot.upcoming)
        return self._slot.upcoming - first >= WINDOW


def _pace_of(welcome: Welcome) -> Rate | None:
    if not (welcome.interval and welcome.burst):
        return None
    # Somewhat less than is allowed: what was sent evenly may arrive in a bunch.
    interval = min(welcome.interval / 1_000_000, _LONGEST_INTERVAL_SECONDS)
    return Rate(_SHARE / interval, max(1, welcome.burst // 2))


def _order(receipt: PendingRequest) -> tuple[bool, float, int]:
    """Sort requests: those that wait for no pace, then commands by number, then those without."""
    return (receipt.command, math.inf if receipt.number is None else receipt.number, receipt.id)


LONGEST_WAIT_SECONDS = 60.0


class Requests:
    """The requests of one session, whose commands `slot` counts. `sender` is their queue."""

    def __init__(self, slot: ClientId) -> None:
        self.sender = Sender(slot, self._refuse)
        self._waiting: dict[int, PendingRequest] = {}
        self._last_id = 0
        self._connected = False

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, make: MakeCommand, note: JournalEntry | None = None) -> PendingRequest:
        """Send a command as soon as may be, with the number that is in its note, if one is."""
        receipt = PendingRequest(self._new_id(), make, command=True)
        if note is not None:
            receipt.note, receipt.number = note, note.number
            self.sender.reopen(receipt)
        return self._put(receipt)

    def ask(self, make: Make, check: Callable[[Answer], object] | None = None) -> PendingRequest:
        """Send a request that changes no log; `check` is shown the answer when it comes."""
        receipt = PendingRequest(self._new_id(), make, command=False)
        receipt.check = check or receipt.check
        return self._put(receipt)

    def ask_once(
        self, make: Make, check: Callable[[Answer], object] | None = None
    ) -> PendingRequest:
        """Send such a request unless the same is on its way: then return that."""
        return self._find(make) or self.ask(make, check)

    def give_up(self, make: Make) -> None:
        """Wait no longer for the answer to a request."""
        if receipt := self._find(make):
            self.cancel(receipt)

    def cancel(self, receipt: PendingRequest) -> None:
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

    def succeed(self, receipt: PendingRequest, answer: Answer) -> None:
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

    def _refuse(self, receipt: PendingRequest, refusal: Refused) -> None:
        if self._waiting.pop(receipt.id, None) is not None:
            self.sender.settle(receipt)
            receipt.fail(refusal)

    # ------------------------------------------------------------------ what is sent

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _put(self, receipt: PendingRequest) -> PendingRequest:
        receipt.encode()  # so that what cannot be sent fails here
        self._waiting[receipt.id] = receipt
        if self._connected:
            self.sender.put(receipt)
        return receipt

    def _find(self, make: Make) -> PendingRequest | None:
        return next((receipt for receipt in self._waiting.values() if receipt.make == make), None)
