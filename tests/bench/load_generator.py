"""Load generator, in a process of its own: `python -m tests.bench.load_generator SPEC`.

The generator must never be the bottleneck. So it decodes nothing: it reads large chunks and counts
the known text of all messages in them with `bytes.count`. Its own CPU usage is part of the result.

The number of texts in flight is bounded: a text is in flight until all recipients have it, on the
average over all recipients. A server that falls behind gets no more load, whatever its buffers
hold, and need not drop any client.
"""

from __future__ import annotations

import json
import select
import ssl
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tests.bench.clients import ACK, MARK, TEXT, TchatClient, connect, connect_all
from tests.bench.report import percentile, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.bench.clients import Client

_QUIET_SECONDS = 0.3
_WARM_SECONDS = 0.7
_SPACE = 1 << 20
_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Spec:
    """The load: kind and port of the server, groups, members and senders of each, duration.

    `load` is "fanout" (maximum throughput, `window` texts of each sender in flight), "pace" (`rate`
    texts per second), "acks" (each sender waits for each answer), "idle" (send nothing; without
    `enter`, join no group), or "catchup" (read `window` events of a group).
    """

    kind: str
    port: int
    load: str
    groups: int = 1
    members: int = 100
    senders: int = 8
    window: int = 256
    rate: int = 50
    enter: bool = True
    seconds: float = 3.0

    def to_json(self) -> str:
        """Return the spec as the command-line argument of the process."""
        return json.dumps(asdict(self))


