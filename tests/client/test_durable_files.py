"""Power cuts: names that the client's files get, and lose, are synced with their directories."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tchat.client.client_id import acquire_client_id
from tchat.client.drafts import open_drafts
from tchat.client.preferences import Preferences
from tchat.client.program_state import ProgramState
from tchat.client.server_directory import ServerRecord, save_record

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Record the last change of each directory that is not synced yet."""
    changes: dict[str, str] = {}
    sync = os.fsync

    def changing(name: str, place: Callable[[Path, Any], Path]) -> None:
        whole = getattr(Path, name)

        def step(path: Path, *arguments: Any, **options: Any) -> object:  # noqa: ANN401
            existed = path.exists()
            result = whole(path, *arguments, **options)
            if existed != path.exists():
                changes[str(place(path, arguments).parent)] = f"{name} {path.name}"
            return result

        monkeypatch.setattr(Path, name, step)

    def fsync(descriptor: int) -> None:
        changes.pop(str(Path(f"/proc/self/fd/{descriptor}").readlink()), None)
        sync(descriptor)

    changing("mkdir", lambda path, _: path)
    changing("unlink", lambda path, _: path)
    changing("replace", lambda _, arguments: Path(arguments[0]))
    monkeypatch.setattr(os, "fsync", fsync)
    return changes


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="names of descriptors are in /proc")
def test_new_names_are_synced(tmp_path: Path, unsynced: dict[str, str]) -> None:
    state = tmp_path / "deep" / "state"
    with acquire_client_id(state, "alice", ["here"]) as client_id:
        assert not unsynced, "the directory of the id"
        entry = client_id.journal.add("alice", "here", "ops", "text", None, 1)
        client_id.journal.record_numbers([(entry, client_id.next_number())])
        assert not unsynced, "the number"
    with open_drafts(state / "drafts", "alice", ["here"]) as drafts:
        drafts.update("ops", ["begun"])
        drafts.write(drafts.pending() or b"")
        assert not unsynced, "a draft"
        drafts.update("ops", [])
        drafts.write(drafts.pending() or b"")
        assert not unsynced, "no draft any more"
    save_record(state, ServerRecord("there", "there:1", None))
    ProgramState(tmp_path / "programs" / "programs.db").save_cursor("here", "alice", "ops", "x", 1)
    (tmp_path / "preferences.json").write_bytes(b"{")
    Preferences(tmp_path / "preferences.json", ["here"], "alice")
    assert not unsynced


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="names of descriptors are in /proc")
def test_new_journal_is_synced_with_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        sync(descriptor)

    with acquire_client_id(tmp_path) as client_id:
        monkeypatch.setattr(os, "fsync", fsync)
        client_id.journal.add("alice", "here", "ops", "text", None, 1)
        assert synced == [str(tmp_path / "slots")]
