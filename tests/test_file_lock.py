"""Locks between processes: exclusive, freed by a crash, the same as those of earlier versions."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from contextlib import contextmanager
from io import FileIO
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.client.client_id import acquire_client_id
from tchat.client.preferences import Preferences
from tchat.errors import Code, Refused, StartupError
from tchat.file_lock import lock_opened, lock_within, try_lock
from tchat.store.open import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLD = """
import sys
from pathlib import Path
from tchat.file_lock import try_lock

lock = try_lock(Path(sys.argv[1]))
"""
WAIT = """
print("locked", flush=True)
sys.stdin.read()
"""
AS_FILELOCK = """
import fcntl, os, sys

lock = os.open(sys.argv[1], os.O_RDWR | os.O_TRUNC | os.O_CREAT, 0o644)
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
"""
START_A_PROGRAM = """
import subprocess
subprocess.Popen(["cat"], close_fds=False)  # until its input ends
"""
FORK = """
import os
if os.fork():
    os._exit(0)
"""


@contextmanager
def holding(path: Path, program: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program that locks a file and says so, then waits for the end of its input."""
    command = [sys.executable, "-c", program + WAIT, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"locked\n"
            yield process
        finally:
            process.kill()


def is_free(path: Path) -> bool:
    lock = try_lock(path)
    if lock is not None:
        lock.close()
    return lock is not None


def test_lock_is_exclusive_until_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock_within(path, 0):
        assert try_lock(path) is None
        with pytest.raises(BlockingIOError, match="another process keeps it locked"):
            lock_within(path, 0)
    assert is_free(path)
    assert path.exists()


def test_lock_excludes_other_processes(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holding(path, HOLD) as process:
        assert not is_free(path)
        process.communicate()
        assert is_free(path)


def test_lock_is_free_after_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holding(path, HOLD) as process:
        process.kill()
        process.wait()
        assert is_free(path)


def test_started_program_does_not_inherit_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holding(path, HOLD + START_A_PROGRAM) as process:
        assert not is_free(path)
        process.kill()
        process.wait()
        assert is_free(path)


def test_forked_child_keeps_the_lock(tmp_path: Path) -> None:
    """The parent has ended; the child still uses what is locked."""
    path = tmp_path / "lock"
    with holding(path, HOLD + FORK) as process:
        assert process.wait() == 0
        assert not is_free(path)
        assert process.stdin is not None
        process.stdin.close()
        lock_within(path, 30).close()


async def test_locks_of_earlier_versions_are_respected(tmp_path: Path) -> None:
    """They lie at the same paths, and were locked in the same way by the library filelock."""
    (tmp_path / "slots").mkdir()
    with holding(tmp_path / "lock", AS_FILELOCK), holding(tmp_path / "slots/0.lock", AS_FILELOCK):
        with pytest.raises(StartupError, match=r"^Another tchat server is using the data"):
            async with open_store(tmp_path):
                raise AssertionError
        with acquire_client_id(tmp_path) as client_id:
            client_id.next_number()
    assert (tmp_path / "slots" / "1.json").exists()
    assert not (tmp_path / "slots" / "0.json").exists()


async def test_earlier_versions_respect_our_locks(tmp_path: Path) -> None:
    async with open_store(tmp_path):
        command = [sys.executable, "-c", AS_FILELOCK, str(tmp_path / "lock")]
        process = await trio.run_process(command, capture_stderr=True, check=False)
    assert b"BlockingIOError" in process.stderr


def test_file_that_was_replaced_is_not_locked(tmp_path: Path) -> None:
    """Some versions of filelock removed the file when they released it."""
    path = tmp_path / "lock"
    with FileIO(path, "w") as opened:
        path.unlink()
        assert not lock_opened(opened, path)
        path.touch()
        assert not lock_opened(opened, path)
        assert is_free(path)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
async def test_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        del descriptor, operation
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    reason = "its file system does not support locks"
    with pytest.raises(StartupError) as server:
        async with open_store(tmp_path):
            raise AssertionError
    assert str(server.value) == (
        f"The data directory {tmp_path} cannot be used: {tmp_path / 'lock'}: {reason}. Look at its"
        " disk, or give another directory with --data."
    )
    assert server.value.code == Code.CANNOT_START
    with pytest.raises(StartupError, match=reason) as client, acquire_client_id(tmp_path):
        raise AssertionError
    assert client.value.code == Code.CANNOT_START
    with pytest.raises(Refused, match=reason):
        Preferences(tmp_path / "preferences.json").change("mute", "ops", on=True)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
async def test_directory_that_is_read_only_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "slots").mkdir()

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StartupError, match=f"cannot be used: {os.strerror(number)}"):
        async with open_store(tmp_path):
            raise AssertionError
    with (
        pytest.raises(StartupError, match=f"cannot be used: {os.strerror(number)}"),
        acquire_client_id(tmp_path),
    ):
        raise AssertionError


def test_preferences_wait_for_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "preferences.json"
    with (
        holding(tmp_path / "preferences.json.lock", HOLD),
        pytest.raises(Refused, match="cannot be changed: another process keeps it locked"),
    ):
        Preferences(path).change("mute", "ops", on=True)
    Preferences(path).change("mute", "ops", on=True)
    assert Preferences(path).muted == {"ops"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_lock_that_root_creates_is_its_directorys(tmp_path: Path) -> None:
    """Such as that of `tchat admin`: the server's user has to lock it later."""
    os.chown(tmp_path, 1234, 1235)
    with lock_within(tmp_path / "lock", 0):
        found = (tmp_path / "lock").stat()
    assert (found.st_uid, found.st_gid) == (1234, 1235)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_gives_no_existing_file_away(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    os.chown(place, 1234, 1235)
    (tmp_path / "secret").touch()
    (place / "lock").symlink_to(tmp_path / "secret")
    with lock_within(place / "lock", 0):
        assert (tmp_path / "secret").stat().st_uid == 0
