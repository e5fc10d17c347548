"""A fault-injecting store for tests: operations that fail, wait, are slow, or are counted.

It wraps a store (in memory, unless another is given), whose operations can be made to misbehave one
by one, by name: "append", or "accounts.claim" and "files.usage" for those of its parts.

    store.fill("append")                        a full disk, until `store.mend()`
    store.fail(error, "append", times=1)        any other failure, the next time only
    hold = store.hold("read_before")            a reader that waits *before* it reads
    hold = store.hold("append", after=True)     committed, but not yet returned: the store is ahead
    store.delay("read", seconds=1)              a slow disk, in the seconds of the test's clock
    store.count("load", group="ops")            how often it was called with these arguments

`when` limits each of these to some of the calls; it gets the arguments by name.
"""

from __future__ import annotations

import inspect
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio

from tchat.store.base import StorageFull
from tests.memory_store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tchat.store.base import Store

    When = Callable[[dict[str, Any]], bool]


@dataclass(slots=True)
class Call:
    """A call of an operation; `done` once it has returned, and neither failed nor still waits."""

    operation: str
    arguments: dict[str, Any]
    done: bool = False


@dataclass(slots=True)
class Hold:
    """Stops the calls of an operation until `release`; `reached` is set when the first is here."""

    operation: str
    after: bool
    when: When
    reached: trio.Event = field(default_factory=trio.Event)
    released: trio.Event = field(default_factory=trio.Event)

    def release(self) -> None:
        """Let waiting and later calls pass."""
        self.released.set()

    async def stop(self, call: Call, *, after: bool) -> None:
        """Wait for `release`, if this call matches."""
        if self.after == after and self.operation == call.operation and self.when(call.arguments):
            self.reached.set()
            await self.released.wait()


@dataclass(slots=True)
class _Failure:
    operations: tuple[str, ...]
    error: Exception
    times: float
    when: When


def _always(_: dict[str, Any]) -> bool:
    return True


class FaultyStore(MemoryStore):
    """A store with faults; without any, it behaves as the one that it wraps.

    It is a `MemoryStore` to the type checker alone: each operation is replaced in `__init__`.
    """

    def __init__(self, store: Store | None = None) -> None:
        store = store or MemoryStore()
        self.accounts, self.files, self.blobs = store.accounts, store.files, store.blobs
        self.maintenance, self.troubles = store.maintenance, store.troubles
        self.damage = store.damage
        self.calls: list[Call] = []
        self._failures: list[_Failure] = []
        self._holds: list[Hold] = []
        self._delays: dict[str, float] = {}
        self._operations: set[str] = set()
        self._changed = trio.lowlevel.ParkingLot()
        self._intercept("", store, self)
        self._intercept("accounts.", self.accounts, self.accounts)
        self._intercept("files.", self.files, self.files)
        self._intercept("maintenance.", self.maintenance, self.maintenance)

    def fail(
        self, error: Exception, *operations: str, times: float = float("inf"), when: When = _always
    ) -> None:
        """Make operations raise without effect, `times` times or until `mend`."""
        self._check(*operations)
        self._failures.append(_Failure(operations, error, times, when))

    def fill(self, *operations: str, times: float = float("inf"), when: When = _always) -> None:
        """Make operations fail with a full disk; by default, those that write to the log."""
        self.fail(StorageFull(), *(operations or ("append", "set_cursors")), times=times, when=when)

    def mend(self) -> None:
        """End all failures."""
        self._failures.clear()

    def hold(self, operation: str, *, after: bool = False, when: When = _always) -> Hold:
        """Stop an operation before it begins, or after it has taken effect."""
        self._check(operation)
        hold = Hold(operation, after, when)
        self._holds.append(hold)
        return hold

    def delay(self, operation: str, seconds: float) -> None:
        """Make an operation take `seconds` longer."""
        self._check(operation)
        self._delays[operation] = seconds

    def count(self, operation: str, **arguments: object) -> int:
        """Return how often an operation was called with these arguments among others."""
        self._check(operation)
        return sum(
            call.operation == operation and arguments.items() <= call.arguments.items()
            for call in self.calls
        )

    async def wait_done(self, operation: str, times: int = 1) -> None:
        """Wait until an operation has succeeded `times` times."""
        self._check(operation)
        while sum(call.done for call in self.calls if call.operation == operation) < times:
            await self._changed.park()

    def _check(self, *operations: str) -> None:
        if not self._operations.issuperset(operations):
            raise ValueError(f"no operations of a store: {operations}")

    def _intercept(self, prefix: str, source: object, target: object) -> None:
        """Give `target` the operations of `source`, with faults."""
        for name, operation in inspect.getmembers(source, inspect.iscoroutinefunction):
            if not name.startswith("_"):
                self._operations.add(prefix + name)
                setattr(target, name, self._with_faults(prefix + name, operation))

    def _with_faults(
        self, name: str, operation: Callable[..., Awaitable[object]]
    ) -> Callable[..., Awaitable[object]]:
        signature = inspect.signature(operation)

        async def call(*args: object, **kwargs: object) -> object:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            async with self._faults(Call(name, bound.arguments)):
                return await operation(*args, **kwargs)

        return call

    @asynccontextmanager
    async def _faults(self, call: Call) -> AsyncIterator[None]:
        self.calls.append(call)
        await trio.sleep(self._delays.get(call.operation, 0))
        for hold in self._holds:
            await hold.stop(call, after=False)
        for failure in self._failures:
            if call.operation in failure.operations and failure.when(call.arguments):
                failure.times -= 1
                if failure.times >= 0:
                    raise failure.error.with_traceback(None)
        yield
        for hold in self._holds:
            await hold.stop(call, after=True)
        call.done = True
        self._changed.unpark_all()
