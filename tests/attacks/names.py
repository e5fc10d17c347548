"""Names: attacks by people who have authenticated, with as many names as they like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tchat.client.authenticate import Busy
from tchat.core.protocol.frames import Ping
from tests.attacks.harness import Attack

if TYPE_CHECKING:
    from tests.attacks.target import Target

NAMES = 11
DEVICES = 32  # connections of one name
CONNECTIONS = 320


async def fill_connections(target: Target) -> None:
    """Open all connections that each of a few names may have, and keep them."""

    async def stay(name: str) -> None:
        while True:
            try:
                async with target.member(name) as member:
                    target.tally.add("logins")
                    while await member.receive() is not None:
                        await member.send(Ping())
            except Busy:
                target.tally.add("busy")
            except (trio.BrokenResourceError, OSError):
                target.tally.add("cut")
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for device in range(NAMES * DEVICES):
            nursery.start_soon(stay, f"sybil{device % NAMES}")


ATTACKS = [
    Attack(
        "many-names",
        f"{NAMES} names from one address, {DEVICES} connections each, at a server for"
        f" {CONNECTIONS}",
        fill_connections,
        "a network's share of the connections",
        options=("--max-connections", str(CONNECTIONS)),
    ),
]
