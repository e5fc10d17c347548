"""Attack by file transfers: stalled ones, begun ones, and files until the disk is full.

`python -m tests.attacks.uploads [NUMBER OF BEGUN UPLOADS]` prints memory per stalled transfer, the
time of an upload request after thousands of begun uploads, what one person takes of a processor
core with 30 downloads at a time, and what still works on a disk that members have filled with
files. The last one needs root, to mount a small file system.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections import Counter, defaultdict
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import trio

from tchat.core.group.files import Share
from tchat.core.group.membership import Join, Leave
from tchat.core.group.messages import Post
from tchat.core.protocol.frames import Download, Failed, Have, Piece, StartAt, Ticket, Upload
from tchat.core.protocol.handshake import PIECE_SIZE, VERSION, Ready, TransferHello
from tchat.errors import Refused
from tchat.net.address import Address
from tchat.transfer.pieces import EMPTY_DIGEST
from tests.helpers import RawClient, raw_client
from tests.server.file_transfers import TransferConnection, sha

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_STALLED = 200
_PER_PERSON = 20
_BEGUN = 10_000
_SMALL_DISK = 96 << 20
_FILE = 8 * PIECE_SIZE
_REQUESTS = 25
_POSTS = 200
_DOWNLOADS = 30
_DOWNLOADED = 48 << 20
_WINDOW_SECONDS = 8.0
_WINDOWS = 5


@contextmanager
def server(data: Path, *options: str) -> Iterator[tuple[Address, int]]:
    """Serve a data directory with TLS; give the address and the process id."""
    command = [sys.executable, "-m", "tchat", "serve", "127.0.0.1", "0", "--data", str(data)]
    process = subprocess.Popen(  # our own program
        [*command, "--rate-limit", "off", *options], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "listening on" in line)
        yield Address("127.0.0.1", int(line.rsplit(":", 1)[1])), process.pid
    finally:
        process.terminate()
        process.communicate()


@contextmanager
def small_disk(path: Path) -> Iterator[None]:
    """Mount a small file system; this needs root."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_SMALL_DISK},mode=700", "tmpfs", str(path)]
    subprocess.run(mount, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)  # noqa: S607


def begun_files(data: Path) -> int:
    """Return the number of begun uploads on the disk."""
    return sum(path.suffix != ".sums" for path in data.glob("files/incoming/*/*"))


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def member(address: Address, name: str) -> AsyncIterator[RawClient]:
    """Connect as a person who has a group of that name."""
    async with raw_client(address, name, tls=True) as person:
        await person.command(Join, group=name)
        yield person


@asynccontextmanager
async def connection(address: Address, ticket: bytes) -> AsyncIterator[TransferConnection]:
    """Open a transfer connection."""
    async with raw_client(address, tls=True) as raw:
        transfer = TransferConnection(raw.stream)
        await transfer.send(TransferHello(VERSION, ticket))
        await transfer.expect(Ready)
        yield transfer


async def ask(person: RawClient, size: int, head: bytes) -> bytes:
    """Return a ticket for an upload. Raises `Refused`."""
    answer = await person.ask(lambda i: Upload(i, person.user, size, head))
    if isinstance(answer, Failed):
        raise Refused(answer.code, answer.text)
    assert isinstance(answer, Ticket), answer
    return answer.ticket


async def send(address: Address, person: RawClient, data: bytes) -> None:
    """Upload and share a file. Raises `Refused`."""
    ticket = await ask(person, len(data), sha(data[:PIECE_SIZE]))
    async with connection(address, ticket) as transfer:
        if isinstance(answer := await transfer.receive(), Have):
            await transfer.send_pieces(data)
            answer = (await transfer.until_end())[-1]
        if isinstance(answer, Failed):
            raise Refused(answer.code, answer.text)
    await person.command(Share, "file", len(data), sha(data), group=person.user)


# ------------------------------------------------------------------ the attacks


