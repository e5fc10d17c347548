"""Counted events are remembered for each server, person and group; no bad file is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tchat.client.saved_unread import Counted, SavedUnread, Unread

if TYPE_CHECKING:
    from pathlib import Path

SERVER = ("sha256:abc", "localhost:7777")
COUNTED = Counted(
    9,
    (
        Unread(2, 1000, "bob", None, personal=False),
        Unread(5, 1001, "carol", 3, personal=False),
        Unread(9, 1002, "bob", None, personal=True),
    ),
)


def test_counts_outlast_the_program(tmp_path: Path) -> None:
    file = tmp_path / "state" / "unread.json"
    SavedUnread(file, SERVER, "Alice").save("Lab", COUNTED)
    SavedUnread(file, SERVER, "alice").save("ops", Counted(4))
    SavedUnread(file, SERVER, "bob").save("lab", Counted(5))
    saved = SavedUnread(file, SERVER, "alice")
    assert (saved.of("lab"), saved.of("ops")) == (COUNTED, Counted(4))
    assert SavedUnread(file, ("elsewhere:7777",), "alice").of("lab") == Counted()
    saved.save("lab", None)
    assert SavedUnread(file, SERVER, "alice").of("lab") == Counted()
    assert SavedUnread(file, SERVER, "bob").of("lab") == Counted(5)


GROUP = '{"sha256:abc": {"alice": {"lab": %s}}}'


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "[]",
        "[" * 10_000,
        GROUP % "[]",
        GROUP % '{"last": 9, "people": [], "unread": [[1, 1, 0, null, true]]}',
        GROUP % '{"last": 9, "people": ["bob"], "unread": [[2, 1, 0, null, 7]]}',
        GROUP % '{"last": 1, "people": ["bob"], "unread": [[2, 1, 0, null, true]]}',
        GROUP % '{"last": 9, "people": ["b"], "unread": [[2, 1, 0, 1, true], [1, 1, 0, 1, true]]}',
    ],
)
def test_damaged_record_counts_nothing(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "unread.json"
    file.write_text(damage)
    assert SavedUnread(file, SERVER, "alice").of("lab") == Counted()


def test_unwritable_file_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    SavedUnread(tmp_path / "file" / "unread.json", SERVER).save("lab", COUNTED)
