"""Connection of an IRC client: lines with limits in size and rate, and the client's capabilities.

A client that sends too fast is read more slowly. One that does not read what it gets, or sends
nothing for too long, is disconnected.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from tchat.irc.messages import MalformedError, Message, parse
from tchat.irc.names import SERVER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

INPUT_SIZE = 8192
"""The most bytes of a line of a client, with its tags."""

BURST = 100
"""Lines that a client may send at once."""

RATE = 20
"""Lines per second that a client may send after that."""

SEND_SECONDS = 60.0
"""Seconds in which a client has to accept what it is sent."""

CLOSING_SECONDS = 1.0
"""Seconds in which the last lines are sent before the connection is closed."""

CAPABILITIES = {
    "away-notify": "",
    "batch": "",
    "draft/chathistory": "",
    "draft/read-marker": "",
    "echo-message": "",
    "labeled-response": "",
    "message-tags": "",
    "sasl": "PLAIN",
    "server-time": "",
}
"""The IRCv3 capabilities, and their values."""

_TAG_NEEDS = {
    "time": "server-time",
    "batch": "batch",
    "label": "labeled-response",
    "msgid": "message-tags",
    "+draft/reply": "message-tags",
}
_READ_SIZE = 4096


@asynccontextmanager
async def open_connection(stream: trio.abc.Stream) -> AsyncIterator[Connection]:
    """Serve a stream as a connection while the block runs, and close it then.

    Raises `trio.BrokenResourceError`, in an `ExceptionGroup`, once the client does not read.
    """
    async with stream, trio.open_nursery() as nursery:
        connection = Connection(stream)
        nursery.start_soon(connection.write)
        try:
            yield connection
        finally:
            connection.finish()


class Connection:
    """An IRC client's connection; `capabilities` are those that it has asked for.

    `nick` is what the client is called in numeric replies; `heard` when it last sent something. A
    task of its own writes the lines (`write`), so that cancelling a sender never cuts a line.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.capabilities: set[str] = set()
        self.nick = "*"
        self.heard = trio.current_time()
        self._stream = stream
        self._buffer = bytearray()
        self._outgoing, self._queue = trio.open_memory_channel[bytes](0)
        self._writing = trio.CancelScope(shield=True)
        self._too_long = False
        self._credit = float(BURST)
        self._counted = self.heard

    # ------------------------------------------------------------------ receiving

    async def receive(self) -> Message | None:
        """Return the next message; None at the end. What is not one is answered with an error."""
        while (line := await self._line()) is not None:
            if not line.strip(b" "):
                continue
            await self._pace()
            try:
                return parse(line)
            except MalformedError as error:
                await self.send(Message("FAIL", ("*", "INVALID_MESSAGE", str(error)), SERVER))
        return None

    async def _line(self) -> bytes | None:
        while True:
            line, newline, rest = self._buffer.partition(b"\n")
            if len(line) > INPUT_SIZE:
                self._too_long = True
                del self._buffer[: len(line)]
                continue
            if newline:
                self._buffer = rest
                if not self._too_long:
                    return bytes(line).removesuffix(b"\r")
                self._too_long = False
                await self.numeric("417", "The line is too long, and was ignored.")
                continue
            try:
                data = await self._stream.receive_some(_READ_SIZE)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return None
            if not data:
                return None
            self.heard = trio.current_time()
            self._buffer += data

    async def _pace(self) -> None:
        """Wait until the client may send another line (token bucket)."""
        now = trio.current_time()
        self._credit = min(BURST, self._credit + (now - self._counted) * RATE)
        self._counted = now
        if self._credit < 1:
            await trio.sleep((1 - self._credit) / RATE)
        self._credit -= 1

    # ------------------------------------------------------------------ sending

    async def send(self, *messages: Message) -> None:
        """Send messages, one right after the other. Raises `trio.BrokenResourceError`."""
        if not messages:
            return
        data = b"".join(self._without_unknown_tags(one).encode() for one in messages)
        await self._outgoing.send(data)

    async def write(self) -> None:
        """Write what is sent until the end. Raises `trio.BrokenResourceError`."""
        with self._writing, self._queue:
            async for data in self._queue:
                try:
                    with trio.fail_after(SEND_SECONDS):
                        await self._stream.send_all(data)
                except trio.TooSlowError as error:
                    raise trio.BrokenResourceError("the IRC client does not read") from error

    def finish(self) -> None:
        """Send nothing more; what is being written has some time left, even if cancelled."""
        self._outgoing.close()
        self._writing.deadline = trio.current_time() + CLOSING_SECONDS

    async def numeric(self, code: str, *params: str) -> None:
        """Send a numeric reply."""
        await self.send(self.numeric_message(code, *params))

    def numeric_message(self, code: str, *params: str) -> Message:
        """Return a numeric reply."""
        return Message(code, (self.nick, *params), SERVER)

    def has(self, capability: str) -> bool:
        """Return whether the client has asked for a capability."""
        return capability in self.capabilities

    def _without_unknown_tags(self, message: Message) -> Message:
        tags = {
            key: value for key, value in message.tags.items() if self.has(_TAG_NEEDS.get(key, ""))
        }
        return Message(message.command, message.params, message.source, tags)

    async def say_error(self, sentence: str) -> None:
        """Send an ERROR, after which a server closes the connection."""
        await self.send(Message("ERROR", (sentence,)))


def names_and_values(names: Iterable[str], *, values: bool) -> str:
    """Return capabilities as CAP LS lists them."""
    shown = (
        f"{name}={CAPABILITIES[name]}" if values and CAPABILITIES.get(name) else name
        for name in names
    )
    return " ".join(shown)
