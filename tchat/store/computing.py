"""Computing in a thread: let the event loop take the interpreter's lock often meanwhile.

Only one thread runs Python code at a time. A thread that computes, such as a search, gives up the
lock when another one has waited for the *switch interval*, 5 ms by default. The event loop waits
for it after each system call, and the writer thread after each of its own, so that a message took
many times as long while somebody searched. While anything is computed, the interval is a tenth of
that. It is not always short, because each switch costs time, and short work gives up the lock by
itself.
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

SWITCH_SECONDS = 0.0005
"""The switch interval while something is computed."""


class _Interval:
    """The interpreter's switch interval, and how many threads compute now."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.computing = 0
        self.usual = 0.0


_interval = _Interval()


@contextmanager
def computing() -> Iterator[None]:
    """Let other threads take the interpreter's lock soon, for the length of the block."""
    with _interval.lock:
        _interval.computing += 1
        if _interval.computing == 1:
            _interval.usual = sys.getswitchinterval()
            sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        with _interval.lock:
            _interval.computing -= 1
            if not _interval.computing:
                sys.setswitchinterval(_interval.usual)


async def compute(work: Callable[[], T]) -> T:
    """Run Python code that takes long in a thread."""

    def run() -> T:
        with computing():
            return work()

    return await trio.to_thread.run_sync(run)
