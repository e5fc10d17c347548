"""Scripted server: each connection runs an act, a function of the test."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tchat.core.group.snapshots import freeze
from tchat.core.group.state import Group
from tchat.core.protocol.frames import Attached, Snapshot
from tchat.core.protocol.framing import FrameBuffer, unpack
from tchat.core.protocol.handshake import VERSION
from tchat.errors import TchatError, root_of
from tchat.net.address import Address
from tchat.net.tcp import port_of
from tests.cddl import unchecked
from tests.helpers import (
    GROUP,
    GUARD,
    session_at,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Act = Callable[["Wire"], Awaitable[None]]

CHALLENGE: dict[str, object] = {"type": "challenge", "version": VERSION, "nonce": bytes(32)}
EVIL = "\x1b]0;owned\x07\u202e\x00\nfake line"
FINAL = {"bad_name", "bad_version", "replaced", "name_taken", "bad_proof", "bad_link"}
FINAL |= {"key_removed", "not_encrypted"}


class Wire:
    """The scripted server's end of one connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = FrameBuffer()

    async def say(self, *items: dict[str, object]) -> None:
        """Send frames, valid or not."""
        await self.send(b"".join(map(unchecked, items)))

    async def send(self, data: bytes) -> None:
        """Send raw bytes."""
        await self.stream.send_all(data)

    async def hear(self) -> dict[str, Any] | None:
        """Return the client's next frame; None at the end of the connection."""
        while (body := self._buffer.pop()) is None:
            data = await self.stream.receive_some()
            if not data:
                return None
            self._buffer.feed(data)
        return unpack(body)

    async def hear_only(self, kind: str) -> dict[str, Any]:
        """Return the client's next frame of this type."""
        while (frame := await self.hear()) is not None:
            if frame["type"] == kind:
                return frame
        raise trio.BrokenResourceError

    async def raw(self, size: int) -> None:
        """Receive `size` bytes without framing."""
        size -= len(self._buffer.rest())
        while size > 0 and (data := await self.stream.receive_some(size)):
            size -= len(data)

    async def greet(self, **changes: object) -> None:
        """Do a valid handshake; `changes` go into the welcome."""
        await self.hear_only("hello")
        await self.say({"type": "challenge", "version": VERSION, "nonce": bytes(32)})
        await self.hear_only("proof")
        await self.say({"type": "welcome", "version": VERSION, "user": "alice", **changes})

    async def let_in(self, **changes: object) -> dict[str, object]:
        """Do a handshake and answer the attach as for a member; `changes` go into the answer."""
        await self.greet()
        return await self.attach(**changes)

    async def attach(self, **changes: object) -> dict[str, object]:
        """Answer the next attach, and return the answer."""
        request = await self.hear_only("attach")
        answer = Attached(request["id"], request["group"], "member", seq=0).to_map() | changes
        await self.say(answer)
        return answer


class Impostor:
    """Listens, and runs one act for each connection."""

    def __init__(self, *acts: Act) -> None:
        self.acts = list(acts)
        self.connections = 0
        self.leave = trio.CancelScope()
        self.address: Address

    async def play(self, stream: trio.SocketStream) -> None:
        """Serve one connection until the act ends or the client disconnects."""
        self.connections += 1
        act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
        with suppress(trio.BrokenResourceError):
            await act(Wire(stream))
            await stream.send_eof()
            async for _ in stream:
                pass
        await trio.aclose_forcefully(stream)


@asynccontextmanager
async def impostor(*acts: Act) -> AsyncIterator[Impostor]:
    """Run the scripted server for the length of the block."""
    server = Impostor(*acts)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server.address = Address("127.0.0.1", port_of(listeners[0]))

    async def serve() -> None:
        with server.leave:
            await trio.serve_listeners(server.play, listeners)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield server
        nursery.cancel_scope.cancel()


async def kindly(wire: Wire) -> None:
    """Do a valid handshake, answer one attach, and then send nothing more."""
    await wire.let_in()
    while await wire.hear():
        pass


async def ending_of(*acts: Act) -> TchatError:
    """Return the error that ends a session with a server that follows these acts."""
    with pytest.raises(ExceptionGroup) as caught, trio.fail_after(GUARD):
        async with impostor(*acts) as server, session_at(server.address, "alice"):
            await trio.sleep_forever()
    error = root_of(caught.value)
    assert isinstance(error, TchatError), error
    return error


def event(seq: int, group: str = GROUP, **changes: object) -> dict[str, object]:
    """Return an event as a server would send it."""
    header = {
        "type": "event",
        "kind": "posted",
        "group": group,
        "seq": seq,
        "at": 1,
        "actor": "eve",
    }
    return {**header, "client": bytes(8), "n": seq, "text": f"text {seq}", **changes}


def events(first: int, last: int, group: str = GROUP) -> list[dict[str, object]]:
    """Return events as a server would send them."""
    return [event(seq, group) for seq in range(first, last + 1)]


def page(request: dict[str, Any], *frames: dict[str, object]) -> dict[str, object]:
    """Return a history page with these events."""
    seqs = [frame["seq"] for frame in frames] or [0]
    packed = b"".join(map(unchecked, frames))
    return {"type": "history_page", "re": request["id"], "first": seqs[0], "last": seqs[-1]} | {
        "frames": packed
    }


def snapshot(seq: int, pieces: int = 1, group: str = GROUP) -> list[dict[str, object]]:
    """Return the snapshot of a group whose only member is alice, in `pieces` frames."""
    state = Group(group, seq, 1, floor=1, admin="alice", members={"alice": "alice"})
    data = freeze(state)
    size = -(-len(data) // pieces)
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    return [
        Snapshot(group, seq, part, index < len(parts) - 1).to_map()
        for index, part in enumerate(parts)
    ]
