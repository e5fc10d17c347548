"""Server lifecycle: open the store and the port, accept connections, shut down gracefully.

Shutdown has three steps: the server stops accepting connections; it sends a goodbye to the open
ones and flushes their send queues; then the groups process their inboxes. All steps share one
deadline, after which the rest is cancelled. That loses no acknowledged command, because commands
are acknowledged only after they are on the disk.
"""

from __future__ import annotations

import gc
import math
import os
import resource
import shlex
import signal
import socket
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import trio

from tchat.core.fingerprints import pin_text
from tchat.errors import Code, StartupError, TchatError
from tchat.invocation import program_words
from tchat.machine_clocks import now_ms, steady_ms
from tchat.net.address import Address, Networks, is_local
from tchat.net.systemd import inherited_listeners, notify, notify_reloading
from tchat.net.tcp import accept_connections, address_of, listen, port_of
from tchat.net.tls import load_credentials, make_credentials
from tchat.private_directory import check_directory
from tchat.server.clock import ServerClock, keep_clock
from tchat.server.connections.connection import serve_connection
from tchat.server.context import FAILING, make_context
from tchat.server.control import control_socket
from tchat.server.faults import FatalFault, describe, log_fatal, log_shortage, log_troubles
from tchat.server.keepalive import disconnect_silent_clients
from tchat.server.limits import Limits
from tchat.server.metrics import check_metrics, serve_metrics
from tchat.server.operations.expiry import remove_expired_messages
from tchat.server.retention import remove_expired_files, resume_clock
from tchat.signals import ending_signals
from tchat.store.open import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tchat.net.tls import Credentials
    from tchat.server.context import ServerContext
    from tchat.server.log import Log
    from tchat.store.base import Store

GRACE_SECONDS = 5.0
_OBJECTS_BETWEEN_COLLECTIONS = 20_000
_OTHER_FILES = 100  # open files besides connections and the files of transfers
_LEAST_FILES = 128
_NEED_FILES = {
    "--max-connections": "connections",
    "--max-strangers": "unauthenticated",
    "--max-transfers": "transfers",
}
"""The options for limits of what needs open files, and their fields in `Limits`."""

_ALL_INTERFACES = ("0.0.0.0", "::", "*", "")  # noqa: S104  # compared with, not bound to
_NAME_SECONDS = 2.0  # to look up this machine's own name


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The configuration of a server: address, data directory, limits and TLS.

    `certificate` and `key` are PEM files from a certificate authority; without them the server
    generates its own. `plain` turns TLS off, which also requires `insecure` unless the address is a
    loopback address. Connections from `proxies` begin with a header of the PROXY protocol.
    `metrics` is where metrics are served, if they are. `clock` is the wall clock and `steady_clock`
    one that nobody can set, both in ms; `rate_clock` is as in `ServerContext`.
    """

    address: Address
    data: Path
    limits: Limits = field(default_factory=Limits)
    certificate: Path | None = None
    key: Path | None = None
    plain: bool = False
    insecure: bool = False
    proxies: Networks = ()
    metrics: Address | None = None
    clock: Callable[[], int] = now_ms
    steady_clock: Callable[[], int] = steady_ms
    rate_clock: Callable[[], float] = trio.current_time


@dataclass(frozen=True, slots=True)
class Reloadable:
    """The part of a configuration that a reload applies; see `ServerConfig`."""

    limits: Limits
    certificate: Path | None
    key: Path | None


@dataclass(frozen=True, slots=True)
class Listening:
    """The open listeners, and the addresses to announce."""

    listeners: list[trio.SocketListener]
    addresses: list[Address]


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload changes; new connections get the certificate."""

    limits: Limits
    credentials: Credentials | None


