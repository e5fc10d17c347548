"""Control socket: garbage and silent peers, and a server that does not answer the operator."""

from __future__ import annotations

import io
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.protocol.frames import (
    Failed,
    Ok,
    Release,
    decode,
    encode,
)
from tchat.core.vocabulary import TO_CLIENT
from tchat.errors import Code, Refused, StartupError
from tchat.net.address import Address
from tchat.net.link import Link
from tchat.server.app import ServerConfig, serve
from tchat.server.control import release_name
from tchat.server.log import Log
from tchat.store.open import open_store
from tests.helpers import (
    GUARD,
    NO_RATE_LIMITS,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def server_with_control_socket(data: Path) -> AsyncIterator[None]:
    """Run a server with a control socket in `data`; it has to survive the block."""
    stop = trio.Event()
    log = Log("text", io.StringIO())
    config = ServerConfig(Address("127.0.0.1", 0), data, NO_RATE_LIMITS)
    async with open_store(data) as store, trio.open_nursery() as nursery:
        await nursery.start(serve, config, None, store, log, stop)
        yield
        stop.set()
    log.close()


async def control_reply(data: Path, sent: bytes) -> object:
    """Send bytes to the control socket; return the answer."""
    with trio.fail_after(GUARD):
        stream = await trio.open_unix_socket(str(data / "control"))
        async with stream:
            await stream.send_all(sent)
            await stream.send_eof()
            body = await Link(stream).receive()
            return None if body is None else decode(body, TO_CLIENT)


@pytest.mark.parametrize(
    "sent",
    [
        b"help\n",
        b"\0\0\0\1\xff",
        b"\xff" * 64,
        encode(Ok(1)),
        encode(Release(1, "no such name")),
    ],
    ids=["words", "no CBOR", "too long", "no request", "a bad name"],
)
async def test_garbage_on_the_control_socket_is_refused(sent: bytes, tmp_path: Path) -> None:
    async with server_with_control_socket(tmp_path):
        assert isinstance(await control_reply(tmp_path, sent), Failed)
        with pytest.raises(Refused) as caught:
            await release_name(tmp_path, "nobody")
        assert caught.value.code == Code.NO_SUCH_NAME


async def test_silent_client_does_not_block_the_control_socket(
    tmp_path: Path,
) -> None:
    async with (
        server_with_control_socket(tmp_path),
        await trio.open_unix_socket(str(tmp_path / "control")),
    ):
        with pytest.raises(Refused):
            await release_name(tmp_path, "nobody")


@pytest.mark.parametrize("answer", [b"", encode(Ok(1))[:-1]], ids=["none", "half of one"])
async def test_server_that_does_not_answer_is_an_error(
    answer: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tchat.server.control.TIMEOUT_SECONDS", 0.01)
    (tmp_path / "tchat.db").touch()
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(str(tmp_path / "control"))
    listener.listen(1)

    async def reply_badly() -> None:
        stream, _ = await listener.accept()
        with stream:
            await stream.send(answer)
            await trio.sleep_forever()

    with listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reply_badly)
            with trio.fail_after(GUARD), pytest.raises(StartupError) as caught:
                await release_name(tmp_path, "bob")
            nursery.cancel_scope.cancel()
    assert "stop it and try again" in caught.value.sentence
