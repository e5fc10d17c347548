"""The transfer queue: progress, rate, concurrency, cancellation; without a network."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio
import trio.testing

from tchat.client.files import queue as module
from tchat.client.files.queue import AT_ONCE, Progress, Transfer, Transfers
from tchat.client.replica import Replica
from tchat.core.group.state import File
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tchat.client.files.transfer import ProgressListener
    from tchat.client.session import Session

MB = 1_000_000
INTO = Path("into")


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def transfer_at(clock: Clock, *, size: int = 100 * MB) -> Transfer:
    transfer = Transfer(1, "up", "report.pdf", lambda: None, clock)
    transfer.on_start("report.pdf", size)
    transfer.start()
    return transfer


def move(transfer: Transfer, clock: Clock, *, seconds: float, step: int, every: float) -> None:
    """Report progress of `step` bytes `every` seconds, for `seconds`."""
    for _ in range(round(seconds / every)):
        clock.now += every
        transfer.on_progress(transfer.done + step)


# ------------------------------------------------------------------ rate and remaining time


def test_rate_is_unknown_before_any_progress(clock: Clock) -> None:
    transfer = Transfer(1, "up", "report.pdf", lambda: None, clock)
    assert (transfer.phase, transfer.rate(clock()), transfer.left(clock())) == ("queued", 0.0, None)
    transfer.start()
    transfer.on_checked(50 * MB)
    clock.now += 10
    assert (transfer.phase, transfer.rate(clock()), transfer.left(clock())) == (
        "checking",
        0.0,
        None,
    )


@pytest.mark.parametrize("every", [0.001, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("seconds", [1, 4, 30])
def test_steady_rate_is_measured_within_five_percent(
    clock: Clock, seconds: int, every: float
) -> None:
    transfer = transfer_at(clock)
    transfer.on_progress(0)
    move(transfer, clock, seconds=seconds, step=round(MB * every), every=every)
    assert transfer.rate(clock()) == pytest.approx(MB, rel=0.05)
    left = transfer.left(clock())
    assert left == pytest.approx((100 * MB - transfer.done) / MB, rel=0.05)


def test_rate_covers_only_the_last_seconds(clock: Clock) -> None:
    transfer = transfer_at(clock)
    transfer.on_progress(0)
    move(transfer, clock, seconds=20, step=MB, every=1)
    move(transfer, clock, seconds=6, step=3 * MB, every=1)
    assert transfer.rate(clock()) == pytest.approx(3 * MB)


def test_resumed_bytes_do_not_count_towards_the_rate(clock: Clock) -> None:
    transfer = transfer_at(clock)
    clock.now += 1
    transfer.on_progress(90 * MB)
    clock.now += 1
    assert (transfer.rate(clock()), transfer.left(clock())) == (0.0, None)
    move(transfer, clock, seconds=2, step=MB, every=1)
    assert transfer.rate(clock()) == pytest.approx(2 * MB / 3)


def test_verified_bytes_do_not_count_towards_the_rate(clock: Clock) -> None:
    transfer = transfer_at(clock)
    transfer.on_progress(0)
    move(transfer, clock, seconds=2, step=MB, every=1)
    transfer.on_checked(90 * MB)
    clock.now += 1
    transfer.on_progress(80 * MB)
    clock.now += 1
    assert transfer.rate(clock()) == 0.0


def test_resuming_further_back_restarts_the_rate(clock: Clock) -> None:
    transfer = transfer_at(clock)
    transfer.on_progress(0)
    move(transfer, clock, seconds=5, step=10 * MB, every=1)
    transfer.on_progress(20 * MB)
    move(transfer, clock, seconds=2, step=MB, every=1)
    assert transfer.rate(clock()) == pytest.approx(MB)


def test_stalled_transfer_has_no_rate(clock: Clock) -> None:
    transfer = transfer_at(clock)
    transfer.on_progress(0)
    move(transfer, clock, seconds=5, step=MB, every=0.02)
    clock.now += 6
    assert (transfer.rate(clock()), transfer.left(clock())) == (0.0, None)


def test_transfer_without_progress_is_called_stalled(clock: Clock) -> None:
    """In every phase but the queue; whatever moves ends it, also bytes that are hashed."""
    transfer = transfer_at(clock)

    def stalled_after(seconds: float) -> float | None:
        clock.now += seconds
        return transfer.progress(clock()).stalled

    assert stalled_after(60) is None
    transfer.start()
    assert stalled_after(4.9) is None
    transfer.on_checked(MB)
    assert stalled_after(0) is None
    assert stalled_after(5) == 5
    transfer.on_progress(0)
    assert stalled_after(1) is None
    assert stalled_after(11) == 12
    transfer.on_progress(0)  # another attempt, which has not sent anything yet
    assert stalled_after(8) == 20
    transfer.on_progress(MB)
    assert stalled_after(4) is None
    transfer.on_sharing()
    assert stalled_after(0) is None
    assert stalled_after(6) == 6


def test_stall_does_not_count_after_it_moves(clock: Clock) -> None:
    transfer = transfer_at(clock)
    transfer.on_progress(0)
    move(transfer, clock, seconds=5, step=MB, every=1)
    clock.now += 600
    transfer.on_progress(transfer.done)
    move(transfer, clock, seconds=1, step=MB // 4, every=0.25)
    assert transfer.rate(clock()) == pytest.approx(MB)


def test_a_fast_transfer_keeps_few_samples(clock: Clock) -> None:
    transfer = transfer_at(clock, size=10**12)
    transfer.on_progress(0)
    move(transfer, clock, seconds=8, step=256 * 1024, every=0.0005)
    assert len(transfer._samples) < 60


@pytest.mark.parametrize(
    ("done", "size", "percent"),
    [(0, 0, 0), (0, 10, 0), (999, 1000, 99), (1000, 1000, 100), (2000, 1000, 100)],
)
def test_percentage_is_100_only_when_complete(done: int, size: int, percent: int) -> None:
    assert Progress(1, "up", "a", "moving", done, size).percent == percent


def test_transfer_names_are_sanitized(clock: Clock) -> None:
    transfer = Transfer(1, "down", "a\x1b[2J\n\u202eb", lambda: None, clock)
    assert transfer.name == "a␛[2J↵b"
    transfer.on_start("c\x9b31m", 1)
    assert transfer.progress(clock()).name == "c\ufffd31m"


# ------------------------------------------------------------------ concurrency


class Carrier:
    """Stub of the network: each transfer runs until `let_go` ends it."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.left: list[str] = []
        self._gates: dict[str, trio.Event] = {}
        self._refusals: dict[str, Refused] = {}

    async def send_file(
        self,
        _: object,
        __: object,
        path: Path,
        told: ProgressListener,
        *,
        name: str | None,
    ) -> None:
        await self._carry(name or path.name, told)

    async def fetch_file(
        self,
        _: object,
        __: object,
        file: File,
        into: Path,
        name: str | None,
        told: ProgressListener,
        *,
        anew: bool,
    ) -> Path:
        assert not anew
        await self._carry(file.name, told)
        return into / (name or file.name)

    async def _carry(self, name: str, told: ProgressListener) -> None:
        self.begun.append(name)
        told.on_start(name, 10)
        told.on_progress(5)
        try:
            await self._gates.setdefault(name, trio.Event()).wait()
            if name in self._refusals:
                raise self._refusals[name]
        finally:
            self.left.append(name)

    async def let_go(self, name: str, refusal: Refused | None = None) -> None:
        """End a transfer, and wait until all tasks are blocked."""
        if refusal is not None:
            self._refusals[name] = refusal
        self._gates.setdefault(name, trio.Event()).set()
        await trio.testing.wait_all_tasks_blocked()


