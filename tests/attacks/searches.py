"""Searches and deletions against everybody else's messages; attached groups that nobody reads.

`python -m tests.attacks.searches` runs a server in a process of its own and prints, in ms:

- how long posts and logins of others take before, while and after two people search and one
  deletes, all as fast as they may, in a group of 100,000 messages;
- how much memory the server takes for each connection that attaches 200 groups and reads nothing;
- how much memory it takes for each connection that reads nothing of a state of 12 MiB, of which
  each gets another version;
- how much memory it takes, and how long logins take, while 16 connections of one member send read
  receipts for random group names as fast as they can.

The exit status is 1 if others' p99 is more than doubled, or the memory more than 1 MiB for each of
the attacker's connections. Other work on this machine makes delays longer: then run it again,
alone.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import sys
import tempfile
import threading
import time
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from unittest.mock import patch

import trio

from tchat.core.group.membership import Join
from tchat.core.group.messages import Delete, Post
from tchat.core.group.settings import SetPolicy
from tchat.core.protocol.frames import (
    Attach,
    Attached,
    Failed,
    Ok,
    Search,
    SearchResults,
    Seen,
    decode,
    encode,
)
from tchat.core.protocol.framing import FrameBuffer
from tchat.core.protocol.handshake import Challenge, Proof, Welcome, proof_text
from tchat.core.vocabulary import TO_CLIENT
from tchat.server.groups import state_cache
from tchat.store.open import open_store
from tests.bench.report import percentile, resident, say
from tests.bench.servers import start_tchat
from tests.helpers import GROUP as GROUP_OF_TESTS
from tests.helpers import hello_of, identity_of, members, raw_client, running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tchat.core.protocol.schema import Frame

F = TypeVar("F")

GROUP = "ops"
OTHER_GROUP = "dev"
MESSAGES = 100_000
_WORDS = 3000
_WORDS_PER_MESSAGE = 12
_PHASE_SECONDS = 12.0
_QUIET_SECONDS = 5.0
_PAUSE_SECONDS = 0.06  # so that the rate of messages delays nobody
_LOGIN_PAUSE_SECONDS = 0.2
_PIPELINED = 500
_GROUPS = 200
_GROUP_BYTES = 400 * 1024
_LONG = 15_000
_CONNECTIONS = 5
_FLOODING = 16
_SEND_SECONDS = 3.0
_STATE_BYTES = 12 << 20
_STATES = 20
_STATE_SECONDS = 0.2
_MOST_MEMORY = 1 << 20
_SLACK_MS = 5.0


class Client:
    """A blocking client that logs in, and waits for the answer to each request."""

    def __init__(self, port: int, name: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._frames = FrameBuffer()
        self._last = 0
        hello = hello_of(name, os.urandom(8))
        self.send(hello)
        proof = proof_text(hello, self.expect(Challenge), b"")
        self.send(Proof(identity_of(name).sign(proof)))
        self.expect(Welcome)

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def send(self, *frames: Frame) -> None:
        """Send frames in one write."""
        self.socket.sendall(b"".join(map(encode, frames)))

    def number(self) -> int:
        """Return the number of the next request."""
        self._last += 1
        return self._last

    def expect(self, kind: type[F]) -> F:
        """Return the next frame of a kind, and drop the others."""
        while True:
            frame = self._receive()
            if isinstance(frame, kind):
                return frame
            if isinstance(frame, Failed):
                raise ConnectionError(frame.code)

    def ask(self, make: Callable[[int], Frame]) -> Frame:
        """Send a request and return its answer, which may be a refusal."""
        number = self.number()
        self.send(make(number))
        while True:
            frame = self._receive()
            # A connection's answers carry the number of the request as their first field.
            if isinstance(frame, Ok | Failed | SearchResults) and frame.re == number:
                return frame

    def _receive(self) -> Frame:
        while (body := self._frames.pop()) is None:
            data = self.socket.recv(1 << 16)
            if not data:
                raise ConnectionError("closed")
            self._frames.feed(data)
        return decode(body, TO_CLIENT)


# ------------------------------------------------------------------ the server and its data


@contextmanager
def _serving(data: Path, *options: str) -> Iterator[tuple[int, int]]:
    """Serve the data for the length of the block; yield the process id and the port."""
    process, port, _ = start_tchat(data, data.parent / "log", "--no-tls", *options)
    try:
        yield process.pid, port
    finally:
        process.terminate()
        process.wait()


def _words(rng: random.Random) -> list[str]:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return ["".join(rng.choices(letters, k=rng.randint(3, 9))) for _ in range(_WORDS)]


def _fill(port: int, count: int) -> None:
    """Found two open groups and post `count` messages to the first one."""
    rng = random.Random(4711)
    words = _words(rng)
    admin = Client(port, "mallory")
    for group in (GROUP, OTHER_GROUP):
        admin.ask(lambda n, g=group: Join(n, n, g))  # type: ignore[misc]
        admin.ask(lambda n, g=group: SetPolicy(n, n, g, "open"))  # type: ignore[misc]
    for name in ("alice", "bob", "searcher1", "searcher2"):
        member = Client(port, name)
        for group in (GROUP, OTHER_GROUP):
            member.ask(lambda n, g=group: Join(n, n, g))  # type: ignore[misc]
        member.close()
    for _ in range(0, count, _PIPELINED):
        numbers = [admin.number() for _ in range(_PIPELINED)]
        texts = [" ".join(rng.choices(words, k=_WORDS_PER_MESSAGE)) for _ in numbers]
        admin.send(*(Post(n, n, GROUP, t) for n, t in zip(numbers, texts, strict=True)))
        for _ in numbers:
            admin.expect(Ok)
    admin.close()


# ------------------------------------------------------------------ two search, one deletes


@dataclass
class _Figures:
    """What others measured, in seconds, by the kind of request."""

    posts: list[float] = field(default_factory=list)
    elsewhere: list[float] = field(default_factory=list)
    logins: list[float] = field(default_factory=list)

    @property
    def slowest(self) -> float:
        """The p99 of the posts, in ms."""
        return 1000 * percentile(self.posts, 0.99)

    def lines(self, phase: str) -> None:
        """Print a line for each kind."""
        for kind in ("posts", "elsewhere", "logins"):
            taken = [1000 * seconds for seconds in getattr(self, kind)]
            half, most = percentile(taken, 0.5), percentile(taken, 0.99)
            say(
                f"{phase:8}{kind:10} p50 {half:8.1f}   p99 {most:8.1f}"
                f"   max {max(taken, default=0):8.1f}   of {len(taken)}"
            )


class _Others:
    """People who post and log in all the time; their figures go to `current`."""

    def __init__(self, port: int) -> None:
        self.current = _Figures()
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._post, args=(port, "alice", GROUP, "posts")),
            threading.Thread(target=self._post, args=(port, "bob", OTHER_GROUP, "elsewhere")),
            threading.Thread(target=self._log_in, args=(port,)),
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Stop posting."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _post(self, port: int, name: str, group: str, kind: str) -> None:
        client = Client(port, name)
        while not self._ended.is_set():
            began, figures = time.monotonic(), self.current
            answer = client.ask(lambda n: Post(n, n, group, "a short answer"))
            if isinstance(answer, Ok):
                getattr(figures, kind).append(time.monotonic() - began)
            time.sleep(_PAUSE_SECONDS)
        client.close()

    def _log_in(self, port: int) -> None:
        while not self._ended.is_set():
            began, figures = time.monotonic(), self.current
            Client(port, "bob").close()
            figures.logins.append(time.monotonic() - began)
            time.sleep(_LOGIN_PAUSE_SECONDS)


@dataclass
class _Attack:
    """Two people who search and one who deletes, until `ended`; counts of what was answered."""

    port: int
    ended: threading.Event = field(default_factory=threading.Event)
    searched: int = 0
    refused: int = 0
    deleted: int = 0

    def search(self, name: str) -> None:
        """Search for the starts of words, which match the most messages."""
        client = Client(self.port, name)
        rng = random.Random(name)
        while not self.ended.is_set():
            text = " ".join([rng.choice("abcdefghijklmnopqrstuvwxyz")])
            answer = client.ask(lambda n, t=text: Search(n, t, GROUP))  # type: ignore[misc]
            if isinstance(answer, SearchResults):
                self.searched += 1
            else:
                self.refused += 1
                time.sleep((getattr(answer, "wait", None) or 10) / 1000)
        client.close()

    def delete(self) -> None:
        """Delete one message after another."""
        client = Client(self.port, "mallory")
        rng = random.Random(1)
        while not self.ended.is_set():
            target = rng.randrange(20, MESSAGES)
            answer = client.ask(
                lambda n, t=target: Delete(n, n + 10 * MESSAGES, GROUP, t)  # type: ignore[misc]
            )
            if isinstance(answer, Ok):
                self.deleted += 1
            else:
                time.sleep((getattr(answer, "wait", None) or 10) / 1000)
        client.close()


def measure_searches(place: Path, messages: int = MESSAGES) -> bool:
    """Print how long others' posts and logins take, beside two searchers and one deleter.

    Return whether their p99 has at most doubled.
    """
    data = place / "searches"
    with _serving(data) as (_, port):
        _fill(port, messages)
    with _serving_with_limits(data) as port:
        others = _Others(port)
        time.sleep(1)
        before = others.current = _Figures()
        time.sleep(_QUIET_SECONDS)
        attack = _Attack(port)
        threads = [
            threading.Thread(target=attack.search, args=("searcher1",)),
            threading.Thread(target=attack.search, args=("searcher2",)),
            threading.Thread(target=attack.delete),
        ]
        first = others.current = _Figures()
        for thread in threads:
            thread.start()
        time.sleep(_PHASE_SECONDS)
        while_ = others.current = _Figures()
        time.sleep(_PHASE_SECONDS)
        others.current = _Figures()  # until the attack has ended
        attack.ended.set()
        for thread in threads:
            thread.join()
        after = others.current = _Figures()
        time.sleep(_QUIET_SECONDS)
        others.end()
    before.lines("before")
    first.lines("first")  # the index is built meanwhile
    while_.lines("while")
    after.lines("after")
    say(f"searches {attack.searched}, refused {attack.refused}; deletions {attack.deleted}")
    return while_.slowest <= 2 * before.slowest + _SLACK_MS


@contextmanager
def _serving_with_limits(data: Path) -> Iterator[int]:
    """Serve with the default limits of rates."""
    with _serving(data, "--rate-limit", "20/50") as (_, port):
        yield port


# ------------------------------------------------------------------ groups that nobody reads


def measure_attached(place: Path) -> bool:
    """Print the memory of a connection that attaches 200 groups and reads nothing.

    Return whether it is at most 1 MiB.
    """
    data = place / "attached"
    names = [f"g{number}" for number in range(_GROUPS)]
    with _serving(data) as (_, port):
        for name in names:
            founder = Client(port, "mallory")
            founder.ask(lambda n, g=name: Join(n, n, g))  # type: ignore[misc]
            for _ in range(_GROUP_BYTES // _LONG):
                founder.ask(lambda n, g=name: Post(n, n, g, _LONG * "x"))  # type: ignore[misc]
            founder.close()
    with _serving(data) as (process, port), ExitStack() as stack:
        once = Client(port, "mallory")  # so that everything is loaded
        for name in names:
            once.send(Attach(once.number(), name, _GROUP_BYTES))
        _drain(once.socket)
        once.close()
        time.sleep(1)
        before = resident(process)
        for _ in range(_CONNECTIONS):
            client = Client(port, "mallory")
            stack.callback(client.close)
            client.send(*(Attach(client.number(), name, 0, 0) for name in names))
        time.sleep(3)
        each = (resident(process) - before) / _CONNECTIONS
        say(f"a connection with {_GROUPS} attached groups, unread: {each / 1024:.0f} KiB")
    return each <= _MOST_MEMORY


# ------------------------------------------------------------------ a long state that nobody reads


def measure_long_states(place: Path) -> bool:
    """Print the memory of a connection that reads nothing of a long state; return whether it holds.

    The server runs in this process, because a real state takes long to become so long.
    """
    each = trio.run(_read_no_state, place / "states")
    say(f"a connection with a state of {_STATE_BYTES >> 20} MiB, unread: {each / 1024:.0f} KiB")
    return each <= _MOST_MEMORY


async def _read_no_state(data: Path) -> float:
    content = os.urandom(_STATE_BYTES)
    async with (
        AsyncExitStack() as stack,
        open_store(data) as store,
        running_server(store) as server,
        members(server, "alice", "bob") as (alice, _),
    ):
        stack.enter_context(
            patch.object(state_cache, "freeze", lambda _: bytes(bytearray(content)))
        )
        before = resident(os.getpid())
        for number in range(_STATES):
            bob = await stack.enter_async_context(raw_client(server.address, "bob"))
            await bob.send(Attach(1, GROUP_OF_TESTS, 0, 0))
            await bob.expect(Attached)
            await trio.sleep(_STATE_SECONDS)
            await alice.post(f"{number}")
        return (resident(os.getpid()) - before) / _STATES


# ------------------------------------------------------------------ names that no group has


def measure_unknown_groups(place: Path) -> bool:
    """Print the server's memory beside read receipts for random names; return whether it holds."""
    ended = threading.Event()
    peak, logins = 0, list[float]()
    with _serving(place / "unknown", "--rate-limit", "20/50") as (process, port):

        def flood() -> None:
            client, rng = Client(port, "mallory"), random.Random()
            client.socket.settimeout(_SEND_SECONDS)  # the server reads more slowly
            with suppress(OSError):
                while not ended.is_set():
                    names = (f"x{rng.getrandbits(60):x}" for _ in range(100))
                    client.send(*(Seen(name, 1) for name in names))
            client.close()

        Client(port, "bob").close()
        time.sleep(1)
        before = resident(process)
        threads = [threading.Thread(target=flood) for _ in range(_FLOODING)]
        for thread in threads:
            thread.start()
        give_up = time.monotonic() + _PHASE_SECONDS
        while time.monotonic() < give_up:
            began = time.monotonic()
            with suppress(OSError):  # a refusal, after 10 s
                Client(port, "bob").close()
            logins.append(1000 * (time.monotonic() - began))
            peak = max(peak, resident(process))
            time.sleep(_LOGIN_PAUSE_SECONDS)
        ended.set()
        for thread in threads:
            thread.join()
    each = (peak - before) / _FLOODING
    say(
        f"{_FLOODING} connections with unknown groups: {each / 1024:.0f} KiB each at most;"
        f" logins p50 {percentile(logins, 0.5):.1f}   p99 {percentile(logins, 0.99):.1f}"
    )
    return each <= _MOST_MEMORY


def _drain(connected: socket.socket) -> None:
    """Read until nothing has come for a second."""
    connected.settimeout(1)
    with suppress(TimeoutError):
        while connected.recv(1 << 20):
            pass


def main() -> int:
    """Run the attacks; return the exit status."""
    measures = {
        "searches": measure_searches,
        "attached": measure_attached,
        "states": measure_long_states,
        "unknown": measure_unknown_groups,
    }
    parser = argparse.ArgumentParser(description="Measure searches, deletions and unread groups.")
    parser.add_argument("--only", choices=measures)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        chosen = [measures[given.only]] if given.only else list(measures.values())
        held = [measure(Path(directory)) for measure in chosen]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
