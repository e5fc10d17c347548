"""Places for connections that have not authenticated yet, shared fairly between networks.

Anybody can open connections and send nothing, from as many addresses as they have. The places are
few, so that strangers take little memory; the rules below make sure that a person at another
address still finds one.

A connection keeps its place for `place_seconds`, which are enough for a handshake, even if it ends
before without having authenticated. It is *young* until then, and *old* afterwards. So the places
also limit the rate of handshakes: at most that many in `place_seconds`.

- **Early random drop**, as sshd's MaxStartups: from half of the places on, the more of them young
  connections have, the more newcomers are refused, and all when they have the whole. So nobody can
  keep all places taken by opening connections whenever some become free. This holds for each
  network and for the whole.
- **Old connections make room.** Where a newcomer is not refused, but all places are taken, an old
  connection is closed: of the network that has most, the oldest. (Of an IPv6 network, the oldest of
  the largest /56 network, and of the largest /64 in it.) Silent sockets never keep anybody out.
- **Fair shares.** A newcomer whose network would still have fewer places than the largest one is
  not refused for the whole, and takes the place of a connection of the largest, old or young. So
  many connections from few networks do not keep others out, however fast they are reopened.
- **A reserve.** A quarter of the places is for networks from which somebody with an established
  name (see `is_established`) has authenticated. So even an attack from more networks than there are
  places does not keep those out.

Networks are those of `enclosing_networks`. A /56 network may have twice, and a /48 four times as
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
from tchat.net.address import enclosing_networks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tchat.net.address import Address
    from tchat.server.limits import Limits

BUSY_RETRY_MS = 1000
_PROXIED = "a proxy"  # in place of a network
_DROP_START = 0.5  # the share of young connections from which newcomers are refused at random
_RESERVED = 4  # one in so many places is for known networks
_MAX_KNOWN = 10_000


@dataclass(eq=False, slots=True)
class Place:
    """The place of one connection. `close` ends the connection at once, when it has to make room.

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
class _Crowd:
    """The places of a network, the first to be opened first; `young` is how many are."""

    places: dict[Place, None] = field(default_factory=dict)
    young: int = 0


class _Pool:
    """Some places. `uniform` returns a random number from 0 to 1."""

    def __init__(self, uniform: Callable[[], float]) -> None:
        self._uniform = uniform
        self._whole = _Crowd()
        self._networks: dict[str, _Crowd] = {}
        self._largest_kind: dict[str, _Crowd] = {}  # those of `_networks` that no other contains
        self._young: deque[Place] = deque()

    def __len__(self) -> int:
        """Return how many places are taken."""
        return len(self._whole.places)

    def admit(self, place: Place, size: int, each: int) -> bool:
        """Take a place, of `size` in total and `each` for one address; return whether it could."""
        crowds = [
            (crowd, each << level)
            for level, network in enumerate(place.networks)
            if (crowd := self._networks.get(network)) is not None
        ]
        if not size or any(self._drops(crowd.young, limit) for crowd, limit in crowds):
            return False
        is_light = self._larger_network(place.networks[-1]) is not None
        if not is_light and self._drops(self._whole.young, size):
            return False
        for crowd, limit in reversed(crowds):
            while len(crowd.places) >= limit:
                self._evict(_old(crowd))
        while len(self) >= size:
            larger = self._larger_network(place.networks[-1])
            self._evict(larger.places if larger else _old(self._whole) or self._whole.places)
        self._add(place)
        return True

    def leave(self, place: Place) -> None:
        """Give back a place, unless it is young and the connection did not authenticate."""
        place.has_left = True
        if place.authenticated or not place.is_young:
            self._remove(place)

    def age(self, opened_before: float) -> None:
        """Make places old that were taken until then; those of ended connections become free."""
        while self._young and self._young[0].opened <= opened_before:
            place = self._young.popleft()
            if place.is_young:
                self._count_young(place, -1)
                place.is_young = False
                if place.has_left:
                    self._remove(place)

    def _drops(self, young: int, limit: int) -> bool:
        """Return whether to refuse a newcomer: at random, and always when all places are young."""
        start = _DROP_START * limit
        return young >= limit or (young > start and self._uniform() < (young - start) / start)

    def _larger_network(self, network: str) -> _Crowd | None:
        """Return the largest network, if it stays larger than this one after one more place."""
        largest = max(
            self._largest_kind.values(), key=lambda crowd: len(crowd.places), default=None
        )
        own = self._largest_kind.get(network)
        will_have = 1 + (len(own.places) if own else 0)
        return largest if largest is not None and will_have < len(largest.places) else None

    def _evict(self, places: Iterable[Place]) -> None:
        """Free one place of the largest network among these, and close its connection."""
        place = max(places, key=self._weight)  # the first of several, which is the oldest
        self._remove(place)
        if not place.has_left:
            place.evicted = True
            place.close()

    def _weight(self, place: Place) -> list[int]:
        return [len(self._networks[network].places) for network in reversed(place.networks)]

    def _add(self, place: Place) -> None:
        for network in place.networks:
            self._networks.setdefault(network, _Crowd()).places[place] = None
        outermost = place.networks[-1]
        self._largest_kind[outermost] = self._networks[outermost]
        self._whole.places[place] = None
        self._count_young(place, 1)
        self._young.append(place)

    def _remove(self, place: Place) -> None:
        if place not in self._whole.places:  # it had to make room before it ended
            return
        if place.is_young:
            self._count_young(place, -1)
            place.is_young = False
        del self._whole.places[place]
        for network in place.networks:
            del self._networks[network].places[place]
            if not self._networks[network].places:
                del self._networks[network]
                self._largest_kind.pop(network, None)

    def _count_young(self, place: Place, change: int) -> None:
        for crowd in (self._whole, *(self._networks[network] for network in place.networks)):
            crowd.young += change


