"""Fake server that follows a script: sends any frames, valid or not, never sanitized."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from tchat.core.protocol.framing import FrameBuffer, unpack
from tchat.core.protocol.handshake import NONCE_SIZE, VERSION
from tchat.net.address import Address
from tchat.net.tcp import port_of
from tests.cddl import unchecked
from tests.helpers import GROUP, GUARD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Story = Callable[["ScriptedPeer"], Awaitable[None]]


class ScriptedPeer:
    """One connection to the fake server, with the sequence numbers of the log it sends there."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.opening: dict[str, Any] = {}
        self._buffer = FrameBuffer()
        self._seq = 0

    async def send(self, word: str, **keys: object) -> None:
        """Send a frame of a type, with any keys and values."""
        await self.stream.send_all(unchecked({"type": word, **keys}))

    async def piece(self, data: bytes, sha256: bytes) -> None:
        """Send a piece of a file; the digest need not match."""
        await self.send("piece", size=len(data), sha256=sha256)
        await self.stream.send_all(data)

    async def event(self, kind: str, actor: str, **keys: object) -> None:
        """Send the next event of the group's log."""
        self._seq += 1
        header: dict[str, object] = {"group": GROUP, "seq": self._seq, "at": 0, "actor": actor}
        await self.send("event", kind=kind, client=bytes(8), n=self._seq, **header | keys)

    async def expect(self, word: str) -> dict[str, Any]:
        """Return the next frame of a type, or of type "end"; skip all others."""
        while (frame := await self.next())["type"] not in (word, "end"):
            pass
        return frame

    async def next(self) -> dict[str, Any]:
        """Return the next frame; at the end of the connection, one of type "end"."""
        while (body := self._buffer.pop()) is None:
            data = await self.stream.receive_some()
            if not data:
                return {"type": "end"}
            self._buffer.feed(data)
        return unpack(body)

    async def welcome(self, user: str = "alice") -> None:
        """Complete the handshake, accepting any proof."""
        await self.send("challenge", version=VERSION, nonce=bytes(NONCE_SIZE))
        await self.expect("proof")
        await self.send("welcome", version=VERSION, user=user)

    async def attach(self, standing: str = "member", **keys: object) -> None:
        """Answer the client's `attach` to the group."""
        re = (await self.expect("attach"))["id"]
        known = {"seq": 0, "counted": 0, "read": 0, "first": 0, "kicked": False}
        await self.send("attached", re=re, group=GROUP, standing=standing, **known | keys)

    async def group_list(self, *names: str) -> None:
        """Answer the client's `groups_request` with these groups, all with unread events."""
        re = (await self.expect("groups_request"))["id"]
        summary = {"standing": "member", "last": 9, "read": 0, "place": 1}
        groups = [{"name": name, **summary} for name in names]
        await self.send("group_list", re=re, groups=groups)


@asynccontextmanager
async def fake_server(*stories: Story) -> AsyncIterator[Address]:
    """Listen for the length of the block; each connection follows the next script.

    A file transfer connection follows the last script, whenever it comes.
    """
    waiting = list(stories)

    async def tell(stream: trio.SocketStream) -> None:
        peer = ScriptedPeer(stream)
        with trio.fail_after(GUARD):
            peer.opening = await peer.next()
            story = waiting[-1] if peer.opening["type"] == "transfer" else waiting.pop(0)
            try:
                await story(peer)
                await stream.send_eof()
                # Closing a socket with unread data resets it, and the peer loses what was sent.
                await peer.expect("end")
            except trio.BrokenResourceError:
                return  # the client has disconnected

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, tell, listeners)
        yield Address("127.0.0.1", port_of(listeners[0]))
        nursery.cancel_scope.cancel()
