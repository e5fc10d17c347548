"""Shares of the authenticated connections: per network, and a reserve for established names."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from itertools import count, cycle
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.pace import Rate
from tchat.core.protocol.frames import Failed
from tchat.core.protocol.handshake import Challenge, Proof, Welcome, proof_text
from tchat.errors import Code, Refused
from tchat.net.address import Address
from tchat.net.tls import make_credentials
from tchat.server.accounts import ESTABLISHED_MS, is_established
from tchat.server.connection_quota import ConnectionQuota
from tchat.server.limits import Limits
from tchat.server.network_rates import NetworkRates
from tests.helpers import NO_RATE_LIMITS, hello_of, identity_of, raw_client, running_server
from tests.server.devices import device_of

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.core.protocol.schema import Frame

PHONE = identity_of("alice", "phone")
HERE = "192.0.2.1"


class Server:
    """A quota with a number of connections in total; connections stay open."""

    def __init__(self, total: int = 1000, share: int = 25) -> None:
        self.quota = ConnectionQuota(Limits(connections=total, network_share=share))
        self.open = ExitStack()

    def enter(self, host: str | None, *, established: bool = True) -> bool:
        """Open one connection; return whether it was allowed."""
        address = None if host is None else Address(host, 1)
        try:
            self.quota.check(address, established=established)
        except Refused:
            return False
        self.open.enter_context(self.quota.counted(address))
        return True

    def fill(self, *hosts: str | None, established: bool = True) -> int:
        """Open connections from all these hosts by turns until none is allowed; count them."""
        opened = 0
        while True:
            entered = [self.enter(host, established=established) for host in hosts]
            opened += sum(entered)
            if not any(entered):
                return opened


# ------------------------------------------------------------------ shares


@pytest.mark.parametrize("host", [HERE, "2001:db8::1", None, ""])
def test_one_address_gets_a_fifth(host: str | None) -> None:
    server = Server()
    assert server.fill(host) == 200
    assert server.enter("192.0.2.9")


def test_wider_networks_get_more() -> None:
    neighbours = [f"2001:db8:0:{n:x}::" for n in range(8)]  # in one /56
    others = [f"2001:db8:0:{n:x}00::" for n in range(8)]  # in one /48
    assert Server(total=200).fill(*neighbours) == 67
    assert Server(total=200).fill(*others) == 100


def test_many_addresses_leave_some_free() -> None:
    server = Server()
    assert 830 < server.fill(*(f"10.0.0.{n}" for n in range(20))) < 850
    assert server.fill("192.0.2.9") > 30


def test_new_names_cannot_take_the_reserve() -> None:
    server = Server()
    everywhere = [f"10.0.{n // 256}.{n % 256}" for n in range(1000)]
    assert server.fill(*everywhere, established=False) == 750
    assert not server.enter(HERE, established=False)
    assert server.fill(HERE) == 50


def test_few_connections_are_always_allowed() -> None:
    server = Server(total=20)
    assert server.fill(HERE) == 8
    assert server.fill("192.0.2.9") == 8
    assert server.fill("192.0.2.10") == 4


def test_whole_share_lifts_the_limit() -> None:
    assert Server(share=100).fill(HERE) == 1000


def test_ended_connections_are_free_again() -> None:
    server = Server()
    server.fill(HERE)
    server.open.close()
    assert server.quota.count == 0
    assert server.fill(HERE) == 200


# ------------------------------------------------------------------ established names


@pytest.mark.parametrize(
    ("claimed", "established"),
    [(None, False), (ESTABLISHED_MS, True), (ESTABLISHED_MS + 1, False), (0, True)],
)
def test_names_are_established_after_a_day(claimed: int | None, established: bool) -> None:
    assert is_established(claimed, 2 * ESTABLISHED_MS) is established


async def test_established_name_stays_so_with_a_new_key() -> None:
    now = 1_800_000_000_000
    limits = replace(NO_RATE_LIMITS, connections=4)
    async with (
        running_server(limits=limits, clock=lambda: now) as server,
        AsyncExitStack() as stack,
    ):
        async with raw_client(server.address, "alice"):
            pass
        await server.logged("alice disconnected")
        now += ESTABLISHED_MS
        await server.store.accounts.take_over("alice", PHONE.public, now)
        for name in ("bob", "carol", "dave"):
            await stack.enter_async_context(raw_client(server.address, name))
        await stack.enter_async_context(device_of(server, "alice", "phone"))


async def test_established_name_gets_a_reserved_connection() -> None:
    now = 1_800_000_000_000
    limits = replace(NO_RATE_LIMITS, connections=4)
    async with (
        running_server(limits=limits, clock=lambda: now) as server,
        AsyncExitStack() as stack,
    ):
        async with raw_client(server.address, "alice"):
            pass
        await server.logged("alice disconnected")
        now += ESTABLISHED_MS
        for name in ("bob", "carol", "dave"):
            await stack.enter_async_context(raw_client(server.address, name))
        async with raw_client(server.address) as eve:
            await eve.send(hello := hello_of("eve"))
            await eve.send(await eve.proof(hello))
            (busy,) = await eve.until_end()
            assert isinstance(busy, Failed)
            assert busy.code == Code.BUSY
        await stack.enter_async_context(raw_client(server.address, "alice"))


@pytest.mark.parametrize("tls", [False, True])
async def test_refused_network_is_told_why(tls: bool, tmp_path: Path) -> None:
    credentials = make_credentials(tmp_path) if tls else None
    limits = replace(NO_RATE_LIMITS, connections=20)
    async with (
        running_server(limits=limits, credentials=credentials) as server,
        AsyncExitStack() as stack,
    ):
        for number in range(8):
            await stack.enter_async_context(raw_client(server.address, f"person{number}", tls=tls))
        async with raw_client(server.address, tls=tls) as excess:
            await excess.send(hello := hello_of("excess"))
            await excess.send(await excess.proof(hello))
            (busy,) = await excess.until_end()
            assert isinstance(busy, Failed)
            assert busy.code == Code.BUSY
            assert "from your network" in busy.text


# ------------------------------------------------------------------ new names and logins


def test_new_names_of_a_network_are_rated() -> None:
    now = 0.0
    rates = NetworkRates(Limits(claims=Rate(0.5, 3)), lambda: now)

    def claimed(host: str) -> int:
        count = 0
        while True:
            try:
                rates.acquire("claims", Address(host, 1))
            except Refused:
                return count
            count += 1

    assert claimed(HERE) == 3
    assert claimed("192.0.2.2") == 3
    assert sum(claimed(f"2001:db8:0:{n:x}::") for n in range(8)) == 6  # of a /56
    assert sum(claimed(f"2001:db8:0:{n:x}00::") for n in range(8)) == 6  # the rest of the /48's
    now += 2
    assert claimed(HERE) == 1


async def test_class_behind_one_address_can_join_at_once() -> None:
    async with running_server(limits=Limits()) as server, trio.open_nursery() as nursery:

        async def join(name: str) -> None:
            answer: Frame | None = None
            while not isinstance(answer, Welcome):
                async with raw_client(server.address) as pupil:
                    await pupil.send(hello := hello_of(name))
                    answer = await pupil.receive()
                    if isinstance(answer, Challenge):
                        text = proof_text(hello, answer, b"")
                        await pupil.send(Proof(identity_of(name).sign(text)))
                        answer = await pupil.receive()
                if isinstance(answer, Failed):
                    assert answer.code == Code.BUSY
                    assert answer.wait is not None
                    await trio.sleep(answer.wait / 1000)

        for number in range(30):
            nursery.start_soon(join, f"pupil{number}")


def test_all_logins_may_come_from_one_address() -> None:
    limits = Limits(network_share=100, claims=Rate(1, 1), logins=Rate(1, 1))
    rates, here = NetworkRates(limits, lambda: 0.0), Address(HERE, 1)
    for _ in range(1000):
        rates.acquire("address_logins", here)
    rates.acquire("claims", here)
    with pytest.raises(Refused):
        rates.acquire("claims", here)


def test_buckets_of_networks_are_bounded() -> None:
    rates = NetworkRates(Limits(claims=Rate(1, 1)), lambda: 0.0, max_buckets=10)
    for number in range(12):
        rates.acquire("claims", Address(f"10.0.0.{number}", 1))
    assert len(rates) == 10
    with pytest.raises(Refused):
        rates.acquire("claims", Address("10.0.0.11", 1))


def test_texts_of_a_network_are_rated() -> None:
    """An address may send 8 times what one person may, and the networks around it more."""
    rates = NetworkRates(Limits(texts=Rate(1, 10)), lambda: 0.0)

    def sent(*hosts: str) -> int:
        addresses = cycle(Address(host, 1) for host in hosts)
        return next(n for n in count() if rates.reserve("address_texts", next(addresses), 10))

    assert sent(HERE) == 8
    assert sent("192.0.2.2") == 8
    assert sent(*(f"2001:db8:0:{n:x}::" for n in range(8))) == 16
    unlimited = NetworkRates(Limits(texts=Rate(1, 10), network_share=100), lambda: 0.0)
    assert not any(unlimited.reserve("address_texts", Address(HERE, 1), 10) for _ in range(100))


async def test_names_claimed_before_are_not_rated() -> None:
    limits = replace(NO_RATE_LIMITS, claims=Rate(0.001, 1))
    async with running_server(limits=limits) as server:
        for _ in range(3):
            async with raw_client(server.address, "alice"):
                pass
        async with raw_client(server.address) as bob:
            await bob.send(hello := hello_of("bob"))
            await bob.send(await bob.proof(hello))
            (busy,) = await bob.until_end()
            assert isinstance(busy, Failed)
            assert (busy.code, busy.text[:22]) == (Code.BUSY, "Too many new names com")
            assert busy.wait
