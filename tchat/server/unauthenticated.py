"""Slots for connections that have not authenticated yet, shared fairly between networks.

Anybody can open connections and send nothing, from as many addresses as they have. The slots are
few, so that strangers take little memory; the rules below make sure that a person at another
address still finds one.

A connection keeps its slot for `slot_seconds`, which are enough for a handshake, even if it ends
before without having authenticated. It is *young* until then, and *old* afterwards. So the slots
also limit the rate of handshakes: at most that many in `slot_seconds`.

- **Early random drop**, as sshd's MaxStartups: from half of the slots on, the more of them young
  connections have, the more newcomers are refused, and all when they have the whole. So nobody can
  keep all slots taken by opening connections whenever some become free. This holds for each
  network and for the whole.
- **Old connections make room.** Where a newcomer is not refused, but all slots are taken, an old
  connection is closed: of the network that has most, the oldest. (Of an IPv6 network, the oldest of
  the largest /56 network, and of the largest /64 in it.) Silent sockets never keep anybody out.
- **Fair shares.** A newcomer whose network would still have fewer slots than the largest one is
  not refused for the whole, and takes the slot of a connection of the largest, old or young. So
  many connections from few networks do not keep others out, however fast they are reopened.
- **A reserve.** A quarter of the slots is for networks from which somebody with an established
  name (see `is_established`) has authenticated. So even an attack from more networks than there are
  slots does not keep those out.

Networks are those of `networks_of`. A /56 network may have twice, and a /48 four times as
many connections as a /64 or an IPv4 address.

A refusal contains the time to wait, so that clients can retry automatically.
"""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from tchat.errors import Code, Refused
from tchat.net.address import networks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tchat.net.address import Address
    from tchat.server.limits import Limits

BUSY_RETRY_MS = 1000
_PROXIED = "a proxy"  # instead of a network
_DROP_START = 0.5  # the share of young connections from which newcomers are refused at random
_RESERVED = 4  # one in so many slots is for known networks
_MAX_KNOWN = 10_000


@dataclass(eq=False, slots=True)
class HandshakeSlot:
    """The slot of one connection. `close` ends the connection at once, when it has to make room.

    `networks` are its address and those around it, the smallest first.
    """

    networks: tuple[str, ...]
    close: Callable[[], None]
    opened: float
    is_young: bool = True
    has_left: bool = False
    authenticated: bool = False
    evicted: bool = False


@dataclass(slots=True)
class _NetworkSlots:
    """The slots of a network, the first to be opened first; `young` is how many are."""

    slots: dict[HandshakeSlot, None] = field(default_factory=dict)
    young: int = 0


class _Pool:
    """Some slots. `uniform` returns a random number from 0 to 1."""

    def __init__(self, uniform: Callable[[], float]) -> None:
        self._uniform = uniform
        self._whole = _NetworkSlots()
        self._by_network: dict[str, _NetworkSlots] = {}
        self._by_outermost: dict[str, _NetworkSlots] = {}  # networks that no other contains
        self._young: deque[HandshakeSlot] = deque()

    def __len__(self) -> int:
        """Return how many slots are taken."""
        return len(self._whole.slots)

    def admit(self, slot: HandshakeSlot, size: int, each: int) -> bool:
        """Take a slot, of `size` in total and `each` for one address; return whether it could."""
        limited = [
            (of_network, each << level)
            for level, network in enumerate(slot.networks)
            if (of_network := self._by_network.get(network)) is not None
        ]
        if not size or any(self._drops(one.young, limit) for one, limit in limited):
            return False
        is_light = self._larger_network(slot.networks[-1]) is not None
        if not is_light and self._drops(self._whole.young, size):
            return False
        for of_network, limit in reversed(limited):
            while len(of_network.slots) >= limit:
                self._evict(_old(of_network))
        while len(self) >= size:
            larger = self._larger_network(slot.networks[-1])
            self._evict(larger.slots if larger else _old(self._whole) or self._whole.slots)
        self._add(slot)
        return True

    def leave(self, slot: HandshakeSlot) -> None:
        """Give back a slot, unless it is young and the connection did not authenticate."""
        slot.has_left = True
        if slot.authenticated or not slot.is_young:
            self._remove(slot)

    def age(self, opened_before: float) -> None:
        """Make slots old that were taken until then; those of ended connections become free."""
        while self._young and self._young[0].opened <= opened_before:
            slot = self._young.popleft()
            if slot.is_young:
                self._count_young(slot, -1)
                slot.is_young = False
                if slot.has_left:
                    self._remove(slot)

    def _drops(self, young: int, limit: int) -> bool:
        """Return whether to refuse a newcomer: at random, and always when all slots are young."""
        start = _DROP_START * limit
        return young >= limit or (young > start and self._uniform() < (young - start) / start)

    def _larger_network(self, network: str) -> _NetworkSlots | None:
        """Return the largest network, if it stays larger than this one after one more slot."""
        largest = max(self._by_outermost.values(), key=lambda one: len(one.slots), default=None)
        own = self._by_outermost.get(network)
        will_have = 1 + (len(own.slots) if own else 0)
        return largest if largest is not None and will_have < len(largest.slots) else None

    def _evict(self, slots: Iterable[HandshakeSlot]) -> None:
        """Free one slot of the largest network among these, and close its connection."""
        slot = max(slots, key=self._weight)  # the first of several, which is the oldest
        self._remove(slot)
        if not slot.has_left:
            slot.evicted = True
            slot.close()

    def _weight(self, slot: HandshakeSlot) -> list[int]:
        return [len(self._by_network[network].slots) for network in reversed(slot.networks)]

    def _add(self, slot: HandshakeSlot) -> None:
        for network in slot.networks:
            self._by_network.setdefault(network, _NetworkSlots()).slots[slot] = None
        outermost = slot.networks[-1]
        self._by_outermost[outermost] = self._by_network[outermost]
        self._whole.slots[slot] = None
        self._count_young(slot, 1)
        self._young.append(slot)

    def _remove(self, slot: HandshakeSlot) -> None:
        if slot not in self._whole.slots:  # it had to make room before it ended
            return
        if slot.is_young:
            self._count_young(slot, -1)
            slot.is_young = False
        del self._whole.slots[slot]
        for network in slot.networks:
            del self._by_network[network].slots[slot]
            if not self._by_network[network].slots:
                del self._by_network[network]
                self._by_outermost.pop(network, None)

    def _count_young(self, slot: HandshakeSlot, change: int) -> None:
        for slots in (self._whole, *(self._by_network[network] for network in slot.networks)):
            slots.young += change


