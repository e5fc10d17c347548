"""Strangers who say nothing, or a byte at a time: all are cut, and none of them harms anybody."""

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
from tchat.net.address import connect
from tchat.net.tls import client_context, make_credentials, open_tls
from tests.helpers import GUARD, UNHURRIED, RawClient, hello_of, running_server
from tests.protocol import unchecked
from tests.throwing import chatting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tchat.net.address import Address
    from tests.helpers import RunningServer

STRANGERS = 400
"""How many come at once: half of them silent, half a byte at a time."""

SHORT = replace(
    UNHURRIED,
    handshake_seconds=1.5,
    strangers=STRANGERS,
    strangers_per_address=STRANGERS,
)

NEVER_WHOLE = unchecked({**hello_of("mallory").to_map(), "filler": 3900 * "x"})
"""A hello that is not over before the time is, a byte at a time."""


@contextmanager
def many_files(number: int) -> Iterator[None]:
    """Let this process have so many open files, both ends of connections among them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < number:
        pytest.skip(f"this system allows {hard} open files, and {number} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def client_hello() -> bytes:
    """Return how a client begins TLS."""
    out = ssl.MemoryBIO()
    tls = client_context(verified=False).wrap_bio(ssl.MemoryBIO(), out)
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


async def see_the_end(stream: trio.abc.Stream) -> None:
    """Read until the server has ended the connection, one way or another."""
    with suppress(trio.BrokenResourceError):
        while await stream.receive_some():
            pass


async def dribble(stream: trio.abc.Stream, beginning: bytes) -> None:
    """Send one byte at a time, until nobody takes them."""
    rest = memoryview(beginning)
    with suppress(trio.BrokenResourceError):
        while True:
            await stream.send_all(bytes(rest[:1]) or b"\x00")
            rest = rest[1:]


async def stay(address: Address, beginning: bytes | None, *, encrypted: bool) -> None:
    """Be a stranger, silent or dribbling, until the server has ended the connection."""
    async with await connect(address) as plain:
        stream: trio.abc.Stream = plain
        try:
            if encrypted:
                stream = await open_tls(plain, client_context(verified=False), address.host)
        except trio.BrokenResourceError:
            return  # before we were through: cut as well
        async with trio.open_nursery() as nursery:
            if beginning is not None:
                nursery.start_soon(dribble, stream, beginning)
            await see_the_end(stream)
            nursery.cancel_scope.cancel()


async def besiege(server: RunningServer, *, tls: bool) -> None:
    """Come in great number, and stay until all have been cut."""
    kinds: list[tuple[bytes | None, bool]] = [(None, False), (NEVER_WHOLE, False)]
    if tls:
        kinds = [(None, False), (client_hello(), False), (None, True), (NEVER_WHOLE, True)]
    with trio.fail_after(2 * GUARD):
        async with trio.open_nursery() as nursery:
            for number in range(STRANGERS):
                beginning, encrypted = kinds[number % len(kinds)]
                nursery.start_soon(partial(stay, encrypted=encrypted), server.address, beginning)


async def is_let_in_as_the_last(server: RunningServer, pin: bytes | None) -> bool:
    """Return whether there is room for one more beside as many strangers as there may be."""
    async with AsyncExitStack() as stack:
        for _ in range(STRANGERS - 1):
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
async def test_all_are_cut_and_counted_out_and_nobody_else_is_harmed(
    tls: bool, tmp_path: Path
) -> None:
    credentials = make_credentials(tmp_path) if tls else None
    pin = credentials.pin if credentials else None
    with many_files(4 * STRANGERS):
        async with running_server(limits=SHORT, credentials=credentials) as server:
            async with chatting(server.address, pin) as pair:
                await besiege(server, tls=tls)
                pair.leaving = True
                await pair.gone.wait()
                await pair.check(server.store)
            with trio.fail_after(GUARD):
                while not await is_let_in_as_the_last(server, pin):
                    pass
    assert not [line for line in server.console if "fault" in line]
