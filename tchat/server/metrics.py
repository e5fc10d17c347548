"""Metrics for Prometheus, over HTTP at an address of their own.

The numbers are read when they are asked for, so they cost the chat nothing. The library
`prometheus-client` makes the text; it is an extra, `tchat[metrics]`.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import trio

from tchat.errors import Code, StartupError
from tchat.net.tcp import accept_connections, listen
from tchat.server.faults import describe, is_storage, log_shortage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

    from tchat.net.address import Address
    from tchat.server.context import ServerContext

_REQUEST_LIMIT = 8 * 1024
_SECONDS = 5.0


def check_metrics(address: Address | None) -> None:
    """Raise `StartupError` if metrics are wanted, and the library is missing."""
    if address is None:
        return
    try:
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise StartupError(
            Code.CANNOT_START,
            "--metrics needs the library prometheus-client: install tchat[metrics].",
        ) from error


async def serve_metrics(
    context: ServerContext,
    address: Address,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer requests for `/metrics` at `address`. Never returns. Raises `StartupError`."""
    listeners = await listen(address)
    task_status.started(listeners)
    async with trio.open_nursery() as nursery:
        on_shortage = partial(log_shortage, context.log)
        await accept_connections(listeners, partial(_answer, context), nursery, on_shortage)


async def _answer(context: ServerContext, stream: trio.SocketStream) -> None:
    request = b""
    async with stream:
        with suppress(trio.BrokenResourceError), trio.move_on_after(_SECONDS):
            while b"\r\n\r\n" not in request and len(request) < _REQUEST_LIMIT:
                more = await stream.receive_some()
                if not more:
                    return
                request += more
            method, _, rest = request.partition(b" ")
            wanted = method in (b"GET", b"HEAD") and rest.split(b" ")[0] in (b"/metrics", b"/")
            status, body = _page(context) if wanted else ("404 Not Found", b"not found\n")
            head = (
                f"HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            await stream.send_all(head.encode() + (b"" if method == b"HEAD" else body))


def _page(context: ServerContext) -> tuple[str, bytes]:
    """Return the status and the metrics; a fault in them must not stop the server."""
    try:
        return "200 OK", _text(context)
    except Exception as error:
        if is_storage(error) and not context.on_fatal("the metrics", error):
            raise
        context.log.line("fault", where="the metrics", reason=describe(error))
        return "500 Internal Server Error", b"The metrics failed; see the server's log.\n"


def _text(context: ServerContext) -> bytes:
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Collector(context))
    text: bytes = generate_latest(registry)
    return text


class _Collector:
    """Reads the numbers of a server."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context

    def collect(self) -> Iterable[Metric]:
        """Yield all metrics."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        context = self._context
        gauges = {
            "connections": ("Open connections, also of file transfers.", context.open_connections),
            "unauthenticated": (
                "Connections that are authenticating.",
                context.unauthenticated.count,
            ),
            "people_online": (
                "People with at least one chat connection.",
                context.presence.people_online,
            ),
            "active_groups": ("Groups that are in memory.", context.registry.count),
            "storage_troubles": (
                "Lasting troubles of the store, such as a full disk; the log names them.",
                len(context.store.troubles.current),
            ),
            "start_time_seconds": ("Unix time of the start.", context.started / 1000),
        }
        for name, (meaning, value) in gauges.items():
            yield GaugeMetricFamily(f"tchat_{name}", meaning, value)
        yield CounterMetricFamily(
            "tchat_events", "Events added to logs since the start.", context.registry.events
        )
        lines = CounterMetricFamily(
            "tchat_log_lines", "Lines of the server's log by kind.", labels=["event"]
        )
        for kind, count in sorted(context.log.counts.items()):
            lines.add_metric([kind], count)
        yield lines
