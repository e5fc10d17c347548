"""Token buckets per person, limits of unauthenticated connections, tickets that count."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.client.authenticate import Account, Busy
from tchat.client.client_id import ClientId
from tchat.client.connector import Connector
from tchat.client.known_servers import KnownServers
from tchat.client.session import open_session
from tchat.client.updates import Disconnected
from tchat.core.pace import Rate
from tchat.core.protocol.frames import Failed
from tchat.core.protocol.handshake import VERSION, Challenge, Welcome
from tchat.errors import Code, Refused
from tchat.net.address import Address
from tchat.net.tcp import connect
from tchat.net.tls import client_context, make_credentials, open_tls
from tchat.server.limits import Limits
from tchat.server.rate_limiter import RateLimiter
from tchat.server.tickets import TICKET_SECONDS, Permission, Tickets
from tchat.server.unauthenticated import UnauthenticatedLimiter
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

    from trio.testing import MockClock

    from tchat.core.protocol.schema import Frame
    from tchat.server.rate_limiter import RateKind

TIGHT = Limits(messages=Rate(2, 3), joins=Rate(0.1, 1), requests=Rate(1, 1))
HERE = "192.0.2.1"
HELLO = hello_of("alice")


def refusal(rates: RateLimiter, kind: RateKind, person: str) -> Refused:
    with pytest.raises(Refused) as caught:
        rates.acquire(kind, person)
    return caught.value


# ------------------------------------------------------------------ rates per person


async def test_person_above_the_rate_learns_the_wait(mock_clock: MockClock) -> None:
    rates = RateLimiter(TIGHT)
    for _ in range(3):
        rates.acquire("messages", "alice")
    too_fast = refusal(rates, "messages", "alice")
    assert (too_fast.code, too_fast.wait) == (Code.RATE_LIMITED, 500)
    mock_clock.jump(0.25)
    assert refusal(rates, "messages", "alice").wait == 250
    mock_clock.jump(0.25)
    rates.acquire("messages", "alice")
    refusal(rates, "messages", "alice")


async def test_wait_is_sufficient_and_never_zero(mock_clock: MockClock) -> None:
    for per_second in (0.3, 3, 7, 999, 1e6):
        rates = RateLimiter(Limits(messages=Rate(per_second, 1)))
        rates.acquire("messages", "alice")
        wait = refusal(rates, "messages", "alice").wait
        assert wait
        mock_clock.jump(wait / 1000)
        rates.acquire("messages", "alice")


@pytest.mark.usefixtures("mock_clock")
async def test_rates_are_per_person_and_kind() -> None:
    rates = RateLimiter(TIGHT)
    for kind in ("joins", "requests"):
        rates.acquire(kind, "alice")
        rates.acquire(kind, "bob")
        refusal(rates, kind, "alice")
    rates.acquire("messages", "alice")


async def test_no_rate_means_no_refusal() -> None:
    rates = RateLimiter(TIGHT.without_rates())
    for _ in range(100):
        rates.acquire("messages", "alice")
        rates.acquire("joins", "alice")
        rates.acquire("requests", "alice")


async def test_only_full_buckets_are_forgotten(
    mock_clock: MockClock,
) -> None:
    rates = RateLimiter(TIGHT, max_buckets=10)
    for number in range(9):
        rates.acquire("messages", f"quiet {number}")
    mock_clock.jump(10)
    for _ in range(3):
        rates.acquire("messages", "loud")
    rates.acquire("messages", "one more")
    assert len(rates) == 2  # of "loud" and "one more"
    refusal(rates, "messages", "loud")


def test_limits_without_rates_are_otherwise_equal() -> None:
    lifted = replace(TIGHT, unauthenticated=7).without_rates()
    assert lifted == replace(lifted, unauthenticated=7)
    assert (lifted.messages, lifted.joins, lifted.requests, lifted.frames) == (None,) * 4


async def test_welcome_announces_the_rate_of_messages() -> None:
    async with (
        running_server(limits=replace(NO_RATE_LIMITS, messages=Rate(2, 3))) as server,
        raw_client(server.address) as alice,
    ):
        assert await alice.hello("alice") == Welcome(VERSION, "alice", 500_000, 3)
    async with running_server() as server, raw_client(server.address) as alice:
        assert await alice.hello("alice") == Welcome(VERSION, "alice")


async def test_unused_ticket_counts_until_it_expires(
    mock_clock: MockClock,
) -> None:
    tickets = Tickets()
    tickets.issue(Permission("upload", "alice", 600))
    tickets.issue(Permission("download", "alice", 50))
    tickets.issue(Permission("upload", "bob", 7))
    assert (tickets.promised_bytes("alice"), tickets.promised_bytes("bob")) == (600, 7)
    mock_clock.jump(TICKET_SECONDS)
    assert tickets.promised_bytes("alice") == 600
    mock_clock.jump(0.1)
    assert (tickets.promised_bytes("alice"), tickets.promised_bytes("bob")) == (0, 0)


async def test_running_transfer_counts_until_it_ends() -> None:
    tickets = Tickets()
    permission = tickets.redeem(tickets.issue(Permission("upload", "alice", 600)))
    assert tickets.promised_bytes("alice") == 0
    with tickets.running(permission):
        assert tickets.promised_bytes("alice") == 600
    assert tickets.promised_bytes("alice") == 0


# ------------------------------------------ limits of unauthenticated connections


def assert_busy(limiter: UnauthenticatedLimiter, host: str) -> None:
    with pytest.raises(Refused) as caught, limiter.admit(Address(host, 4000)):
        raise AssertionError("there was room")
    assert caught.value.code == Code.BUSY
    assert caught.value.wait


@pytest.mark.parametrize(
    ("one", "same"),
    [
        (HERE, HERE),
        (HERE, f"::ffff:{HERE}"),
        ("2001:db8:0:7::1", "2001:db8:0:7:ffff::"),
        ("fe80::1%eth0", "fe80::2%eth1"),
        ("not an address", "not an address"),
    ],
)
def test_addresses_of_one_customer_count_together(one: str, same: str) -> None:
    limiter = UnauthenticatedLimiter(Limits(unauthenticated_per_address=1))
    with limiter.admit(Address(one, 4000)):
        assert_busy(limiter, same)
    with limiter.admit(Address(same, 4001)):
        assert_busy(limiter, one)


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
    limiter = UnauthenticatedLimiter(Limits(unauthenticated_per_address=1))
    with limiter.admit(Address(one, 4000)), limiter.admit(Address(other, 4000)):
        assert_busy(limiter, other)


def test_total_of_unauthenticated_connections_is_limited() -> None:
    limiter = UnauthenticatedLimiter(Limits(unauthenticated=2, unauthenticated_per_address=2))
    with limiter.admit(Address("192.0.2.1", 1)), limiter.admit(Address("192.0.2.2", 1)):
        assert_busy(limiter, "192.0.2.3")
    with limiter.admit(Address("192.0.2.3", 1)):
        pass


def test_unknown_addresses_count_together() -> None:
    limiter = UnauthenticatedLimiter(Limits(unauthenticated_per_address=1))
    with limiter.admit(None), pytest.raises(Refused), limiter.admit(None):
        raise AssertionError("there was room")


def test_failed_connection_is_no_longer_counted() -> None:
    limiter = UnauthenticatedLimiter(Limits())
    with pytest.raises(trio.BrokenResourceError), limiter.admit(Address(HERE, 1)):
        raise trio.BrokenResourceError
    assert limiter.count == 0


# ------------------------------------------------------------------ the same, over sockets

ONE_UNAUTHENTICATED = [
    replace(NO_RATE_LIMITS, unauthenticated=1),
    replace(NO_RATE_LIMITS, unauthenticated_per_address=1),
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


@pytest.mark.parametrize("limits", ONE_UNAUTHENTICATED)
async def test_excess_unauthenticated_connections_are_refused_with_wait(
    limits: Limits,
) -> None:
    async with running_server(limits=limits) as server:
        async with unauthenticated_client(server) as newcomer, raw_client(server.address) as other:
            await newcomer.expect(Challenge)
            (busy,) = await other.until_end()
            assert isinstance(busy, Failed)
            assert (busy.code, busy.re, busy.wait) == (Code.BUSY, None, 1000)
            await server.logged("refused 127.0.0.1:")
        with trio.fail_after(GUARD):
            while not isinstance(await first_answer(server), Challenge):
                pass  # until the server has noticed the disconnect


@pytest.mark.parametrize("limits", ONE_UNAUTHENTICATED)
async def test_authenticated_connections_are_not_counted(
    limits: Limits,
) -> None:
    async with running_server(limits=limits) as server, unauthenticated_client(server) as alice:
        await alice.send(await alice.proof(HELLO))
        await alice.expect(Welcome)
        assert isinstance(await first_answer(server), Challenge)


async def test_handshake_deadline_frees_a_place() -> None:
    limits = replace(NO_RATE_LIMITS, unauthenticated=1, handshake_seconds=0.1)
    async with running_server(limits=limits) as server, unauthenticated_client(server) as newcomer:
        assert await newcomer.until_end()
        assert isinstance(await first_answer(server), Challenge)


async def test_excess_tls_connection_is_told_to_retry(tmp_path: Path) -> None:
    limits, credentials = replace(NO_RATE_LIMITS, unauthenticated=1), make_credentials(tmp_path)
    async with (
        running_server(limits=limits, credentials=credentials) as server,
        unauthenticated_client(server, plain=False) as newcomer,
    ):
        await newcomer.expect(Challenge)
        with pytest.raises(Busy):
            await Connector(server.address, KnownServers()).open()


@pytest.mark.parametrize("plain", [True, False])
async def test_session_retries_until_there_is_a_place(plain: bool, tmp_path: Path) -> None:
    limits = replace(NO_RATE_LIMITS, unauthenticated=1)
    credentials = None if plain else make_credentials(tmp_path)
    async with running_server(limits=limits, credentials=credentials) as server:
        connector = Connector(server.address, KnownServers(), plain=plain)
        account = Account("alice", identity_of("alice"), ClientId())
        async with AsyncExitStack() as door:
            newcomer = await door.enter_async_context(unauthenticated_client(server, plain=plain))
            await newcomer.expect(Challenge)
            async with open_session(connector, account) as alice:
                with trio.fail_after(GUARD):
                    lost = await alice.updates.receive()
                assert isinstance(lost, Disconnected)
                assert "too many connections" in lost.reason.lower()
                await door.aclose()
                await until(alice, lambda: alice.connected)
