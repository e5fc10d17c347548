"""The service manager's side of a server: readiness messages and inherited sockets.

Both are protocols of systemd that other managers speak, too (sd_notify(3), sd_listen_fds(3)):
environment variables name a socket for messages, and say how many listening sockets the process was
started with. Without these variables, nothing happens.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

import trio

from tchat.errors import Code, StartupError

_FIRST_DESCRIPTOR = 3


def notify(*states: str) -> None:
    """Tell the service manager a state, such as `READY=1`. Never fails."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # in the abstract namespace
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(address)
        sender.send("\n".join(states).encode())


def notify_reloading() -> None:
    """Say that a reload begins; `READY=1` ends it."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def inherited_listeners() -> list[trio.SocketListener]:
    """Return listeners on the TCP sockets that the process was started with; mostly none.

    Raises `StartupError` if one of them is no listening TCP socket.
    """
    # Removed from the environment: they are for this process only, and only once.
    process, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()):
        return []
    numbers = range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(count) if count.isdecimal() else 0)
    return [_listener(number) for number in numbers]


def _listener(number: int) -> trio.SocketListener:
    try:
        os.set_inheritable(number, False)
        inherited = socket.socket(fileno=number)
        if inherited.family in (socket.AF_INET, socket.AF_INET6):
            return trio.SocketListener(trio.socket.from_stdlib_socket(inherited))
    except (OSError, ValueError, TypeError):
        pass
    raise StartupError(
        Code.CANNOT_START,
        f"Descriptor {number} (LISTEN_FDS) is not a listening TCP socket. Use"
        " ListenStream= in the socket unit.",
    )
