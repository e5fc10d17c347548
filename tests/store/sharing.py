"""Share a file in a store as the server does: the file, its place in the index, and the event."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tchat.core.group.feature import Event
from tchat.core.group.features import encode_event
from tchat.core.group.files import FileShared
from tchat.store.base import FileEntry, SideEffects
from tchat.store.blobs import blob_path
from tests.core.script import NOON
from tests.store.batches import last_seq

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.store.base import Store


async def share(store: Store, directory: Path, content: bytes, number: int) -> None:
    """Store a file, and share it in a group."""
    sha256 = hashlib.sha256(content).digest()
    path = blob_path(directory / "files", sha256)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    await store.files.add("alice", sha256, len(content), sha256, number)
    effects = SideEffects(added_files=(FileEntry(number, sha256, len(content), "alice", number),))
    seq = await last_seq(store, "ops") + 1
    body = FileShared(number, "name", len(content), sha256)
    frame = encode_event(Event("ops", seq, NOON, "alice", bytes(8), seq, body))
    await store.append("ops", seq - 1, 1, frame, effects)
