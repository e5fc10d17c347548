"""Queue of file transfers: at most four at a time, with progress, rate and cancellation by number.

Cancelling keeps the transferred part: sending or downloading the same file again resumes it, for
as long as the server or `downloads` keep the part.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Literal, TypeVar

import trio

from tchat.client.files.transfer import fetch_file, send_file
from tchat.client.native_paths import readable
from tchat.core.text import clean_line
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.core.group.state import File

T = TypeVar("T")
Way = Literal["up", "down"]
Phase = Literal["queued", "checking", "moving", "sharing"]
TransferKey = tuple[object, ...]
"""Identifies a file and its destination, to deduplicate transfers."""

AT_ONCE = 4
"""The largest number of transfers that run at the same time."""

RATE_SECONDS = 5.0
"""The period over which the rate is measured."""

STALLED_SECONDS = 5.0
"""Seconds without any progress after which a transfer is called stalled."""

_MIN_WINDOW_SECONDS = 0.5
_STALL_SECONDS = 10.0
_SAMPLE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a transfer: `done` of `size` bytes, `rate` in bytes/s, `left` in seconds.

    `stalled` is the number of seconds without progress; None if the transfer is not stalled.
    """

    number: int
    way: Way
    name: str
    phase: Phase
    done: int = 0
    size: int = 0
    rate: float = 0.0
    left: float | None = None
    stalled: float | None = None

    @property
    def percent(self) -> int:
        """The percentage done, rounded down: 100 only when the transfer is complete."""
        return min(self.done * 100 // self.size, 100) if self.size else 0


class Transfer:
    """One upload or download, and its `ProgressListener`. The name is sanitized.

    `key` identifies a download, so that it is not started twice. Transfers with the same `target`
    (a path to upload, or a file and its download directory) run one at a time.
    """

    def __init__(
        self,
        number: int,
        way: Way,
        name: str,
        changed: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self.number = number
        self.way = way
        self.name = clean_line(name)
        self.size = 0
        self.done = 0
        self.phase: Phase = "queued"
        self.scope = trio.CancelScope()
        self.may_start = trio.Event()
        self.ended = trio.Event()
        self.key: TransferKey = ()
        self.target: TransferKey = ()
        self.path: Path | None = None
        self.refusal: Refused | None = None
        self._changed = changed
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque()
        self._place: tuple[Phase, int] = ("queued", 0)
        self._moved = clock()

    def on_start(self, name: str, size: int) -> None:
        """Record the name and the size of the file."""
        self.name, self.size = clean_line(name), size
        self._changed()

    def on_checked(self, done: int) -> None:
        """Record that `done` bytes of the file were hashed."""
        # In a worker thread: nothing but plain assignments is safe here.
        self.phase, self.done = "checking", done

    def on_progress(self, done: int) -> None:
        """Record that `done` bytes are transferred, and sample the rate."""
        now, samples = self._clock(), self._samples
        # Bytes that an earlier connection transferred do not count for the rate of this one.
        restarted = self.phase != "moving" or done < self.done
        if restarted or (samples and now - samples[-1][0] > _STALL_SECONDS):
            samples.clear()
        self.phase, self.done = "moving", done
        if len(samples) > 1 and samples[-1][0] - samples[-2][0] < _SAMPLE_SECONDS:
            samples.pop()
        samples.append((now, done))
        while len(samples) > 1 and samples[1][0] <= now - RATE_SECONDS:
            samples.popleft()
        self._note_movement(now)
        self._changed()

    def on_sharing(self) -> None:
        """Record that the upload is complete and the file is being shared."""
        self.phase = "sharing"
        self._changed()

    def rate(self, now: float) -> float:
        """Return the recent rate in bytes per second; 0 if it is not known."""
        if self.phase != "moving" or not self._samples:
            return 0.0
        since, done = self._samples[0]
        for sample in self._samples:
            if sample[0] > now - RATE_SECONDS:
                break
            since, done = sample
        passed = now - since
        return (self.done - done) / passed if passed >= _MIN_WINDOW_SECONDS else 0.0

    def left(self, now: float) -> float | None:
        """Return the remaining seconds at this rate; None if that is not known."""
        rate = self.rate(now)
        return (self.size - self.done) / rate if rate > 0 else None

    def stalled(self, now: float) -> float | None:
        """Return the seconds without progress; None if they are few, or while queued."""
        self._note_movement(now)
        is_stalled = self.phase != "queued" and now - self._moved >= STALLED_SECONDS
        return now - self._moved if is_stalled else None

    def _note_movement(self, now: float) -> None:
        """Record the time of the last progress.

        This is also called when the progress is read: while a file is hashed, progress comes from a
        worker thread, which has no clock.
        """
        if self._place != (self.phase, self.done):
            self._place, self._moved = (self.phase, self.done), now

    def progress(self, now: float) -> Progress:
        """Return a snapshot of the progress."""
        return Progress(
            self.number,
            self.way,
            self.name,
            self.phase,
            self.done,
            self.size,
            self.rate(now),
            self.left(now),
            self.stalled(now),
        )

    def start(self) -> None:
        """Leave the queue; the first phase hashes the file."""
        self.phase = "checking"
        self._changed()

    async def outcome(self) -> Path:
        """Wait until the download has ended and return its path. Raises `Refused`."""
        await self.ended.wait()
        if self.path is not None:
            return self.path
        refusal = self.refusal or self.cancelled()
        raise Refused(refusal.code, refusal.sentence)

    def with_name(self, refusal: Refused) -> Refused:
        """Return a refusal whose sentence names the file."""
        if self.name in refusal.sentence:
            return refusal
        what = f"{self.name} was not {'sent' if self.way == 'up' else 'saved'}"
        return Refused(refusal.code, f"{what}: {refusal.sentence}", refusal.wait)

    def cancelled(self) -> Refused:
        """Return the refusal for a cancelled transfer; its sentence says how to resume."""
        what = f"{'Sending' if self.way == 'up' else 'Saving'} {self.name} was cancelled"
        if self.phase == "queued":
            return Refused(Code.CANCELLED, f"{what} before it began.")
        again = "sending it again within a day" if self.way == "up" else "saving it again"
        return Refused(Code.CANCELLED, f"{what}; {again} resumes it.")


class Transfers:
    """The transfers of a session: `active` are queued or running, in the order of their numbers.

    `changed` is called when progress has changed, except while files are hashed.
    """

    def __init__(
        self,
        session: Session,
        changed: Callable[[], None],
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self.active: list[Transfer] = []
        self._session = session
        self._changed = changed
        self._clock = clock
        self._numbers = count(1)

    def progress(self) -> list[Progress]:
        """Return the progress of all active transfers."""
        now = self._clock()
        return [transfer.progress(now) for transfer in self.active]

    def cancel(self, number: int) -> None:
        """Cancel a transfer; the transferred part is kept. Raises `Refused` (no_such_transfer).

        An upload that is being shared cannot be cancelled: the group may know of it already.
        """
        if not self.active:
            raise Refused(Code.NO_SUCH_TRANSFER, "Nothing is being sent or saved.")
        for transfer in self.active:
            if transfer.number == number:
                if transfer.phase == "sharing":
                    sentence = f"{transfer.name} is uploaded and being shared; /remove deletes it."
                    raise Refused(Code.NO_SUCH_TRANSFER, sentence)
                transfer.scope.cancel()
                return
        raise Refused(Code.NO_SUCH_TRANSFER, f"No transfer has the number {number}.")

    async def send(self, replica: Replica, path: Path, name: str | None = None) -> None:
        """Send a file or a directory to a group, as `name` if given. Raises `Refused`."""
        await self.sending(replica, path, name)()

    def sending(
        self, replica: Replica, path: Path, name: str | None = None
    ) -> Callable[[], Awaitable[object]]:
        """Queue a file and return the function that sends it, so that files keep their order."""
        transfer = self._enqueue("up", name or readable(path.name) or str(path), ("up", path))
        work = partial(send_file, self._session, replica, path, transfer, name=name)
        return partial(self._run, transfer, work)

    async def fetch(
        self,
        replica: Replica,
        file: File,
        into: Path,
        name: str | None = None,
        *,
        anew: bool = False,
    ) -> Path:
        """Download a file of a group and return its path. Raises `Refused`.

        If the same file is being downloaded to the same path, wait for that download instead. For
        `anew`, see `fetch_file`.
        """
        key = (replica.name, file.number, file.sha256, into, name)
        for other in self.active:
            if other.key == key and not other.scope.cancel_called:
                return await other.outcome()
        transfer = self._enqueue("down", file.name, ("down", file.sha256, into))
        transfer.size, transfer.key = file.size, key

        async def work() -> Path:
            transfer.path = await fetch_file(
                self._session, replica, file, into, name, transfer, anew=anew
            )
            return transfer.path

        return await self._run(transfer, work)

    def _enqueue(self, way: Way, name: str, target: TransferKey) -> Transfer:
        transfer = Transfer(next(self._numbers), way, name, self._changed, self._clock)
        transfer.target = target
        self.active.append(transfer)
        self._admit()
        self._changed()
        return transfer

    def _admit(self) -> None:
        """Start queued transfers in order, as long as there are free slots."""
        moving = sum(transfer.may_start.is_set() for transfer in self.active)
        targets: set[TransferKey] = set()
        for transfer in self.active:
            # Wait while an earlier transfer has the same target.
            free = moving < AT_ONCE and transfer.target not in targets
            if free and not transfer.may_start.is_set():
                transfer.may_start.set()
                moving += 1
            targets.add(transfer.target)

    async def _run(self, transfer: Transfer, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work of a transfer when its turn comes, until it is cancelled."""
        try:
            with transfer.scope:
                await transfer.may_start.wait()
                transfer.start()
                return await work()
            raise transfer.cancelled()
        except Refused as refusal:
            transfer.refusal = transfer.with_name(refusal)
            raise transfer.refusal from refusal
        finally:
            self.active.remove(transfer)
            self._admit()
            self._changed()
            transfer.ended.set()
