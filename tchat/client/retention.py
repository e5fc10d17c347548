"""Retention of replicas: bounds of what a client keeps in memory of the logs of its groups.

A client keeps the end of each log; the server has the rest, and sends it page by page when somebody
scrolls back. A log that grows beyond a bound is cut to half of it, so that the cost of cutting is
spread over many events. The bounds count events, since a screen keeps a line for each, and bytes,
since a message may have 16 KiB. All groups together have a bound, too: the largest is cut first.

The part that a person is looking at is not cut (`Replica.held`), as far as the log does not grow to
`HELD_FACTOR` times its bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tchat.client.replica import Replica

HELD_FACTOR = 4

_FEWEST = 20  # events that a group keeps of whatever size, unless no other can be cut
_CHECK_SIZE = 64 * 1024  # the growth of a log after which all logs are added up


@dataclass(frozen=True, slots=True)
class Retention:
    """The most `events` and bytes (`size`) of one log, and the most bytes of all (`total`)."""

    events: int = 10_000
    size: int = 8 * 1024 * 1024
    total: int = 64 * 1024 * 1024


class Trimmer:
    """Cuts the logs of `replicas`; `on_trimmed` is called with each log that was cut."""

    def __init__(
        self, replicas: Collection[Replica], on_trimmed: Callable[[Replica], None]
    ) -> None:
        self.retention = Retention()
        self._replicas = replicas
        self._on_trimmed = on_trimmed
        self._grown = 0

    def on_added(self, replica: Replica, size: int) -> None:
        """Cut what exceeds the bounds, after `size` bytes were added to a log."""
        bounds, factor = self.retention, HELD_FACTOR if replica.held else 1
        self._grown += size
        if len(replica.log) >= bounds.events * factor or replica.size > bounds.size * factor:
            self._halve(replica)
        if self._grown > _CHECK_SIZE:
            self._grown = 0
            self._trim_all()

    def _trim_all(self) -> None:
        """Cut the largest logs, those that are not held first, until all fit."""
        excess = sum(replica.size for replica in self._replicas) - self.retention.total
        while excess > 0:
            long = [replica for replica in self._replicas if len(replica.log) > 1]
            largest = max(long, key=_rank, default=None)
            if largest is None:
                break
            before = largest.size
            self._halve(largest)
            excess -= before - largest.size

    def _halve(self, replica: Replica) -> None:
        """Cut a log to half of its events and of its bytes."""
        events, size = len(replica.log) // 2, replica.size // 2
        replica.trim(max(min(events, replica.count_within(size)), min(_FEWEST, events)))
        self._on_trimmed(replica)


def _rank(replica: Replica) -> tuple[bool, bool, int]:
    """Return how soon to cut a log, to fit all of them into the memory for them."""
    return len(replica.log) > _FEWEST, not replica.held, replica.size