async def run_server(
    config: ServerConfig, log: Log, read_again: Callable[[], Reloadable] | None = None
) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP. Raises `StartupError` or `StorageError`.

    With `read_again`, which returns the limits and the certificate as they are configured now,
    SIGHUP applies them instead. If it raises an exception, that is logged, and nothing changes.
    """
    check_metrics(config.metrics)
    check_directory(config.data, "the server's data")
    config = replace(config, limits=_fit_to_open_files(config.limits, log))
    with trio.open_signal_receiver(*ending_signals()) as signals:
        # An address that cannot be used, or is not allowed, must not leave an empty directory.
        async with (
            _listening(config) as listening,
            open_store(config.data) as store,
            trio.open_nursery() as nursery,
        ):
            stop = trio.Event()
            # Unbounded: the newest reload must never be dropped.
            changes, changed = trio.open_memory_channel[Reloaded](math.inf)
            reload = (
                None if read_again is None else partial(_reload, config, read_again, changes, log)
            )
            nursery.start_soon(_handle_signals, signals, stop, log, reload)
            _tune_garbage_collector()
            credentials = _credentials(config)
            async with trio.open_nursery() as serving:
                parts = config, credentials, store, log, stop
                await serving.start(partial(serve, *parts, reloads=changed, listening=listening))
                if os.geteuid() == 0:
                    log.line("running_as_root")
            nursery.cancel_scope.cancel()


def _tune_garbage_collector() -> None:
    """Make garbage collections rare and short: each one pauses all connections.

    All objects that exist at startup are permanent, so they are excluded from scanning. Nearly all
    objects that a message allocates are soon freed by reference counting; by default, Python would
    nevertheless scan for cycles after every hundred messages.
    """
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, 20, 20)


def _fit_to_open_files(limits: Limits, log: Log) -> Limits:
    """Raise the system's limit of open files if needed, and lower our limits to fit it.

    A transfer is a connection with a file. Raises `StartupError` if there are too few for a server;
    limits that are lowered are logged.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.connections + limits.unauthenticated + limits.transfers + _OTHER_FILES
    most = max(soft, wanted if hard == resource.RLIM_INFINITY else min(wanted, hard))
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < _LEAST_FILES:
        raise StartupError(
            Code.CANNOT_START,
            f"A server needs at least {_LEAST_FILES} open files, for itself and a few people, and"
            f" this process may have {most}. Allow more: 'ulimit -n {wanted}' before the start, or"
            f" LimitNOFILE={wanted} in its systemd unit.",
        )
    available = most - _OTHER_FILES
    # Each may take a quarter of them at most, so that half is left for people.
    transfers = min(limits.transfers, available // 4)
    unauthenticated = min(limits.unauthenticated, available // 4)
    connections = min(limits.connections, available - transfers - unauthenticated)
    fitted = replace(
        limits, connections=connections, unauthenticated=unauthenticated, transfers=transfers
    )
    for option, field_ in _NEED_FILES.items():
        before, after = getattr(limits, field_), getattr(fitted, field_)
        if after < before:
            facts = {"before": before, "limit": after, "files": most, "needed": wanted}
            log.line("limit_lowered", option=option, **facts)
    return fitted


@asynccontextmanager
async def _listening(config: ServerConfig) -> AsyncIterator[Listening]:
    """Open the listeners for the length of the block. Raises `StartupError`."""
    async with AsyncExitStack() as stack:
        listening = await _open_listeners(config)
        for listener in listening.listeners:
            await stack.enter_async_context(listener)
        yield listening


async def _open_listeners(config: ServerConfig) -> Listening:
    """Inherit the listeners, or open new ones.

    Raises `StartupError` for a non-local address without TLS, unless `insecure` is set.
    """
    inherited = inherited_listeners()
    listeners = inherited or await listen(config.address)
    # Checked on the sockets: an inherited one can have another address than the configured one.
    exposed = [address for address in map(address_of, listeners) if not is_local(address.host)]
    if exposed and config.plain and not config.insecure:
        for listener in listeners:
            await listener.aclose()
        raise StartupError(
            Code.CANNOT_START,
            f"With --no-tls on {exposed[0].host}, everybody on the network path could read and"
            " change all messages. If that is what you want, add --insecure.",
        )
    if inherited:
        return Listening(inherited, list(dict.fromkeys(map(address_of, inherited))))
    return Listening(listeners, [Address(config.address.host, port_of(listeners[0]))])


def _credentials(config: ServerConfig) -> Credentials | None:
    if config.plain:
        return None
    if config.certificate is not None and config.key is not None:
        return load_credentials(config.certificate, config.key)
    return make_credentials(config.data)


async def _handle_signals(
    signals: AsyncIterator[int], stop: trio.Event, log: Log, reload: Callable[[], None] | None
) -> None:
    # Later signals are received as well: unhandled, a second Ctrl-C would kill the process in the
    # middle of the shutdown.
    async for number in signals:
        if reload is not None and number == signal.SIGHUP:
            reload()
            continue
        if not stop.is_set():
            log.line("stopping", signal=signal.Signals(number).name)
        stop.set()


def _reload(
    config: ServerConfig,
    read_again: Callable[[], Reloadable],
    changes: trio.MemorySendChannel[Reloaded],
    log: Log,
) -> None:
    """Read limits and certificate again, and pass them on; `config` is the running one."""
    notify_reloading()
    try:
        new = read_again()
        # Everything else stays as it is: no reload may turn TLS off or use other data.
        config = replace(config, certificate=new.certificate, key=new.key)
        reloaded = Reloaded(_fit_to_open_files(new.limits, log), _credentials(config))
    except Exception as error:  # noqa: BLE001  # no file may end a running server
        reason = error.sentence if isinstance(error, TchatError) else describe(error)
        log.line("reload_failed", reason=reason)
        notify("READY=1", "STATUS=The last reload failed; see the log.")
        return
    changes.send_nowait(reloaded)


async def _apply_reloads(
    context: ServerContext, reloads: trio.MemoryReceiveChannel[Reloaded]
) -> None:
    async for reloaded in reloads:
        context.apply(reloaded.limits, reloaded.credentials)
        context.log.line("reloaded")
        if reloaded.credentials is not None:
            _check_times(reloaded.credentials, context.log)
        notify("READY=1", "STATUS=")


async def serve(
    config: ServerConfig,
    credentials: Credentials | None,
    store: Store,
    log: Log,
    stop: trio.Event,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    *,
    reloads: trio.MemoryReceiveChannel[Reloaded] | None = None,
    listening: Listening | None = None,
) -> None:
    """Serve until `stop` is set; `task_status` gets the port once connections are accepted.

    Limits and certificates that arrive in `reloads` are applied. Without `listening`, the listeners
    are opened here. A fatal error (see `faults`) stops the server, and is raised at the end.
    """
    listening = listening or await _open_listeners(config)
    # The nursery of the groups is the outer one: on shutdown, the connections end first, and the
    # groups then process the commands received from them.
    clock = ServerClock(config.clock, config.steady_clock, report=log.line)
    await resume_clock(clock, store, config.data)
    async with trio.open_nursery() as groups:

        def on_first(where: str, error: Exception) -> None:
            log_fatal(log, where, error, config.data)
            context.stop(*FAILING)
            stop.set()

        fatal = FatalFault(on_first)
        context = make_context(
            store,
            log,
            groups,
            config.limits,
            credentials,
            clock,
            config.rate_clock,
            on_fatal=fatal.report,
        )
        context.proxies, context.serving = config.proxies, True
        has_own = credentials is not None and config.certificate is None
        context.own_keys = config.data if has_own else None
        log_troubles(log, config.data, store.troubles)
        await context.bans.load()
        async with (
            trio.open_nursery() as connections,
            control_socket(context, config.data),
            trio.open_nursery() as accepting,
        ):
            handle = partial(serve_connection, context)
            tasks: dict[str, Callable[[], Awaitable[object]]] = {
                "the port": partial(
                    accept_connections,
                    listening.listeners,
                    handle,
                    connections,
                    partial(log_shortage, log),
                ),
                "the keepalive": partial(
                    disconnect_silent_clients,
                    context.presence,
                    lambda: context.limits.silence_seconds,
                ),
                "the clock": partial(keep_clock, clock),
                "the sweep of files": partial(
                    remove_expired_files, store, log, lambda: context.limits.keep_files, clock
                ),
                "the sweep of messages": partial(remove_expired_messages, context),
            }
            for where, work in tasks.items():
                accepting.start_soon(fatal.guard, where, work)
            if config.metrics is not None:
                await accepting.start(serve_metrics, context, config.metrics)
            if reloads is not None:
                accepting.start_soon(_apply_reloads, context, reloads)
            await _announce(log, listening.addresses, credentials)
            task_status.started(listening.addresses[0].port)
            notify("READY=1")
            await stop.wait()
            notify("STOPPING=1")
            accepting.cancel_scope.cancel()
            groups.cancel_scope.deadline = trio.current_time() + GRACE_SECONDS
            if not context.stopping:
                context.stop()
        context.registry.close()
    clock.save()
    if groups.cancel_scope.cancelled_caught:
        log.line("stopping_slowly", seconds=int(GRACE_SECONDS))
    if fatal.error is not None:
        raise fatal.error


def _check_times(credentials: Credentials, log: Log) -> None:
    # No reason to refuse the start: clients that know the key do not check the certificate.
    if credentials.invalidity:
        log.line("certificate_invalid", reason=credentials.invalidity)


async def _own_name() -> str:
    """Return a name of this machine that can be connected to: its host name, or an address."""
    name = socket.gethostname()
    with trio.move_on_after(_NAME_SECONDS), suppress(OSError, UnicodeError):
        if name:
            await trio.socket.getaddrinfo(name, None)
            return name
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent; this only chooses a route
        return str(probe.getsockname()[0])
    return "localhost"


async def _announce(log: Log, addresses: list[Address], credentials: Credentials | None) -> None:
    """Log the addresses, the key and the command that joins the server."""
    for address in addresses:
        log.line("listening", address=str(address))
    address = addresses[0]
    host = await _own_name() if address.host in _ALL_INTERFACES else address.host
    command = shlex.join([*program_words(), "join", host, str(address.port)])
    if credentials is None:
        command += " --no-tls" if is_local(host) else " --no-tls --insecure"
    elif credentials.self_signed:
        command += f" --pin {pin_text(credentials.pin)}"
    if credentials is not None:
        log.line("key", pin=pin_text(credentials.pin))
        _check_times(credentials, log)
    log.line("invitation", command=command)
