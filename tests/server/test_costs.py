"""Table of costs: no type of frame costs more than three times what it is charged.

A server in a process of its own gets frames of one type at a time, allowed and refused, and its
processor time, that of all threads, is compared with that of pings in the same run. On a busy
machine this time is too long now and then, but never too short: what seems to cost too much is
measured again, and the least time counts.
"""

from __future__ import annotations

import math
import os
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group.files import Share
from tchat.core.group.membership import Approve, Join
from tchat.core.group.messages import Post
from tchat.core.protocol.frames import Away, Failed, FileListRequest, Have, Ping, StartAt, Stored
from tchat.core.protocol.framing import pack
from tchat.core.protocol.handshake import VERSION, Proof, Ready, TransferHello
from tchat.core.vocabulary import TO_SERVER
from tchat.server.costs import (
    ACTIVATION,
    CONNECTION,
    COSTS,
    READING,
    TRANSFER,
    UNKNOWN,
    cost_of_hashing,
    cost_of_size,
    cost_of_text,
    cost_of_transfer,
)
from tchat.transfer.pieces import EMPTY_DIGEST, count_pieces
from tests.cddl import unchecked
from tests.core.examples import REQUESTS
from tests.helpers import GROUP, RawClient, hello_of, raw_client
from tests.processes import launching
from tests.server.cost_cases import TIMES, Scene, all_answers, unknown_group
from tests.server.file_transfers import TransferConnection, sha, ticket_to_fetch, ticket_to_send

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tchat.core.protocol.schema import Frame
    from tchat.net.address import Address

TOLERANCE = 3.0
TRIES = 12
_LONG = 16_380
_FILE_SIZE = 8 << 20
HELLOS = ("hello", "proof", "transfer")
CHAT = sorted(TO_SERVER.keys() - set(HELLOS))

NEVER_REFUSED = {"ping", "detach", "groups_request", "link", "keys"}
"""Frames that a server refuses for no reason but their form."""


class Meter:
    """Measures the processor time of a server, relative to that of a ping."""

    def __init__(self, pid: int, person: RawClient) -> None:
        self._person = person
        self._clock = (~pid << 3) | 2  # the processor time of a process: clock_getcpuclockid(3)
        self._ping = self._settling = math.inf

    async def units(self, do: Callable[[], Awaitable[object]]) -> float:
        """Return the work that something takes, in units of a ping among many."""
        self._settling = min(self._settling, await self._time(trio.lowlevel.checkpoint))
        pings = await self._time(partial(self._person.send, *200 * [Ping()]))
        self._ping = min(self._ping, (pings - self._settling) / 200)
        return (await self._time(do) - self._settling) / self._ping

    async def _time(self, do: Callable[[], Awaitable[object]]) -> float:
        """Return the processor time in ns, with that of waiting until all is done."""
        await self._settle()
        began = time.clock_gettime_ns(self._clock)
        await do()
        await self._settle()
        return time.clock_gettime_ns(self._clock) - began

    async def _settle(self) -> None:
        await self._person.ask(lambda i: FileListRequest(i, GROUP))


@dataclass(frozen=True, slots=True)
class Server:
    """A server, and people who are connected to it; only Alice is in the group."""

    address: Address
    alice: RawClient
    outsider: RawClient
    meter: Meter

    async def requests(
        self, person: RawClient, frames: list[Frame], extra: float = 0
    ) -> tuple[float, float]:
        """Return the work of these requests, and what they are charged, each with `extra`."""
        send = partial(all_answers, person, frames)
        return await self.meter.units(send), READING + sum(cost_of(one) + extra for one in frames)


@asynccontextmanager
async def server(home: Path) -> AsyncIterator[Server]:
    """Start a server for the length of the block."""
    async with launching(home, tls=True) as launch, AsyncExitStack() as stack:
        process = await launch.serve("--max-requests", 1000, "--max-groups", 10_000)

        async def person(name: str) -> RawClient:
            return await stack.enter_async_context(raw_client(process.address, name, tls=True))

        alice, outsider = await person("alice"), await person("mallory")
        await alice.command(Join)
        await alice.attach()
        meter = Meter(process.running.pid, alice)
        yield Server(process.address, alice, outsider, meter)


def cost_of(frame: Frame) -> float:
    return COSTS[frame.type] + cost_of_size(len(pack(frame.to_map())))


