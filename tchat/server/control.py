"""Control socket: the operator's commands to a running server.

It is the Unix socket `control` in the data directory, with mode 0600. A user who can write to that
directory could change everything in it anyway, so file permissions are sufficient protection.

A client sends one line of JSON, `{"command": NAME, "arguments": {...}}`. The server answers with
lines of JSON: `{"working": true}` every second while the command runs, and at the end
`{"done": {...}}`, or `{"error": CODE, "text": SENTENCE}`. Commands run one after another, except
for those in `_SHORT`.

`perform` is the other end. When no server runs, it locks and opens the store itself and runs the
same command on it; the log lines go to standard error.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING

import trio

from tchat.errors import (
    Code,
    ProtocolError,
    Refused,
    StartupError,
    TchatError,
    root_of,
)
from tchat.net.tcp import accept_connections
from tchat.net.tls import KEY_FILE
from tchat.server.clock import ServerClock
from tchat.server.context import make_context
from tchat.server.faults import describe, is_storage, log_shortage
from tchat.server.log import Log
from tchat.server.operations.changes import CHANGES
from tchat.server.retention import resume_clock
from tchat.store.open import open_store
from tchat.store.sqlite.directory import require_present

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from tchat.server.context import ServerContext
    from tchat.server.operations.reports import Report

_SOCKET = "control"
_ADDRESS_LIMIT = 90
_LINE_LIMIT = 64 * 1024
_SHORT = ("status", "ban", "unban", "bans", "trust-clock")
"""Commands that do not wait for others: an urgent ban must not wait for a long erasure."""

SIGN_OF_LIFE_SECONDS = 1.0
TIMEOUT_SECONDS = 5.0
"""How long either side waits for the next line of the other."""


# ------------------------------------------------------------------ the server


@asynccontextmanager
async def control_socket(context: ServerContext, data: Path) -> AsyncIterator[None]:
    """Answer the operator's commands while the block runs, if the system has Unix sockets.

    Without them, the operator has to stop the server first.
    """
    path = data / _SOCKET
    try:
        with _short(path) as address:
            listener = _listen(path, address)
    except (AttributeError, FileNotFoundError):  # no Unix sockets, or no such directory
        yield
        return
    except OSError as error:
        reason = (
            f"{path} cannot be made ({error.strerror}); 'tchat admin' can change nothing. Move away"
            " what is there, and start the server again."
        )
        context.log.line("fault", where="the control socket", reason=reason)
        yield
        return
    async with trio.open_nursery() as nursery:
        serve = partial(_serve, context, trio.Lock())
        on_shortage = partial(log_shortage, context.log)
        nursery.start_soon(accept_connections, [listener], serve, nursery, on_shortage)
        try:
            yield
        finally:
            nursery.cancel_scope.cancel()
            with suppress(OSError):
                path.unlink()


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """Give a form of a path that fits into a socket's address, which holds about 100 bytes."""
    if len(os.fsencode(path)) <= _ADDRESS_LIMIT:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _listen(path: Path, address: str) -> trio.SocketListener:
    # An existing socket was left by a server that was killed: the lock on the data directory
    # guarantees that no other server runs.
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(address)
        path.chmod(0o600)
        listener.listen(8)
    except BaseException:
        listener.close()
        raise
    return trio.SocketListener(trio.socket.from_stdlib_socket(listener))


async def _serve(context: ServerContext, serial: trio.Lock, stream: trio.SocketStream) -> None:
    async with stream:
        # The signs of life have ended before the answer is sent, even if the operator's end was
        # suspended and does not read: two tasks must never send at once.
        async with trio.open_nursery() as nursery:
            answer = await _answer(context, serial, stream, nursery)
            nursery.cancel_scope.cancel()
        if answer is not None:
            with trio.move_on_after(TIMEOUT_SECONDS, shield=True):
                await _send(stream, answer)


async def _answer(
    context: ServerContext, serial: trio.Lock, stream: trio.SocketStream, nursery: trio.Nursery
) -> Report | None:
    """Receive and run a command; return the answer, or None if the operator is gone.

    Signs of life are sent by a task in `nursery`. Only `StorageError` gets out: a fault in a
    command must not stop the server.
    """
    try:
        with trio.fail_after(TIMEOUT_SECONDS):
            request = await _Lines(stream).next()
        nursery.start_soon(_show_life, stream)
        is_short = isinstance(request, dict) and request.get("command") in _SHORT
        async with nullcontext() if is_short else serial:
            return {"done": await _run(context, request)}
    except trio.BrokenResourceError:
        return None
    except trio.TooSlowError:
        return {"error": str(Code.MALFORMED), "text": "No command was sent in time."}
    except Exception as error:
        if is_storage(error) and not context.on_fatal("an operator's command", error):
            raise  # the store is unreliable: the whole server has to stop
        if isinstance(error, TchatError):
            return {"error": str(error.code), "text": error.sentence}
        context.log.line("fault", where="an operator's command", reason=describe(error))
        return {"error": str(Code.INTERNAL), "text": "The command failed; see the server's log."}


