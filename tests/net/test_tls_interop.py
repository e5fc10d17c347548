"""TLS interoperability: with the standard library's sockets, and with the openssl program."""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.net.tls import client_context, make_credentials
from tchat.net.tls_stream import TlsStream
from tests.helpers import GUARD
from tests.net.ends import MUCH, both

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def sockets() -> AsyncIterator[tuple[trio.SocketStream, socket.socket]]:
    """Yield one end for trio, and the other for a thread."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(GUARD)
    with theirs:
        async with trio.SocketStream(trio.socket.from_stdlib_socket(ours)) as stream:
            yield stream, theirs


def plain_client(end: socket.socket) -> bytes:
    with client_context(verified=False).wrap_socket(end) as tls:
        tls.sendall(MUCH)
        taken = bytearray()
        while len(taken) < len(MUCH):
            taken += tls.recv(65536)
        tls.unwrap()
    return bytes(taken)


async def test_the_standard_client_exchanges_large_data(tmp_path: Path) -> None:
    context = make_credentials(tmp_path).context
    async with sockets() as (ours, theirs):

        async def echo() -> None:
            server = TlsStream(ours, context, server_side=True)
            await server.do_handshake()
            await server.send_all(await take_all(server))
            assert await server.receive_some() == b""
            await server.aclose()

        async def ask() -> None:
            assert await trio.to_thread.run_sync(plain_client, theirs) == MUCH

        await both(echo, ask)


async def take_all(stream: TlsStream[trio.SocketStream]) -> bytes:
    taken = bytearray()
    while len(taken) < len(MUCH):
        taken += await stream.receive_some(65536)
    return bytes(taken)


def plain_server(context: ssl.SSLContext, end: socket.socket) -> None:
    with context.wrap_socket(end, server_side=True) as tls:
        tls.sendall(tls.recv(100).upper())
        tls.unwrap()


async def test_session_tickets_from_a_server_are_ignored(tmp_path: Path) -> None:
    context = make_credentials(tmp_path).context
    context.num_tickets = 2
    async with sockets() as (ours, theirs):

        async def ask() -> None:
            client = TlsStream(ours, client_context(verified=False))
            await client.do_handshake()
            await client.send_all(b"text")
            assert await client.receive_some() == b"TEXT"
            assert await client.receive_some() == b""
            await client.unwrap()

        await both(ask, partial(trio.to_thread.run_sync, plain_server, context, theirs))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to ask")
async def test_a_key_update_is_followed_and_answered(tmp_path: Path) -> None:
    context = make_credentials(tmp_path).context
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-msg"]
    pipe = subprocess.PIPE
    with trio.fail_after(GUARD):
        async with listeners[0], trio.open_nursery() as nursery:
            run = partial(trio.run_process, command, stdin=pipe, stdout=pipe, stderr=pipe)
            client: trio.Process = await nursery.start(partial(run, check=False))
            server = TlsStream(await listeners[0].accept(), context, server_side=True)
            await server.do_handshake()
            assert client.stdin is not None
            assert client.stdout is not None
            await client.stdin.send_all(b"before\n")
            assert await server.receive_some() == b"before\n"
            await client.stdin.send_all(b"K\n")  # new keys, and a request for ours
            # openssl takes a letter for a command only if it arrives alone.
            shown = b""
            while b"KeyUpdate" not in shown:
                shown += await client.stdout.receive_some()
            await client.stdin.send_all(b"after\n")
            assert await server.receive_some() == b"after\n"
            await server.send_all(b"answer")
            while b"<<< TLS 1.3, Handshake [length 0005], KeyUpdate" not in shown:
                shown += await client.stdout.receive_some()
            while b"answer" not in shown:
                shown += await client.stdout.receive_some()
            await server.aclose()
            client.terminate()
