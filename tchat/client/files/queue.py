"""The files that are on their way: how far, how fast, so many at a time, cancelled by number.

A transfer that was cancelled loses nothing: what came across is kept where it came to, and the
same file, sent or fetched again, goes on from there.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Literal, TypeVar

import trio

from tchat.client.files.transfer import fetch_file, send_file
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
Aim = tuple[object, ...]
"""What a transfer is to bring where: two with the same aim are one."""

AT_ONCE = 4
"""How many transfers move at a time."""

RATE_SECONDS = 5.0
"""The time over which a rate is measured."""

_LEAST_SECONDS = 0.5
_STALL_SECONDS = 10.0
_SAMPLE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transfer is: `done` of `size` bytes, `rate` bytes a second, `left` in seconds."""

    number: int
    way: Way
    name: str
    phase: Phase
    done: int = 0
    size: int = 0
    rate: float = 0.0
    left: float | None = None

    @property
    def percent(self) -> int:
        """How much of it is done; 100 only when it is all of it."""
        return min(self.done * 100 // self.size, 100) if self.size else 0


class Transfer:
    """One file on its way up to the server or down from it. The name is clean.

    It is a `ProgressListener` (see `transfer`); `checking` is called from worker threads.
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
        self.may_begin = trio.Event()
        self.ended = trio.Event()
        self.aim: Aim = ()
        self.part: Aim = ()
        self.place: Path | None = None
        self.refusal: Refused | None = None
        self._changed = changed
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque()

    def about(self, name: str, size: int) -> None:
        """Hear what it is that will be transferred."""
        self.name, self.size = clean_line(name), size
        self._changed()

    def checking(self, done: int) -> None:
        """Hear that so much of the file was read here, to see what of it is there."""
        # From a worker thread: no more than this is safe there.
        self.phase, self.done = "checking", done

    def moved(self, done: int) -> None:
        """Hear that so much of the file is across."""
        now, samples = self._clock(), self._samples
        # What was across before this connection is no speed.
        anew = self.phase != "moving" or done < self.done
        if anew or (samples and now - samples[-1][0] > _STALL_SECONDS):
            samples.clear()
        self.phase, self.done = "moving", done
        if len(samples) > 1 and samples[-1][0] - samples[-2][0] < _SAMPLE_SECONDS:
            samples.pop()
        samples.append((now, done))
        while len(samples) > 1 and samples[1][0] <= now - RATE_SECONDS:
            samples.popleft()
        self._changed()

    def across(self) -> None:
        """Hear that all of it is across, and that the group is about to hear of it."""
        self.phase = "sharing"
        self._changed()

    def rate(self, now: float) -> float:
        """Return how many bytes a second came across lately; 0 if that is not known."""
        if self.phase != "moving" or not self._samples:
            return 0.0
        since, done = self._samples[0]
        for sample in self._samples:
            if sample[0] > now - RATE_SECONDS:
                break
            since, done = sample
        passed = now - since
        return (self.done - done) / passed if passed >= _LEAST_SECONDS else 0.0

    def left(self, now: float) -> float | None:
        """Return how many seconds it will take at this rate; None if that is not known."""
        rate = self.rate(now)
        return (self.size - self.done) / rate if rate > 0 else None

    def progress(self, now: float) -> Progress:
        """Return how far it is."""
        return Progress(
            self.number,
            self.way,
            self.name,
            self.phase,
            self.done,
            self.size,
            self.rate(now),
            self.left(now),
        )

    def begin(self) -> None:
        """Note that it waits no longer."""
        self.phase = "checking"
        self._changed()

    async def outcome(self) -> Path:
        """Wait until it has ended and return where the file is. Raises `Refused`."""
        await self.ended.wait()
        if self.place is not None:
            return self.place
        refusal = self.refusal or self.cancelled()
        raise Refused(refusal.code, refusal.sentence)

    def named(self, refusal: Refused) -> Refused:
        """Return a refusal that says which file it is about."""
        if self.name in refusal.sentence:
            return refusal
        what = f"{self.name} was not {'sent' if self.way == 'up' else 'saved'}"
        return Refused(refusal.code, f"{what}: {refusal.sentence}", refusal.wait)

    def cancelled(self) -> Refused:
        """Return what to say of it when it was cancelled."""
        what = f"{'Sending' if self.way == 'up' else 'Saving'} {self.name} was cancelled"
        if self.phase == "queued":
            return Refused(Code.CANCELLED, f"{what} before it began.")
        again = "sending it again within a day" if self.way == "up" else "saving it again"
        return Refused(Code.CANCELLED, f"{what}; {again} goes on from there.")


class Transfers:
    """All transfers of a session. `active` are those that wait or move, in order of their numbers.

    `changed` is called when there is something new to show of them, save while files are checked.
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
        """Return how far all are."""
        now = self._clock()
        return [transfer.progress(now) for transfer in self.active]

    def cancel(self, number: int) -> None:
        """End a transfer; what came across is kept. Raises `Refused` (no_such_transfer).

        There is none any more of a file that is across, and whose group may have heard of it.
        """
        if not self.active:
            raise Refused(Code.NO_SUCH_TRANSFER, "Nothing is being sent or saved.")
        for transfer in self.active:
            if transfer.number == number:
                if transfer.phase == "sharing":
                    sentence = (
                        f"{transfer.name} is across, and is shared now; /remove takes it back."
                    )
                    raise Refused(Code.NO_SUCH_TRANSFER, sentence)
                transfer.scope.cancel()
                return
        raise Refused(Code.NO_SUCH_TRANSFER, f"No transfer has the number {number}.")

    async def send(self, replica: Replica, path: Path) -> None:
        """Send a file or a directory to a group. Raises `Refused`."""
        await self.sending(replica, path)()

    def sending(self, replica: Replica, path: Path) -> Callable[[], Awaitable[None]]:
        """Return what sends a file, as `send` does, and which has its number and place already."""
        transfer = self._transfer("up", path.name or str(path), ("up", path))
        work = partial(send_file, self._session, replica, path, transfer)
        return partial(self._run, transfer, work)

    async def fetch(
        self, replica: Replica, file: File, into: Path, name: str | None = None
    ) -> Path:
        """Save a file of a group and return where it is. Raises `Refused`.

        One that is being saved there already is not saved twice.
        """
        aim = (replica.name, file.number, file.sha256, into, name)
        for other in self.active:
            if other.aim == aim and not other.scope.cancel_called:
                return await other.outcome()
        transfer = self._transfer("down", file.name, ("down", file.sha256, into))
        transfer.size, transfer.aim = file.size, aim

        async def work() -> Path:
            transfer.place = await fetch_file(self._session, replica, file, into, name, transfer)
            return transfer.place

        return await self._run(transfer, work)

    def _transfer(self, way: Way, name: str, part: Aim) -> Transfer:
        transfer = Transfer(next(self._numbers), way, name, self._changed, self._clock)
        transfer.part = part
        self.active.append(transfer)
        self._admit()
        self._changed()
        return transfer

    def _admit(self) -> None:
        """Let those begin whose turn it is, in order, and as many as may at a time."""
        moving = sum(transfer.may_begin.is_set() for transfer in self.active)
        parts: set[Aim] = set()
        for transfer in self.active:
            # Not while an earlier one works on the same bytes in the same place.
            if moving < AT_ONCE and not transfer.may_begin.is_set() and transfer.part not in parts:
                transfer.may_begin.set()
                moving += 1
            parts.add(transfer.part)

    async def _run(self, transfer: Transfer, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work when it is its turn, and as long as nobody cancels it."""
        try:
            with transfer.scope:
                await transfer.may_begin.wait()
                transfer.begin()
                return await work()
            raise transfer.cancelled()
        except Refused as refusal:
            transfer.refusal = transfer.named(refusal)
            raise transfer.refusal from refusal
        finally:
            self.active.remove(transfer)
            self._admit()
            self._changed()
            transfer.ended.set()
