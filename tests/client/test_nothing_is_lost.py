"""Messages reported as stored are in the log once, despite refusals and broken connections."""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tchat.client import sender as sending_module
from tchat.client.client_id import ClientId
from tchat.client.updates import Connected
from tchat.core.group.membership import Join
from tchat.core.group.messages import Post
from tchat.core.group.state import WINDOW
from tchat.core.pace import Rate
from tchat.core.protocol.frames import Failed, Ok
from tchat.errors import Code, Refused
from tests.client.receiving import next_update
from tests.fault_proxy import fault_proxy
from tests.faulty_store import FaultyStore
from tests.helpers import (
    GROUP,
    GUARD,
    NO_RATE_LIMITS,
    log_of,
    raw_client,
    running_server,
    session_at,
    session_of,
    texts,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tchat.client.pending_message import PendingMessage
    from tchat.client.session import Session
    from tests.fault_proxy import FaultProxy, Side, Verdict

QUICK = replace(NO_RATE_LIMITS, messages=Rate(200, 20))
# So slow that a command above the rate is refused, because it would have to wait for too long.
SLOW = replace(NO_RATE_LIMITS, messages=Rate(0.1, 2))


class Clock:
    """The clock of a server's rate limits, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return a stopped clock for a server; let clients send as fast as they can."""
    monkeypatch.setattr(sending_module, "SHARE_OF_RATE", 1e9)
    return Clock()


def deaf(side: Side, frame: dict[str, Any]) -> Verdict:
    """Drop the server's answers and events."""
    return "drop" if side == "server" and frame["type"] in ("ok", "error", "event") else "pass"


def well(side: Side, frame: dict[str, Any]) -> Verdict:
    return "pass"


def mended(proxy: FaultProxy) -> None:
    """Cut the connection, and pass all frames from now on."""
    proxy.watch = well
    proxy.cut()


async def outcome(request: PendingMessage) -> str:
    """Return "stored", or the code of the refusal."""
    with trio.fail_after(GUARD):
        try:
            await request.wait()
        except Refused as refused:
            return refused.code
    return "stored"


# ------------------------------------------------------------------ lost refusals


async def test_lost_rate_limit_refusal_loses_no_post(clock: Clock) -> None:
    async with (
        running_server(limits=SLOW, rate_clock=clock) as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice") as (alice, ops),
    ):
        for word in ("one", "two"):
            assert await outcome(alice.post(ops, word)) == "stored"
        proxy.watch = deaf
        three = alice.post(ops, "three")
        await proxy.passes(type="error", code="rate_limited")
        four = alice.post(ops, "four")
        await proxy.passes(type="error", code="rate_limited")
        clock.now += 20
        mended(proxy)
        assert await outcome(three) == "stored"
        assert await outcome(four) == "stored"
        assert texts(await log_of(server.store)) == ["one", "two", "three", "four"]


@pytest.mark.parametrize("heard", [True, False])
async def test_post_on_full_disk_is_refused_or_stored(heard: bool) -> None:
    store = FaultyStore()
    store.fill("append", times=1, when=lambda call: b"two" in call["frames"])
    async with (
        running_server(store) as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice") as (alice, ops),
    ):
        assert await outcome(alice.post(ops, "one")) == "stored"
        proxy.watch = well if heard else deaf
        two = alice.post(ops, "two")
        await proxy.passes(type="error", code="storage_full")
        three = alice.post(ops, "three")
        await proxy.passes(type="event", text="three")
        mended(proxy)
        assert await outcome(three) == "stored"
        assert await outcome(two) == (Code.STORAGE_FULL if heard else "stored")
        said = ["one", "three"] if heard else ["one", "three", "two"]
        assert sorted(texts(await log_of(store))) == said


async def test_refused_number_is_no_duplicate_after_later_ones(
    clock: Clock,
) -> None:
    client = b"12345678"
    async with running_server(limits=SLOW, rate_clock=clock) as server:
        async with raw_client(server.address, "alice", client) as alice:
            await alice.send(Join(1, 1, GROUP))
            await alice.expect(Ok)
            await alice.send(*(Post(n, n, GROUP, f"text {n}") for n in (5, 2, 3)))
            assert [(await alice.expect(Ok)).re for _ in "ab"] == [5, 2]
            assert (await alice.expect(Failed)).code == Code.RATE_LIMITED
            clock.now += 10
            await alice.send(Post(4, 4, GROUP, "text 4"))
            assert (await alice.expect(Ok)).re == 4
        clock.now += 10
        async with raw_client(server.address, "alice", client) as alice:
            await alice.send(Post(3, 3, GROUP, "text 3"), Post(4, 4, GROUP, "text 4"))
            assert {(await alice.expect(Ok)).re for _ in "ab"} == {3, 4}
            await alice.send(*(Post(n, n, GROUP, "again") for n in (2, 3, 4)))
            assert [(await alice.expect(Ok)).seq for _ in "abc"] == [None] * 3
        stored = ["text 5", "text 2", "text 4", "text 3"]
        assert texts(await log_of(server.store)) == stored


# ------------------------------------------------------------------ silent and broken connections


class Flaky:
    """Connection on which the server repeatedly falls silent some time before it breaks.

    So does TCP when a laptop leaves its network. It begins after a random number of frames.
    """

    def __init__(self, proxy: FaultProxy, cuts: int, random: Random) -> None:
        self.proxy = proxy
        self.cuts = cuts
        self._random = random
        self._silent = False
        self._left = self._next()
        self._fell_silent = trio.Event()
        proxy.watch = self.watch

    def _next(self) -> int:
        return self._random.randint(5, 30)

    def watch(self, side: Side, frame: dict[str, Any]) -> Verdict:
        if side == "client" or self.cuts == 0:
            return "pass"
        self._left -= 1
        if self._left <= 0 and not self._silent:
            self._silent = True
            self._fell_silent.set()
        return "drop" if self._silent else "pass"

    async def break_again_and_again(self) -> None:
        while self.cuts:
            await self._fell_silent.wait()
            self._fell_silent = trio.Event()
            # Until all tasks are blocked, but not for long.
            with trio.move_on_after(self._random.uniform(0, 0.1)):
                await trio.testing.wait_all_tasks_blocked(0.02)
            self.cuts -= 1
            self._silent = False
            self._left = self._next()
            self.proxy.cut()


async def post_all(session: Session, words: Iterable[str], stored: list[str]) -> None:
    replica = await session.enter(GROUP)
    for word, request in [(word, session.post(replica, word)) for word in words]:
        await request.wait()
        stored.append(word)


async def pasted(flaky: Flaky, people: int, stored: list[str], each: int = 100) -> None:
    """Post many messages in several sessions of one person at once; wait until all are stored."""
    async with AsyncExitStack() as stack:
        sessions = [
            await stack.enter_async_context(session_at(flaky.proxy.address, "alice", ClientId()))
            for _ in range(people)
        ]
        for session in sessions:
            await next_update(session, Connected)
        with trio.fail_after(GUARD):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(flaky.break_again_and_again)
                async with trio.open_nursery() as pasting:
                    for name, session in zip("ab", sessions, strict=False):
                        words = [f"{name}{n}" for n in range(each)]
                        pasting.start_soon(post_all, session, words, stored)
                nursery.cancel_scope.cancel()


async def test_delayed_posts_are_stored_once_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sending_module, "SHARE_OF_RATE", 1e9)  # so that the server delays them
    stored: list[str] = []
    strict = replace(NO_RATE_LIMITS, messages=Rate(100, 5))
    async with running_server(limits=strict) as server, fault_proxy(server.address) as proxy:
        flaky = Flaky(proxy, 4, Random(1))
        await pasted(flaky, 2, stored, each=40)
        assert flaky.cuts < 4, "the wire never broke"
        said = texts(await log_of(server.store))
        assert Counter(said) == Counter(stored)
        for name in "ab":
            assert [word for word in said if word[0] == name] == [f"{name}{n}" for n in range(40)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sessions", [1, 2])
async def test_acknowledged_posts_are_stored_once_despite_breaks(sessions: int, seed: int) -> None:
    stored: list[str] = []
    async with running_server(limits=QUICK) as server, fault_proxy(server.address) as proxy:
        flaky = Flaky(proxy, 6, Random(seed))
        await pasted(flaky, sessions, stored)
        assert flaky.cuts < 6, "the wire never broke"
        assert len(stored) == 100 * sessions
        said = texts(await log_of(server.store))
        assert Counter(said) == Counter(stored)
        for name in "ab"[:sessions]:
            assert [word for word in said if word[0] == name] == [f"{name}{n}" for n in range(100)]


# ------------------------------------------------------------------ numbers that cannot be saved


class FullDisk(ClientId):
    """Client id that cannot reserve numbers while `full` is set."""

    full = False

    def next_number(self) -> int:
        if self.full:
            raise Refused(Code.FILE_UNREADABLE, "No space left on device. Nothing was sent.")
        return super().next_number()


async def test_post_without_a_number_is_refused() -> None:
    client_id = FullDisk()
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice", client_id) as (alice, ops),
    ):
        client_id.full = True
        assert await outcome(alice.post(ops, "never")) == Code.FILE_UNREADABLE
        assert alice.unanswered == 0
        client_id.full = False
        assert await outcome(alice.post(ops, "typed again")) == "stored"
        proxy.cut()
        assert await outcome(alice.post(ops, "after the break")) == "stored"
        assert texts(await log_of(server.store)) == ["typed again", "after the break"]


