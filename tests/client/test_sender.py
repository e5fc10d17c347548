"""Pacing and order of commands: a paste of any length is stored once, unrefused."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tchat.client import sender as sending_module
from tchat.client.client_id import ClientId
from tchat.client.request import PendingRequest
from tchat.client.sender import Sender
from tchat.core.group.messages import Post
from tchat.core.pace import Rate, TokenBucket
from tchat.core.protocol.handshake import VERSION, Welcome
from tchat.errors import Code
from tchat.server.limits import Limits
from tests.fault_proxy import FaultProxy, Side, Verdict, fault_proxy
from tests.helpers import (
    GROUP,
    GUARD,
    NO_RATE_LIMITS,
    log_of,
    running_server,
    session_of,
    texts,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tchat.client.pending_message import PendingMessage
    from tchat.errors import Refused
    from tchat.net.link import Link

QUICK = replace(NO_RATE_LIMITS, messages=Rate(100, 60))
WORDS = [f"text {n}" for n in range(150)]


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch off the clients' pacing."""
    monkeypatch.setattr(sending_module, "SHARE_OF_RATE", 1e9)


async def all_stored(requests: Iterable[PendingMessage]) -> None:
    with trio.fail_after(GUARD):
        for request in requests:
            await request.wait()


def posts(proxy: FaultProxy) -> list[dict[str, Any]]:
    """Return the `post` frames that passed the proxy, in order."""
    return [frame for side, frame in proxy.frames if side == "client" and frame["type"] == "post"]


def refused(proxy: FaultProxy) -> set[int]:
    """Return the ids of the requests that were rate limited."""
    return {frame["re"] for _, frame in proxy.frames if frame.get("code") == Code.RATE_LIMITED}


def assert_counted_upwards(proxy: FaultProxy) -> None:
    numbers = dict.fromkeys(
        frame["n"] for frame in posts(proxy)
    )  # the order of their first transmission
    assert all(earlier < later for earlier, later in pairwise(numbers))


def _never(request: PendingRequest, refusal: Refused) -> None:
    raise AssertionError(refusal)


class CutOnce:
    """Watch that cuts the connection once, before the `position`-th frame of one side."""

    def __init__(self, side: Side, *positions: int) -> None:
        self.side, self.positions, self.seen = side, positions, 0

    def __call__(self, side: Side, frame: dict[str, Any]) -> Verdict:
        self.seen += side == self.side
        return "cut" if side == self.side and self.seen in self.positions else "pass"


async def test_long_paste_is_stored_once_in_order() -> None:
    async with (
        running_server(limits=QUICK) as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice") as (alice, ops),
    ):
        await all_stored([alice.post(ops, word) for word in WORDS])
        assert texts(await log_of(server.store)) == WORDS
        assert refused(proxy) == set()
        assert_counted_upwards(proxy)


async def test_a_burst_is_sent_at_once() -> None:
    limits = replace(NO_RATE_LIMITS, messages=Rate(0.01, 20))
    async with (
        running_server(limits=limits) as server,
        session_of(server.address, "alice") as (alice, ops),
    ):
        await all_stored([alice.post(ops, word) for word in WORDS[:9]])


class Idle:
    """Link to a server that receives everything and is too busy to answer."""

    async def send(self, data: bytes) -> None:
        """Accept the data."""


@given(
    stalls=st.lists(st.tuples(st.integers(0, 100), st.integers(1, 100)), max_size=8),
    burst=st.sampled_from([2, 3, 10, 50]),
)
def test_stalls_never_exceed_the_rate_limit(stalls: list[tuple[int, int]], burst: int) -> None:
    clock, rate = MockClock(), Rate(20, burst)

    async def main() -> None:
        server, sender = TokenBucket(rate, trio.current_time()), Sender(ClientId(), _never)
        sender.restart(Welcome(VERSION, "alice", int(1e6 / rate.per_second), burst), [])
        make = partial(Post, group=GROUP, text="a line")
        requests = [PendingRequest(number, make, command=True) for number in range(1, 1000)]
        for request in requests:
            sender.enqueue(request)
        for moments, most in stalls:
            await sender.flush(cast("Link", Idle()))
            for _ in range(moments):
                clock.jump(1 / rate.per_second)
                await sender.flush(cast("Link", Idle()))
            for request in [each for each in requests if each.number is not None][:most]:
                assert server.take(trio.current_time()) == 0.0
                requests.remove(request)
                sender.release(request)

    trio.run(main, clock=clock)


