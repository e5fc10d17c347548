"""Links: connecting, encrypting in place, and closing with a last frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.protocol.frames import Ping, encode
from tchat.core.protocol.framing import PREFIX
from tchat.errors import Code, ProtocolError
from tchat.net.address import Address
from tchat.net.link import Link
from tchat.net.tcp import listen, port_of
from tchat.net.tls import (
    BUSY_ALERT,
    Credentials,
    NotTls,
    ServerBusy,
    client_context,
    make_credentials,
)
from tests.helpers import GUARD
from tests.sockets import connected

if TYPE_CHECKING:
    from pathlib import Path

FRAME = encode(Ping())


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    return make_credentials(tmp_path)


async def answer(listener: trio.SocketListener, data: bytes) -> None:
    """Answer one connection with these bytes, whatever it sends."""
    async with await listener.accept() as stream:
        await stream.receive_some()
        await stream.send_all(data)


async def test_a_link_knows_its_peers_address() -> None:
    async with connected() as (near, far):
        link = Link(near)
        host, port = far.socket.getsockname()
        assert link.peer == Address(host, port)
        await near.aclose()
        assert link.address == f"{host}:{port}"


async def test_a_closed_socket_has_no_address() -> None:
    async with connected() as (near, _):
        await near.aclose()
        link = Link(near)
        assert (link.peer, link.address) == (None, "an unknown address")


async def test_a_link_encrypts_itself_in_place(credentials: Credentials) -> None:
    (listener,) = await listen(Address("127.0.0.1", 0))
    links: list[Link] = []

    async def accept() -> None:
        link = Link(await listener.accept())
        await link.accept_tls(credentials)
        links.append(link)

    with trio.fail_after(GUARD):
        async with listener, trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            address = Address("127.0.0.1", port_of(listener))
            client = await Link.connect(address, client_context(verified=False))
        (server,) = links
        assert client.server_pin() == credentials.pin
        await server.send(FRAME)
        assert await client.receive() == FRAME[PREFIX:]
        await client.abort()
        assert await server.receive() is None
        await server.abort()


async def test_plain_client_gets_a_final_plain_frame(credentials: Credentials) -> None:
    async with connected() as (near, far):
        link = Link(near)
        await far.send_all(FRAME)
        with pytest.raises(ProtocolError) as caught:
            await link.accept_tls(credentials)
        assert caught.value.code == Code.NOT_ENCRYPTED
        await far.send_eof()
        await link.close_with(FRAME)
        assert (await far.receive_some()).endswith(FRAME)


async def test_an_unfinished_handshake_sends_no_frame(credentials: Credentials) -> None:
    async with connected() as (near, far):
        link = Link(near)
        with trio.move_on_after(0.01):
            await link.accept_tls(credentials)
        await link.close_with(FRAME)
        await link.abort()
        assert await far.receive_some() == b""


@pytest.mark.parametrize(
    ("data", "error"),
    [(FRAME + bytes(99), NotTls), (BUSY_ALERT, ServerBusy)],
    ids=["plain", "busy"],
)
async def test_failed_handshakes_have_names(data: bytes, error: type[Exception]) -> None:
    (listener,) = await listen(Address("127.0.0.1", 0))
    with trio.fail_after(GUARD):
        async with listener, trio.open_nursery() as nursery:
            nursery.start_soon(answer, listener, data)
            address = Address("127.0.0.1", port_of(listener))
            with pytest.raises(error):
                await Link.connect(address, client_context(verified=False))


async def test_a_link_without_tls_has_no_pin() -> None:
    async with connected() as (near, _):
        assert Link(near).server_pin() == b""
