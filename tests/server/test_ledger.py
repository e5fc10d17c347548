"""Ledger of work: shares of people, addresses and the whole; delays, fairness and bounds."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tchat.client.session import PATIENCE_SECONDS
from tchat.core.pace import Rate
from tchat.core.protocol.frames import Ping, Pong, Seen
from tchat.net.address import Address
from tchat.server.costs import (
    ACTIVATION,
    ANNOUNCEMENT,
    CONNECTION,
    COSTS,
    PAGE,
    READING,
    cost_of_size,
)
from tchat.server.ledger import LONGEST_WAIT, Ledger
from tchat.server.limits import Limits
from tests.helpers import GROUP, NO_RATE_LIMITS, members, raw_client, running_server, seqs, texts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tchat.server.ledger import LedgerAccount
    from tests.helpers import RawClient

HERE, THERE = Address("192.0.2.1", 4000), Address("192.0.2.2", 4000)
PLENTY = Rate(1e6, 1_000_000)
LIMITS = replace(
    NO_RATE_LIMITS,
    work=PLENTY,
    work_per_address=PLENTY,
    work_per_person=Rate(100, 100),
)


async def use(account: LedgerAccount, cost: float = 10, times: int = 1) -> None:
    """Do some work, as a connection does."""
    for _ in range(times):
        if not account.is_covered:
            await account.admit()
        account.charge(cost)
        await trio.lowlevel.checkpoint()


@pytest.fixture
def clock(autojump_clock: MockClock) -> MockClock:
    return autojump_clock


# ------------------------------------------------------------------ shares


async def test_burst_is_admitted_at_once(clock: MockClock) -> None:
    with Ledger(LIMITS).account_of("alice", HERE) as account:
        await use(account, times=11)
        assert trio.current_time() == clock.current_time() == 0


async def test_work_above_the_burst_is_delayed(clock: MockClock) -> None:
    with Ledger(LIMITS).account_of("alice", HERE) as account:
        await use(account, times=111)  # 1110 units: 100 at once, and 100 a second
    assert clock.current_time() == pytest.approx(10, abs=0.2)


async def test_devices_share_the_budget_of_their_person(clock: MockClock) -> None:
    ledger = Ledger(LIMITS)
    with ledger.account_of("alice", HERE) as phone, ledger.account_of("alice", THERE) as desk:
        async with trio.open_nursery() as nursery:
            for account in (phone, desk):
                nursery.start_soon(partial(use, account, times=50))
    assert clock.current_time() == pytest.approx(9, abs=0.3)


async def test_people_of_an_address_share_its_budget(clock: MockClock) -> None:
    ledger = Ledger(replace(LIMITS, work_per_address=Rate(100, 100), work_per_person=PLENTY))
    with ledger.account_of("alice", HERE) as alice, ledger.account_of("bob", HERE) as bob:
        async with trio.open_nursery() as nursery:
            for account in (alice, bob):
                nursery.start_soon(partial(use, account, times=50))
    assert clock.current_time() == pytest.approx(9, abs=0.3)


async def test_one_address_of_all_people_has_no_budget(clock: MockClock) -> None:
    limits = replace(LIMITS, work_per_address=Rate(100, 100), work_per_person=PLENTY)
    ledger = Ledger(replace(limits, network_share=100))
    with ledger.account_of("alice", HERE) as alice:
        await use(alice, times=100)
        assert clock.current_time() == 0
        ledger.set_limits(limits)
        await use(alice, times=50)
        assert clock.current_time() > 1


@pytest.mark.parametrize("other", ["2001:db8:0:7::9", "2001:db8:0:8::1", "2001:db8:0:700::1"])
async def test_networks_of_one_customer_are_charged_together(other: str, clock: MockClock) -> None:
    ledger = Ledger(replace(LIMITS, work_per_address=Rate(100, 100), work_per_person=PLENTY))
    with (
        ledger.account_of("alice", Address("2001:db8:0:7::1", 1)) as alice,
        ledger.account_of("bob", Address(other, 1)) as bob,
    ):
        alice.charge(1000)
        assert not bob.is_covered
    assert clock.current_time() == 0


async def test_strangers_are_charged_to_their_address(clock: MockClock) -> None:
    ledger = Ledger(replace(LIMITS, work_per_address=Rate(CONNECTION, int(CONNECTION))))
    for _ in range(12):
        with ledger.account_of_stranger(HERE) as account:
            await use(account, CONNECTION)
    assert clock.current_time() == pytest.approx(10, abs=0.3)
    with ledger.account_of_stranger(THERE) as account:
        assert account.is_covered


async def test_no_rate_means_no_delay() -> None:
    with Ledger(NO_RATE_LIMITS).account_of("alice", None) as account:
        account.charge(1e12)
        assert account.is_covered


async def test_other_limits_apply_to_open_connections() -> None:
    ledger = Ledger(NO_RATE_LIMITS)
    with ledger.account_of("alice", HERE) as account:
        ledger.set_limits(LIMITS)
        account.charge(200)
        assert not account.is_covered
        ledger.set_limits(NO_RATE_LIMITS)
        assert account.is_covered


# ------------------------------------------------------------------ fairness

BUSY = replace(LIMITS, work=Rate(100, 10), work_per_person=Rate(90, 200))


async def test_many_connections_wait_like_one(clock: MockClock) -> None:
    """With the whole exhausted, a person with 16 connections and one with one share it equally."""
    ledger, done = Ledger(BUSY), {"alice": 0, "bob": 0}

    async def flood(person: str) -> None:
        with ledger.account_of(person, HERE if person == "bob" else THERE) as account:
            while True:
                await use(account)
                done[person] += 1

    with trio.move_on_after(100):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood, "alice")
            for _ in range(16):
                nursery.start_soon(flood, "bob")
    assert sum(done.values()) == pytest.approx(1000, rel=0.05)
    assert done["alice"] == pytest.approx(done["bob"], rel=0.15)
    assert clock.current_time() == pytest.approx(100)


async def test_who_has_used_less_is_served_first(clock: MockClock) -> None:
    ledger = Ledger(replace(BUSY, work_per_person=Rate(2, 100_000)))

    async def flood(person: str) -> None:
        with ledger.account_of(person, HERE) as account:
            await use(account, times=10_000)

    waits = []
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(flood, f"flooder {number}")
        with ledger.account_of("alice", THERE) as alice:
            for _ in range(10):
                await trio.sleep(3)
                began = clock.current_time()
                await use(alice)
                waits.append(clock.current_time() - began)
        nursery.cancel_scope.cancel()
    assert max(waits) <= 0.2  # for one frame of somebody else, and not for five


@pytest.mark.parametrize(("debt", "used", "waits"), [(9, 1, 0), (9, 2, 0.09), (110, 1, 1)])
async def test_light_people_wait_for_large_debts_only(
    debt: float, used: float, waits: float, clock: MockClock
) -> None:
    """Whoever has used a hundredth of their budget does not wait for one dear request."""
    limits = replace(LIMITS, work=Rate(100, 1), work_per_person=Rate(1e-6, 100))
    ledger = Ledger(limits)
    with (
        ledger.account_of("mallory", HERE) as mallory,
        ledger.account_of("alice", THERE) as alice,
    ):
        alice.charge_owner(used)
        mallory.charge(1 + debt)
        await alice.admit()
    assert clock.current_time() == pytest.approx(waits, abs=0.02)


async def test_strangers_queue_among_people_of_their_address(clock: MockClock) -> None:
    """The strangers have used up the budget of the address, so the people go first."""
    ledger = Ledger(replace(LIMITS, work_per_address=Rate(100, 100), work_per_person=PLENTY))
    order: list[tuple[str, float]] = []

    async def do(account: LedgerAccount, who: str) -> None:
        await account.admit()
        account.charge(100)
        order.append((who, clock.current_time()))

    with (
        ledger.account_of_stranger(HERE) as one,
        ledger.account_of_stranger(HERE) as another,
        ledger.account_of("bob", HERE) as bob,
        ledger.account_of("carol", HERE) as carol,
    ):
        one.charge(200)
        async with trio.open_nursery() as nursery:
            for account, who in ((another, "a stranger"), (bob, "bob"), (carol, "carol")):
                nursery.start_soon(do, account, who)
                await wait_all_tasks_blocked()
    assert {who for who, _ in order[:2]} == {"bob", "carol"}
    (*_, (last, at)) = order
    assert (last, round(at, 1)) == ("a stranger", 3)


async def test_strangers_of_an_address_count_as_one(clock: MockClock) -> None:
    limits = replace(LIMITS, work_per_address=Rate(100, 10), work_per_person=Rate(100, 10))
    ledger, done = Ledger(limits), {"strangers": 0, "alice": 0}

    async def flood(who: str) -> None:
        of_alice = partial(ledger.account_of, "alice")
        open_account = of_alice if who == "alice" else ledger.account_of_stranger
        while True:
            with open_account(HERE) as account:
                await use(account)
                done[who] += 1

    with trio.move_on_after(100):
        async with trio.open_nursery() as nursery:
            for who in ("alice", *16 * ["strangers"]):
                nursery.start_soon(flood, who)
    assert done["alice"] == pytest.approx(done["strangers"], rel=0.15)
    assert clock.current_time() == pytest.approx(100)


# ------------------------------------------------------------------ bounds


def test_longest_wait_is_within_the_patience_of_clients() -> None:
    assert LONGEST_WAIT < PATIENCE_SECONDS


def test_costliest_frames_of_devices_fit_longest_wait() -> None:
    limits = Limits()
    assert limits.work_per_person
    costliest = max(COSTS.values()) + cost_of_size(1 << 16)
    assert limits.devices * costliest / limits.work_per_person.per_second < LONGEST_WAIT


def test_client_that_starts_in_200_groups_never_waits() -> None:
    limits = Limits()
    assert limits.work_per_person
    a_group = COSTS["attach"] + ACTIVATION + PAGE + 50 * ANNOUNCEMENT
    login = CONNECTION + COSTS["hello"] + COSTS["proof"] + COSTS["groups_request"]
    assert login + limits.groups_per_user * a_group < limits.work_per_person.burst / 2


async def test_wait_and_debt_are_bounded(clock: MockClock) -> None:
    with Ledger(LIMITS).account_of("alice", HERE) as account:
        account.charge(1e6)
        await account.admit()
        assert clock.current_time() == LONGEST_WAIT
        await trio.sleep(LONGEST_WAIT + 0.1)
        assert account.is_covered


async def test_cancelled_frame_leaves_the_queue(clock: MockClock) -> None:
    ledger = Ledger(BUSY)
    with ledger.account_of("alice", HERE) as alice, ledger.account_of("bob", HERE) as bob:
        alice.charge(60)
        with trio.move_on_after(0.1):
            await alice.admit()
        await bob.admit()
        assert clock.current_time() == pytest.approx(0.5, abs=0.1)


async def test_names_and_addresses_do_not_fill_the_memory(clock: MockClock) -> None:
    ledger = Ledger(LIMITS, max_budgets=100)
    with ledger.account_of("somebody", HERE) as somebody:
        for number in range(1000):
            with ledger.account_of(f"name {number}", Address(f"name {number}", 1)) as account:
                account.charge(1)
            if number % 10 == 0:
                await trio.sleep(1)
        assert len(ledger) < 150
        with ledger.account_of("somebody", HERE) as again:
            for _ in range(2):  # the second time without the credit of the idle time
                assert again.is_covered
                somebody.charge(150)
            assert not again.is_covered
    assert clock.current_time() == pytest.approx(100)


async def test_full_ledger_keeps_a_budget_in_use(clock: MockClock) -> None:
    ledger = Ledger(LIMITS, max_budgets=1)
    for _ in range(2):  # the second time, the budget is there, and not in use
        with ledger.account_of("alice", HERE) as phone, ledger.account_of("alice", HERE) as desk:
            assert phone.budgets == desk.budgets
    assert clock.current_time() == 0


@given(
    frames=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 60)), min_size=20, max_size=40),
    whole=st.sampled_from([50, 1000]),
)
def test_no_more_is_done_than_the_rates_allow(frames: list[tuple[int, int]], whole: int) -> None:
    clock = MockClock(autojump_threshold=0)

    async def main() -> None:
        limits = replace(
            LIMITS,
            work=Rate(whole, 100),
            work_per_person=Rate(100, 100),
            work_per_address=PLENTY,
        )
        ledger = Ledger(limits)

        async def work(number: int) -> None:
            with ledger.account_of(f"person {number % 2}", HERE) as account:
                for one, cost in frames:
                    if one == number:
                        await use(account, cost)

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(work, number)
        # Each budget may have been used twice as fast as it fills up (see `credit`), and may be in
        # debt by one frame of each connection.
        most = 2 * 100 + 4 * 60
        now = trio.current_time()
        for person in (0, 1):
            done = sum(cost for number, cost in frames if number % 2 == person)
            assert done <= most + now * 100
        assert sum(cost for _, cost in frames) <= most + now * whole

    trio.run(main, clock=clock)


# ------------------------------------------------------------------ over sockets


async def is_held_back(expected: Callable[[], Awaitable[object]], bystander: RawClient) -> bool:
    """Return whether frames do not arrive while the server does all it can for others."""
    arrived = trio.Event()

    async def wait() -> None:
        await expected()
        arrived.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await bystander.before_pong()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return not arrived.is_set()


async def test_flood_is_read_slowly() -> None:
    """Refused work is charged, so that a flood of it delays the same person's next request."""
    limits = replace(NO_RATE_LIMITS, work_per_person=Rate(100, 400))
    async with (
        running_server(limits=limits) as server,
        raw_client(server.address, "alice") as alice,
        raw_client(server.address, "bob") as bob,
    ):
        await alice.send(*(Seen(f"{GROUP}-{number}", 1) for number in range(200)), Ping())
        assert await is_held_back(partial(alice.expect, Pong), bob)


