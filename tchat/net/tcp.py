"""TCP: connect, listen, and describe network errors in plain words."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import TYPE_CHECKING

import trio

from tchat.core.text import check_text, clean_line
from tchat.errors import Code, Refused, StartupError, root_of
from tchat.net.address import Address

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_PORT_TRIES = 20
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SHORTAGE_SECONDS = 0.1


async def connect(address: Address) -> trio.SocketStream:
    """Open a TCP connection. Raises OSError, which `explain` describes in words."""
    return await trio.open_tcp_stream(address.host, address.port)


async def listen(address: Address) -> list[trio.SocketListener]:
    """Listen on all addresses of the host, on the same port; port 0 picks a free one.

    Raises `StartupError`.
    """
    try:
        for _ in range(_PORT_TRIES):
            first = await trio.open_tcp_listeners(address.port, host=address.host)
            if len({port_of(listener) for listener in first}) == 1:
                return first
            # With port 0, the system picked a different port for each address: retry with the port
            # of the first.
            port = port_of(first[0])
            for listener in first:
                await listener.aclose()
            try:
                return await trio.open_tcp_listeners(port, host=address.host)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
    except (OSError, UnicodeError) as error:
        raise StartupError(
            Code.CANNOT_START,
            f"Cannot listen on {address}: {explain(error)}. Give another address or port.",
        ) from error
    raise StartupError(Code.CANNOT_START, f"No free port found on {address.host}. Give a port.")


async def accept_connections(
    listeners: list[trio.SocketListener],
    handle: Callable[[trio.SocketStream], Awaitable[object]],
    nursery: trio.Nursery,
    on_shortage: Callable[[OSError], object],
) -> None:
    """Start `handle` in the nursery for each connection, until cancelled; close the listeners.

    If the system has no files or memory for another connection, `on_shortage` is called and it is
    tried again: the connection waits in the system's queue. (`trio.serve_listeners` would print a
    traceback each time.) Raises the OSError of a listener that has failed.
    """

    async def run(stream: trio.SocketStream) -> None:
        try:
            await handle(stream)
        finally:
            await trio.aclose_forcefully(stream)

    async def accept(listener: trio.SocketListener) -> None:
        async with listener:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    if error.errno not in _SHORTAGES:
                        raise
                    on_shortage(error)
                    await trio.sleep(_SHORTAGE_SECONDS)
                else:
                    nursery.start_soon(run, stream)

    async with trio.open_nursery() as accepting:
        for listener in listeners:
            accepting.start_soon(accept, listener)


def port_of(listener: trio.SocketListener) -> int:
    """Return the port that a listener listens on."""
    return int(listener.socket.getsockname()[1])


def address_of(listener: trio.SocketListener) -> Address:
    """Return the address that a listener listens on."""
    host, port, *_ = listener.socket.getsockname()
    return Address(host, port)


def peer_of(stream: trio.abc.Stream) -> Address | None:
    """Return the address of the other end; None if it is gone already, or has no address."""
    if isinstance(stream, trio.SocketStream):
        try:
            host, port, *_ = stream.socket.getpeername()
        except (OSError, ValueError):  # a Unix socket has no port
            return None
        return Address(host, port)
    return None


def _message_of(error: BaseException) -> str:
    """Return the message of an error, sanitized; empty if a person would see nothing of it."""
    text = clean_line(str(error)).strip().rstrip(".")
    try:
        check_text(text)
    except Refused:
        return ""
    return text


def _describe(error: BaseException) -> str:
    """Return what an error without a message means."""
    if isinstance(error, TimeoutError | trio.TooSlowError):
        return "no answer in time"
    return "the connection broke"


def explain(error: BaseException) -> str:
    """Return the cause of a network error in plain words, to end a sentence with."""
    if isinstance(error.__cause__, OSError | ExceptionGroup):
        # Trio's message only lists the addresses it tried; the first failure has the reason.
        return explain(root_of(error.__cause__))
    if isinstance(error, socket.gaierror):
        return "unknown host"
    if isinstance(error, UnicodeError):
        return "not a valid host name"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {str(error.reason or error).lower().replace('_', ' ')}"
    number = error.errno if isinstance(error, OSError) else None
    known = {
        errno.EADDRINUSE: "the port is already in use",
        errno.EADDRNOTAVAIL: "this machine has no such address",
        errno.EACCES: "ports below 1024 need root privileges",
        errno.ECONNREFUSED: "connection refused",
    }
    if number is None:
        return _message_of(error) or _describe(error)
    return known.get(number, os.strerror(number).lower())
