"""Places of connections that have not authenticated: fair shares, early drop, who makes room."""

from __future__ import annotations

from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tchat.client.authenticate import Account, Busy
from tchat.client.client_id import ClientId
from tchat.client.connector import Connector
from tchat.client.known_servers import KnownServers
from tchat.client.session import open_session
from tchat.client.updates import Disconnected
from tchat.core.protocol.frames import Failed
from tchat.core.protocol.handshake import Challenge, Welcome
from tchat.errors import Code, Refused
from tchat.net.address import Address
from tchat.net.tcp import connect
from tchat.net.tls import client_context, make_credentials, open_tls
from tchat.server.accounts import ESTABLISHED_MS
from tchat.server.limits import Limits
from tchat.server.unauthenticated import UnauthenticatedLimiter
from tests.faulty_store import FaultyStore
from tests.helpers import (
    GUARD,
    NO_RATE_LIMITS,
    RawClient,
    RunningServer,
    hello_of,
    identity_of,
    raw_client,
    running_server,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.core.protocol.schema import Frame
    from tchat.server.unauthenticated import HandshakeSlot

HERE = "192.0.2.1"
HELLO = hello_of("alice")
HOLD = Limits().slot_seconds


class Door:
    """A limiter whose clock and chance the test sets; connections are known by their numbers."""

    def __init__(self, total: int = 400, each: int = 40) -> None:
        limits = Limits(unauthenticated=total, unauthenticated_per_address=each)
        self.now = 1000.0
        self.chance = 1.0  # 1 never drops at random, 0 does whenever it is possible
        self.limiter = UnauthenticatedLimiter(limits, lambda: self.now, lambda: self.chance)
        self.open: dict[int, ExitStack] = {}
        self.slots: dict[int, HandshakeSlot] = {}
        self.closed: list[int] = []
        self._number = 0

    def enter(self, host: str | None) -> int | None:
        """Let one connection in; return its number, or None if it was refused."""
        number = self._number = self._number + 1
        stack = ExitStack()
        address = None if host is None else Address(host, 4000)
        try:
            slot = stack.enter_context(
                self.limiter.admit(address, lambda: self.closed.append(number))
            )
        except Refused:
            return None
        self.open[number], self.slots[number] = stack, slot
        return number

    def fill(self, number: int, *hosts: str) -> list[int | None]:
        """Let many connections in, from these hosts by turns."""
        return [self.enter(hosts[i % len(hosts)]) for i in range(number)]

    def leave(self, number: int, *, authenticated: bool = False) -> None:
        """End a connection."""
        self.slots[number].authenticated = authenticated
        self.open.pop(number).close()


# ------------------------------------------------------------------ what counts together


@pytest.mark.parametrize(
    ("one", "same"),
    [
        (HERE, HERE),
        (HERE, f"::ffff:{HERE}"),
        ("2001:db8:0:7::1", "2001:db8:0:7:ffff::"),
        ("fe80::1%eth0", "fe80::2%eth1"),
        ("not an address", "not an address"),
        (None, None),
    ],
)
def test_addresses_of_one_customer_count_together(one: str | None, same: str | None) -> None:
    for first, second in ((one, same), (same, one)):
        door = Door(each=1)
        assert door.enter(first)
        assert not door.enter(second)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (HERE, "192.0.2.2"),
        ("2001:db8:0:7::1", "2001:db8:0:8::1"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2"),
        ("::1", "127.0.0.1"),
        ("one name", "another name"),
    ],
)
def test_other_addresses_count_separately(one: str, other: str) -> None:
    door = Door(each=1)
    assert door.enter(one)
    assert door.enter(other)
    assert not door.enter(other)


@pytest.mark.parametrize(("prefix", "factor"), [("2001:db8::{0:x}", 1), ("2001:db8:0:{0:x}::", 2)])
def test_wider_networks_have_more_places(prefix: str, factor: int) -> None:
    """Networks of a /64, and of a /56: the first 256 /64."""
    door = Door()
    entered = door.fill(250, *(prefix.format(number) for number in range(250)))
    assert sum(number is not None for number in entered) == factor * 40


