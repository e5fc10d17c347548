"""Files are replaced atomically: a failure at any step leaves the old content or the new one."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING, NoReturn

import pytest

from tchat.transfer.durable import replace_file

if TYPE_CHECKING:
    from pathlib import Path


def test_file_is_replaced_and_private(tmp_path: Path) -> None:
    path = tmp_path / "0.json"
    for data in (b"old", b"newer"):
        replace_file(path, data)
        assert path.read_bytes() == data
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [*tmp_path.iterdir()] == [path]


def test_failed_sync_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "0.json"
    replace_file(path, b"old")

    def full(_: int) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert [*tmp_path.iterdir()] == [path]
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"


def test_simultaneous_writer_keeps_its_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is in the middle of its write when another replaces the same file."""
    path = tmp_path / "0.json"
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", sync)
        replace_file(path, b"other")
        assert path.read_bytes() == b"other"
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    replace_file(path, b"mine")
    assert path.read_bytes() == b"mine"
    assert [*tmp_path.iterdir()] == [path]


def test_draft_of_a_killed_writer_is_used_again(tmp_path: Path) -> None:
    path = tmp_path / "0.json"
    (tmp_path / "0.json.new").write_bytes(b"half of a longer con")
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert [*tmp_path.iterdir()] == [path]


def test_file_system_without_locks_is_supported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a backup's may be."""

    def flock(*_: object) -> NoReturn:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    for data in (b"longer", b"new"):
        replace_file(tmp_path / "0.json", data)
        assert (tmp_path / "0.json").read_bytes() == data
    assert [*tmp_path.iterdir()] == [tmp_path / "0.json"]


def test_directory_is_synced_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "0.json"
    synced: list[tuple[bool, bool]] = []

    def fsync(descriptor: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    replace_file(path, b"new")
    assert synced == [(False, False), (True, True)]


def test_unsupported_directory_sync_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", fsync)
    replace_file(tmp_path / "0.json", b"new")
    assert (tmp_path / "0.json").read_bytes() == b"new"
