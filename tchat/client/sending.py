"""What a session has to send, in order and at the pace that the server takes it.

Commands are counted when they are sent, not when they are given, and those that were sent before
a connection broke go first on the next: so numbers always reach the server in order. They are
also sent no faster than the server takes them, so that a long paste flows in by itself instead of
being refused. Read positions are in no hurry: one frame says what a hundred would.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import trio

from tchat.core.frames import Seen, encode_all
from tchat.core.pace import Bucket, Rate
from tchat.core.text import fold
from tchat.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tchat.client.receipt import Receipt
    from tchat.core.handshake import Welcome
    from tchat.net.link import Link

SEEN_SECONDS = 0.5
_MOST_AT_ONCE = 256
_SHARE = 0.8


class Sender:
    """The queue of one session.

    `count` returns the next number of its client; `refuse` is called with a request that cannot
    have one.
    """

    def __init__(
        self, count: Callable[[], int], refuse: Callable[[Receipt, Refused], None]
    ) -> None:
        self._count = count
        self._refuse = refuse
        self._queue: deque[Receipt] = deque()
        self._urgent: list[bytes] = []
        self._seen: dict[str, Seen] = {}
        self._news = trio.Event()
        self._bucket: Bucket | None = None
        self._not_before = -math.inf

    def put(self, receipt: Receipt) -> None:
        """Queue a request behind all others."""
        self._queue.append(receipt)
        self._news.set()

    def put_urgent(self, frame: bytes) -> None:
        """Queue a frame that waits for nothing."""
        self._urgent.append(frame)
        self._news.set()

    def put_back(self, receipt: Receipt, seconds: float) -> None:
        """Queue a request anew that came too fast, in its place, and wait before going on.

        It is not done, and with the next number it will be.
        """
        receipt.number = None
        self._queue.append(receipt)
        self._queue = deque(sorted(self._queue, key=_order))
        self._not_before = max(self._not_before, trio.current_time() + seconds)
        self._news.set()

    def note_seen(self, seen: Seen) -> None:
        """Queue a read position, in the place of an earlier one."""
        if not self._seen:
            self._news.set()
        self._seen[fold(seen.group)] = seen

    def restart(self, welcome: Welcome, receipts: Iterable[Receipt]) -> None:
        """Begin anew on a new connection, with all that is unanswered, at the server's pace."""
        self._urgent.clear()
        self._queue = deque(sorted(receipts, key=_order))
        self._not_before = -math.inf
        self._bucket = None
        if welcome.interval and welcome.burst:
            # Somewhat less than is allowed: what was sent evenly may arrive in a bunch.
            rate = Rate(_SHARE * 1_000_000 / welcome.interval, max(1, welcome.burst // 2))
            self._bucket = Bucket(rate, trio.current_time())
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
        taken, self._urgent = self._urgent, []
        while self._queue and len(taken) < _MOST_AT_ONCE:
            receipt = self._queue[0]
            wait = self._wait(receipt)
            if wait:
                return b"".join(taken), wait
            self._queue.popleft()
            try:
                if receipt.command and receipt.number is None:
                    receipt.number = self._count()
                taken.append(receipt.encode())
            except Refused as refusal:  # the number could not be kept on disk
                self._refuse(receipt, refusal)
        return b"".join(taken), math.inf

    def _wait(self, receipt: Receipt) -> float:
        """Return 0.0 if the request may be sent, or after how many seconds to ask again."""
        now = trio.current_time()
        if now < self._not_before:
            return self._not_before - now
        if not receipt.command or self._bucket is None:
            return 0.0
        return self._bucket.take(now)


def _order(receipt: Receipt) -> tuple[float, int]:
    """Sort requests: those that were sent before by their numbers, then the others."""
    return (math.inf if receipt.number is None else receipt.number, receipt.id)
