"""A program that appends until it is killed, and prints what the store has acknowledged.

`python -m tests.store.appender DIRECTORY` prints a line "group seq" behind each append.
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from tchat.store.open import open_store
from tests.store.batches import numbered

if TYPE_CHECKING:
    from tchat.store.base import Store

GROUPS = ("ops", "dev", "all")


async def append_for_ever(store: Store, group: str) -> None:
    for seq in count():
        await store.append(group, seq, 1, numbered(seq + 1, seq + 1))
        print(group, seq + 1, flush=True)


async def main(directory: Path) -> None:
    async with open_store(directory) as store, trio.open_nursery() as nursery:
        for group in GROUPS:
            nursery.start_soon(append_for_ever, store, group)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]))
