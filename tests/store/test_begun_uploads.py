"""The index of begun uploads: bounded, the same after a restart, and no directory is listed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tchat.store.begun_uploads import BegunUploads
from tchat.store.blobs import BlobDirectory

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def write(place: Path, person: str, name: str, size: int, at: float) -> Path:
    """Write a begun upload that stopped at `at`."""
    path = place / person / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (at, at))
    return path


def exempt_nothing(_: Path) -> bool:
    return False


def test_the_index_is_read_from_the_directory(tmp_path: Path) -> None:
    young, old = write(tmp_path, "p", "a", 5, 300.0), write(tmp_path, "p", "b", 7, 100.0)
    sums = write(tmp_path, "p", "b.sums", 32, 200.0)
    other = write(tmp_path, "q", "c.sums", 32, 50.0)  # its file is gone
    index = BegunUploads(tmp_path)
    assert index.count == 3
    assert [index.size_of(path) for path in (young, old, sums)] == [5, 7, 0]
    assert sorted(index.stale(250.0)) == [old, other.with_name("c")]
    assert index.excess_of(tmp_path / "p", 5, exempt_nothing) == [old]


def test_the_index_follows_changes(tmp_path: Path) -> None:
    index = BegunUploads(tmp_path)
    one, two = tmp_path / "p" / "a", tmp_path / "p" / "b"
    index.add(one, 5, 100.0)
    index.add(two, 7, 200.0)
    index.add(one, 6, 300.0)  # continued
    assert (index.count, index.size_of(one)) == (2, 6)
    assert index.stale(400.0) == [two, one]
    index.discard(two)
    index.discard(two)
    assert (index.count, index.stale(400.0)) == (1, [one])
    index.discard(one)
    assert (index.count, index.stale(400.0)) == (0, [])


def test_a_person_has_a_number_of_uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tchat.store.begun_uploads.MAX_EACH", 3)
    paths = [write(tmp_path, "p", str(number), 1, number) for number in range(6)]
    index = BegunUploads(tmp_path)
    assert sorted(index.excess_of(tmp_path / "p", 1000, exempt_nothing)) == paths[:3]
    assert sorted(index.excess_of(tmp_path / "p", 1000, {paths[0]}.__contains__)) == paths[1:3]


def test_who_has_most_loses_the_oldest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tchat.store.begun_uploads.MAX_TOTAL", 5)
    write(tmp_path, "alice", "old", 1, 1)
    theirs = [write(tmp_path, "mallory", str(number), 1, 10 + number) for number in range(6)]
    index = BegunUploads(tmp_path)
    assert index.excess(exempt_nothing) == theirs[:2]
    for path in theirs[:2]:
        index.discard(path)
    assert index.excess(exempt_nothing) == []


async def test_thousands_begun_leave_a_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tchat.store.begun_uploads.MAX_EACH", 2)
    blobs = BlobDirectory(tmp_path)
    person = blobs._uploads_of("mallory")
    person.mkdir(parents=True)
    for number in range(100):
        write(person.parent, person.name, str(number), 1, 1e9 + number)
    blobs.begun.load()
    await blobs.trim_uploads("mallory", 1 << 30, [])
    assert sorted(path.name for path in person.iterdir()) == ["98", "99"]
    await blobs.trim_uploads("mallory", -1, [])
    assert not person.exists()


async def test_trimming_lists_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = BlobDirectory(tmp_path)
    person = blobs._uploads_of("mallory")
    person.mkdir(parents=True)
    write(person.parent, person.name, "upload", 1, 1e9)
    blobs.begun.load()

    def listed(*_: object) -> None:
        raise AssertionError("a directory is listed")

    for name in ("os.listdir", "os.scandir"):
        monkeypatch.setattr(name, listed)
    await blobs.trim_uploads("mallory", 1 << 30, [])
    await blobs.check_space("mallory", 1, bytes(32), 0)
    await blobs.remove_stale_uploads(int(2e12))
    monkeypatch.undo()
    assert blobs.begun.count == 0, "it was stale"
