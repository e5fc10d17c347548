"""A whole server: open the store and the port, accept, and stop in good order.

Stopping takes three steps. No more connections are accepted; those that are open are told
goodbye and their outboxes flushed; then the groups finish what waits in their inboxes. All of it
has a deadline, after which it is cancelled: what was acknowledged is on disk by then anyway.
"""

from __future__ import annotations

import gc
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import trio

if sys.platform != "win32":  # which has no such limit
    import resource

from tchat.core.fingerprints import pin_text
from tchat.errors import Code, StartupError
from tchat.net.address import Address, is_local, listen, port_of
from tchat.net.tls import load_credentials, make_credentials
from tchat.server.accounts import AccountManager, GroupQuota
from tchat.server.clock import now_ms
from tchat.server.connections.connection import serve_connection
from tchat.server.connections.files import sweep_files
from tchat.server.context import ServerContext
from tchat.server.control import operable
from tchat.server.groups.registry import Registry
from tchat.server.limits import Limits
from tchat.server.presence import Presence
from tchat.server.tickets import Tickets
from tchat.store.open import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from tchat.core.protocol.frames import Standing
    from tchat.net.tls import Credentials
    from tchat.server.log import Log
    from tchat.store.base import Store

GRACE_SECONDS = 5.0
_SWEEP_SECONDS = 5.0
_OBJECTS_BETWEEN_COLLECTIONS = 20_000
_OTHER_FILES = 100  # the store, transfers' files, the log
_EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104  # compared with, not bound to


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where a server listens, where it keeps its data, what it allows, and how it is secured.

    `certificate` and `key` are PEM files of one's own; without them a server makes its own. `plain`
    is without TLS, which is refused on addresses that others reach unless it is `insecure` too.
    """

    address: Address
    data: Path
    limits: Limits = field(default_factory=Limits)
    certificate: Path | None = None
    key: Path | None = None
    plain: bool = False
    insecure: bool = False


async def run_server(config: ServerConfig, log: Log) -> None:
    """Serve until SIGINT or SIGTERM. Raises `StartupError` or `StorageError`."""
    _check_exposure(config)
    config = replace(config, limits=_within_descriptors(config.limits))
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with open_store(config.data) as store, trio.open_nursery() as nursery:
            stop = trio.Event()
            nursery.start_soon(_stop_on, signals, stop, log)
            _spare_the_collector()
            await serve(config, _credentials(config), store, log, stop)
            nursery.cancel_scope.cancel()


def _spare_the_collector() -> None:
    """Have the garbage collector look at less, less often: it stops everybody while it looks.

    What is here by now stays. And of what a message makes nearly nothing is left a moment later,
    by counting references alone; the default is to look after every hundred messages.
    """
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, 20, 20)


def _within_descriptors(limits: Limits) -> Limits:
    """Return limits that the system's number of open files allows, which is raised if it may be."""
    if sys.platform == "win32":
        return limits
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.connections + _OTHER_FILES
    most = max(soft, wanted if hard == resource.RLIM_INFINITY else min(wanted, hard))
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return replace(limits, connections=max(1, min(limits.connections, most - _OTHER_FILES)))


def _check_exposure(config: ServerConfig) -> None:
    """Raise `StartupError` for a server in the clear that others could reach by accident."""
    if config.plain and not config.insecure and not is_local(config.address.host):
        raise StartupError(
            Code.CANNOT_START,
            f"--no-tls on {config.address.host} would let everybody on the way read and change what"
            " is said. If that is what you want, add --insecure.",
        )


def _credentials(config: ServerConfig) -> Credentials | None:
    if config.plain:
        return None
    if config.certificate is not None and config.key is not None:
        return load_credentials(config.certificate, config.key)
    return make_credentials(config.data)


async def _stop_on(signals: AsyncIterator[int], stop: trio.Event, log: Log) -> None:
    """Stop at the first signal. Further ones are taken too, lest they end the process early."""
    async for number in signals:
        if not stop.is_set():
            log.line("stopping", signal=signal.Signals(number).name)
        stop.set()


async def serve(
    config: ServerConfig,
    credentials: Credentials | None,
    store: Store,
    log: Log,
    stop: trio.Event,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `stop` is set; `task_status` gets the port once connections are accepted."""
    listeners = await listen(config.address)
    port = port_of(listeners[0])
    async with trio.open_nursery() as groups:
        memberships = GroupQuota(store, config.limits.groups_per_user)
        crowd = Presence()
        tickets = Tickets()

        def moved(group: str, standings: Mapping[str, Standing]) -> None:
            memberships.moved(group, standings)
            tickets.moved(group, standings)

        registry = Registry(store, log, groups, crowd, moved, config.limits.group)
        people = AccountManager(store.accounts, now_ms)
        host = ServerContext(
            *(store, registry, log, people, memberships, crowd, config.limits, credentials),
            tickets=tickets,
        )
        async with (
            trio.open_nursery() as connections,
            operable(host, config.data),
            trio.open_nursery() as accepting,
        ):
            accepting.start_soon(
                partial(
                    trio.serve_listeners,
                    partial(serve_connection, host),
                    listeners,
                    handler_nursery=connections,
                )
            )
            accepting.start_soon(_send_silent_away, host)
            accepting.start_soon(sweep_files, host)
            _announce(log, Address(config.address.host, port), credentials)
            task_status.started(port)
            await stop.wait()
            accepting.cancel_scope.cancel()
            groups.cancel_scope.deadline = trio.current_time() + GRACE_SECONDS
            host.stop()
        registry.close()


def _announce(log: Log, address: Address, credentials: Credentials | None) -> None:
    """Say where the server is, and how to get in."""
    log.line("listening", address=str(address))
    host = socket.gethostname() if address.host in _EVERYWHERE else address.host
    command = f"python -m tchat join {host} {address.port}"
    if credentials is None:
        command += " --no-tls" if is_local(host) else " --no-tls --insecure"
    elif credentials.self_signed:
        command += f" --pin {pin_text(credentials.pin)}"
    if credentials is not None:
        log.line("key", pin=pin_text(credentials.pin))
    log.line("invitation", command=command)


async def _send_silent_away(host: ServerContext) -> None:
    """End conversations that were silent for too long: the other side is gone, or hangs."""
    while True:
        await trio.sleep(_SWEEP_SECONDS)
        limit = trio.current_time() - host.limits.silence_seconds
        for conversation in host.crowd.guests():
            if conversation.heard < limit:
                conversation.end(Code.IDLE, "Nothing was heard from this client for too long.")
