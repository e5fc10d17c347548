"""Pacing of one end of a transfer: how much it may move and hash before it has to ask again.

A server shares its processor among people, so it makes transfers wait; a client does not. While one
end waits, it reads and sends nothing, and TCP makes the other end wait (backpressure).
"""

from __future__ import annotations

import sys
from typing import Protocol


class Pacing(Protocol):
    """Decides when a transfer may go on."""

    async def admit(self) -> int:
        """Wait until data may be moved; return how many bytes at most before the next call."""

    def settle(self, size: int) -> None:
        """Count the bytes that were moved since the last call. It follows each `admit`."""

    async def admit_hashing(self, size: int) -> None:
        """Wait until `size` bytes of an existing file may be hashed."""


class Unpaced(Pacing):
    """Never waits."""

    async def admit(self) -> int:
        """Return a size that no file exceeds."""
        return sys.maxsize

    def settle(self, size: int) -> None:
        """Count nothing."""

    async def admit_hashing(self, size: int) -> None:
        """Return at once."""


UNPACED = Unpaced()
