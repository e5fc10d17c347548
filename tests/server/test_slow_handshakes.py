"""Silent and slow handshakes: all are ended at the deadline, and harm nobody."""

from __future__ import annotations

import resource
import ssl
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.protocol.handshake import Challenge
from tchat.net.tcp import connect
from tchat.net.tls import client_context, make_credentials, open_tls
from tests.cddl import unchecked
from tests.helpers import GUARD, NO_RATE_LIMITS, THOROUGH, RawClient, hello_of, running_server
from tests.hostile_clients import chatting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tchat.net.address import Address
    from tests.helpers import RunningServer

CONNECTIONS = 400 if THOROUGH else 200
"""How many connections at once: half of them silent, half sending byte by byte."""

SHORT = replace(
    NO_RATE_LIMITS,
    handshake_seconds=1.5,
    unauthenticated=CONNECTIONS,
    unauthenticated_per_address=CONNECTIONS,
)

SLOW_HELLO = unchecked({**hello_of("mallory").to_map(), "filler": 3900 * "x"})
"""A hello that takes longer than the deadline, byte by byte."""


@contextmanager
def many_files(number: int) -> Iterator[None]:
    """Raise the limit of open files: both ends of all connections are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < number:
        pytest.skip(f"this system allows {hard} open files, and {number} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def client_hello() -> bytes:
    """Return the first bytes of a TLS handshake."""
    out = ssl.MemoryBIO()
    tls = client_context(verified=False).wrap_bio(ssl.MemoryBIO(), out)
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


async def wait_for_end(stream: trio.abc.Stream) -> None:
    """Read until the server has ended the connection."""
    with suppress(trio.BrokenResourceError):
        while await stream.receive_some():
            pass


async def send_slowly(stream: trio.abc.Stream, beginning: bytes) -> None:
    """Send one byte at a time, until the connection is closed."""
    rest = memoryview(beginning)
    with suppress(trio.BrokenResourceError):
        while True:
            await stream.send_all(bytes(rest[:1]) or b"\x00")
            rest = rest[1:]


async def stay_unauthenticated(
    address: Address, beginning: bytes | None, *, encrypted: bool
) -> None:
    """Open a connection, silent or slow, and wait until the server ends it."""
    async with await connect(address) as plain:
        stream: trio.abc.Stream = plain
        try:
            if encrypted:
                stream = await open_tls(plain, client_context(verified=False), address.host)
        except trio.BrokenResourceError:
            return  # ended during the TLS handshake
        async with trio.open_nursery() as nursery:
            if beginning is not None:
                nursery.start_soon(send_slowly, stream, beginning)
            await wait_for_end(stream)
            nursery.cancel_scope.cancel()


async def open_slow_connections(server: RunningServer, *, tls: bool) -> None:
    """Open all slow connections, and wait until the server has ended them."""
    kinds: list[tuple[bytes | None, bool]] = [(None, False), (SLOW_HELLO, False)]
    if tls:
        kinds = [(None, False), (client_hello(), False), (None, True), (SLOW_HELLO, True)]
    with trio.fail_after(2 * GUARD):
        async with trio.open_nursery() as nursery:
            for number in range(CONNECTIONS):
                beginning, encrypted = kinds[number % len(kinds)]
                nursery.start_soon(
                    partial(stay_unauthenticated, encrypted=encrypted), server.address, beginning
                )


async def is_served_as_last(server: RunningServer, pin: bytes | None) -> bool:
    """Return whether one more connection is served beside all others but one."""
    async with AsyncExitStack() as stack:
        for _ in range(CONNECTIONS - 1):
            await stack.enter_async_context(await connect(server.address))
        stream: trio.abc.Stream = await stack.enter_async_context(await connect(server.address))
        try:
            if pin is not None:
                stream = await open_tls(stream, client_context(verified=False), "localhost")
        except trio.BrokenResourceError:
            return False
        newcomer = RawClient(stream)
        await newcomer.send(hello_of("newcomer"))
        return isinstance(await newcomer.receive(), Challenge)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_slow_handshakes_are_ended_and_harm_nobody(tls: bool, tmp_path: Path) -> None:
    credentials = make_credentials(tmp_path) if tls else None
    pin = credentials.pin if credentials else None
    with many_files(4 * CONNECTIONS):
        async with running_server(limits=SHORT, credentials=credentials) as server:
            async with chatting(server.address, pin) as pair:
                await open_slow_connections(server, tls=tls)
                pair.leaving = True
                await pair.gone.wait()
                await pair.check(server.store)
            with trio.fail_after(GUARD):
                while not await is_served_as_last(server, pin):
                    pass
    assert not [line for line in server.console if "fault" in line]
