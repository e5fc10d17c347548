"""A data directory with something of everything, for the tests of the operator's commands."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import trio

from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.testing import open_server

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.api.client import Client
    from tchat.api.groups import Group

LONG_FILE = random.Random(17).randbytes(2 * PIECE_SIZE + 1000)
FILES = 3
MESSAGES = 120
"""Messages of alice in #ops; with more than `state_cache.IDLE_TAIL`, the state is stored."""


def make_data(place: Path) -> Path:
    """Write a data directory below `place`, and return its path."""
    trio.run(_make, place)
    return place / "server"


async def _make(place: Path) -> None:
    (place / "long.bin").write_bytes(LONG_FILE)
    (place / "short.txt").write_text("a short file")
    async with open_server(place) as server, server.connect("alice") as alice:
        ops = await alice.join("ops", create=True)
        await ops.set_policy("open")
        await ops.set_topic("the topic of alice")
        async with server.connect("bob") as bob:
            await _talk(alice, ops, bob, place)
        await ops.send_file(place / "long.bin")
        await ops.send_file(place / "short.txt")
        lab = await alice.join("lab", create=True)
        await lab.say("alone here")
        await alice.search("hello")


async def _talk(alice: Client, ops: Group, bob: Client, place: Path) -> None:
    """Let both talk; whatever bob writes contains 4711."""
    his = await bob.join("ops")
    for number in range(MESSAGES):
        await ops.say(f"hello from alice, number {number}, 你好世界, café")
    edited = await his.say("bob said marzipan4711")
    await edited.edit("bob now says nougat4711")
    deleted = await his.say("bob regrets pistachio4711")
    await deleted.delete()
    path = place / "bonbon4711.txt"
    path.write_text("truffle4711")
    await his.send_file(path)
    path.unlink()
    bobs = await bob.join("bobs", create=True)
    await bobs.set_policy("open")
    await bobs.set_topic("caramel4711")
    await alice.join("bobs")
    direct = await bob.talk_to("alice")
    await direct.say("a direct word of bob, praline4711")
    await (await alice.talk_to("bob")).say("a direct word of alice")
