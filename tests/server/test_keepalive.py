"""Keepalive timeout: silent clients are disconnected, others are not, whatever they send."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from trio.testing import memory_stream_pair

from tchat.core.group.state import Author
from tchat.core.protocol.frames import Ping, encode
from tchat.errors import Code
from tchat.net.link import Link
from tchat.server.keepalive import disconnect_silent_clients
from tchat.server.presence import Presence
from tchat.server.send_queue import SendQueue

if TYPE_CHECKING:
    from collections.abc import Collection

    from trio.testing import MockClock

    from tchat.core.protocol.frames import Activity
    from tchat.core.protocol.schema import Frame

SILENCE = 60.0


class FakeConnection:
    """A client's connection that was last heard when a test says so."""

    author = Author("alice", bytes(8))
    peer = None
    followed_groups: Collection[str] = ()

    def __init__(self) -> None:
        self.last_heard = trio.current_time()
        self.goodbyes: list[Code] = []
        self.send_queue = SendQueue(lambda data: data, lambda: None)

    def notify(self, frame: Frame) -> None:
        raise AssertionError(frame)

    def announce(self, key: str, notice: Activity) -> None:
        raise AssertionError(key, notice)

    def disconnect(self, code: Code, sentence: str) -> None:
        self.goodbyes.append(code)


async def test_client_is_disconnected_once_silent(autojump_clock: MockClock) -> None:
    presence, client = Presence(), FakeConnection()
    presence.connected(client)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(disconnect_silent_clients, presence, lambda: SILENCE)
        for _ in range(10):
            await trio.sleep(0.9 * SILENCE)
            assert client.goodbyes == []
            client.last_heard = trio.current_time()
        await trio.sleep(1.2 * SILENCE)
        assert Code.IDLE in client.goodbyes
        nursery.cancel_scope.cancel()


async def test_ping_counts_as_being_heard(autojump_clock: MockClock) -> None:
    here, there = memory_stream_pair()
    link = Link(here)
    await trio.sleep(SILENCE)
    await there.send_all(encode(Ping()))
    await link.receive()
    assert link.last_received == trio.current_time()


async def test_the_limit_may_change(autojump_clock: MockClock) -> None:
    """A reload can change it while the server runs."""
    presence, client, limits = Presence(), FakeConnection(), [SILENCE]
    presence.connected(client)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(disconnect_silent_clients, presence, lambda: limits[-1])
        limits.append(SILENCE / 10)
        await trio.sleep(0.3 * SILENCE)
        assert Code.IDLE in client.goodbyes
        nursery.cancel_scope.cancel()
