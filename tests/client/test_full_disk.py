"""The journal and the drafts on a file system that is really full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tchat.client.drafts import open_drafts
from tchat.client.journal import Journal
from tchat.errors import Refused
from tests.full_disk import KINDS, small_disk

if TYPE_CHECKING:
    from pathlib import Path

    from tests.full_disk import Kind

CLIENT = bytes(16)


def add_until_refused(journal: Journal) -> None:
    """Add messages; the last block of the file may have room."""
    while True:
        journal.add("alice", "star", "ops", "while full", None, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_full_disk_refuses_messages_and_keeps_others(tmp_path: Path, kind: Kind) -> None:
    with small_disk(kind, tmp_path / "disk") as disk:
        path = disk.path / "journal"
        journal = Journal(CLIENT, path)
        journal.add("alice", "star", "ops", "before", None, 0)
        disk.fill()
        for _ in range(3):
            with pytest.raises(Refused, match="Nothing was sent"):
                add_until_refused(journal)
        kept = [entry.text for entry in Journal(CLIENT, path).entries("alice", ["star"])]
        assert kept == [entry.text for entry in journal.entries("alice", ["star"])]
        assert Journal(CLIENT, path).damage is None
        disk.free()
        journal.add("alice", "star", "ops", "after", None, 0)
        journal.close()
        found = Journal(CLIENT, path).entries("alice", ["star"])
        assert [entry.text for entry in found] == [*kept, "after"]


@pytest.mark.parametrize("kind", KINDS)
def test_full_disk_keeps_the_drafts_before(tmp_path: Path, kind: Kind) -> None:
    with small_disk(kind, tmp_path / "disk") as disk:
        with open_drafts(disk.path / "drafts", "alice", "star") as drafts:
            drafts.update("ops", ["a draft"])
            drafts.write(drafts.pending() or b"")
            disk.fill()
            drafts.update("ops", ["a draft", "x" * 100_000])
            data = drafts.pending()
            assert data is not None
            with pytest.raises(OSError, match=r"space left|too large"):
                drafts.write(data)
            assert drafts.pending() == data  # so that it is tried again
        disk.free()
        with open_drafts(disk.path / "drafts", "alice", "star") as drafts:
            assert drafts.texts("ops") == ["a draft"]
            drafts.update("ops", ["again"])
            drafts.write(drafts.pending() or b"")