async def ratio_of(measure: Callable[[], Awaitable[tuple[float, float]]]) -> float:
    """Return the least ratio of work to charge; `measure` returns both."""
    least = math.inf
    for _ in range(TRIES):
        used, charged = await measure()
        least = min(least, used / charged)
        if least <= TOLERANCE:
            break
    return least


def assert_charged(ratios: dict[str, float]) -> None:
    wrong = {word: round(ratio, 1) for word, ratio in ratios.items() if ratio > TOLERANCE}
    assert not wrong, f"these cost so many times as much as they are charged: {wrong}"


# ------------------------------------------------------------------ requests


async def test_allowed_requests_cost_what_they_are_charged(tmp_path: Path) -> None:
    ratios: dict[str, float] = {}
    async with server(tmp_path) as here:
        scene = Scene(here.address, here.alice)

        async def measure(word: str) -> tuple[float, float]:
            extra = ACTIVATION if word == "join" else 0  # founding a group
            return await here.requests(here.alice, await scene.frames(word), extra)

        for word in CHAT:
            ratios[word] = await ratio_of(partial(measure, word))
    assert_charged(ratios)


async def test_refused_requests_cost_what_they_are_charged(tmp_path: Path) -> None:
    """An outsider asks about a group that is active, and about others that do not exist."""
    ratios: dict[str, float] = {}
    numbers = count(1)
    async with server(tmp_path) as here:

        async def measure(word: str, *, known: bool) -> tuple[float, float]:
            frames = [
                refused(word, next(numbers), GROUP if known else unknown_group())
                for _ in range(TIMES)
            ]
            # A read position is ignored, and history is charged for more than loading a group.
            is_loaded = known or word in ("seen", "history_request")
            return await here.requests(here.outsider, frames, 0 if is_loaded else ACTIVATION)

        for word in sorted(set(CHAT) - NEVER_REFUSED):
            for known in (True, False):
                ratios[f"{word}, {known}"] = await ratio_of(partial(measure, word, known=known))

        hostile = unchecked({"type": "dance", "steps": [[] for _ in range(900)]})

        async def measure_unknown_type() -> tuple[float, float]:
            work = await here.meter.units(partial(here.alice.stream.send_all, TIMES * hostile))
            return work, READING + TIMES * (UNKNOWN + cost_of_size(len(hostile)))

        ratios["dance"] = await ratio_of(measure_unknown_type)
    assert_charged(ratios)


def refused(word: str, number: int, group: str) -> Frame:
    """Return a request of an outsider, which a server refuses."""
    (example, *_) = (frame for frame in REQUESTS if frame.type == word)
    changes = {"id": number, "n": number, "group": group}
    if isinstance(example, Away):
        return Away(number, "x" * 1000)
    changed = example.to_map() | {key: changes[key] for key in changes if hasattr(example, key)}
    return type(example).from_map(changed)


async def test_long_messages_cost_what_they_are_charged(tmp_path: Path) -> None:
    """Texts that take long to sanitize, or to search for the names of people."""
    ratios: dict[str, float] = {}
    numbers = count(1000)
    async with server(tmp_path) as here:

        async def measure(text: str) -> tuple[float, float]:
            text *= _LONG // len(text.encode())
            frames: list[Frame] = [Post(n := next(numbers), n, GROUP, text) for _ in range(TIMES)]
            return await here.requests(here.alice, frames, cost_of_text(text))

        # Somebody who might be mentioned, and whose name has to be looked for at each character.
        async with raw_client(here.address, "漢字", tls=True) as other:
            await other.command(Join)
            number = next(numbers)
            await all_answers(here.alice, [Approve(number, number, GROUP, "漢字")])
            for text in ("a\n", "\ufdfa", "漢", "字", "é ", "a\u0301\u0323", "\u1112\u1161"):
                ratios[ascii(text)] = await ratio_of(partial(measure, text))
    assert_charged(ratios)


# ------------------------------------------------------------------ the handshake