async def test_session_survives_a_failed_number_reservation() -> None:
    first, second = ClientId(), FullDisk()
    second.client = first.client  # as after the file of the id was restored from a backup
    async with running_server() as server:
        async with session_of(server.address, "alice", first) as (alice, ops):
            await alice.post(ops, "before").wait()
        second.full = True
        async with session_of(server.address, "alice", second) as (alice, ops):
            assert await outcome(alice.post(ops, "never")) == Code.FILE_UNREADABLE
            assert alice.connected
            await alice.enter(GROUP)
            second.full = False
            assert await outcome(alice.post(ops, "once there is room")) == "stored"
        assert texts(await log_of(server.store)) == ["before", "once there is room"]


# ------------------------------------------------------------------ the in-flight window


async def test_numbers_stay_within_the_in_flight_window() -> None:
    words = [f"text {n}" for n in range(WINDOW + 100)]
    async with (
        running_server() as server,
        fault_proxy(server.address) as proxy,
        session_of(proxy.address, "alice") as (alice, ops),
    ):
        first: dict[str, Any] = {}

        def lose_the_first(side: Side, frame: dict[str, Any]) -> Verdict:
            if frame.get("text") == words[0] and frame["type"] == "post":
                first.update(frame)
            return "drop" if side == "client" and frame.get("n") == first.get("n", 0) else "pass"

        proxy.watch = lose_the_first
        requests = [alice.post(ops, word) for word in words]
        for request in requests[1:WINDOW]:
            assert await outcome(request) == "stored"
        await trio.testing.wait_all_tasks_blocked()
        numbers = {f["n"] for side, f in proxy.frames if side == "client" and f["type"] == "post"}
        assert max(numbers) == first["n"] + WINDOW - 1
        waiting = (requests[0], *requests[WINDOW:])
        assert not any(pending.request.done.is_set() for pending in waiting)
        mended(proxy)
        for request in requests:
            assert await outcome(request) == "stored"
        said = texts(await log_of(server.store))
        assert Counter(said) == Counter(words)
        assert said[-100:] == words[-100:]