async def stalled_transfers(data: Path) -> None:
    """Begin uploads and downloads that then stand still; print the memory of each."""
    with server(data) as (address, pid):
        async with AsyncExitStack() as stack:
            people = [
                await stack.enter_async_context(member(address, f"m{number}"))
                for number in range(_STALLED // _PER_PERSON)
            ]
            for person in people:
                await send(address, person, os.urandom(_FILE))
            before = resident(pid)
            for number in range(_STALLED):
                ticket = await ask(people[number % len(people)], 8 << 20, os.urandom(32))
                upload = await stack.enter_async_context(connection(address, ticket))
                await upload.expect(Have)
                await upload.send(StartAt(0), Piece(PIECE_SIZE, bytes(32)), raw=b"x")
            await trio.sleep(1)
            print(f"stalled uploads: {(resident(pid) - before) / _STALLED / 1024:.0f} KiB each")
        async with AsyncExitStack() as stack:
            people = [
                await stack.enter_async_context(raw_client(address, f"m{number}", tls=True))
                for number in range(_STALLED // _PER_PERSON)
            ]
            await trio.sleep(2)
            before = resident(pid)
            for number in range(_STALLED):
                person = people[number % len(people)]
                answer = await person.ask(lambda i: Download(i, person.user, 1))  # noqa: B023
                assert isinstance(answer, Ticket), answer
                download = await stack.enter_async_context(connection(address, answer.ticket))
                await download.send(Have(0, EMPTY_DIGEST))
            await trio.sleep(1)
            print(f"unread downloads: {(resident(pid) - before) / _STALLED / 1024:.0f} KiB each")
            print(f"  in total: {resident(pid) / (1 << 20):.0f} MiB")


async def begun_uploads(data: Path, number: int) -> None:
    """Begin uploads of two bytes and send one; print what one more request costs."""
    with server(data) as (address, _):
        async with member(address, "mallory") as mallory, trio.open_nursery() as nursery:
            heads = iter([hashlib.sha256(str(n).encode()).digest() for n in range(number)])
            lock = trio.Lock()

            async def begin() -> None:
                for head in heads:
                    async with lock:
                        ticket = await ask(mallory, 2, head)
                    async with connection(address, ticket) as upload:
                        await upload.expect(Have)
                        await upload.send(StartAt(0), Piece(2, bytes(32)), raw=b"x")

            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(begin)
            await trio.sleep(1)
            times, pings = [], []
            for _ in range(_REQUESTS):
                start = time.perf_counter()
                await mallory.before_pong()
                middle = time.perf_counter()
                await ask(mallory, 2, os.urandom(32))
                times.append(time.perf_counter() - middle)
                pings.append(middle - start)
            left = begun_files(data)
            print(
                f"{number} begun uploads, {left} kept: a request takes {median(times) * 1e3:.2f} ms"
                f" (a ping {median(pings) * 1e3:.2f} ms)"
            )


class _Downloads:
    """Repeated downloads of people, each of the file in their own group, until cancelled."""

    def __init__(self, address: Address, clock: int) -> None:
        self._address = address
        self._clock = clock
        self._moved = Counter[str]()
        self._pings: list[float] = []
        self._asking: defaultdict[str, trio.Lock] = defaultdict(trio.Lock)

    async def download(self, person: RawClient) -> None:
        while True:
            async with self._asking[person.user]:
                answer = await person.ask(lambda i: Download(i, person.user, 1))
            if isinstance(answer, Ticket):
                await self._read(person.user, answer.ticket)
            else:
                await trio.sleep(0.1)  # the last ones have not quite ended

    async def _read(self, user: str, ticket: bytes) -> None:
        async with connection(self._address, ticket) as transfer:
            await transfer.send(Have(0, EMPTY_DIGEST))
            left = _DOWNLOADED
            while left > 0 and (data := await transfer.stream.receive_some(1 << 18)):
                left -= len(data)
                self._moved[user] += len(data)

    async def ping(self, person: RawClient) -> None:
        while True:
            async with self._asking[person.user]:
                began = time.monotonic()
                await person.before_pong()
                self._pings.append(time.monotonic() - began)
            await trio.sleep(0.1)

    async def window(self, what: str) -> None:
        """Print the server's work and what was moved within some seconds."""
        self._moved.clear()
        self._pings.clear()
        began, worked = time.monotonic(), time.clock_gettime(self._clock)
        await trio.sleep(_WINDOW_SECONDS)
        seconds, work = time.monotonic() - began, time.clock_gettime(self._clock) - worked
        rates = (f"{who} {size / seconds / 1e6:.0f} MB/s" for who, size in self._moved.items())
        print(
            f"{what}: {work / seconds:.0%} of a core, {', '.join(rates)},"
            f" pings {max(self._pings, default=0) * 1e3:.0f} ms at most"
        )


async def many_downloads(data: Path) -> None:
    """Download with 30 connections under one name; print the server's work, and what others get."""
    with server(data, "--rate-limit", "20/50") as (address, pid):
        # The processor time of a process: clock_getcpuclockid(3).
        downloads = _Downloads(address, (~pid << 3) | 2)
        async with member(address, "mallory") as mallory, member(address, "alice") as alice:
            for person in (mallory, alice):
                await send(address, person, os.urandom(_DOWNLOADED))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(downloads.ping, mallory)
                for _ in range(_DOWNLOADS):
                    nursery.start_soon(downloads.download, mallory)
                for number in range(1, _WINDOWS):
                    await downloads.window(f"{_DOWNLOADS} downloads, window {number}")
                nursery.start_soon(downloads.download, alice)
                await downloads.window("  and one of somebody else")
                nursery.cancel_scope.cancel()


async def full_disk(data: Path) -> None:
    """Fill a disk with files, and try to post, to leave and to log in."""
    with small_disk(data), server(data) as (address, _):
        async with member(address, "alice") as alice, member(address, "mallory") as mallory:
            reason = "nothing"
            for size in (PIECE_SIZE, 1 << 16, 1 << 12, 1):
                for _ in range(1000):
                    try:
                        await send(address, mallory, os.urandom(size))
                    except Refused as refused:
                        reason = f"{refused.code}: {refused.sentence}"
                        break
            print(f"files until the disk is full: {reason}")
            print(f"  free: {shutil.disk_usage(data).free / (1 << 20):.1f} MiB")
            for name, work in (
                (f"{_POSTS} long posts", lambda: _post(alice)),
                ("leave", lambda: mallory.command(Leave, group="mallory")),
                ("log in", lambda: _enter(address)),
            ):
                try:
                    await work()
                    print(f"  {name}: works")
                except (Refused, AssertionError) as error:
                    print(f"  {name}: {error}")


async def _post(person: RawClient) -> None:
    for _ in range(_POSTS):
        await person.command(Post, os.urandom(5000).hex(), group=person.user)


async def _enter(address: Address) -> None:
    async with member(address, "carol"):
        pass


async def attack(begun: int) -> None:
    """Run all attacks, each on a server of its own."""
    with TemporaryDirectory() as place:
        for name in ("stalled", "begun", "downloads", "full"):
            (Path(place) / name).mkdir()
        await stalled_transfers(Path(place) / "stalled")
        await begun_uploads(Path(place) / "begun", begun)
        await many_downloads(Path(place) / "downloads")
        if os.geteuid() == 0:
            await full_disk(Path(place) / "full")


def main() -> None:
    """Attack; the number of begun uploads may be given."""
    trio.run(attack, int(sys.argv[1]) if len(sys.argv) > 1 else _BEGUN)


if __name__ == "__main__":
    main()
