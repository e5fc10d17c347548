"""Memory budget of the states of all groups: what a server can make a client remember.

Each group has bounds (`bounds`), but the server decides how many groups there are and puts people
into them. One state may have 16 MiB as a snapshot, and twelve times as much in memory. So the
states of all groups of a server, the people who are online in them, and the parts of snapshots that
have arrived have a budget together. The logs have one of their own (`retention`).

A group that would exceed the budget is refused before it is opened. If open ones grow beyond it,
that one is given up that has grown most since its state was smallest. So a server cannot take away
the groups that do not grow. One that has grown always exists: the smallest states of all groups fit
into the budget, since all fitted in when the last one was opened.

How much a state grows with an event is estimated, rather too high than too low. Only when the
estimates exceed the budget is memory measured, in a thread. Measured, there has to be some room
left, so that this happens seldom.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from tchat.client.bounds import FIELD_NAMES
from tchat.core.protocol.schema import Shape
from tchat.core.text import size_text
from tchat.errors import Code, ProtocolError
from tchat.transfer.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Collection

    from tchat.client.replica import Replica
    from tchat.core.group.state import Group

TOTAL = 384 * 1024 * 1024
"""Most bytes of all groups of one server: two of the largest, or some 300 of 500 people each."""

_RESERVE = 16  # a sixteenth of the budget is free after measuring
_CHECK_SIZE = 64 * 1024  # the growth after which all groups are added up


class StateBudget:
    """Bounds what `replicas` take in memory besides their logs, to `total` bytes."""

    def __init__(self, replicas: Collection[Replica], total: int = TOTAL) -> None:
        self.total = total
        self._replicas = replicas
        self._grown = 0

    async def require(self, size: int) -> None:
        """Check that there is room for `size` more bytes. Raises `ProtocolError` (too_many)."""
        if not await self._has_room(size):
            raise self.exceeded()

    def on_grown(self, size: int) -> bool:
        """Record that groups have grown by `size` bytes; return whether to call `find_excess`."""
        self._grown += max(0, size)
        return self._grown > _CHECK_SIZE

    async def find_excess(self) -> Replica | None:
        """Return the group to give up, if all together exceed the budget."""
        self._grown = 0
        if await self._has_room(0):
            return None
        return max(self._replicas, key=_growth, default=None)

    def exceeded(self) -> ProtocolError:
        """Return the error about a group for which there is no room."""
        return ProtocolError(
            Code.TOO_MANY,
            f"With it, the groups of this server would take more than {size_text(self.total)} of"
            " memory here; close some of them first.",
        )

    async def _has_room(self, size: int) -> bool:
        if self._sum() + size <= self.total:
            return True
        for replica in list(self._replicas):
            if replica.state_growth:
                measured = await in_thread(partial(memory_of, replica.state))
                replica.set_state_memory(measured)
        return self._sum() + size <= self.total - self.total // _RESERVE

    def _sum(self) -> int:
        return sum(replica.memory for replica in self._replicas)


def _growth(replica: Replica) -> tuple[int, int]:
    """Return how much a group has grown; of those that have not, the largest comes first."""
    return replica.memory - replica.least_state, replica.memory


def memory_of(value: Group | object) -> int:
    """Return how many bytes a state, or a value in it, takes in memory, approximately."""
    size = sys.getsizeof(value)
    if isinstance(value, dict):
        size += sum(map(sys.getsizeof, value)) + sum(map(memory_of, value.values()))
    elif isinstance(value, tuple):  # of numbers, or of keys
        size += sum(map(sys.getsizeof, value))
    elif isinstance(value, Shape):
        size += sum(memory_of(getattr(value, name)) for name in FIELD_NAMES[type(value)])
    return size