class Scene:
    """Transfer queue on a `Carrier`; `ends` has the outcomes."""

    def __init__(self, nursery: trio.Nursery, carrier: Carrier) -> None:
        self.carrier = carrier
        self.changes = 0
        self.ends: list[object] = []
        self.transfers = Transfers(cast("Session", None), self._changed)
        self._nursery = nursery
        self._replica = Replica("ops")

    def _changed(self) -> None:
        self.changes += 1

    async def send(self, *names: str) -> None:
        for name in names:
            await self._begin(lambda name=name: self.transfers.send(self._replica, Path(name)))  # type: ignore[misc]

    async def send_together(self, *names: str) -> None:
        """Send several files by one command."""
        works = [self.transfers.sending(self._replica, Path(name)) for name in names]
        for work in reversed(works):  # their tasks may start in any order
            self._nursery.start_soon(work)
        await trio.testing.wait_all_tasks_blocked()

    async def fetch(self, file: File, into: Path = INTO, name: str | None = None) -> None:
        await self._begin(lambda: self.transfers.fetch(self._replica, file, into, name))

    async def _begin(self, work: Callable[[], Any]) -> None:
        async def watch() -> None:
            try:
                self.ends.append(await work())
            except Refused as refusal:
                self.ends.append(refusal)

        self._nursery.start_soon(watch)
        await trio.testing.wait_all_tasks_blocked()

    async def cancel(self, number: int) -> Refused:
        """Cancel a transfer; return the refusal that ends it."""
        self.transfers.cancel(number)
        await trio.testing.wait_all_tasks_blocked()
        last = self.ends[-1]
        assert isinstance(last, Refused)
        assert last.code == Code.CANCELLED
        return last

    @property
    def phases(self) -> list[tuple[int, str]]:
        return [(progress.number, progress.phase) for progress in self.transfers.progress()]


