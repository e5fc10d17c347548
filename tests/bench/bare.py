"""Baseline servers, the upper bound of this machine: `python -m tests.bench.bare WHICH SIZE`.

None of them speaks a protocol, decodes or stores anything. For every text received, `fanout` writes
the bytes of one event to SIZE sockets, those that connected together with the sender's; `acks`
answers as if the text were stored; `pour` sends SIZE events to the first client; `idle` is a Trio
server that waits for data.
"""

from __future__ import annotations

import re
import select
import socket
import sys
from contextlib import suppress

import trio

from tchat.core.protocol.frames import Ok, encode
from tests.bench.clients import MARK, TEXT, event_frame
from tests.bench.report import say

_SPACE = 1 << 20
_NUMBERED = re.compile(re.escape(MARK) + rb"(\d{8})")  # a text whose latency is measured
_IN_A_PAGE = 350  # about 64 KiB


class Loop:
    """epoll loop over all connections, in groups of `size` in order of arrival."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._poll = select.epoll()
        self._poll.register(self._listener.fileno(), select.EPOLLIN)
        self._sockets: dict[int, socket.socket] = {}
        self._group_of: dict[int, int] = {}
        self._groups: list[list[int]] = []
        self._waiting: dict[int, bytearray] = {}
        self._tails: dict[int, bytes] = {}
        self._event = event_frame()
        self._ok = encode(Ok(1000, 10_000))

    @property
    def port(self) -> int:
        """Return the port on which it listens."""
        port: int = self._listener.getsockname()[1]
        return port

    def run(self) -> None:
        """Serve until killed."""
        while True:
            for fd, event in self._poll.poll():
                if fd == self._listener.fileno():
                    self._accept()
                    continue
                if event & select.EPOLLOUT:
                    self._write(fd, b"")
                if event & ~select.EPOLLOUT:
                    self._read(fd)

    def _accept(self) -> None:
        connected, _ = self._listener.accept()
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fd = connected.fileno()
        self._sockets[fd] = connected
        if not self._groups or len(self._groups[-1]) == max(self._size, 1):
            self._groups.append([])
        self._groups[-1].append(fd)
        self._group_of[fd] = len(self._groups) - 1
        self._tails[fd] = b""
        self._poll.register(fd, select.EPOLLIN)
        connected.send(b"welcome")

    def _read(self, fd: int) -> None:
        data = self._tails[fd] + self._sockets[fd].recv(_SPACE)
        if len(data) == len(self._tails[fd]):
            raise SystemExit
        count = data.count(MARK)
        self._tails[fd] = data[max(0, len(data) - len(MARK) + 1) :]
        if not self._size:
            self._write(fd, self._ok * count)
            return
        batch = self._event * count
        if numbers := _NUMBERED.findall(data):
            batch = b"".join(event_frame(TEXT + number.decode()) for number in numbers)
        for other in self._groups[self._group_of[fd]]:
            self._write(other, batch)

    def _write(self, fd: int, data: bytes) -> None:
        waiting = self._waiting.get(fd)
        if waiting is not None:
            waiting += data
            data = bytes(waiting)
        try:
            sent = self._sockets[fd].send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._waiting[fd] = bytearray(data[sent:])
            self._poll.modify(fd, select.EPOLLIN | select.EPOLLOUT)
        elif waiting is not None:
            del self._waiting[fd]
            self._poll.modify(fd, select.EPOLLIN)


def pour(events: int) -> None:
    """Send `events` events to the first client."""
    listener = socket.create_server(("127.0.0.1", 0))
    say(listener.getsockname()[1])
    connected, _ = listener.accept()
    page = event_frame() * _IN_A_PAGE
    for _ in range(-(-events // _IN_A_PAGE)):
        connected.sendall(page)
    with suppress(ConnectionError):
        connected.recv(1)


async def idle() -> None:
    """Serve idle connections, one Trio task each."""

    async def wait(stream: trio.SocketStream) -> None:
        await stream.send_all(b"welcome")
        while await stream.receive_some():
            pass

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=4096)
    say(listeners[0].socket.getsockname()[1])
    await trio.serve_listeners(wait, listeners)


def main() -> None:
    """Print the port; serve until the clients have disconnected."""
    which, size = sys.argv[1], int(sys.argv[2])
    if which == "pour":
        pour(size)
    elif which == "idle":
        trio.run(idle)
    else:
        loop = Loop(size if which == "fanout" else 0)
        say(loop.port)
        with suppress(ConnectionError):
            loop.run()


if __name__ == "__main__":
    main()
