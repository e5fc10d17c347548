"""What a program hears of a group whose log is damaged on the server."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import trio

import tchat
from tchat.store.base import LogDamaged
from tests.api.people import connected, texts
from tests.fault_proxy import fault_proxy
from tests.faulty_store import FaultyStore
from tests.helpers import GROUP, GUARD, running_server

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tchat.net.address import Address


async def say(address: Address, homes: Path, *messages: str) -> int:
    """Let alice post messages in the group; return the seq of the last event."""
    async with connected(address, homes, "alice") as alice:
        ops = await alice.join(GROUP, create=True)
        await ops.set_policy("open")
        for text in messages:
            await ops.say(text)
        return ops.last


async def test_stream_goes_on_past_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It stays where it is, also if nothing was delivered yet; only the damaged event is lost."""
    store = FaultyStore()
    async with running_server(store) as server:
        first = await say(server.address, tmp_path, "one") - 1
        async with (
            fault_proxy(server.address) as proxy,
            connected(proxy.address, tmp_path, "bob") as bob,
            bob.notices() as notices,
        ):
            ops = await bob.join(GROUP)
            joined = ops.last
            async with bob.events(ops, since=first) as events:
                async with running_server(store) as other:
                    assert await say(other.address, tmp_path, "damaged") == joined + 1
                damage = LogDamaged(GROUP, joined + 1, joined + 1, "the checksum is wrong")
                store.fail(damage, "read", when=lambda call: call["after"] <= joined)
                store.fail(damage, "read_before", when=lambda call: call["before"] == joined + 2)
                async with running_server(store) as last:
                    proxy.target = last.address
                    proxy.cut()
                    heard: list[str] = []
                    with trio.fail_after(GUARD):
                        while not (ops.replica.resets and ops.replica.caught_up):
                            await trio.lowlevel.checkpoint()
                        while heard[-1:] != ["EventLost"]:
                            event = await events.receive()
                            heard.append(getattr(event, "text", type(event).__name__))
                    await say(last.address, tmp_path, "three")
                    with trio.fail_after(GUARD):
                        heard += await texts(events, 1)
            assert heard == ["one", "EventLost", "three"]
            told = []
            with suppress(trio.WouldBlock):
                while True:
                    told.append(notices.receive_nowait())
            assert not any(isinstance(one, tchat.LogReplaced) for one in told)
    assert "are damaged on the server" in caplog.text
