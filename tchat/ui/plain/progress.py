"""Progress of transfers as lines, for front ends without a progress bar.

A line is printed only if it says something new, since a screen reader reads all of them: another
tenth of the transfer, another phase, or that it stands still.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tchat.ui.chat.lines import progress_text
from tchat.ui.text.cells import cells

if TYPE_CHECKING:
    from collections.abc import Callable

    from tchat.client.files.queue import Progress, Transfer, Transfers

REPORT_SECONDS = 2.0
"""Least seconds between two lines about the same transfer."""

_LONGEST_BAR = 30
_SHORTEST_BAR = 8
_STEP = 10
"""Percent between two lines."""


def bar_text(progress: Progress, width: int) -> str:
    """Return the progress with a bar, if it is known how much is left and there is room."""
    text = progress_text(progress)
    room = min(_LONGEST_BAR, width - cells(text) - 3)
    if progress.phase not in ("checking", "moving") or not progress.size or room < _SHORTEST_BAR:
        return text
    filled = room * progress.percent // 100
    return f"{text} [{'#' * filled}{'.' * (room - filled)}]"


class ProgressFilter:
    """Selects which progress of the transfers is new enough for a line."""

    def __init__(self) -> None:
        self._told: dict[int, object] = {}

    def has(self, progress: Progress) -> bool:
        """Return whether to print a progress, and remember it."""
        facts = (progress.phase, progress.percent // _STEP, progress.stalled is not None)
        is_new = self._told.get(progress.number) != facts
        self._told[progress.number] = facts
        return is_new and progress.phase != "queued"


class ProgressReporter:
    """Reports what is new of each transfer; nothing of one that ends before the first report."""

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
        self._filter = ProgressFilter()

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
            progress = transfer.progress(trio.current_time())
            if self._filter.has(progress):
                self._notice(f"{progress_text(progress)}; /cancel {transfer.number}")
