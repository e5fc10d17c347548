"""Strangers: attacks on the handshake, by connections that never authenticate."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import trio

from tchat.core.protocol.frames import encode
from tchat.net.tls import client_context, open_tls
from tests.attacks.harness import Attack
from tests.client_hello import ALERT, FFDHE8192, client_hello, made_up_key
from tests.helpers import hello_of

if TYPE_CHECKING:
    from tests.attacks.target import Target

HELLOS_PER_SECOND = 73
SOCKETS = 512
ADDRESSES = [f"127.0.1.{number}" for number in range(1, 9)]
REOPENED_PER_SECOND = 41
PROXY = "127.0.0.3"
WORKERS = 16

_KEPT = 64 << 10  # the memory that one stranger may take


async def send_made_up_keys(target: Target) -> None:
    """Send hellos with a key of ffdhe8192 that costs the attacker nothing (D(HE)at)."""
    hello = client_hello([FFDHE8192], {FFDHE8192: made_up_key(FFDHE8192)})

    async def once() -> None:
        try:
            async with target.stranger() as stream:
                await stream.send_all(hello)
                target.tally.add("hellos")
                answer = await stream.receive_some()
                target.tally.add("alerts" if answer[:1] == bytes([ALERT]) else "key exchanges")
        except (trio.BrokenResourceError, OSError):
            target.tally.add("cut")

    async with trio.open_nursery() as nursery:
        while True:
            nursery.start_soon(once)
            await trio.sleep(1 / HELLOS_PER_SECOND)


async def hold_silent_sockets(target: Target) -> None:
    """Keep sockets open that send nothing, from eight addresses; reopen what is closed."""
    await _hold(target, [(address, b"") for address in ADDRESSES])


async def hold_silent_ipv6_sockets(target: Target) -> None:
    """Keep silent sockets open from the 65,536 /64 networks of a /48, which a proxy names."""
    networks = [f"PROXY TCP6 2001:db8:0:{n:x}::1 2001:db8::1 1 1\r\n" for n in range(65536)]
    await _hold(target, [(PROXY, header.encode()) for header in networks])


async def _hold(target: Target, sources: list[tuple[str, bytes]]) -> None:
    """Keep sockets open; each has an address, and what it sends first."""
    places = trio.Semaphore(SOCKETS)

    async def stay(source: str, header: bytes) -> None:
        try:
            async with target.stranger(source) as stream:
                target.tally.add("sockets")
                await stream.send_all(header)
                await stream.receive_some()
        except (trio.BrokenResourceError, OSError):
            target.tally.add("cut")
        finally:
            places.release()

    async with trio.open_nursery() as nursery:
        number = 0
        while True:
            await places.acquire()
            nursery.start_soon(stay, *sources[number % len(sources)])
            number += 1
            # All at once, then at the rate at which they are reopened.
            await trio.sleep(0 if number < SOCKETS else 1 / REOPENED_PER_SECOND)


async def begin_handshakes(target: Target) -> None:
    """Complete TLS, ask for a challenge and leave, as fast as possible, from eight addresses."""
    context, numbers = client_context(verified=False), count()

    async def once(_: int) -> None:
        async with target.stranger(ADDRESSES[next(numbers) % len(ADDRESSES)]) as plain:
            stream = await open_tls(plain, context, "localhost")
            await stream.send_all(encode(hello_of("mallory")))
            await stream.receive_some()
            target.tally.add("challenges")

    await target.flood(WORKERS, once)


ATTACKS = [
    Attack(
        "made-up-keys",
        f"a stranger sends {HELLOS_PER_SECOND} TLS hellos a second with an ffdhe8192 key",
        send_made_up_keys,
        "X25519 is the only group of the key exchange",
        memory=_KEPT,
    ),
    Attack(
        "silent-sockets",
        f"{SOCKETS} silent sockets from {len(ADDRESSES)} addresses, reopened at"
        f" {REOPENED_PER_SECOND}/s",
        hold_silent_sockets,
        "--max-strangers-each, and the oldest of the largest network makes room",
        memory=_KEPT,
    ),
    Attack(
        "silent-ipv6",
        f"{SOCKETS} silent sockets from the /64 networks of one /48, reopened at"
        f" {REOPENED_PER_SECOND}/s",
        hold_silent_ipv6_sockets,
        "four times --max-strangers-each, and the oldest of the largest network makes room",
        memory=_KEPT,
        options=("--proxy-protocol", PROXY),
    ),
    Attack(
        "handshakes",
        f"handshakes up to the challenge from {len(ADDRESSES)} addresses, as fast as possible",
        begin_handshakes,
        "a place is kept for 2 s: 32 handshakes a second for each address",
        memory=_KEPT,
    ),
]