def _old(crowd: _Crowd) -> list[Place]:
    return [place for place in crowd.places if not place.is_young]


class UnauthenticatedLimiter:
    """Gives places to the connections that have not authenticated yet."""

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
        """The number of places that are taken now."""
        self._age()
        return len(self._open) + len(self._reserved)

    def remember(self, address: Address | None) -> None:
        """Reserve places for the network of somebody with an established name."""
        network = _networks(address)[0]
        self._known[network] = None
        self._known.move_to_end(network)
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)

    def is_known(self, address: Address | None) -> bool:
        """Return whether `remember` was called for the network of an address."""
        return _networks(address)[0] in self._known

    @contextmanager
    def admit(self, address: Address | None, close: Callable[[], None]) -> Iterator[Place]:
        """Take a place while the block runs. Raises `Refused` (busy) if there is none.

        `address` is None for a peer without an address, such as a Unix socket. `close` is called if
        the connection has to make room. The place becomes free at once if `authenticated` is set.
        """
        networks, each = _networks(address), self.limits.unauthenticated_per_address
        with self._taken(Place(networks, close, self._clock()), each) as place:
            yield place

    @contextmanager
    def admit_proxy(self, close: Callable[[], None]) -> Iterator[Place]:
        """Take a place while a PROXY header is read. Raises `Refused` as `admit` does.

        Only the total is limited: a proxy forwards for many clients from one address.
        """
        place = Place((_PROXIED,), close, self._clock())
        with self._taken(place, self.limits.unauthenticated):
            yield place

    @contextmanager
    def _taken(self, place: Place, each: int) -> Iterator[Place]:
        self._age()
        size = self.limits.unauthenticated
        reserved = size // _RESERVED
        if self._open.admit(place, size - reserved, each):
            pool = self._open
        elif place.networks[0] in self._known and self._reserved.admit(place, reserved, each):
            pool = self._reserved
        else:
            raise Refused(
                Code.BUSY,
                "Too many connections are authenticating just now; try again.",
                BUSY_RETRY_MS,
            )
        try:
            yield place
        finally:
            self._age()
            pool.leave(place)

    def _age(self) -> None:
        until = self._clock() - self.limits.place_seconds
        self._open.age(until)
        self._reserved.age(until)


def _networks(address: Address | None) -> tuple[str, ...]:
    return enclosing_networks(address.host) if address else ("",)
