"""Send queue of a session: command order, in-flight window, pacing below the server's rate limit.

Commands get their numbers when they are sent, not when they are submitted, and not before the
server has said on the present connection how far it has counted in their group: this client's files
may have gone back to an earlier state, or another machine may have a copy of them. Until then, the
commands of that group are set aside, and those of others go on. The numbers of
unanswered commands never span more than a group's deduplication window. Commands that were sent
before the connection broke, or by an earlier process, go first on the next connection.

The server limits the rate of commands with a token bucket. The client paces its commands with a
bucket of its own, which has 80 % of the server's rate and half of its burst, so that even a long
paste exceeds no limit, and other requests do not wait behind it at the server. The reason for the
half is a stall of the network. Meanwhile the client's bucket fills up, but a bucket of the server
that is full stays as it is. After the stall, two groups of commands arrive at once: those in
flight, and a new burst. Each is limited to half of the server's burst, so the server has a token
for every command.

Read positions are not urgent: the latest one of each group replaces those before it.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import trio

from tchat.core.group.state import WINDOW
from tchat.core.pace import Rate, TokenBucket
from tchat.core.protocol.frames import Seen, encode_all
from tchat.core.text import fold
from tchat.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tchat.client.client_id import ClientId
    from tchat.client.request import PendingRequest
    from tchat.core.protocol.handshake import Welcome
    from tchat.net.link import Link

SEEN_SECONDS = 0.5
"""Seconds that a read position waits, to be sent together with other frames."""

SHARE_OF_RATE = 0.8
"""The fraction of the server's rate to use; the rest is a margin for frames that arrive bunched."""

_BATCH_SIZE = 256
_LONGEST_INTERVAL_SECONDS = 10.0  # the longest wait that a hostile server can impose


