"""People who are not part of an attack: they chat, and come in from an address of their own."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from tchat.client.authenticate import Busy
from tests.attacks.target import Target
from tests.bench.report import percentile
from tests.helpers import approve, until
from tests.hostile_clients import person

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.net.address import Address

PAIRS = 3
_PAUSE = 0.06  # a person may post 20 messages a second
_RETRY = 0.3
VISITOR = "127.0.0.2"


@dataclass(slots=True)
class Delays:
    """The delays of messages, and of visitors until their welcome: the time and the seconds."""

    posts: list[tuple[float, float]] = field(default_factory=list)
    visits: list[tuple[float, float]] = field(default_factory=list)

    def between(self, start: float, end: float) -> list[float]:
        """Return the delays of the messages that were sent in a span of time."""
        return [delay for at, delay in self.posts if start <= at < end]

    def visits_between(self, start: float, end: float) -> list[float]:
        """Return the delays of the visitors who came in a span of time."""
        return [delay for at, delay in self.visits if start <= at < end]


def both_percentiles(delays: list[float]) -> str:
    """Return p50 and p99 in ms."""
    return "/".join(f"{percentile(delays, share) * 1000:.1f}" for share in (0.5, 0.99))


@asynccontextmanager
async def bystanders(address: Address, pin: bytes) -> AsyncIterator[Delays]:
    """Let some pairs chat, and a visitor come every second, for the length of the block."""
    delays = Delays()
    async with trio.open_nursery() as nursery:
        for number in range(PAIRS):
            await nursery.start(_chat, address, pin, number, delays)
        nursery.start_soon(_visit_again, Target(address.port), delays)
        yield delays
        nursery.cancel_scope.cancel()


async def _chat(
    address: Address,
    pin: bytes,
    number: int,
    delays: Delays,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    one, other, group = f"alice{number}", f"bob{number}", f"pair{number}"
    async with person(address, one, pin) as alice, person(address, other, pin) as bob:
        here, there = await alice.enter(group), await bob.enter(group)
        await approve(alice, other, group)
        await until(bob, lambda: there.caught_up)
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drain, alice)
            while True:
                await _post(alice, here, bob, there, delays)
                await trio.sleep(_PAUSE)


async def _drain(session: Session) -> None:
    async for _ in session.updates:
        pass


async def _post(
    alice: Session, here: Replica, bob: Session, there: Replica, delays: Delays
) -> None:
    began, seq = time.perf_counter(), there.state.seq
    alice.post(here, "hello")
    try:
        while there.state.seq <= seq:
            await bob.updates.receive()
    finally:  # also the one that was still on its way at the end
        delays.posts.append((began, time.perf_counter() - began))


async def _visit_again(target: Target, delays: Delays) -> None:
    number = 0
    async with trio.open_nursery() as nursery:
        while True:
            number += 1
            nursery.start_soon(_visit, target, f"visitor{number}", delays)
            await trio.sleep(1)


async def _visit(target: Target, name: str, delays: Delays) -> None:
    """Log in with a new name, like a person who has just installed the client."""
    began = time.perf_counter()
    try:
        while True:
            with suppress(trio.BrokenResourceError, OSError, Busy):
                async with target.member(name, VISITOR):
                    return
            await trio.sleep(_RETRY)
    finally:
        delays.visits.append((began, time.perf_counter() - began))
