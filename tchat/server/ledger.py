"""Ledger of work: what each person, each address and all together may cost the server.

Every frame is charged to the budgets of its *account* before it is worked on: to that of the
person, over all connections; to those of the networks that one customer may have; and to that of
the whole server. Refused work costs as much as done work (`costs`). A budget is a token bucket that
may go into debt, by the work that it has admitted last. While one of an account's budgets is in
debt, the connection's next frame is not read: the client's own socket holds it back (backpressure),
nothing is refused, and so commands keep their order.

Fairness. The connections of one person wait in a queue of their own, of which only the first waits
for the budgets that the person shares with others. Those have priority queues: whoever has used
least of their own budget is served first. So a person with many connections waits as often as one
with a single connection, and who writes a message now and then waits for nobody who floods. *Light*
people, who have used hardly anything, do not even wait for the debt of one dear request, only for a
large debt. The *strangers* of an address, connections that have not authenticated, count as one
person together: they wait in the queue of the address among its people, and not beside it.

Bounds. A frame waits for `LONGEST_WAIT` seconds at most, so that neither side believes that the
other one is gone: a ping is answered within the client's patience. If more connections wait than
the budgets can serve in that time, frames are admitted all the same, and the debt, which is bounded
by the same time, does not grow. Budgets that are full and have no connection are forgotten.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from heapq import heapify, heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Literal

import trio

from tchat.net.address import networks_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tchat.core.pace import Rate
    from tchat.net.address import Address
    from tchat.server.limits import Limits

LONGEST_WAIT = 5.0
"""The longest time in seconds that a frame waits. It is shorter than the 8 seconds for which
clients wait for the answer to a ping."""

_PAUSE = 0.01
"""Seconds that a person in debt waits longer than necessary, so that many frames are read at a
time: to wake a task for each would cost more than the frames."""
_TICK = 0.001  # seconds; timers are not finer

_LIGHT = 0.01
"""Whoever has used at most this share of their budget is light: some dozen messages at once."""

_SMALL_DEBT_SECONDS = 0.1
"""Light people are admitted while a shared budget needs at most so long to pay its debt. A few dear
requests cause as much."""

_Owner = Literal["person", "strangers", "network"]
"""Whose a budget is: that of a person, of the strangers of an address, or of a network."""

_arrivals = count()


class _Waiter:
    """A frame in the queue of a budget; less used goes first, then first come."""

    __slots__ = ("arrival", "used", "woken")

    def __init__(self, used: float) -> None:
        self.used = used
        self.arrival = next(_arrivals)
        self.woken = trio.Event()

    def __lt__(self, other: _Waiter) -> bool:
        return (self.used, self.arrival) < (other.used, other.arrival)


class Budget:
    """A token bucket that may go into debt.

    `credit` is negative in debt. It is filled up only when it is used up, or looked at by a method,
    because the clock would cost more than the rest: so a burst may be twice as long as configured.
    `users` are the accounts that refer to the budget. `queue` are the frames that wait for it as
    a shared budget. `own_queue` is for the frames of its owner: whichever holds the lock waits for
    the shared budgets.
    """

    __slots__ = (
        "_burst",
        "_filled_at",
        "_per_second",
        "credit",
        "own_queue",
        "queue",
        "users",
    )

    def __init__(self, rate: Rate | None) -> None:
        self.users = 0
        self.own_queue = trio.Lock()
        self.queue: list[_Waiter] = []  # a heap
        self.set_rate(rate)

    def set_rate(self, rate: Rate | None) -> None:
        """Use another rate, and begin with a full budget; without a rate it never ends."""
        self._per_second = rate.per_second if rate else math.inf
        self._burst = self.credit = float(rate.burst) if rate else math.inf
        self._filled_at = trio.current_time()

    @property
    def is_limited(self) -> bool:
        """Whether the budget has a rate."""
        return self._burst < math.inf

    @property
    def used(self) -> float:
        """The work that has not been made up for by the passing of time."""
        return self._burst - self._fill() if self.is_limited else 0.0

    @property
    def is_nearly_full(self) -> bool:
        """Whether hardly anything is used; a budget without a rate never is."""
        return self.is_limited and self.used <= _LIGHT * self._burst

    @property
    def is_covered(self) -> bool:
        """Whether a frame may be admitted at once."""
        return (self.credit >= 0 or self._fill() >= 0) and not self.queue

    async def wait_for_credit(self) -> None:
        """Wait until the debt is paid; the caller holds `own_queue`."""
        if self._fill() < 0:
            await trio.sleep(-self.credit / self._per_second + _PAUSE)

    async def wait_in_queue(self, used: float, *, is_light: bool = False) -> None:
        """Wait until nobody waits who has used less, and the debt is paid; small, if `is_light`.

        `used` is what the owner of the frame has used of their own budget.
        """
        if self.is_covered:
            return
        needed = -_SMALL_DEBT_SECONDS * self._per_second if is_light else 0.0
        waiter, queue = _Waiter(used), self.queue
        heappush(queue, waiter)
        try:
            while queue[0] is not waiter or self._fill() < needed:
                is_next = queue[0] is waiter
                pause = (needed - self.credit) / self._per_second + _TICK if is_next else math.inf
                with trio.move_on_after(pause):
                    await waiter.woken.wait()
                waiter.woken = trio.Event()
        finally:
            self._leave_queue(waiter)

    def _leave_queue(self, waiter: _Waiter) -> None:
        if self.queue[0] is waiter:
            heappop(self.queue)
        else:
            self.queue.remove(waiter)
            heapify(self.queue)
        if self.queue:
            self.queue[0].woken.set()

    def _fill(self) -> float:
        """Add the credit for the time that has passed; return the credit."""
        if self.is_limited:
            now = trio.current_time()
            credit = max(self.credit, -LONGEST_WAIT * self._per_second)
            credit += (now - self._filled_at) * self._per_second
            self.credit, self._filled_at = min(credit, self._burst), now
        return self.credit


class LedgerAccount:
    """What one connection's work is charged to: the budget of its owner, and those it shares.

    `is_limited` is whether any of the budgets has a rate. `peer` is the client's address.
    """

    __slots__ = ("_limited", "_own", "_shared", "is_limited", "peer")

    def __init__(
        self, own: Budget, shared: tuple[Budget, ...], peer: Address | None = None
    ) -> None:
        self.peer = peer
        self._own = own
        self._shared = shared
        self.on_rates_changed()

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The budget of the owner, and those it shares."""
        return (self._own, *self._shared)

    def on_rates_changed(self) -> None:
        """Look which budgets have a rate: the others cost nothing."""
        self._limited = tuple(budget for budget in self.budgets if budget.is_limited)
        self.is_limited = bool(self._limited)

    @property
    def is_covered(self) -> bool:
        """Whether `admit` would return at once."""
        for budget in self._limited:  # a generator is slower, and this is for all frames
            # Most budgets are covered: looking at two attributes saves the call of a method.
            if (budget.credit < 0 or budget.queue) and not budget.is_covered:
                return False
        return True

    async def admit(self, longest: float = LONGEST_WAIT) -> None:
        """Wait until no budget is in debt, and nobody in front of this account waits.

        It takes `longest` seconds at most. The caller has to charge the work that it does then,
        before the next checkpoint.
        """
        with trio.move_on_after(longest):
            async with self._own.own_queue:
                await self._own.wait_for_credit()
                used, is_light = self._own.used, self._own.is_nearly_full
                for budget in self._shared:
                    await budget.wait_in_queue(used, is_light=is_light)

    def charge_owner(self, cost: float) -> None:
        """Charge work that the shared budgets have paid already, or that others do not wait for."""
        self._own.credit -= cost

    def charge_apart(self, cost: float) -> None:
        """Charge work of another thread, which the others do not wait for: all but the whole."""
        for budget in self.budgets[:-1]:
            budget.credit -= cost

    def charge(self, cost: float) -> None:
        """Charge work to all budgets."""
        for budget in self._limited:
            budget.credit -= cost