@asynccontextmanager
async def scenery(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    carrier = Carrier()
    monkeypatch.setattr(module, "send_file", carrier.send_file)
    monkeypatch.setattr(module, "fetch_file", carrier.fetch_file)
    async with trio.open_nursery() as nursery:
        yield Scene(nursery, carrier)
        nursery.cancel_scope.cancel()


def file(number: int = 1, name: str = "a", sha256: bytes = b"1") -> File:
    return File(number, name, 10, sha256, "bob", 0)


async def test_transfers_are_numbered_and_removed_when_they_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with scenery(monkeypatch) as scene:
        await scene.send("a")
        await scene.fetch(file(name="b"))
        assert scene.phases == [(1, "moving"), (2, "moving")]
        assert [p.way for p in scene.transfers.progress()] == ["up", "down"]
        await scene.carrier.let_go("b")
        assert scene.ends == [INTO / "b"]
        assert scene.phases == [(1, "moving")]
        before = scene.changes
        await scene.carrier.let_go("a")
        assert (scene.phases, scene.ends[1:]) == ([], [None])
        assert scene.changes > before


async def test_further_transfers_wait_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with scenery(monkeypatch) as scene:
        names = [f"file{number}" for number in range(AT_ONCE + 3)]
        await scene.send(*names)
        assert scene.carrier.begun == names[:AT_ONCE]
        assert [phase for _, phase in scene.phases] == ["moving"] * AT_ONCE + ["queued"] * 3
        for position in range(3):
            await scene.carrier.let_go(names[position])
            assert scene.carrier.begun == names[: AT_ONCE + position + 1]


async def test_cancelled_transfer_says_how_to_resume_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scenery(monkeypatch) as scene:
        await scene.send("report.pdf")
        await scene.fetch(file(name="plan.txt"))
        assert str(await scene.cancel(1)) == (
            "Sending report.pdf was cancelled; sending it again within a day resumes it."
        )
        assert scene.carrier.left == ["report.pdf"]
        assert str(await scene.cancel(2)) == (
            "Saving plan.txt was cancelled; saving it again resumes it."
        )
        assert scene.phases == []


async def test_queued_transfer_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scenery(monkeypatch) as scene:
        names = [f"file{number}" for number in range(AT_ONCE + 2)]
        await scene.send(*names)
        refusal = await scene.cancel(AT_ONCE + 1)
        assert str(refusal) == f"Sending file{AT_ONCE} was cancelled before it began."
        await scene.carrier.let_go("file0")
        assert scene.carrier.begun == [*names[:AT_ONCE], names[-1]]


async def test_only_existing_transfers_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scenery(monkeypatch) as scene:
        with pytest.raises(Refused, match="Nothing is being sent or saved") as nothing:
            scene.transfers.cancel(1)
        await scene.send("a")
        with pytest.raises(Refused, match="No transfer has the number 2") as other:
            scene.transfers.cancel(2)
        assert nothing.value.code == other.value.code == Code.NO_SUCH_TRANSFER
        assert scene.phases == [(1, "moving")]


async def test_transfers_start_in_order_of_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with scenery(monkeypatch) as scene:
        names = [f"file{number}" for number in range(AT_ONCE + 5)]
        await scene.send_together(*names)
        assert [(p.number, p.name) for p in scene.transfers.progress()] == [*enumerate(names, 1)]
        assert sorted(scene.carrier.begun) == names[:AT_ONCE]
        for earlier, later in zip(names, names[AT_ONCE:], strict=False):
            await scene.carrier.let_go(earlier)
            assert scene.carrier.begun[-1] == later


async def test_sharing_upload_cannot_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scenery(monkeypatch) as scene:
        await scene.send("a")
        scene.transfers.active[0].on_sharing()
        with pytest.raises(Refused, match="a is uploaded") as caught:
            scene.transfers.cancel(1)
        assert caught.value.code == Code.NO_SUCH_TRANSFER
        await scene.carrier.let_go("a")
        assert scene.ends == [None]


async def test_download_restarts_right_after_its_cancellation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with scenery(monkeypatch) as scene:
        await scene.fetch(file())
        scene.transfers.cancel(1)
        await scene.fetch(file())
        assert scene.phases == [(2, "moving")]
        await scene.carrier.let_go("a")
        assert scene.ends[1:] == [INTO / "a"]


async def test_concurrent_downloads_of_one_file_are_joined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with scenery(monkeypatch) as scene:
        await scene.fetch(file())
        await scene.fetch(file())
        assert scene.phases == [(1, "moving")]
        await scene.carrier.let_go("a")
        assert scene.ends == [INTO / "a", INTO / "a"]
        assert scene.carrier.begun == ["a"]


async def test_joined_download_gets_the_same_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with scenery(monkeypatch) as scene:
        await scene.fetch(file())
        await scene.fetch(file())
        await scene.carrier.let_go("a", Refused(Code.FILE_CHANGED, "It broke."))
        assert [(e.code, str(e)) for e in scene.ends if isinstance(e, Refused)] == [
            (Code.FILE_CHANGED, "a was not saved: It broke.")
        ] * 2


async def test_joined_download_is_cancelled_with_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scenery(monkeypatch) as scene:
        await scene.fetch(file())
        await scene.fetch(file())
        await scene.cancel(1)
        assert [str(end) for end in scene.ends] == [
            "Saving a was cancelled; saving it again resumes it."
        ] * 2


@pytest.mark.parametrize(
    ("other", "name"), [(file(), "another name"), (file(2, "b"), None), (file(2), None)]
)
async def test_same_target_is_downloaded_sequentially(
    monkeypatch: pytest.MonkeyPatch, other: File, name: str | None
) -> None:
    async with scenery(monkeypatch) as scene:
        await scene.fetch(file())
        await scene.fetch(other, INTO, name)
        assert scene.phases == [(1, "moving"), (2, "queued")]
        await scene.fetch(file(3, "c", b"3"))
        assert scene.phases[2] == (3, "moving")
        await scene.carrier.let_go("a")
        await scene.carrier.let_go(other.name)
        assert scene.ends == [INTO / "a", INTO / (name or other.name)]


async def test_different_targets_are_downloaded_concurrently(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with scenery(monkeypatch) as scene:
        await scene.fetch(file())
        await scene.fetch(file(), Path("elsewhere"))
        assert scene.phases == [(1, "moving"), (2, "moving")]


async def test_waiting_for_a_target_uses_no_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with scenery(monkeypatch) as scene:
        await scene.fetch(file())
        for number in range(AT_ONCE):
            await scene.fetch(file(), INTO, f"name{number}")
        await scene.send("other")
        assert scene.carrier.begun == ["a", "other"]
