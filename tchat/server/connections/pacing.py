"""Charge transferred data to the holder of the ticket, their address and the whole.

Transfers have a ledger of their own (`Limits.for_transfers`), so that they delay nobody's messages,
and their owner's neither. Each portion of a file is charged before it is moved, and the rest that
was not moved is given back. In debt, a transfer waits: all transfers of a person in one queue, of
which the first waits with those of other people, where whoever has used least goes first
(`ledger`). A wait is always shorter than the time after which a client takes the transfer for
broken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.server.costs import TRANSFER, cost_of_hashing, cost_of_transfer
from tchat.transfer.pacing import Pacing

if TYPE_CHECKING:
    from tchat.server.ledger import LedgerAccount

PORTION = 8 << 20
"""Bytes that are charged at once: 18 ms of a processor core. If all transfers of the default limit
come from one address, which has half a core, each of them waits for 36 seconds at most."""

_LONGEST_WAIT = 45.0  # seconds; see `endpoints.STALL_SECONDS`


class TransferPacing(Pacing):
    """Paces one transfer by the budgets of `account`; `is_waiting` says that it waits for them."""

    def __init__(self, account: LedgerAccount) -> None:
        self.is_waiting = False
        self._account = account

    async def begin(self) -> None:
        """Wait until the transfer may begin."""
        await self._pay(TRANSFER)

    async def admit(self) -> int:
        """Wait until a portion may be moved; see `Pacing.admit`."""
        await self._pay(cost_of_transfer(PORTION))
        return PORTION

    def settle(self, size: int) -> None:
        """Give back what was charged for more than `size` bytes; see `Pacing.settle`."""
        self._account.charge(cost_of_transfer(size - PORTION))

    async def admit_hashing(self, size: int) -> None:
        """Wait until a file may be hashed; see `Pacing.admit_hashing`."""
        for start in range(0, size, PORTION):
            await self._pay(cost_of_hashing(min(PORTION, size - start)))

    async def _pay(self, cost: float) -> None:
        if not self._account.is_covered:
            self.is_waiting = True
            try:
                await self._account.admit(_LONGEST_WAIT)
            finally:
                self.is_waiting = False
        self._account.charge(cost)