def _old(of_network: _NetworkSlots) -> list[HandshakeSlot]:
    return [slot for slot in of_network.slots if not slot.is_young]


class UnauthenticatedLimiter:
    """Gives slots to the connections that have not authenticated yet."""

    def __init__(
        self,
        limits: Limits,
        clock: Callable[[], float] = trio.current_time,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self.limits = limits
        self._clock = clock
        self._open, self._reserved = _Pool(uniform), _Pool(uniform)
        self._known: OrderedDict[str, None] = OrderedDict()

    @property
    def count(self) -> int:
        """The number of slots that are taken now."""
        self._age()
        return len(self._open) + len(self._reserved)

    def remember(self, address: Address | None) -> None:
        """Reserve slots for the network of somebody with an established name."""
        network = networks_of(address)[0]
        self._known[network] = None
        self._known.move_to_end(network)
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)

    def is_known(self, address: Address | None) -> bool:
        """Return whether `remember` was called for the network of an address."""
        return networks_of(address)[0] in self._known

    @contextmanager
    def admit(self, address: Address | None, close: Callable[[], None]) -> Iterator[HandshakeSlot]:
        """Take a slot while the block runs. Raises `Refused` (busy) if there is none.

        `address` is None for a peer without an address, such as a Unix socket. `close` is called if
        the connection has to make room. The slot becomes free at once if `authenticated` is set.
        """
        networks, each = networks_of(address), self.limits.unauthenticated_per_address
        with self._taken(HandshakeSlot(networks, close, self._clock()), each) as slot:
            yield slot

    @contextmanager
    def admit_proxy(self, close: Callable[[], None]) -> Iterator[HandshakeSlot]:
        """Take a slot while a PROXY header is read. Raises `Refused` as `admit` does.

        Only the total is limited: a proxy forwards for many clients from one address.
        """
        slot = HandshakeSlot((_PROXIED,), close, self._clock())
        with self._taken(slot, self.limits.unauthenticated):
            yield slot

    @contextmanager
    def _taken(self, slot: HandshakeSlot, each: int) -> Iterator[HandshakeSlot]:
        self._age()
        size = self.limits.unauthenticated
        reserved = size // _RESERVED
        if self._open.admit(slot, size - reserved, each):
            pool = self._open
        elif slot.networks[0] in self._known and self._reserved.admit(slot, reserved, each):
            pool = self._reserved
        else:
            raise Refused(
                Code.BUSY,
                "Too many connections are authenticating just now; try again.",
                BUSY_RETRY_MS,
            )
        try:
            yield slot
        finally:
            self._age()
            pool.leave(slot)

    def _age(self) -> None:
        until = self._clock() - self.limits.slot_seconds
        self._open.age(until)
        self._reserved.age(until)