async def test_non_commands_are_not_paced() -> None:
    limits = replace(NO_RATE_LIMITS, messages=Rate(0.01, 2))
    async with (
        running_server(limits=limits) as server,
        session_of(server.address, "alice") as (alice, ops),
    ):
        with trio.fail_after(GUARD):
            for _ in range(10):
                assert await alice.enter(ops.name) is ops


@pytest.mark.parametrize("side", ["client", "server"])
async def test_paste_survives_a_cut_in_order(side: Side) -> None:
    async with (
        running_server(limits=QUICK) as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice") as (alice, ops),
    ):
        proxy.watch = CutOnce(side, 60)
        await all_stored([alice.post(ops, word) for word in WORDS])
        assert texts(await log_of(server.store)) == WORDS


async def test_two_sessions_share_the_rate_in_order() -> None:
    mine, yours = ([f"{who} {n}" for n in range(60)] for who in ("mine", "yours"))
    async with (
        running_server(limits=QUICK) as server,
        fault_proxy(server.address) as proxy,
        fault_proxy(server.address) as other,
        session_of(proxy.address, "alice", ClientId()) as (phone, ops),
        session_of(other.address, "alice", ClientId()) as (desk, there),
    ):
        requests = [phone.post(ops, word) for word in mine]
        requests += [desk.post(there, word) for word in yours]
        await all_stored(requests)
        said = texts(await log_of(server.store))
        assert sorted(said) == sorted([*mine, *yours])
        for words, its_tap in ((mine, proxy), (yours, other)):
            assert_counted_upwards(its_tap)
            assert [word for word in said if word in words] == words


@pytest.mark.usefixtures("_hasty")
async def test_commands_above_the_rate_are_stored_in_order() -> None:
    async with (
        running_server(limits=QUICK) as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice") as (alice, ops),
    ):
        await all_stored([alice.post(ops, word) for word in WORDS[:100]])
        assert texts(await log_of(server.store)) == WORDS[:100]
        assert refused(proxy) == set()
        assert_counted_upwards(proxy)


async def test_attaching_to_many_groups_is_never_refused() -> None:
    groups = [f"group-{number}" for number in range(150)]
    limits = replace(Limits(), messages=Rate(1000, 1000), joins=None)
    async with running_server(limits=limits) as server:
        async with session_of(server.address, "alice") as (alice, _):
            for group in groups:
                await alice.enter(group)
        async with (
            fault_proxy(server.address) as proxy,
            session_of(proxy.address, "alice") as (alice, _),
        ):
            with trio.fail_after(GUARD):
                async with trio.open_nursery() as nursery:
                    for group in groups:
                        nursery.start_soon(alice.enter, group)
            assert refused(proxy) == set()
            assert all(replica.standing == "member" for replica in alice.groups.values())


async def test_rate_limited_joins_are_delayed_and_not_refused() -> None:
    limits = replace(NO_RATE_LIMITS, joins=Rate(50, 1))
    async with (
        running_server(limits=limits) as server,
        session_of(server.address, "alice") as (alice, _),
    ):
        with trio.fail_after(GUARD):
            for number in range(5):
                assert (await alice.enter(f"group-{number}")).standing == "member"


async def test_server_without_rate_limit_is_not_paced() -> None:
    async with (
        running_server() as server,
        session_of(server.address, "alice") as (alice, ops),
    ):
        assert alice._requests.sender._bucket is None
        await all_stored([alice.post(ops, word) for word in WORDS])


async def test_pace_follows_the_reconnected_server() -> None:
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice") as (alice, ops),
    ):
        await alice.post(ops, "before").wait()
        async with running_server(server.store, limits=QUICK) as slower:
            proxy.target = slower.address
            proxy.cut()
            await until(alice, lambda: not alice.connected)
            await all_stored([alice.post(ops, word) for word in WORDS])
            assert texts(await log_of(server.store)) == ["before", *WORDS]
            assert refused(proxy) == set()
