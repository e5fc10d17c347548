"""Standard output of plain mode: print lines only when they can be written without blocking.

A pager that nobody scrolls fills the pipe. A write that blocks would stop the whole program: it
would answer no ping, and the server would close the connection.
"""

from __future__ import annotations

import select
import sys
from typing import TYPE_CHECKING

import trio

from tchat.streams import print_line

if TYPE_CHECKING:
    from collections.abc import Iterable

_SLICE = 50
"""So many lines are printed before other tasks get a turn."""


def print_now(lines: Iterable[str]) -> None:
    """Print lines, even if that has to wait for whoever reads them."""
    for line in lines:
        print_line(line)


async def print_patiently(lines: Iterable[str]) -> None:
    """Print many lines, each once it can be written, while other tasks go on."""
    for number, line in enumerate(lines, start=1):
        await wait_writable()
        print_line(line)
        if number % _SLICE == 0:
            await trio.lowlevel.checkpoint()


async def wait_writable() -> None:
    """Wait until a line of usual length can be written without blocking."""
    try:
        output = sys.stdout.fileno()
    except (OSError, ValueError):  # it is no real file, or closed
        return
    if not select.select([], [output], [], 0)[1]:
        await trio.lowlevel.wait_writable(output)
