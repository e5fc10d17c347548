"""What the operator may ask of a server that runs: through a socket in its data directory.

Whoever can write to the data directory could change everything in it anyway, so the file system's
permissions are all the protection there is, and all that is needed. A server that does not run is
asked through its store instead.
"""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import trio

from tchat.core.protocol.frames import (
    TO_CLIENT,
    TO_OPERATOR,
    Failed,
    Ok,
    Release,
    decode,
    encode,
    failed,
)
from tchat.core.text import check_name
from tchat.errors import (
    Code,
    ProtocolError,
    Refused,
    StartupError,
    StorageError,
    TchatError,
)
from tchat.net.link import Link
from tchat.server.accounts import AccountManager
from tchat.server.clock import now_ms
from tchat.store.open import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.server.context import ServerContext

_SOCKET = "control"
_PATIENCE_SECONDS = 5.0


@asynccontextmanager
async def operable(host: ServerContext, data: Path) -> AsyncIterator[None]:
    """Take what the operator asks for the length of the block, where the system has such sockets.

    Where it has none, or the path is too long for one, the operator has to stop the server first.
    """
    path = data / _SOCKET
    try:
        listener = _listen(path)
    except (OSError, AttributeError):
        yield
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, partial(_serve, host), [listener])
        try:
            yield
        finally:
            nursery.cancel_scope.cancel()
            with suppress(OSError):
                path.unlink()


async def release_name(data: Path, name: str) -> None:
    """Take all keys from a name, in the server that runs on `data` or in its store.

    Raises `Refused` (no_such_name), `StartupError`, or `ProtocolError`.
    """
    name = check_name(name, "username")
    try:
        (data / "tchat.db").stat()
    except OSError as error:
        raise StartupError(
            Code.CANNOT_START, f"There is no server's data in {data}: {error.strerror}."
        ) from error
    try:
        stream = await trio.open_unix_socket(data / _SOCKET)
    except (OSError, RuntimeError):
        async with open_store(data) as store:
            await AccountManager(store.accounts, now_ms).release(name)
        return
    async with stream:
        try:
            with trio.fail_after(_PATIENCE_SECONDS):
                await _ask(Link(stream), Release(1, name))
        except (trio.TooSlowError, trio.BrokenResourceError) as error:
            raise StartupError(
                Code.CANNOT_START, "The server does not answer; stop it and try again."
            ) from error


async def _ask(link: Link, request: Release) -> None:
    await link.send(encode(request))
    body = await link.receive()
    answer = None if body is None else decode(body, TO_CLIENT)
    if isinstance(answer, Failed):
        raise Refused(answer.code, answer.text)
    if not isinstance(answer, Ok):
        raise StartupError(Code.CANNOT_START, "The server ended before it answered; try again.")


def _listen(path: Path) -> trio.SocketListener:
    path.unlink(missing_ok=True)  # of a server that was killed: ours is the only one, by its lock
    door = socket.socket(socket.AF_UNIX)
    try:
        door.bind(str(path))
        path.chmod(0o600)
        door.listen(8)
    except BaseException:
        door.close()
        raise
    return trio.SocketListener(trio.socket.from_stdlib_socket(door))


async def _serve(host: ServerContext, stream: trio.SocketStream) -> None:
    link = Link(stream)
    async with stream:
        with suppress(trio.BrokenResourceError), trio.move_on_after(_PATIENCE_SECONDS):
            try:
                answer = await _answer(host, await link.receive())
            except StorageError:
                raise  # concerns the whole server
            except TchatError as error:
                answer = failed(error)
            await link.send(encode(answer))
            await link.close_gracefully()


async def _answer(host: ServerContext, body: bytes | None) -> Ok | Failed:
    request = None if body is None else decode(body, TO_OPERATOR)
    if not isinstance(request, Release):
        raise ProtocolError(Code.UNKNOWN_TYPE, "The operator cannot ask for that.")
    name = check_name(request.name, "username")
    await host.people.release(name)
    host.crowd.lock_out(name, None, "The server's operator has released this name.")
    host.log.line("name_released", name=name)
    return Ok(request.id)
