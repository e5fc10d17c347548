"""A whole server: open the store and the port, accept, and stop in good order.

Stopping takes three steps. No more connections are accepted; those that are open are told
goodbye and their outboxes flushed; then the groups finish what waits in their inboxes. All of it
has a deadline, after which it is cancelled: what was acknowledged is on disk by then anyway.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import trio

from tchat.errors import Code
from tchat.net.address import Address, listen, port_of
from tchat.server.connection import serve_connection
from tchat.server.host import Host, Limits
from tchat.server.registry import Registry
from tchat.store.sqlite import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tchat.server.log import Log
    from tchat.store.base import Store

GRACE_SECONDS = 5.0
_SWEEP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Config:
    """Where a server listens, where it keeps its data, and what it allows."""

    address: Address
    data: Path
    limits: Limits = field(default_factory=Limits)


async def run_server(config: Config, log: Log) -> None:
    """Serve until SIGINT or SIGTERM. Raises `StartupError` or `StorageError`."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with open_store(config.data) as store, trio.open_nursery() as nursery:
            stop = trio.Event()
            nursery.start_soon(_stop_on, signals, stop, log)
            await serve(config, store, log, stop)
            nursery.cancel_scope.cancel()


async def _stop_on(signals: AsyncIterator[int], stop: trio.Event, log: Log) -> None:
    """Stop at the first signal. Further ones are taken too, lest they end the process early."""
    async for number in signals:
        if not stop.is_set():
            log.line("stopping", signal=signal.Signals(number).name)
        stop.set()


async def serve(
    config: Config,
    store: Store,
    log: Log,
    stop: trio.Event,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `stop` is set; `task_status` gets the port once connections are accepted."""
    listeners = await listen(config.address)
    port = port_of(listeners[0])
    async with trio.open_nursery() as groups:
        registry = Registry(store, log, groups)
        host = Host(store, registry, log, config.limits)
        async with trio.open_nursery() as connections, trio.open_nursery() as accepting:
            accepting.start_soon(
                partial(
                    trio.serve_listeners,
                    partial(serve_connection, host),
                    listeners,
                    handler_nursery=connections,
                )
            )
            accepting.start_soon(_send_silent_away, host)
            log.line("listening", address=str(Address(config.address.host, port)))
            task_status.started(port)
            await stop.wait()
            accepting.cancel_scope.cancel()
            groups.cancel_scope.deadline = trio.current_time() + GRACE_SECONDS
            host.stop()
        registry.close()


async def _send_silent_away(host: Host) -> None:
    """End conversations that were silent for too long: the other side is gone, or hangs."""
    while True:
        await trio.sleep(_SWEEP_SECONDS)
        limit = trio.current_time() - host.limits.silence_seconds
        for conversation in list(host.conversations.values()):
            if conversation.heard < limit:
                conversation.end(Code.IDLE, "Nothing was heard from this client for too long.")
