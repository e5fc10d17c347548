"""Logs of real events, for search and erasure, which decode them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group.feature import Body, Event
from tchat.core.group.features import encode_event
from tchat.core.group.messages import Deleted, Edited, Posted
from tchat.store.base import SideEffects
from tchat.store.words import terms_of
from tests.core.script import NOON
from tests.store.batches import last_seq

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.store.base import Hit, Store


async def write(
    store: Store,
    group: str,
    *bodies: Body,
    actor: str = "alice",
    erased: tuple[int, ...] = (),
    closed_after: int = 0,
) -> int:
    """Append events as one batch, each 1 ms after the one before; return the last seq."""
    last = await last_seq(store, group)
    frames = b"".join(
        encode_event(Event(group, seq, NOON + seq, actor, bytes(8), seq, body))
        for seq, body in enumerate(bodies, start=last + 1)
    )
    effects = SideEffects({actor: "member"}, erased=erased, closed_after=closed_after)
    await store.append(group, last, len(bodies), frames, effects)
    if erased or closed_after:
        await store.maintenance.settle()
    return last + len(bodies)


async def post(store: Store, *words: str, group: str = "ops") -> int:
    """Post messages, each in a batch of its own; return the last seq."""
    last = 0
    for text in words:
        last = await write(store, group, Posted(text))
    return last


async def edit(store: Store, target: int, text: str, group: str = "ops") -> int:
    """Edit a message."""
    return await write(store, group, Edited(target, text))


async def delete(store: Store, *seqs: int, group: str = "ops") -> int:
    """Delete a message, the first of these seqs, and its edits."""
    return await write(store, group, Deleted(seqs[0]), erased=seqs)


async def hits(store: Store, text: str, *groups: str, skip: int = 0, most: int = 100) -> list[Hit]:
    """Return the hits of the query `text`."""
    return await store.search(groups or ("ops",), terms_of(text), skip, most)


async def found(store: Store, text: str, *groups: str) -> list[str]:
    """Return the texts that the query `text` finds."""
    return [hit.text for hit in await hits(store, text, *groups)]


def files_with(text: str, directory: Path) -> list[str]:
    """Return the files below a directory that contain the bytes of a text."""
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    return [path.name for path in files if text.encode() in path.read_bytes()]
