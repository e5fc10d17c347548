"""How far files are on their way, in as few cells as there are."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from tchat.core.text import size_text
from tchat.ui.cells import cells, clip
from tchat.ui.lines import time_text

if TYPE_CHECKING:
    from tchat.client.transfers import Progress

_ARROWS = MappingProxyType({"up": "⇡", "down": "⇣"})
_BAR = 10
_LEAST_NAME = 8
_MOST_NAME = 30


def transfers_text(transfers: list[Progress], room: int) -> str:
    """Return, in at most `room` cells, how far the transfer is that will be done first."""
    if not transfers:
        return ""
    first = max(transfers, key=lambda progress: (progress.phase == "moving", progress.percent))
    others = len(transfers) - 1
    more = f" +{others}" if others else ""
    head = f" {_ARROWS[first.way]} "
    number = f"{first.number} " if others else ""
    for facts in _facts(first):
        space = room - cells(head) - cells(number) - cells(facts) - cells(more) - 2
        if space >= min(cells(first.name), _LEAST_NAME):
            name = clip(first.name, min(space, _MOST_NAME))
            return f"{head}{number}{name} {facts}{more} "
    short = f"{head}{_facts(first)[-1]} "
    return short if cells(short) <= room else ""


def _facts(progress: Progress) -> list[str]:
    """Return what can be said of a transfer behind its name, from the longest to the shortest."""
    if progress.phase in ("queued", "sharing"):
        return [progress.phase]
    percent = f"{progress.percent}%"
    if progress.phase == "checking":
        return [f"checking {percent}" if progress.done else "checking", percent]
    filled = progress.percent * _BAR // 100
    bar = "▰" * filled + "▱" * (_BAR - filled)
    rate = f"{percent} {size_text(round(progress.rate))}/s" if progress.rate else percent
    if progress.left is None:
        return [f"{bar} {rate}", rate, percent]
    time_left = time_text(progress.left)
    return [f"{bar} {rate} {time_left}", f"{rate} {time_left}", f"{percent} {time_left}", percent]