class Ledger:
    """The budgets of everybody who is connected, or has not been idle for long.

    At `max_budgets`, those that are full and in no use are dropped.
    """

    def __init__(self, limits: Limits, max_budgets: int = 10_000) -> None:
        self._limits = limits
        self._whole = Budget(limits.work)
        self._budgets: dict[tuple[_Owner, str], Budget] = {}
        self._accounts: set[LedgerAccount] = set()
        self._max_budgets = self._most = max_budgets

    @contextmanager
    def account_of(self, person: str, peer: Address | None) -> Iterator[LedgerAccount]:
        """Provide the account of a person's (folded) connection."""
        with self._open("person", person, peer) as account:
            yield account

    @contextmanager
    def account_of_stranger(self, peer: Address | None) -> Iterator[LedgerAccount]:
        """Provide the account of a connection that has not authenticated."""
        with self._open("strangers", networks_of(peer)[0], peer) as account:
            yield account

    def set_limits(self, limits: Limits) -> None:
        """Use other limits; all budgets are full again."""
        self._limits = limits
        self._whole.set_rate(limits.work)
        for (owner, _), budget in self._budgets.items():
            budget.set_rate(self._rate_of(owner))
        for account in self._accounts:
            account.on_rates_changed()

    def __len__(self) -> int:
        """Return the number of budgets in memory, except that of the whole."""
        return len(self._budgets)

    @contextmanager
    def _open(self, owner: _Owner, name: str, peer: Address | None) -> Iterator[LedgerAccount]:
        self._forget_idle()
        networks = [self._budget("network", network) for network in networks_of(peer)]
        account = LedgerAccount(self._budget(owner, name), (*networks, self._whole), peer)
        self._accounts.add(account)
        for budget in account.budgets:
            budget.users += 1
        try:
            yield account
        finally:
            self._accounts.discard(account)
            for budget in account.budgets:
                budget.users -= 1

    def _budget(self, owner: _Owner, name: str) -> Budget:
        budget = self._budgets.get((owner, name))
        if budget is None:
            budget = self._budgets[owner, name] = Budget(self._rate_of(owner))
        return budget

    def _rate_of(self, owner: _Owner) -> Rate | None:
        # Strangers have no rate below that of their address: most are people who connect again.
        limits = self._limits
        return limits.work_per_person if owner == "person" else limits.address_work

    def _forget_idle(self) -> None:
        """Bound the memory: a full budget without a connection is no different from a new one.

        Call this before budgets are looked up: those that no account refers to yet seem unused.
        """
        if len(self) < self._most:
            return
        self._budgets = {
            key: budget for key, budget in self._budgets.items() if budget.users or budget.used > 0
        }
        # Not again before their number has doubled: looking at all of them takes time.
        self._most = max(self._max_budgets, 2 * len(self))
