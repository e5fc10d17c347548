"""Data and tasks for both ends of an encrypted connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tests.helpers import GUARD

if TYPE_CHECKING:
    from collections.abc import Callable

MUCH = bytes(range(256)) * 4096  # a mebibyte, many records


async def both(*steps: Callable[[], object]) -> None:
    """Run steps concurrently, with a time limit."""
    with trio.fail_after(GUARD):
        async with trio.open_nursery() as nursery:
            for step in steps:
                nursery.start_soon(step)  # type: ignore[arg-type]
