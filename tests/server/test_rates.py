"""How often something may be done: buckets by person, places of strangers, and the options."""

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
from tchat.net.address import Address, connect
from tchat.net.tls import client_context, make_credentials, open_tls
from tchat.server import limits as limits_module
from tchat.server.limits import Limits, Rates, UnauthenticatedLimiter
from tchat.server.tickets import TICKET_SECONDS, Permission, Tickets
from tests.helpers import (
    GUARD,
    UNHURRIED,
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
    from tchat.server.limits import Kind

TIGHT = Limits(messages=Rate(2, 3), joins=Rate(0.1, 1), requests=Rate(1, 1))
HERE = "192.0.2.1"
HELLO = hello_of("alice")


def refusal(rates: Rates, kind: Kind, person: str) -> Refused:
    with pytest.raises(Refused) as caught:
        rates.take(kind, person)
    return caught.value


# ------------------------------------------------------------------ rates by person


async def test_who_does_too_much_at_once_is_told_when_to_go_on(mock_clock: MockClock) -> None:
    rates = Rates(TIGHT)
    for _ in range(3):
        rates.take("messages", "alice")
    too_fast = refusal(rates, "messages", "alice")
    assert (too_fast.code, too_fast.wait) == (Code.RATE_LIMITED, 500)
    mock_clock.jump(0.25)
    assert refusal(rates, "messages", "alice").wait == 250
    mock_clock.jump(0.25)
    rates.take("messages", "alice")
    refusal(rates, "messages", "alice")


async def test_a_wait_is_never_too_short_and_never_nothing(mock_clock: MockClock) -> None:
    for per_second in (0.3, 3, 7, 999, 1e6):
        rates = Rates(Limits(messages=Rate(per_second, 1)))
        rates.take("messages", "alice")
        wait = refusal(rates, "messages", "alice").wait
        assert wait
        mock_clock.jump(wait / 1000)
        rates.take("messages", "alice")


@pytest.mark.usefixtures("mock_clock")
async def test_rates_are_per_person_and_for_each_kind() -> None:
    rates = Rates(TIGHT)
    for kind in ("joins", "requests"):
        rates.take(kind, "alice")
        rates.take(kind, "bob")
        refusal(rates, kind, "alice")
    rates.take("messages", "alice")


async def test_where_there_is_no_rate_there_is_no_refusal() -> None:
    rates = Rates(TIGHT.without_rates())
    for _ in range(100):
        rates.take("messages", "alice")
        rates.take("joins", "alice")
        rates.take("requests", "alice")


async def test_those_who_have_been_quiet_are_forgotten_and_others_are_not(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits_module, "_MOST_BUCKETS", 10)
    rates = Rates(TIGHT)
    for number in range(9):
        rates.take("messages", f"quiet {number}")
    mock_clock.jump(10)
    for _ in range(3):
        rates.take("messages", "loud")
    rates.take("messages", "one more")
    assert set(rates._buckets) == {("messages", "loud"), ("messages", "one more")}
    refusal(rates, "messages", "loud")


def test_limits_without_rates_are_the_same_otherwise() -> None:
    lifted = replace(TIGHT, strangers=7).without_rates()
    assert lifted == replace(lifted, strangers=7)
    assert (lifted.messages, lifted.joins, lifted.requests, lifted.frames) == (None,) * 4


async def test_a_welcome_says_how_fast_commands_are_taken() -> None:
    async with (
        running_server(limits=replace(UNHURRIED, messages=Rate(2, 3))) as server,
        raw_client(server.address) as alice,
    ):
        assert await alice.hello("alice") == Welcome(VERSION, "alice", 500_000, 3)
    async with running_server() as server, raw_client(server.address) as alice:
        assert await alice.hello("alice") == Welcome(VERSION, "alice")


async def test_a_ticket_that_nobody_used_counts_until_it_has_expired(
    mock_clock: MockClock,
) -> None:
    tickets = Tickets()
    tickets.issue(Permission("upload", "alice", 600))
    tickets.issue(Permission("download", "alice", 50))
    tickets.issue(Permission("upload", "bob", 7))
    assert (tickets.promised("alice"), tickets.promised("bob")) == (600, 7)
    mock_clock.jump(TICKET_SECONDS)
    assert tickets.promised("alice") == 600
    mock_clock.jump(0.1)
    assert (tickets.promised("alice"), tickets.promised("bob")) == (0, 0)


async def test_a_transfer_counts_for_as_long_as_it_is_carried() -> None:
    tickets = Tickets()
    permission = tickets.redeem(tickets.issue(Permission("upload", "alice", 600)))
    assert tickets.promised("alice") == 0
    with tickets.carrying(permission):
        assert tickets.promised("alice") == 600
    assert tickets.promised("alice") == 0


# ------------------------------------------------------------------ places of strangers


def assert_busy(strangers: UnauthenticatedLimiter, host: str) -> None:
    with pytest.raises(Refused) as caught, strangers.one_more(Address(host, 4000)):
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
def test_addresses_that_one_customer_has_count_as_one(one: str, same: str) -> None:
    strangers = UnauthenticatedLimiter(Limits(strangers_per_address=1))
    with strangers.one_more(Address(one, 4000)):
        assert_busy(strangers, same)
    with strangers.one_more(Address(same, 4001)):
        assert_busy(strangers, one)


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
def test_other_addresses_do_not(one: str, other: str) -> None:
    strangers = UnauthenticatedLimiter(Limits(strangers_per_address=1))
    with strangers.one_more(Address(one, 4000)), strangers.one_more(Address(other, 4000)):
        assert_busy(strangers, other)


def test_all_strangers_together_are_bounded_too() -> None:
    strangers = UnauthenticatedLimiter(Limits(strangers=2, strangers_per_address=2))
    with strangers.one_more(Address("192.0.2.1", 1)), strangers.one_more(Address("192.0.2.2", 1)):
        assert_busy(strangers, "192.0.2.3")
    with strangers.one_more(Address("192.0.2.3", 1)):
        pass


def test_those_whose_place_is_not_known_count_as_one_place() -> None:
    strangers = UnauthenticatedLimiter(Limits(strangers_per_address=1))
    with strangers.one_more(None), pytest.raises(Refused), strangers.one_more(None):
        raise AssertionError("there was room")


def test_whoever_goes_leaves_nothing_behind_however_they_go() -> None:
    strangers = UnauthenticatedLimiter(Limits())
    with pytest.raises(trio.BrokenResourceError), strangers.one_more(Address(HERE, 1)):
        raise trio.BrokenResourceError
    assert not strangers._by_place


# ------------------------------------------------------------------ strangers at the door

ONE_STRANGER = [
    replace(UNHURRIED, strangers=1),
    replace(UNHURRIED, strangers_per_address=1),
]


@asynccontextmanager
async def stranger_at(server: RunningServer, *, plain: bool = True) -> AsyncIterator[RawClient]:
    """Be at the door for the length of the block, known to be there and not yet who it is."""
    stream: trio.abc.Stream = await connect(server.address)
    if not plain:
        assert isinstance(stream, trio.SocketStream)
        stream = await open_tls(stream, client_context(verified=False), server.address.host)
    stranger = RawClient(stream)
    await stranger.send(HELLO)
    yield stranger
    await trio.aclose_forcefully(stream)


async def answer_at(server: RunningServer) -> Frame | None:
    async with raw_client(server.address) as person:
        await person.send(hello_of("bob"))
        return await person.receive()


@pytest.mark.parametrize("limits", ONE_STRANGER)
async def test_where_too_many_introduce_themselves_others_are_asked_to_come_again(
    limits: Limits,
) -> None:
    async with running_server(limits=limits) as server:
        async with stranger_at(server) as stranger, raw_client(server.address) as other:
            await stranger.expect(Challenge)
            (busy,) = await other.until_end()
            assert isinstance(busy, Failed)
            assert (busy.code, busy.re, busy.wait) == (Code.BUSY, None, 1000)
            await server.logged("refused 127.0.0.1:")
        with trio.fail_after(GUARD):
            while not isinstance(await answer_at(server), Challenge):
                pass  # until the server has noticed that the stranger is gone


@pytest.mark.parametrize("limits", ONE_STRANGER)
async def test_whoever_has_proved_who_they_are_is_no_stranger(
    limits: Limits,
) -> None:
    async with running_server(limits=limits) as server, stranger_at(server) as alice:
        await alice.send(await alice.proof(HELLO))
        await alice.expect(Welcome)
        assert isinstance(await answer_at(server), Challenge)


async def test_a_stranger_who_does_not_speak_in_time_makes_room() -> None:
    limits = replace(UNHURRIED, strangers=1, handshake_seconds=0.1)
    async with running_server(limits=limits) as server, stranger_at(server) as stranger:
        assert await stranger.until_end()
        assert isinstance(await answer_at(server), Challenge)


async def test_one_who_comes_with_tls_is_told_too(tmp_path: Path) -> None:
    limits, credentials = replace(UNHURRIED, strangers=1), make_credentials(tmp_path)
    async with (
        running_server(limits=limits, credentials=credentials) as server,
        stranger_at(server, plain=False) as stranger,
    ):
        await stranger.expect(Challenge)
        with pytest.raises(Busy):
            await Connector(server.address, KnownServers()).open()


@pytest.mark.parametrize("plain", [True, False])
async def test_a_session_waits_until_there_is_room(plain: bool, tmp_path: Path) -> None:
    limits = replace(UNHURRIED, strangers=1)
    credentials = None if plain else make_credentials(tmp_path)
    async with running_server(limits=limits, credentials=credentials) as server:
        connector = Connector(server.address, KnownServers(), plain=plain)
        account = Account("alice", identity_of("alice"), ClientId())
        async with AsyncExitStack() as door:
            stranger = await door.enter_async_context(stranger_at(server, plain=plain))
            await stranger.expect(Challenge)
            async with open_session(connector, account) as alice:
                with trio.fail_after(GUARD):
                    lost = await alice.updates.receive()
                assert isinstance(lost, Disconnected)
                assert "too many connections" in lost.reason.lower()
                await door.aclose()
                await until(alice, lambda: alice.connected)
