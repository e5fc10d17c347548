"""Control socket: the operator's commands to a running server, such as releasing a name.

It is a Unix socket in the data directory. A user who can write to that directory could change
everything in it anyway, so file permissions are sufficient protection. When no server runs, the
same command works on the store directly.
"""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import trio

from tchat.core.protocol.frames import Failed, Ok, Release, decode, encode, failed
from tchat.core.text import check_name
from tchat.core.vocabulary import TO_CLIENT, TO_OPERATOR
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
TIMEOUT_SECONDS = 5.0
"""How long either side waits for the other."""


@asynccontextmanager
async def control_socket(context: ServerContext, data: Path) -> AsyncIterator[None]:
    """Answer the operator's commands while the block runs, if the system has Unix sockets.

    Without Unix sockets, or if the path is too long, the operator has to stop the server first.
    """
    path = data / _SOCKET
    try:
        listener = _listen(path)
    except (OSError, AttributeError):
        yield
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, partial(_serve, context), [listener])
        try:
            yield
        finally:
            nursery.cancel_scope.cancel()
            with suppress(OSError):
                path.unlink()


async def release_name(data: Path, name: str) -> None:
    """Remove all keys from a name: through the server that uses `data`, or directly in the store.

    Raises `Refused` (no_such_name), `StartupError`, or `ProtocolError`.
    """
    name = check_name(name, "username")
    try:
        (data / "tchat.db").stat()
    except OSError as error:
        raise StartupError(
            Code.CANNOT_START, f"There is no server data in {data}: {error.strerror}."
        ) from error
    try:
        stream = await trio.open_unix_socket(data / _SOCKET)
    except (OSError, RuntimeError):
        async with open_store(data) as store:
            await AccountManager(store.accounts, now_ms).release(name)
        return
    async with stream:
        try:
            with trio.fail_after(TIMEOUT_SECONDS):
                await _request(Link(stream), Release(1, name))
        except (trio.TooSlowError, trio.BrokenResourceError) as error:
            raise StartupError(
                Code.CANNOT_START, "The server does not answer; stop it and try again."
            ) from error


async def _request(link: Link, request: Release) -> None:
    """Send a request and wait for success. Raises `Refused` or `StartupError`."""
    await link.send(encode(request))
    body = await link.receive()
    answer = None if body is None else decode(body, TO_CLIENT)
    if isinstance(answer, Failed):
        raise Refused(answer.code, answer.text)
    if not isinstance(answer, Ok):
        raise StartupError(Code.CANNOT_START, "The server stopped before it answered; try again.")


def _listen(path: Path) -> trio.SocketListener:
    # An existing socket was left by a server that was killed: the lock on the data directory
    # guarantees that no other server runs.
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(8)
    except BaseException:
        listener.close()
        raise
    return trio.SocketListener(trio.socket.from_stdlib_socket(listener))


async def _serve(context: ServerContext, stream: trio.SocketStream) -> None:
    link = Link(stream)
    async with stream:
        with suppress(trio.BrokenResourceError), trio.move_on_after(TIMEOUT_SECONDS):
            try:
                answer = await _handle(context, await link.receive())
            except StorageError:
                raise  # the store is unreliable: the whole server has to stop
            except TchatError as error:
                answer = failed(error)
            await link.send(encode(answer))
            await link.close_gracefully()


async def _handle(context: ServerContext, body: bytes | None) -> Ok | Failed:
    request = None if body is None else decode(body, TO_OPERATOR)
    if not isinstance(request, Release):
        raise ProtocolError(Code.UNKNOWN_TYPE, "This is not a command for the control socket.")
    name = check_name(request.name, "username")
    await context.accounts.release(name)
    context.presence.disconnect_keys(name, None, "The server's operator has released this name.")
    context.log.line("name_released", name=name)
    return Ok(request.id)