async def _show_life(stream: trio.SocketStream) -> None:
    while True:
        await trio.sleep(SIGN_OF_LIFE_SECONDS)
        await _send(stream, {"working": True})


async def _run(context: ServerContext, request: object) -> Report:
    """Run the command in a request. Raises `TchatError`."""
    match request:
        case {"command": str(name), "arguments": dict(arguments)} if name in CHANGES:
            change = partial(CHANGES[name], context)
            try:
                signature(change).bind(**arguments)
                _check_types(arguments)
            except TypeError as error:
                raise ProtocolError(Code.MALFORMED, f"Wrong arguments: {error}.") from error
            return await change(**arguments)
        case _:
            raise ProtocolError(
                Code.UNKNOWN_TYPE, "This is not a command of this version of the server."
            )


def _check_types(arguments: Mapping[str, object]) -> None:
    """Raise TypeError unless all arguments are text, as all changes expect."""
    for name, value in arguments.items():
        if not isinstance(value, str):
            raise TypeError(f"{name!r} has to be text")


# ------------------------------------------------------------------ the operator


async def perform(data: Path, command: str, **arguments: object) -> Report:
    """Run a command: through the server that uses `data`, or directly on the store.

    Raises `Refused`, `StartupError` or `StorageError`.
    """
    request = {"command": command, "arguments": arguments}
    report = await _ask_server(data, request)
    return await _perform_here(data, request) if report is None else report


async def status_of(data: Path) -> Report | None:
    """Return the status of the server that uses `data`; None if none does, or it is silent."""
    try:
        return await _ask_server(data, {"command": "status", "arguments": {}})
    except (StartupError, Refused):
        return None


async def _ask_server(data: Path, request: object) -> Report | None:
    """Send a request to the server that uses `data`; return its report, or None without a server.

    Raises `Refused` or `StartupError`.
    """
    try:
        with _short(data / _SOCKET) as address:
            stream = await trio.open_unix_socket(address)
    except (OSError, RuntimeError):
        return None
    async with stream:
        try:
            return await _request(stream, request)
        except (trio.TooSlowError, trio.BrokenResourceError) as error:
            raise StartupError(
                Code.CANNOT_START, "The server does not answer; stop it and try again."
            ) from error


async def _perform_here(data: Path, request: object) -> Report:
    require_present(data)
    log = Log(stream=sys.stderr)
    try:
        async with open_store(data) as store, trio.open_nursery() as groups:
            clock = ServerClock(report=log.line)
            await resume_clock(clock, store, data)
            context = make_context(store, log, groups, clock=clock)
            context.own_keys = data if (data / KEY_FILE).exists() else None
            try:
                await context.bans.load()
                report = await _run(context, request)
            finally:
                context.registry.close()
    except BaseExceptionGroup as group:
        raise root_of(group) from None
    finally:
        log.close()
    return report


async def _request(stream: trio.SocketStream, request: object) -> Report:
    """Send a request and wait for its end. Raises `Refused` or `StartupError`."""
    with trio.fail_after(TIMEOUT_SECONDS):
        await _send(stream, request)
    lines, answer = _Lines(stream), None
    while True:
        with trio.fail_after(TIMEOUT_SECONDS):
            try:
                answer = await lines.next()
            except ProtocolError as error:
                raise StartupError(
                    Code.CANNOT_START, "The server stopped before it answered; try again."
                ) from error
        match answer:
            case {"done": dict(report)}:
                return report
            case {"error": str(code), "text": str(sentence)}:
                raise Refused(code, sentence)


# ------------------------------------------------------------------ lines of JSON


class _Lines:
    """Receives lines of JSON from a stream."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._rest = b""

    async def next(self) -> object:
        """Return the next value. Raises `ProtocolError`, or `trio.BrokenResourceError`."""
        while b"\n" not in self._rest:
            data = await self._stream.receive_some()
            if not data or len(self._rest) > _LINE_LIMIT:
                raise ProtocolError(Code.MALFORMED, "This is not a line of JSON.")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            return json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ProtocolError(Code.MALFORMED, "This is not a line of JSON.") from error


async def _send(stream: trio.SocketStream, value: object) -> None:
    """Send a line; do nothing if the other end is gone."""
    with suppress(trio.BrokenResourceError):
        await stream.send_all(json.dumps(value).encode() + b"\n")