def test_a_48_network_has_four_times_the_places() -> None:
    door = Door()
    entered = door.fill(1000, *(f"2001:db8:0:{number:x}::" for number in range(0, 65536, 64)))
    assert sum(number is not None for number in entered) == 4 * 40


# ------------------------------------------------------------------ early random drop


def test_nobody_is_dropped_up_to_half_full() -> None:
    door = Door()
    door.chance = 0.0
    entered = door.fill(40, HERE)
    assert sum(number is not None for number in entered) == 21  # the first that makes it more


def test_chance_to_be_dropped_grows_with_young_connections() -> None:
    door = Door()
    door.fill(30, HERE)
    door.chance = 0.51
    assert door.enter(HERE)
    door.chance = 0.49
    assert not door.enter(HERE)
    assert door.enter("192.0.2.2")


def test_whole_drops_at_random_too() -> None:
    door = Door()
    hosts = [f"10.0.0.{number}" for number in range(200)]
    door.fill(200, *hosts)  # of 300: a quarter of the 400 is reserved
    door.chance = 0.0
    assert not door.enter("192.0.2.2")
    door.chance = 0.5
    assert door.enter("192.0.2.2")


def test_ended_connection_keeps_its_slot_while_young() -> None:
    door = Door(each=1)
    one = door.enter(HERE)
    assert one
    door.leave(one)
    assert not door.enter(HERE)
    assert door.limiter.count == 1
    door.now += HOLD
    assert door.limiter.count == 0
    assert door.enter(HERE)


def test_authenticated_connection_frees_its_place_at_once() -> None:
    door = Door(each=1)
    for _ in range(3):
        number = door.enter(HERE)
        assert number
        door.leave(number, authenticated=True)
    assert door.limiter.count == 0
    assert not door.closed


# ------------------------------------------------------------------ who makes room


def test_oldest_makes_room_in_a_full_network() -> None:
    door = Door()
    entered = door.fill(40, HERE)
    assert not door.enter(HERE)  # all of them may still authenticate
    door.now += HOLD
    assert door.enter(HERE)
    assert door.closed == entered[:1]


def test_largest_network_makes_room_for_others() -> None:
    """However young its connections are, and however old those of others."""
    door = Door()
    few, many = [f"10.0.0.{n}" for n in range(20)], [f"10.0.1.{n}" for n in range(7)]
    door.fill(20, *few)
    door.now += HOLD
    entered = door.fill(280, *many)
    assert all(entered)
    assert door.enter("192.0.2.2")
    assert door.closed == entered[:1]


def test_oldest_makes_room_if_all_networks_are_alike() -> None:
    door = Door()
    entered = door.fill(300, *(f"10.0.{n // 256}.{n % 256}" for n in range(300)))
    assert not door.enter("192.0.2.2")
    door.now += HOLD
    assert door.enter("192.0.2.2")
    assert door.closed == entered[:1]


def test_one_customer_in_many_networks_counts_as_one() -> None:
    """The thousands of /64 networks of a /48 together are the largest network."""
    door = Door()
    many = door.fill(160, *(f"2001:db8:0:{n:x}::" for n in range(0, 65536, 256)))
    door.fill(140, *(f"10.0.0.{n}" for n in range(140)))
    person = door.enter("192.0.2.2")
    assert person
    assert door.closed == many[:1]
    assert door.enter("2001:db8:1::1")
    assert door.closed == many[:2]


def test_neighbours_in_a_large_network_are_spared() -> None:
    """In a /48, the /56 with the most connections makes room, and in that the largest /64."""
    door = Door()
    neighbours = door.fill(2, "2001:db8:0:100::", "2001:db8:0:201::")
    largest = door.fill(30, "2001:db8:0:200::")
    door.fill(268, *(f"10.0.0.{n}" for n in range(67)))
    assert door.enter("192.0.2.2")
    assert door.closed == largest[:1]
    assert not set(door.closed) & set(neighbours)


def test_closed_connection_gives_its_place_back_once() -> None:
    door = Door(each=1)
    first = door.enter(HERE)
    door.now += HOLD
    second = door.enter(HERE)
    assert door.closed == [first]
    assert first
    assert second
    door.leave(first)
    assert door.limiter.count == 1
    door.leave(second)
    door.now += HOLD
    assert door.limiter.count == 0


