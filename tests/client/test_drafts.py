"""Drafts on disk: restored after any end, never shared by two running clients, bounded."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from tchat.client import drafts as drafts_module
from tchat.client.drafts import Drafts, open_drafts

if TYPE_CHECKING:
    from pathlib import Path

SERVER = ("sha256:pin", "chat.example.org:7777")


def save(drafts: Drafts) -> None:
    data = drafts.pending()
    assert data is not None
    drafts.write(data)


def kept(directory: Path, user: str = "alice", server: tuple[str, ...] = SERVER) -> list[str]:
    """Return the drafts for #ops that the next process finds."""
    with open_drafts(directory, user, server) as drafts:
        return drafts.texts("ops")


def files(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.suffix != ".lock"]


def test_saved_drafts_are_found_again(tmp_path: Path) -> None:
    with open_drafts(tmp_path / "drafts", "alice", SERVER) as drafts:
        drafts.update("Ops", ["first", "a line\nand another 你好"])
        save(drafts)
        assert drafts.pending() is None
    assert kept(tmp_path / "drafts", "Alice") == ["first", "a line\nand another 你好"]
    (path,) = files(tmp_path / "drafts")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_drafts_belong_to_person_and_server(tmp_path: Path) -> None:
    with open_drafts(tmp_path, "alice", SERVER) as drafts:
        drafts.update("ops", ["secret"])
        save(drafts)
    assert kept(tmp_path, "bob") == kept(tmp_path, "alice", ("localhost:7777",)) == []
    assert kept(tmp_path) == ["secret"]


def test_drafts_follow_the_server_not_its_address(tmp_path: Path) -> None:
    pin, address = SERVER
    with open_drafts(tmp_path, "alice", SERVER) as drafts:
        drafts.update("ops", ["secret"])
        save(drafts)
    assert kept(tmp_path, server=("sha256:other", address)) == []
    assert kept(tmp_path, server=(pin, "192.0.2.7:7000")) == ["secret"]


def test_drafts_of_earlier_versions_move_to_the_pin(tmp_path: Path) -> None:
    """They are kept under the address; after the move, nobody else at that address gets them."""
    pin, address = SERVER
    for server, text in ((address, "old"), (pin, "new")):
        with open_drafts(tmp_path, "alice", (server,)) as drafts:
            drafts.update("ops", [text])
            save(drafts)
    assert kept(tmp_path) == ["old", "new"]
    assert kept(tmp_path, server=("sha256:other", address)) == []
    assert kept(tmp_path, server=(pin,)) == ["old", "new"]
    assert len(files(tmp_path)) == 1


def test_sent_drafts_are_removed(tmp_path: Path) -> None:
    with open_drafts(tmp_path, "alice", SERVER) as drafts:
        assert drafts.pending() is None
        drafts.update("ops", ["text"])
        save(drafts)
        drafts.update("ops", [])
        save(drafts)
    assert files(tmp_path) == []


def test_two_clients_keep_their_own_drafts(tmp_path: Path) -> None:
    with open_drafts(tmp_path, "alice", SERVER) as one:
        one.update("ops", ["one"])
        save(one)
        with open_drafts(tmp_path, "alice", SERVER) as two:
            assert two.texts("ops") == []
            two.update("ops", ["two"])
            save(two)
        one.update("ops", ["one more"])
        save(one)
    assert sorted(kept(tmp_path)) == ["one more", "two"]
    assert len(files(tmp_path)) == 1


def test_failed_adoption_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_drafts(tmp_path, "alice", SERVER) as one:
        with open_drafts(tmp_path, "alice", SERVER) as two:
            two.update("ops", ["two"])
            save(two)
        one.update("ops", ["one"])
        save(one)
    with monkeypatch.context() as patch:
        patch.setattr(drafts_module, "replace_file", _no_space)
        assert sorted(kept(tmp_path)) == ["one", "two"]
    assert sorted(kept(tmp_path)) == ["one", "two"]


def _no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_failed_write_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_drafts(tmp_path, "alice", SERVER) as drafts:
        drafts.update("ops", ["text"])
        with monkeypatch.context() as patch:
            patch.setattr(drafts_module, "replace_file", _no_space)
            with pytest.raises(OSError, match="No space"):
                save(drafts)
        save(drafts)
    assert kept(tmp_path) == ["text"]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"ops": "x"}', b"\xff", b"[" * 9000])
def test_damaged_file_counts_as_empty(tmp_path: Path, damage: bytes) -> None:
    with open_drafts(tmp_path, "alice", SERVER) as drafts:
        drafts.update("ops", ["text"])
        save(drafts)
    files(tmp_path)[0].write_bytes(damage)
    assert kept(tmp_path) == []


def test_least_recent_drafts_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafts_module, "MOST_TEXT", 10)
    with open_drafts(tmp_path, "alice", SERVER) as drafts:
        for group in ("dev", "ops", "lab"):
            drafts.update(group, ["12345"])
        drafts.update("ops", ["1234"])
        save(drafts)
        assert drafts.texts("dev") == ["12345"]
    with open_drafts(tmp_path, "alice", SERVER) as drafts:
        assert [drafts.texts(group) for group in ("dev", "ops", "lab")] == [[], ["1234"], ["12345"]]


def test_unusable_directory_keeps_drafts_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with open_drafts(tmp_path / "file" / "drafts", "alice", SERVER) as drafts:
        drafts.update("ops", ["text"])
        with pytest.raises(OSError, match="Not a directory"):
            save(drafts)
        assert drafts.texts("ops") == ["text"]


def test_without_a_directory_nothing_is_written() -> None:
    with open_drafts(None, "alice", SERVER) as drafts:
        drafts.update("ops", ["text"])
        assert drafts.pending() is None
        assert drafts.texts("ops") == ["text"]