class Sender:
    """Sends the requests of one session, with command numbers from `client_id`.

    `on_refused` is called with a command that cannot get a number, because the number cannot be
    saved. `ask_count` is called with a group (as the command names it) in which the server's count
    is not known; `on_counted` then goes on.
    """

    def __init__(
        self, client_id: ClientId, on_refused: Callable[[PendingRequest, Refused], None]
    ) -> None:
        self._client_id = client_id
        self._on_refused = on_refused
        self.ask_count: Callable[[str], object] = self.on_counted
        # The groups (folded) whose counts are known on the present connection, the commands that
        # wait for the others, and the numbers that were given on it.
        self._counted: set[str] = set()
        self._aside: dict[str, list[PendingRequest]] = {}
        self._given: set[int] = set()
        self._queue: deque[PendingRequest] = deque()
        # Commands with a number and no answer, in the order of their numbers.
        self._unanswered: dict[int, PendingRequest] = {}
        # The numbers of those that were sent on the present connection.
        self._in_flight: set[int] = set()
        self._urgent: list[bytes] = []
        self._seen: dict[str, Seen] = {}
        self._wakeup = trio.Event()
        self._rate: Rate | None = None
        self._bucket: TokenBucket | None = None
        self._not_before = -math.inf

    def enqueue(self, request: PendingRequest) -> None:
        """Queue a request after all others."""
        self._queue.append(request)
        self._wakeup.set()

    def track(self, request: PendingRequest) -> None:
        """Track a command that has a number: this or an earlier process may have sent it."""
        if request.number is not None:
            self._unanswered[request.number] = request

    def send_urgent(self, frame: bytes) -> None:
        """Queue a frame in front of all requests; it is not paced."""
        self._urgent.append(frame)
        self._wakeup.set()

    def on_counted(self, group: str) -> None:
        """Send the commands that waited for the count of a group (folded)."""
        self._counted.add(group)
        self._queue.extendleft(reversed(self._aside.pop(group, [])))
        self._wakeup.set()

    def ask_again(self, group: str) -> None:
        """Ask for the count of a group (folded) again, if commands wait for it."""
        if group in self._aside:
            self.ask_count(group)

    def is_repeat(self, request: PendingRequest) -> bool:
        """Return whether a command may have been sent on an earlier connection."""
        return request.number not in self._given

    def forget_count(self, group: str) -> None:
        """Ask for the count of a group (folded) again, before its next command gets a number."""
        self._counted.discard(group)

    def retry(self, request: PendingRequest, seconds: float) -> None:
        """Send a request that is no command again; send nothing at all for `seconds`."""
        if request not in self._queue:
            self._queue.appendleft(request)
        self._not_before = max(self._not_before, trio.current_time() + seconds)
        self._wakeup.set()

    def release(self, request: PendingRequest) -> None:
        """Stop tracking a request that is done, which makes room in the window."""
        self._in_flight.discard(request.number or 0)
        self._given.discard(request.number or 0)
        if request.number is not None and self._unanswered.pop(request.number, None) is not None:
            self._wakeup.set()

    def queue_seen(self, seen: Seen) -> None:
        """Queue a read position; it replaces an earlier one of the same group."""
        if not self._seen:
            self._wakeup.set()
        self._seen[fold(seen.group)] = seen

    def restart(self, welcome: Welcome, requests: Iterable[PendingRequest]) -> None:
        """Start on a new connection: queue the unanswered requests, at the pace in the welcome."""
        self._urgent.clear()
        self._in_flight.clear()
        self._seen.clear()  # they are queued again once their groups are attached
        self._given.clear()
        self._counted.clear()
        self._aside.clear()
        self._queue = deque(sorted(requests, key=_send_order))
        self._not_before = -math.inf
        rate = _rate_of(welcome)
        if rate != self._rate:  # otherwise keep the bucket, as the server keeps its own
            self._rate = rate
            self._bucket = TokenBucket(rate, trio.current_time()) if rate else None
        self._wakeup.set()

    async def run(self, link: Link) -> None:
        """Send requests and other frames as they are queued, until cancelled."""
        while True:
            frames, wait = self._dequeue()
            if not frames:
                self._wakeup = trio.Event()
                with trio.move_on_after(min(wait, SEEN_SECONDS if self._seen else math.inf)):
                    await self._wakeup.wait()
                    continue  # look for requests to send first; read positions can wait
            await self._send(link, frames)

    async def flush(self, link: Link) -> None:
        """Send the requests that may be sent at once, and the read positions."""
        frames, _ = self._dequeue()
        await self._send(link, frames)

    async def _send(self, link: Link, frames: bytes) -> None:
        """Send frames together with the read positions, which are kept if this fails."""
        seen = dict(self._seen)
        data = frames + encode_all(seen.values())
        if data:
            await link.send(data)
        for group, position in seen.items():
            if self._seen[group] is position:  # unless a later one was queued during the send
                del self._seen[group]

    def _dequeue(self) -> tuple[bytes, float]:
        """Return the frames that may be sent now, and the seconds until the next check."""
        urgent, self._urgent = self._urgent, []
        due: list[PendingRequest] = []
        numbered: list[PendingRequest] = []
        wait = 0.0
        while self._queue and len(due) < _BATCH_SIZE:
            request = self._queue[0]
            if self._waits_for_count(request):
                self._set_aside(self._queue.popleft())
                continue
            if wait := self._wait_for(request):
                break
            self._queue.popleft()
            if request.done.is_set():
                continue  # it is sent again, and an earlier copy was answered
            due.append(request)
            if request.command and request.number is None and self._assign_number(request):
                numbered.append(request)
            if request.number is not None:
                self._in_flight.add(request.number)
        # The numbers are on disk before the first byte is sent; one fsync for the whole batch.
        self._save_numbers(numbered)
        frames = [request.encode() for request in due if not request.done.is_set()]
        return b"".join([*urgent, *frames]), wait or math.inf

    def _waits_for_count(self, request: PendingRequest) -> bool:
        is_left = request.entry is not None and request.entry.left > 0
        is_new = request.number is None or is_left
        waits = request.command and is_new and request.group not in self._counted
        return waits and not request.done.is_set()

    def _set_aside(self, request: PendingRequest) -> None:
        """Keep a command until the count of its group is known."""
        waiting = self._aside.setdefault(request.group, [])
        waiting.append(request)
        if len(waiting) == 1:
            self.ask_count(request.group)

    def _assign_number(self, request: PendingRequest) -> bool:
        """Give a command its number; if that cannot be saved, fail it and return False."""
        try:
            request.number = self._client_id.next_number()
        except Refused as refusal:
            self._on_refused(request, refusal)
            return False
        self._given.add(request.number)
        if request.entry is not None:
            request.entry.left = 0  # it was not sent before
        self.track(request)
        return True

    def _save_numbers(self, numbered: list[PendingRequest]) -> None:
        """Save the numbers of messages in the journal; refuse the commands if that fails."""
        entries = [
            (r.entry, r.number) for r in numbered if r.entry is not None and r.number is not None
        ]
        try:
            self._client_id.journal.record_numbers(entries)
        except Refused as refusal:
            for request in numbered:
                self._on_refused(request, refusal)

    def _wait_for(self, request: PendingRequest) -> float:
        """Return 0.0 if the request may be sent now, or the seconds until the next check."""
        now = trio.current_time()
        if now < self._not_before:
            return self._not_before - now
        if not request.command:
            return 0.0
        if request.number is None and self._is_window_full():
            return math.inf
        if self._rate and len(self._in_flight) >= self._rate.burst:
            return math.inf
        return self._bucket.take(now) if self._bucket else 0.0

    def _is_window_full(self) -> bool:
        """Return whether the next number is too far from the first unanswered one."""
        first = next(iter(self._unanswered), self._client_id.upcoming)
        return self._client_id.upcoming - first >= WINDOW


def _rate_of(welcome: Welcome) -> Rate | None:
    """Return the rate to send at; None if the server announces no rate limit."""
    if not (welcome.interval and welcome.burst):
        return None
    interval = min(welcome.interval / 1_000_000, _LONGEST_INTERVAL_SECONDS)
    return Rate(SHARE_OF_RATE / interval, max(1, welcome.burst // 2))


def _send_order(request: PendingRequest) -> tuple[bool, float, int]:
    """Sort requests that are not paced first, then commands by number, then unnumbered ones."""
    return (request.command, math.inf if request.number is None else request.number, request.id)
