"""The names that were used last with a server: they are only offered, so no fault is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tchat.client.last_names import LastNames, read_last_names, save_last_names
from tchat.net.address import Address

if TYPE_CHECKING:
    from pathlib import Path

HERE, THERE = Address("chat.example.org", 7777), Address("chat.example.org", 7778)


def test_names_are_remembered_for_each_server(tmp_path: Path) -> None:
    path = tmp_path / "state" / "last_names.json"
    assert read_last_names(path, HERE) == LastNames()
    save_last_names(path, HERE, "alice", "ops")
    save_last_names(path, THERE, "bob", "lab")
    save_last_names(path, Address("CHAT.example.org", 7777), "alice", "dev")
    assert read_last_names(path, HERE) == LastNames("alice", "dev")
    assert read_last_names(path, THERE) == LastNames("bob", "lab")


@pytest.mark.parametrize(
    "damage", [b"", b"\xff", b"[]", b"[" * 9000, b'{"chat.example.org:7777": ["alice"]}']
)
def test_damaged_file_is_replaced(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "last_names.json"
    path.write_bytes(damage)
    assert read_last_names(path, HERE) == LastNames()
    save_last_names(path, HERE, "alice", "ops")
    assert read_last_names(path, HERE) == LastNames("alice", "ops")


def test_file_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "last_names.json"
    path.mkdir()
    save_last_names(path, HERE, "alice", "ops")
    assert read_last_names(path, HERE) == LastNames()