class Clients:
    """All connections, and counts of what they have received."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        names = [f"m{number}" for number in range(spec.groups * spec.members)]
        self.connections = connect_all(spec.kind, spec.port, names)
        self.received = 0
        self.bytes = 0
        self._poll = select.epoll()
        self._space = bytearray(_SPACE)
        self._view = memoryview(self._space)
        self._by_fd = {client.socket.fileno(): client for client in self.connections}
        self._tails = dict.fromkeys(self._by_fd, b"")
        self._unsent: dict[int, bytes] = {}

    def join_groups(self) -> None:
        """Join and subscribe to the groups; wait until all is quiet, then reset the counts."""
        spec = self.spec
        for index, client in enumerate(self.connections if spec.enter else ()):
            group = f"g{index // spec.members}"
            (client.join if index % spec.members else client.create)(group)
        if spec.enter and spec.load != "acks":
            for index, client in enumerate(self.connections):
                client.subscribe(f"g{index // spec.members}")
        for fd, client in self._by_fd.items():
            client.socket.setblocking(False)
            self._poll.register(fd, select.EPOLLIN)
        while self._read_some(_QUIET_SECONDS, self._count):
            pass
        self.received = self.bytes = 0

    def senders(self) -> list[tuple[int, Client, str]]:
        """Return the senders: descriptor, connection, group."""
        spec = self.spec
        return [
            (client.socket.fileno(), client, f"g{index // spec.members}")
            for index, client in enumerate(self.connections)
            if index % spec.members < spec.senders
        ]

    def send(self, fd: int, data: bytes) -> None:
        """Send without blocking; queue what the socket does not take."""
        data = self._unsent.pop(fd, b"") + data
        with suppress(BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            data = data[self._by_fd[fd].socket.send(data) :]
        if data:
            self._unsent[fd] = data

    def blocked(self, fd: int) -> bool:
        """Retry queued data of this sender; return whether some is left."""
        if fd in self._unsent:
            self.send(fd, b"")
        return fd in self._unsent

    def read(self, patience: float = 0.05) -> None:
        """Read all available data and count the texts in it."""
        self._read_some(patience, self._count)

    def read_each(self, patience: float, take: Callable[[int, bytes], None]) -> None:
        """Read all available data and pass it to `take`, by descriptor."""
        self._read_some(patience, lambda fd, size: take(fd, bytes(self._view[:size])))

    def _read_some(self, patience: float, take: Callable[[int, int], None]) -> bool:
        ready = self._poll.poll(patience)
        for fd, _ in ready:
            while True:
                kept = self._tails[fd] if take == self._count else b""
                self._space[: len(kept)] = kept
                try:
                    size = self._by_fd[fd].socket.recv_into(self._view[len(kept) :])
                except (BlockingIOError, ssl.SSLWantReadError):
                    break
                if not size:
                    raise ConnectionError("the server has closed a connection")
                take(fd, len(kept) + size)
                # epoll reports more data in a socket, but not data that TLS has buffered already.
                if self.spec.kind != "tchat-tls":
                    break
        return bool(ready)

    def _count(self, fd: int, size: int) -> None:
        self.received += self._space.count(MARK, 0, size)
        self.bytes += size - len(self._tails[fd])
        # The tail is shorter than the mark, so that no mark is counted twice.
        self._tails[fd] = bytes(self._view[max(0, size - len(MARK) + 1) : size])


def fan_out(clients: Clients) -> dict[str, float]:
    """Send at maximum throughput; return the texts received per second, over all clients."""
    spec = clients.spec
    senders = clients.senders()
    # An IRC server does not echo a message to its sender.
    hearers = spec.members - (spec.kind == "ngircd")
    batch = spec.window // 2
    sent = 0

    def go_on(until: float) -> None:
        nonlocal sent
        while time.perf_counter() < until:
            for fd, client, group in senders:
                if sent - clients.received / hearers > (spec.window - batch) * len(senders):
                    break
                if not clients.blocked(fd):
                    clients.send(fd, client.posts(group, batch))
                    sent += batch
            clients.read()

    go_on(time.perf_counter() + _WARM_SECONDS)
    heard, size, began, busy = clients.received, clients.bytes, time.perf_counter(), _cpu()
    say("begin")
    go_on(began + spec.seconds)
    took = time.perf_counter() - began
    say("end")
    return {
        "deliveries": (clients.received - heard) / took,
        "bytes": (clients.bytes - size) / took,
        "generator": (_cpu() - busy) / took,
    }


def pace(clients: Clients) -> dict[str, float]:
    """Send `rate` texts per second; return the delivery latency in ms."""
    spec = clients.spec
    senders = clients.senders()
    total = round(spec.rate * spec.seconds)
    times: list[float] = []
    delays: list[float] = []

    def take(_: int, data: bytes) -> None:
        now = time.perf_counter()
        at = data.find(MARK)
        while at >= 0:
            at += len(MARK)
            delays.append(now - times[int(data[at : at + _DIGITS] or 0)])
            at = data.find(MARK, at)

    say("begin")
    began, busy = time.perf_counter(), _cpu()
    due = began
    while len(times) < total:
        if (left := due - time.perf_counter()) > 0:
            clients.read_each(left, take)
            continue
        fd, client, group = senders[len(times) % len(senders)]
        data = client.posts(group, 1, f"{TEXT}{len(times):0{_DIGITS}}")
        times.append(time.perf_counter())
        clients.send(fd, data)
        due += 1 / spec.rate
    took = time.perf_counter() - began
    say("end")
    hearers = (spec.members - (spec.kind == "ngircd")) * total
    give_up = time.perf_counter() + 5
    while len(delays) < hearers and time.perf_counter() < give_up:
        clients.read_each(0.1, take)
    return {
        "p50": percentile(delays, 0.5) * 1000,
        "p99": percentile(delays, 0.99) * 1000,
        "arrived": len(delays) / hearers,
        "generator": (_cpu() - busy) / took,
    }


def acks(clients: Clients) -> dict[str, float]:
    """Let each sender wait for each answer; return answers per second."""
    by_fd = {fd: _posts(client, group) for fd, client, group in clients.senders()}
    answered = 0

    def take(fd: int, data: bytes) -> None:
        nonlocal answered
        if ACK in data:
            answered += 1
            clients.send(fd, next(by_fd[fd]))

    def go_on(until: float) -> None:
        while time.perf_counter() < until:
            clients.read_each(0.05, take)

    for fd, posts in by_fd.items():
        clients.send(fd, next(posts))
    go_on(time.perf_counter() + _WARM_SECONDS)
    before, began, busy = answered, time.perf_counter(), _cpu()
    say("begin")
    go_on(began + clients.spec.seconds)
    took = time.perf_counter() - began
    say("end")
    return {"acks": (answered - before) / took, "generator": (_cpu() - busy) / took}


def _posts(client: Client, group: str) -> Iterator[bytes]:
    while True:
        made = [client.posts(group) for _ in range(1000)]
        yield from made


def idle(_: Clients) -> dict[str, float]:
    """Report that all are connected; stay until a line is read."""
    say("begin")
    sys.stdin.readline()
    return {}


def catch_up(spec: Spec) -> dict[str, float]:
    """Read `window` events of a group as fast as possible; return events per second."""
    if spec.kind == "bare":
        reading = connect(spec.port)
    else:
        client = TchatClient(spec.port, "m0")
        client.attach("g0")
        reading = client.socket
    began, heard, tail = time.perf_counter(), 0, b""
    while heard < spec.window:
        data = tail + reading.recv(_SPACE)
        heard += data.count(MARK)
        tail = data[max(0, len(data) - len(MARK) + 1) :]
    return {"events": heard / (time.perf_counter() - began)}


LOADS: dict[str, Callable[[Clients], dict[str, float]]] = {
    "fanout": fan_out,
    "pace": pace,
    "acks": acks,
    "idle": idle,
}


def _cpu() -> float:
    return time.process_time()


def main() -> None:
    """Run the load of the argument; write the results as JSON on the last line."""
    spec = Spec(**json.loads(sys.argv[1]))
    if spec.load == "catchup":
        say(json.dumps(catch_up(spec)))
        return
    clients = Clients(spec)
    clients.join_groups()
    say(json.dumps(LOADS[spec.load](clients)))


if __name__ == "__main__":
    main()
