"""Private key files: created once, atomically, for their owner only, never overwritten."""

from __future__ import annotations

import os
import stat
from threading import Barrier, Thread
from typing import TYPE_CHECKING

import pytest

from tchat.errors import Code, StartupError
from tchat.net.keyfiles import read_or_make

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RACERS = 8


def never() -> bytes:
    raise AssertionError("a file that is there is not made again")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_key_file_is_created_once(tmp_path: Path) -> None:
    path = tmp_path / "some" / "where" / "key"
    assert read_or_make(path, lambda: b"secret", "The key") == b"secret"
    assert read_or_make(path, never, "The key") == b"secret"
    assert mode_of(path) == 0o600
    assert mode_of(path.parent) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["key"]


def test_an_existing_directory_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    read_or_make(tmp_path / "key", lambda: b"secret", "The key")
    assert mode_of(tmp_path) == 0o755


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o610, 0o620, 0o602, 0o666])
def test_a_readable_file_is_refused_with_advice(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"secret")
    path.chmod(mode)
    with pytest.raises(StartupError) as caught:
        read_or_make(path, never, "The key")
    assert caught.value.code == Code.CANNOT_START
    assert caught.value.sentence.startswith(f"The key {path} can be read by others")
    assert caught.value.sentence.endswith(f"chmod 600 {path}")
    assert mode_of(path) == mode
    path.chmod(0o600)
    assert read_or_make(path, never, "The key") == b"secret"


def test_a_read_only_file_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"secret")
    path.chmod(0o400)
    assert read_or_make(path, never, "The key") == b"secret"


def test_a_symlink_target_has_to_be_private(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"secret")
    (tmp_path / "real").chmod(0o644)
    (tmp_path / "key").symlink_to(tmp_path / "real")
    with pytest.raises(StartupError, match="chmod 600"):
        read_or_make(tmp_path / "key", never, "The key")


def test_concurrent_creators_get_the_same_file(tmp_path: Path) -> None:
    path, start = tmp_path / "key", Barrier(RACERS)
    found: list[bytes] = []

    def race(own: bytes) -> None:
        def make() -> bytes:
            start.wait()  # all have found no file
            return own

        found.append(read_or_make(path, make, "The key"))

    racers = [Thread(target=race, args=(bytes([n + 1]),)) for n in range(RACERS)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert found == RACERS * [path.read_bytes()]
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_a_failed_creation_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail() -> bytes:
        raise OSError(28, "No space left on device")

    with pytest.raises(StartupError, match=r"The key .*key cannot be used: No space left"):
        read_or_make(tmp_path / "key", fail, "The key")
    assert list(tmp_path.iterdir()) == []


def in_the_way(home: Path) -> Path:
    (home / "key").mkdir(mode=0o700)
    return home / "key"


def under_a_file(home: Path) -> Path:
    (home / "file").touch()
    return home / "file" / "key"


def nowhere(home: Path) -> Path:
    (home / "key").symlink_to(home / "gone" / "key")
    return home / "key"


@pytest.mark.parametrize("place", [in_the_way, under_a_file, nowhere])
def test_an_unusable_path_is_explained(tmp_path: Path, place: Callable[[Path], Path]) -> None:
    with pytest.raises(StartupError, match=r"The key .*key cannot be used: "):
        read_or_make(place(tmp_path), lambda: b"secret", "The key")


@pytest.mark.parametrize("content", [b"", b"\n", bytes(100)])
def test_an_empty_file_is_named_and_kept(tmp_path: Path, content: bytes) -> None:
    """Some file systems leave zeros of a file that a power cut has lost."""
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(StartupError) as caught:
        read_or_make(path, never, "The key", advice="Restore it.")
    assert caught.value.sentence == f"The key {path} is empty. Restore it."
    assert path.read_bytes() == content


def test_a_new_file_is_synced_with_its_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))
    path = tmp_path / "some" / "where" / "key"
    read_or_make(path, lambda: b"secret", "The key")
    places = (path.parent.parent.parent, path.parent.parent, path, path.parent)
    assert synced[-2:] == [place.stat().st_ino for place in (path, path.parent)]
    assert set(synced) == {place.stat().st_ino for place in places}
