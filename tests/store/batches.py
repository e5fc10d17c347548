"""Packed events with arbitrary bodies, since stores do not decode them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.protocol.framing import PREFIX, split_frames

if TYPE_CHECKING:
    from tchat.store.base import Store


def packed(*bodies: bytes) -> bytes:
    """Return bodies as packed frames."""
    return b"".join(len(body).to_bytes(PREFIX, "big") + body for body in bodies)


def numbered(first: int, last: int) -> bytes:
    """Return frames whose bodies are the seqs of their events."""
    return packed(*(str(seq).encode() for seq in range(first, last + 1)))


async def last_seq(store: Store, group: str) -> int:
    """Return the seq of a log's last event; 0 for a group that never existed."""
    page = await store.read_before(group, 2**62)
    return page.last if page else 0


async def append(store: Store, group: str, *bodies: bytes) -> int:
    """Append bodies as one batch at the end of the log; return the seq of the last."""
    last = await last_seq(store, group)
    await store.append(group, last, len(bodies), packed(*bodies))
    return last + len(bodies)


async def read_all(store: Store, group: str, after: int = 0) -> list[bytes]:
    """Return the bodies of all events after `after`, read page by page."""
    bodies: list[bytes] = []
    while (page := await store.read(group, after)) is not None:
        assert page.first == after + 1, "pages follow one another without gaps"
        found = list(split_frames(page.frames))
        assert len(found) == page.last - page.first + 1
        bodies += found
        after = page.last
    return bodies
