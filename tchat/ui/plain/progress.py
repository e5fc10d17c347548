"""Progress of transfers as lines, every few seconds, for front ends without a progress bar."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tchat.ui.chat.lines import progress_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.client.files.queue import Transfer, Transfers

REPORT_SECONDS = 2.0
"""Seconds between two lines about the same transfer."""


class ProgressReporter:
    """Reports each transfer periodically; one that ends before the first report, never."""

    def __init__(
        self,
        transfers: Transfers,
        notice: Callable[[str], None],
        seconds: float = REPORT_SECONDS,
    ) -> None:
        self._transfers = transfers
        self._notice = notice
        self._seconds = seconds
        self._last = 0

    def watch_new(self, nursery: trio.Nursery) -> None:
        """Start to report new transfers."""
        for transfer in self._transfers.active:
            if transfer.number > self._last:
                self._last = transfer.number
                nursery.start_soon(self._report, transfer)

    async def _report(self, transfer: Transfer) -> None:
        while True:
            with trio.move_on_after(self._seconds):
                await transfer.ended.wait()
                return
            if transfer.phase != "queued":
                progress = transfer.progress(trio.current_time())
                self._notice(f"{progress_text(progress)}; /cancel {transfer.number}")