async def test_handshakes_cost_what_they_are_charged(tmp_path: Path) -> None:
    """New names, false proofs, wrong names and made-up tickets, each on a new connection."""
    people = count()
    async with server(tmp_path) as here:

        async def log_in() -> None:
            async with raw_client(here.address, f"person-{next(people)}", tls=True):
                pass

        async def prove_nothing() -> None:
            async with raw_client(here.address, tls=True) as raw:
                hello = hello_of(f"person-{next(people)}")
                await raw.send(hello)
                await raw.proof(hello)
                await raw.send(Proof(bytes(64)))
                await raw.expect(Failed)

        async def open_with(frame: Frame) -> None:
            async with raw_client(here.address, tls=True) as raw:
                await raw.send(frame)
                await raw.expect(Failed)

        async def measure(
            attempt: Callable[[], Awaitable[None]], *words: str
        ) -> tuple[float, float]:
            async def several() -> None:
                for _ in range(4):
                    await attempt()

            charged = CONNECTION + sum(COSTS[word] for word in words)
            return await here.meter.units(several), 4 * charged

        old, ticket = hello_of("old", version=1), TransferHello(VERSION, bytes(16))
        assert_charged(
            {
                "proof": await ratio_of(partial(measure, log_in, "hello", "proof")),
                "false proof": await ratio_of(partial(measure, prove_nothing, "hello", "proof")),
                "hello": await ratio_of(partial(measure, partial(open_with, old), "hello")),
                "ticket": await ratio_of(partial(measure, partial(open_with, ticket), "transfer")),
            }
        )


# ------------------------------------------------------------------ file transfers


class Transfers:
    """Transfers of files of Alice's, each on a connection of its own."""

    def __init__(self, here: Server) -> None:
        self._here = here
        self._numbers = count(1)

    async def up(self, data: bytes) -> None:
        ticket = await ticket_to_send(self._here.alice, data)
        async with self._begin(ticket) as connection:
            await connection.expect(Have)
            await connection.send_pieces(data)
            await connection.expect(Stored)

    async def share(self, data: bytes) -> int:
        """Share an uploaded file; return its number."""
        await self._here.alice.command(Share, "file", len(data), sha(data))
        return next(self._numbers)

    async def down(self, number: int, size: int, have: Have) -> None:
        ticket = await ticket_to_fetch(self._here.alice, number)
        async with self._begin(ticket) as connection:
            await connection.send(have)
            await connection.expect(StartAt)
            for _ in range(count_pieces(size)):
                await connection.piece()

    @asynccontextmanager
    async def _begin(self, ticket: bytes) -> AsyncIterator[TransferConnection]:
        async with raw_client(self._here.address, tls=True) as raw:
            connection = TransferConnection(raw.stream)
            await connection.send(TransferHello(VERSION, ticket))
            await connection.expect(Ready)
            yield connection


async def test_transfers_cost_what_they_are_charged(tmp_path: Path) -> None:
    """Small and large files, and one that is only verified."""
    ratios: dict[str, float] = {}
    async with server(tmp_path) as here:
        transfers = Transfers(here)
        begin = CONNECTION + COSTS["transfer"] + TRANSFER

        async def up(size: int) -> tuple[float, float]:
            work = await here.meter.units(partial(transfers.up, os.urandom(size)))
            return work, COSTS["upload"] + begin + cost_of_transfer(size)

        async def down(number: int, size: int, *, doubt: bool = False) -> tuple[float, float]:
            have = Have(0, EMPTY_DIGEST, doubt=doubt)
            work = await here.meter.units(partial(transfers.down, number, size, have))
            charged = COSTS["download"] + begin + cost_of_transfer(size)
            return work, charged + (cost_of_hashing(size) if doubt else 0)

        for size in (1, _FILE_SIZE):
            data = os.urandom(size)
            await transfers.up(data)
            number = await transfers.share(data)
            ratios[f"up {size}"] = await ratio_of(partial(up, size))
            ratios[f"down {size}"] = await ratio_of(partial(down, number, size))
        ratios["verify"] = await ratio_of(partial(down, number, size, doubt=True))
    assert_charged(ratios)


# ------------------------------------------------------------------ completeness


def test_every_frame_type_has_a_cost_and_cases() -> None:
    assert COSTS.keys() == TO_SERVER.keys()
    assert all(callable(getattr(Scene, word, None)) for word in CHAT)
    assert set(CHAT) > NEVER_REFUSED


@pytest.mark.parametrize("word", CHAT)
def test_no_request_is_free(word: str) -> None:
    assert COSTS[word] >= COSTS["ping"] == 1