def test_known_networks_have_a_reserve() -> None:
    door = Door()
    door.limiter.remember(Address(HERE, 1))
    everybody = [f"10.0.{n // 256}.{n % 256}" for n in range(600)]
    door.fill(600, *everybody)
    assert not door.enter("192.0.2.2")
    entered = door.fill(50, HERE)
    assert sum(number is not None for number in entered) == 40
    assert not door.closed


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["enter", "leave", "authenticated", "wait"]),
            st.integers(0, 40),
            st.booleans(),
        ),
        max_size=120,
    )
)
def test_limits_hold_whatever_happens(steps: list[tuple[str, int, bool]]) -> None:
    hosts = [f"10.0.0.{n}" for n in range(8)] + [f"2001:db8:0:{n:x}00::" for n in range(8)]
    door = Door(total=12, each=3)
    door.limiter.remember(Address(hosts[0], 1))
    for what, number, dropped in steps:
        door.chance = 0.0 if dropped else 1.0
        here = sorted(set(door.open) - set(door.closed))
        if what == "enter":
            door.enter(hosts[number % len(hosts)])
        elif what == "wait":
            door.now += HOLD * number / 20
        elif here:
            door.leave(here[number % len(here)], authenticated=what == "authenticated")
        staying = set(door.open) - set(door.closed)
        assert len(staying) <= door.limiter.count <= 12
        addresses = [door.slots[one].networks[0] for one in staying]
        assert all(addresses.count(one) <= 6 for one in addresses)  # 3, and 3 of the reserve
        assert len(door.closed) == len(set(door.closed))
    for number in list(door.open):
        door.leave(number)
    door.now += HOLD
    assert door.limiter.count == 0


# ------------------------------------------------------------------ the same, over sockets

ONE_PLACE = [
    replace(NO_RATE_LIMITS, slot_seconds=GUARD, unauthenticated=1),
    replace(NO_RATE_LIMITS, slot_seconds=GUARD, unauthenticated_per_address=1),
]


@asynccontextmanager
async def unauthenticated_client(
    server: RunningServer, *, plain: bool = True
) -> AsyncIterator[RawClient]:
    """Open a connection that stays unauthenticated."""
    stream: trio.abc.Stream = await connect(server.address)
    if not plain:
        assert isinstance(stream, trio.SocketStream)
        stream = await open_tls(stream, client_context(verified=False), server.address.host)
    newcomer = RawClient(stream)
    await newcomer.send(HELLO)
    yield newcomer
    await trio.aclose_forcefully(stream)


async def first_answer(server: RunningServer) -> Frame | None:
    async with raw_client(server.address) as person:
        await person.send(hello_of("bob"))
        return await person.receive()


@pytest.mark.parametrize("limits", ONE_PLACE)
async def test_excess_unauthenticated_connections_are_refused_with_wait(limits: Limits) -> None:
    async with (
        running_server(limits=limits) as server,
        unauthenticated_client(server) as newcomer,
        raw_client(server.address) as other,
    ):
        await newcomer.expect(Challenge)
        (busy,) = await other.until_end()
        assert isinstance(busy, Failed)
        assert (busy.code, busy.re, busy.wait) == (Code.BUSY, None, 1000)
        await server.logged("refused 127.0.0.1:")


async def test_refused_client_keeps_its_slot() -> None:
    async with (
        running_server(limits=ONE_PLACE[0]) as server,
        raw_client(server.address) as nobody,
        raw_client(server.address) as other,
    ):
        await nobody.send_map({"type": "ping"})
        await nobody.until_end()
        (busy,) = await other.until_end()
        assert isinstance(busy, Failed)
        assert busy.code == Code.BUSY


async def test_every_busy_refusal_is_counted_in_the_log() -> None:
    async with (
        running_server(limits=ONE_PLACE[0]) as server,
        raw_client(server.address) as silent,
    ):
        for _ in range(10):
            await anothers_answers(server)
        assert server.log.counts["refused"] == 10
        await trio.aclose_forcefully(silent.stream)


