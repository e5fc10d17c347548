"""Token buckets per person, limits of unauthenticated connections, tickets that count."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.core.group.membership import Join
from tchat.core.group.messages import Delete, Edit, Post
from tchat.core.group.settings import SetTopic
from tchat.core.pace import Rate, TokenBucket
from tchat.core.protocol.frames import Failed
from tchat.core.protocol.handshake import VERSION, Welcome
from tchat.errors import Code
from tchat.server import keyed_buckets
from tchat.server.ledger import LONGEST_WAIT
from tchat.server.limits import Limits
from tchat.server.rate_limiter import RateLimiter, too_fast
from tchat.server.tickets import TICKET_SECONDS, Permission, Tickets
from tests.helpers import (
    GROUP,
    NO_RATE_LIMITS,
    hello_of,
    members,
    raw_client,
    running_server,
    without_time,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from tchat.core.protocol.schema import Frame


TIGHT = Limits(messages=Rate(2, 3), joins=Rate(0.1, 1))
HERE = "192.0.2.1"
HELLO = hello_of("alice")


async def test_action_above_the_rate_waits_for_its_token(mock_clock: MockClock) -> None:
    rates = RateLimiter(TIGHT)
    assert [rates.reserve("messages", "alice") for _ in range(3)] == [0, 0, 0]
    assert rates.reserve("messages", "alice") == pytest.approx(0.5)
    mock_clock.jump(0.25)
    assert rates.reserve("messages", "alice") == pytest.approx(0.75)  # after the one before it
    mock_clock.jump(1.25)
    assert rates.reserve("messages", "alice") == 0


async def test_action_far_above_the_rate_is_not_counted(mock_clock: MockClock) -> None:
    rates = RateLimiter(TIGHT)
    assert rates.reserve("joins", "alice") == 0
    for _ in range(3):
        assert rates.reserve("joins", "alice") == pytest.approx(10)
    refusal = too_fast("joins", 9.3)
    assert (refusal.code, refusal.wait) == (Code.RATE_LIMITED, 9300)
    assert "10 seconds" in refusal.sentence
    mock_clock.jump(10)
    assert rates.reserve("joins", "alice") == 0


async def test_amounts_count_like_so_many_actions(mock_clock: MockClock) -> None:
    rates = RateLimiter(Limits(texts=Rate(4, 20)))
    assert [rates.reserve("texts", "alice", amount) for amount in (16, 4)] == [0, 0]
    assert rates.reserve("texts", "alice", 0.5) == pytest.approx(0.125)
    assert rates.reserve("texts", "alice", 16) == pytest.approx(4.125)
    assert rates.reserve("texts", "alice", 16) == pytest.approx(8.125)  # not counted
    mock_clock.jump(4.125 + 5)
    assert rates.reserve("texts", "alice", 1_000_000) == 0  # no more than a full bucket


async def test_long_texts_are_limited() -> None:
    """Otherwise, one person could fill a disk with messages: 27 GB a day at the default rate."""
    limits = replace(NO_RATE_LIMITS, texts=Rate(0.001, 20))
    async with running_server(limits=limits) as server, members(server, "alice") as (alice,):
        posted = await alice.post("x" * 16_000)
        makers: list[Callable[[int], Frame]] = [
            lambda i: Post(i, 100 + i, GROUP, "x" * 16_000),
            lambda i: Edit(i, 100 + i, GROUP, posted, "x" * 16_000),
        ]
        for make in makers:
            answer = await alice.ask(make)
            assert isinstance(answer, Failed)
            assert answer.code == Code.RATE_LIMITED
            assert "allows less text" in answer.text
        await alice.post("A short message is within the limit.")
        await alice.command(SetTopic, "and so is a topic")


async def test_topics_count_like_messages() -> None:
    """They stay on the disk as well: 1.6 GB a day at the default rate of messages."""
    limits = replace(NO_RATE_LIMITS, texts=Rate(0.001, 3))
    async with running_server(limits=limits) as server, members(server, "alice") as (alice,):
        for number in range(3):
            await alice.command(SetTopic, f"{number}" + "🐈" * 190)
        long = await alice.post("a message")
        assert (await alice.refusal(SetTopic, "🐈" * 200)).code == Code.RATE_LIMITED
        await alice.command(Delete, long)  # what erases is not counted


async def test_join_refused_by_text_rate_needs_no_quota() -> None:
    limits = replace(NO_RATE_LIMITS, texts=Rate(0.001, 1), groups_per_user=2)
    now = 0.0
    async with (
        running_server(limits=limits, rate_clock=lambda: now) as server,
        members(server, "alice") as (alice,),
    ):
        await alice.post("x" * 650)
        assert (await alice.refusal(Join, group="lab")).code == Code.RATE_LIMITED
        now = 10_000
        await alice.command(Join, group="den")


async def test_names_at_an_address_share_its_texts() -> None:
    """Names cost nothing, so that many of them must not multiply what an address may send."""
    limits = replace(NO_RATE_LIMITS, texts=Rate(0.001, 16), network_share=25)
    async with running_server(limits=limits) as server:

        async def is_refused(name: str) -> bool:
            async with raw_client(server.address, name) as one:
                await one.command(Join, group=f"group-of-{name}")
                answers = [
                    await one.ask(lambda i: Post(i, 9, f"group-of-{name}", "x" * 16_000))
                    for _ in range(2)  # the second is a repeated command, and gets the same answer
                ]
            refused = [a.code for a in answers if isinstance(a, Failed)]
            assert refused in ([], 2 * [Code.RATE_LIMITED])
            return bool(refused)

        assert sum([await is_refused(f"name{number}") for number in range(10)]) == 2


async def test_wait_is_sufficient(mock_clock: MockClock) -> None:
    for per_second in (0.3, 3, 7, 999, 1e6):
        rates = RateLimiter(Limits(messages=Rate(per_second, 1)))
        assert rates.reserve("messages", "alice") == 0
        wait = rates.reserve("messages", "alice")
        assert wait > 0
        mock_clock.jump(wait + 1 / per_second)
        assert rates.reserve("messages", "alice") == 0


@pytest.mark.usefixtures("mock_clock")
async def test_rates_are_per_person_and_kind() -> None:
    rates = RateLimiter(TIGHT)
    for person in ("alice", "bob"):
        assert rates.reserve("joins", person) == 0
        assert rates.reserve("joins", person) > 0
        assert rates.reserve("messages", person) == 0


async def test_no_rate_means_no_wait() -> None:
    rates = RateLimiter(TIGHT.without_rates())
    for _ in range(100):
        assert rates.reserve("messages", "alice") == 0
        assert rates.reserve("joins", "alice") == 0


async def test_full_buckets_are_forgotten_first(mock_clock: MockClock) -> None:
    rates = RateLimiter(TIGHT, max_buckets=10)
    for _ in range(3):
        rates.reserve("messages", "loud")
    for number in range(9):
        rates.reserve("messages", f"quiet {number}")
    for number in range(100):
        mock_clock.jump(0.4)
        rates.reserve("messages", "loud")
        rates.reserve("messages", f"new {number}")
        assert len(rates) == 10
    assert rates.reserve("messages", "loud") > 0


@given(others=st.integers(1, 200), most=st.integers(2, 40))
def test_buckets_are_bounded_and_the_emptiest_stays(others: int, most: int) -> None:
    rates = RateLimiter(TIGHT, lambda: 0.0, max_buckets=most)
    while rates.reserve("messages", "loud") <= LONGEST_WAIT:
        pass
    for number in range(others):
        rates.reserve("messages", f"person {number}")
        assert len(rates) == min(number + 2, most)
    assert rates.reserve("messages", "loud") > LONGEST_WAIT


def test_new_bucket_looks_at_few_others() -> None:
    looks = 0

    class Counted(TokenBucket):
        __slots__ = ()

        def level(self, now: float) -> float:
            nonlocal looks
            looks += 1
            return super().level(now)

    rates = RateLimiter(Limits(), lambda: 0.0, max_buckets=1000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyed_buckets, "TokenBucket", Counted)
        for number in range(3000):
            rates.reserve("messages", f"person {number}")
    assert looks <= 2000 * 3 * 8


def test_limits_without_rates_are_otherwise_equal() -> None:
    lifted = replace(TIGHT, unauthenticated=7).without_rates()
    assert lifted == replace(lifted, unauthenticated=7)
    rates = (lifted.work, lifted.work_per_person, lifted.work_per_address)
    assert (lifted.messages, lifted.texts, lifted.joins, *rates) == (None,) * 6


async def test_welcome_announces_the_rate_of_messages() -> None:
    async with (
        running_server(limits=replace(NO_RATE_LIMITS, messages=Rate(2, 3))) as server,
        raw_client(server.address) as alice,
    ):
        assert without_time(await alice.hello("alice")) == Welcome(VERSION, "alice", 500_000, 3)
    async with running_server() as server, raw_client(server.address) as alice:
        assert without_time(await alice.hello("alice")) == Welcome(VERSION, "alice")


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
