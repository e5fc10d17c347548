"""Plain mode whose output is read slowly, as by a pager that nobody scrolls."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

import trio
import trio.testing

from tchat.ui.plain.output import print_patiently, wait_writable

if TYPE_CHECKING:
    from pathlib import Path

LINES = [f"{number} {'x' * 100}" for number in range(3000)]
PRINTED = "".join(f"{line}\n" for line in LINES)


async def test_slow_reader_does_not_stop_other_tasks() -> None:
    reading, writing = os.pipe()
    data, finished = b"", trio.Event()

    async def write() -> None:
        await print_patiently(LINES)
        finished.set()

    with os.fdopen(writing, "w") as output, redirect_stdout(output):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            # The pipe is full: this returns only because the writer waits without blocking.
            await trio.testing.wait_all_tasks_blocked()
            assert not finished.is_set()
            while len(data) < len(PRINTED):
                await trio.lowlevel.wait_readable(reading)
                data += os.read(reading, 1 << 16)
    os.close(reading)
    assert data.decode() == PRINTED


async def test_other_tasks_run_while_many_lines_are_printed(tmp_path: Path) -> None:
    """Also if the output takes everything at once, as a file does."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    file = tmp_path / "output"
    with file.open("w") as output, redirect_stdout(output):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            await print_patiently(LINES)
            nursery.cancel_scope.cancel()
    assert file.read_text() == PRINTED
    assert turns >= len(LINES) // 100


async def test_output_without_a_descriptor_is_writable() -> None:
    with redirect_stdout(io.StringIO()):
        await wait_writable()