async def test_networks_of_established_names_are_remembered() -> None:
    now = 1_800_000_000_000
    limits = replace(ONE_PLACE[1], unauthenticated=400)
    async with running_server(limits=limits, clock=lambda: now) as server:
        async with raw_client(server.address, "alice"):
            pass
        now += ESTABLISHED_MS
        async with raw_client(server.address, "alice"), raw_client(server.address) as silent:
            assert isinstance(await first_answer(server), Challenge)  # from the reserve
            (busy,) = await anothers_answers(server)
            assert isinstance(busy, Failed)
            assert busy.code == Code.BUSY
            await trio.aclose_forcefully(silent.stream)


async def anothers_answers(server: RunningServer) -> list[Frame]:
    async with raw_client(server.address) as another:
        return await another.until_end()


async def test_connection_is_closed_while_its_name_is_claimed() -> None:
    store = FaultyStore()
    claim = store.hold("accounts.claim")
    limits = replace(NO_RATE_LIMITS, unauthenticated=1)
    async with (
        running_server(store, limits=limits) as server,
        unauthenticated_client(server) as alice,
    ):
        await alice.send(await alice.proof(HELLO))
        await claim.reached.wait()
        async with unauthenticated_client(server) as bob:
            assert await alice.receive() is None
            await bob.expect(Challenge)
            claim.release()
        async with raw_client(server.address, "carol"):
            assert not [line for line in server.console if "fault" in line or "alice" in line]


@pytest.mark.parametrize("plain", [True, False])
async def test_connection_that_makes_room_is_closed(plain: bool, tmp_path: Path) -> None:
    limits = replace(NO_RATE_LIMITS, unauthenticated=1)
    credentials = None if plain else make_credentials(tmp_path)
    async with (
        running_server(limits=limits, credentials=credentials) as server,
        raw_client(server.address) as silent,
        unauthenticated_client(server, plain=plain) as first,
    ):
        assert await silent.until_end() == []
        await first.expect(Challenge)
        async with unauthenticated_client(server, plain=plain) as second:
            await second.expect(Challenge)
            assert await first.receive() is None
        assert not [line for line in server.console if "fault" in line]


@pytest.mark.parametrize("limits", ONE_PLACE)
async def test_authenticated_connections_are_not_counted(limits: Limits) -> None:
    async with running_server(limits=limits) as server, unauthenticated_client(server) as alice:
        await alice.send(await alice.proof(HELLO))
        await alice.expect(Welcome)
        assert isinstance(await first_answer(server), Challenge)


async def test_handshake_deadline_frees_a_place() -> None:
    limits = replace(NO_RATE_LIMITS, slot_seconds=0.1, unauthenticated=1, handshake_seconds=0.1)
    async with running_server(limits=limits) as server, unauthenticated_client(server) as newcomer:
        assert await newcomer.until_end()
        with trio.fail_after(GUARD):
            while not isinstance(await first_answer(server), Challenge):
                pass


async def test_excess_tls_connection_is_told_to_retry(tmp_path: Path) -> None:
    limits, credentials = ONE_PLACE[0], make_credentials(tmp_path)
    async with (
        running_server(limits=limits, credentials=credentials) as server,
        unauthenticated_client(server, plain=False) as newcomer,
    ):
        await newcomer.expect(Challenge)
        with pytest.raises(Busy):
            await Connector(server.address, KnownServers()).open()


@pytest.mark.parametrize("plain", [True, False])
async def test_session_retries_until_there_is_a_place(plain: bool, tmp_path: Path) -> None:
    """It needs two over TLS: on the first visit, it asks the system's authorities first."""
    limits = replace(ONE_PLACE[0], unauthenticated=2)
    credentials = None if plain else make_credentials(tmp_path)
    async with running_server(limits=limits, credentials=credentials) as server:
        connector = Connector(server.address, KnownServers(), plain=plain)
        account = Account("bob", identity_of("bob"), ClientId())
        async with (
            unauthenticated_client(server, plain=plain) as one,
            unauthenticated_client(server, plain=plain) as other,
        ):
            proofs = [await newcomer.proof(HELLO) for newcomer in (one, other)]
            async with open_session(connector, account) as bob:
                with trio.fail_after(GUARD):
                    lost = await bob.updates.receive()
                assert isinstance(lost, Disconnected)
                assert "too many connections" in lost.reason.lower()
                for newcomer, proof in zip((one, other), proofs, strict=True):
                    await newcomer.send(proof)
                await until(bob, lambda: bob.connected)
