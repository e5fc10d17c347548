"""Token buckets per person, limits of unauthenticated connections, tickets that count."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tchat.core.pace import Rate
from tchat.core.protocol.handshake import VERSION, Welcome
from tchat.errors import Code, Refused
from tchat.server.limits import Limits
from tchat.server.rate_limiter import RateLimiter
from tchat.server.tickets import TICKET_SECONDS, Permission, Tickets
from tests.helpers import (
    NO_RATE_LIMITS,
    hello_of,
    raw_client,
    running_server,
)

if TYPE_CHECKING:
    from trio.testing import MockClock

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