async def test_catching_up_is_charged() -> None:
    """A page is charged before the next one is read."""
    async with running_server() as server:
        async with members(server, "alice") as (alice,):
            for number in range(20):
                await alice.post(f"{number} " + 10_000 * "x")
        cost = CONNECTION + COSTS["hello"] + COSTS["proof"] + READING + COSTS["attach"] + ACTIVATION
        limits = replace(NO_RATE_LIMITS, work_per_person=Rate(1, int(cost + PAGE / 2)))
        async with (
            running_server(server.store, limits=limits) as slower,
            raw_client(slower.address, "alice") as alice,
            raw_client(slower.address, "bob") as bob,
        ):
            await alice.attach()
            assert seqs(await alice.events(2)) == [1, 2]
            assert await is_held_back(partial(alice.events, 19), bob)


async def test_slow_catch_up_is_complete() -> None:
    async with running_server() as server, members(server, "alice") as (alice,):
        for number in range(20):
            await alice.post(f"{number} " + 10_000 * "x")
        limits = replace(NO_RATE_LIMITS, work_per_person=Rate(3000, 100))
        async with (
            running_server(server.store, limits=limits) as slower,
            raw_client(slower.address, "alice") as reader,
        ):
            await reader.attach()
            assert seqs(await reader.events(21)) == list(range(1, 22))


@pytest.mark.parametrize(
    "limits",
    [
        replace(NO_RATE_LIMITS, silence_seconds=0.2, work_per_person=Rate(1000, 100)),
        replace(NO_RATE_LIMITS, silence_seconds=0.2, messages=Rate(50, 1)),
    ],
    ids=["work", "messages"],
)
async def test_client_whose_frames_wait_is_not_silent(limits: Limits) -> None:
    """The frames arrive at once, and are handled for longer than a client may be silent."""
    async with running_server(limits=limits) as server, members(server, "alice") as (alice,):
        await alice.send(*(Seen(GROUP, 1) for _ in range(100)))
        await alice.say(*map(str, range(20)))
        assert texts(await alice.events(20)) == [str(n) for n in range(20)]
