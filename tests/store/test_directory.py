"""Data directories that a server must not use: refused with what to do, and left as they are."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import sqlite3
import sys
from contextlib import closing
from itertools import count
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.core.group.features import decode_event
from tchat.core.group.messages import Posted
from tchat.errors import Code, StartupError
from tchat.server.operations.reports import stats
from tchat.server.operations.salvage import salvage
from tchat.server.operations.set_aside import set_aside
from tchat.store.blobs import blob_path
from tchat.store.open import open_store
from tchat.store.sqlite.directory import Unusable, explain_error
from tests.core.script import NOON
from tests.helpers import kill_points
from tests.store.batches import last_seq, read_all
from tests.store.logs import post
from tests.store.sharing import share

if TYPE_CHECKING:
    from collections.abc import Callable


CONTENT = b"a shared file"
SHA = hashlib.sha256(CONTENT).digest()


async def make(directory: Path) -> None:
    """Make a data directory as a server leaves it: a log, a file, and its keys."""
    async with open_store(directory) as store:
        await post(store, "one", "two")
        await share(store, directory, CONTENT, 1)
    (directory / "server-key.pem").write_text("the key")
    (directory / "server-cert.pem").write_text("the certificate")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a data directory, to be copied."""
    path = tmp_path_factory.mktemp("made") / "data"
    trio.run(make, path)
    return path


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    """Copy the data directory, to break the copy."""
    return shutil.copytree(made, tmp_path / "data")


def contents(directory: Path) -> dict[str, bytes]:
    """Return all files below a directory, without the lock and the index of the log."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name not in ("lock", "tchat.db-shm")
    }


async def refusal(directory: Path) -> str:
    """Return why a server cannot start; check that this changes nothing."""
    before = contents(directory)
    with pytest.raises(StartupError) as caught:
        async with open_store(directory):
            pass
    assert caught.value.code == Code.CANNOT_START
    assert contents(directory) == before
    return caught.value.sentence


async def assert_usable(directory: Path) -> None:
    """Check that a server can start, and has the log and the file."""
    async with open_store(directory) as store:
        assert await last_seq(store, "ops") >= 3
        assert await store.files.digests() >= {SHA}


# ------------------------------------------------------------------ a missing database


def test_a_directory_as_it_was_left_is_usable(data: Path) -> None:
    trio.run(assert_usable, data)


def keep_only(data: Path, name: str) -> None:
    for path in data.iterdir():
        if path.name != name:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("left", ["server-key.pem", "server-cert.pem", "files", "lock"])
async def test_remains_without_a_database_are_refused(data: Path, left: str) -> None:
    keep_only(data, left)
    sentence = await refusal(data)
    assert f"{left}" in sentence
    assert "but no tchat.db. Restore tchat.db from a backup" in sentence
    assert f"tchat admin set-aside --data {data}" in sentence


async def test_an_unfinished_upload_counts_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "files" / "incoming" / "p").mkdir(parents=True)
    (tmp_path / "files" / "incoming" / "p" / "f").write_bytes(b"part")
    assert "has files/, but no tchat.db" in await refusal(tmp_path)


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
async def test_companions_without_a_database_are_refused(tmp_path: Path, suffix: str) -> None:
    """SQLite would delete a write-ahead log, with all commits in it."""
    (tmp_path / f"tchat.db{suffix}").write_bytes(b"committed")
    assert f"has tchat.db{suffix}, but no tchat.db" in await refusal(tmp_path)


async def test_empty_directories_are_new_ones(tmp_path: Path) -> None:
    (tmp_path / "files" / "ab").mkdir(parents=True)
    (tmp_path / "lock").touch()
    async with open_store(tmp_path) as store:
        await post(store, "one")


def start_and_crash(data: Path, steps: int) -> bool:
    """Start a server in a forked process that ends before the step; return whether it did."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
    left = count(steps, -1)

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if event in STEPS and str(arguments[0]).startswith(str(data)) and next(left) == 1:
            os._exit(1)

    sys.addaudithook(audit)
    trio.run(open_and_close, data)
    os._exit(0)


STEPS = ("open", "os.rename", "os.mkdir", "sqlite3.connect", "os.remove", "os.link")
"""Audit events at which a start changes a directory."""


async def open_and_close(directory: Path) -> None:
    async with open_store(directory):
        pass


def test_a_first_start_may_crash_anywhere(tmp_path: Path) -> None:
    """It leaves a directory on which the next start succeeds, without an empty database."""
    for step in kill_points():
        data = tmp_path / str(step)
        crashed = start_and_crash(data, step)
        assert not (data / "tchat.db").exists() or (data / "tchat.db").stat().st_size
        trio.run(open_and_close, data)
        if not crashed:
            break
    assert step > 5


# ------------------------------------------------------------------ another or a broken database


def emptied(data: Path) -> str:
    (data / "tchat.db").write_bytes(b"")
    return "is empty; a server never leaves it so"


def cut_short(data: Path) -> str:
    os.truncate(data / "tchat.db", 3 * 4096)
    return "is truncated: it has 3 of "


def cut_in_the_header(data: Path) -> str:
    os.truncate(data / "tchat.db", 50)
    return "is not a database of SQLite, or its beginning is damaged"


def text(data: Path) -> str:
    (data / "tchat.db").write_text("Dear diary, this is not a database. " * 50)
    return "is not a database of SQLite, or its beginning is damaged"


def foreign(data: Path, mode: str = "DELETE", application: int = 0) -> str:
    (data / "tchat.db").unlink()
    with closing(sqlite3.connect(data / "tchat.db", isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute(f"PRAGMA application_id = {application}")
        connection.execute("CREATE TABLE recipes (name TEXT)")
    return "is not a server's database: another program wrote it"


def foreign_in_wal_mode(data: Path) -> str:
    return foreign(data, "WAL", 4711)


def a_directory(data: Path) -> str:
    (data / "tchat.db").unlink()
    (data / "tchat.db").mkdir()
    return "is not a file"


@pytest.mark.parametrize(
    "breaking",
    [emptied, cut_short, cut_in_the_header, text, foreign, foreign_in_wal_mode, a_directory],
)
async def test_an_unusable_database_is_refused(data: Path, breaking: Callable[[Path], str]) -> None:
    expected = breaking(data)
    sentence = await refusal(data)
    assert str(data / "tchat.db") in sentence
    assert expected in sentence
    assert "Restore it from a backup" in sentence or "restore it from a backup" in sentence
    assert f"tchat admin set-aside --data {data}" in sentence


@pytest.mark.parametrize("breaking", [emptied, foreign, foreign_in_wal_mode, a_directory])
def test_reports_refuse_with_the_same_sentence(data: Path, breaking: Callable[[Path], str]) -> None:
    expected = breaking(data)
    before = contents(data)
    with pytest.raises(StartupError, match=expected):
        stats(data)
    assert contents(data) == before


def test_reports_of_a_typo_create_nothing(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"There is no server data in .*: it does not exist"):
        stats(tmp_path / "typo")
    assert list(tmp_path.iterdir()) == []


async def test_a_linked_database_is_refused(data: Path, tmp_path: Path) -> None:
    """A server on the other name would have another lock."""
    (data / "tchat.db").rename(tmp_path / "real.db")
    (data / "tchat.db").symlink_to(tmp_path / "real.db")
    assert f"--data {tmp_path}" in await refusal(data)
    (data / "tchat.db").unlink()
    (data / "tchat.db").hardlink_to(tmp_path / "real.db")
    assert "second name (a hard link)" in await refusal(data)
    (tmp_path / "real.db").unlink()
    await assert_usable(data)


IN_THE_WAY = ["lock", "clock", "tchat.db-wal", "tchat.db-shm"]


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
@pytest.mark.parametrize("name", IN_THE_WAY)
async def test_what_is_not_a_file_is_named(
    data: Path, name: str, make: Callable[[Path], None]
) -> None:
    (data / name).unlink(missing_ok=True)
    make(data / name)
    assert f"{data / name} is not a file. Move it away" in await refusal(data)


@pytest.mark.parametrize("name", ["files", "files/trash"])
async def test_a_file_called_files_is_refused(data: Path, name: str) -> None:
    shutil.rmtree(data / name, ignore_errors=True)
    (data / name).write_bytes(b"")
    assert f"{data / name} is not a directory. Restore it" in await refusal(data)


@pytest.mark.parametrize("name", ["files", "lock", "tchat.db", "tchat.db-wal"])
async def test_links_to_a_disk_not_mounted_are_refused(data: Path, name: str) -> None:
    path = data / name
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.symlink_to("/unmounted")
    sentence = await refusal(data)
    assert sentence.startswith(f"{path} is a symbolic link to /unmounted, which does not exist")


async def test_a_renamed_database_is_named(data: Path) -> None:
    (data / "tchat.db").rename(data / "Tchat.db")
    assert f"rename that: mv {data / 'Tchat.db'} {data / 'tchat.db'}." in await refusal(data)


@pytest.mark.parametrize("place", ["", "files", "tchat.db-wal"])
async def test_a_place_that_cannot_be_written_is_named(
    data: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "tchat.db-wal").touch()
    allowed = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: path != data / place and allowed(path, mode)
    )
    assert f"{data / place} is read-only. Run: chmod u+rw" in await refusal(data)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_needs_room_and_no_backup(data: Path, number: int) -> None:
    sentence = explain_error(data, OSError(number, os.strerror(number)))
    assert "full" in sentence
    assert "make room" in sentence


def test_an_error_of_another_file_names_it(data: Path) -> None:
    error = PermissionError(errno.EACCES, "Permission denied", str(data / "lock"))
    assert f"{data / 'lock'}: Permission denied" in explain_error(data, error)


async def test_a_dangling_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(tmp_path / "unmounted")
    assert f"link to {tmp_path / 'unmounted'}, which does not exist" in await refusal(
        tmp_path / "data"
    )
    assert not (tmp_path / "unmounted").exists()


async def test_a_linked_directory_is_usable(data: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(data)
    await assert_usable(tmp_path / "link")


# ------------------------------------------------------------------ write-ahead logs


def run_and_kill(data: Path, events: int) -> None:
    """Let a server add events in a forked process, and end without closing the database."""

    async def run() -> None:
        async with open_store(data) as store:
            await post(store, *(events * ["lorem ipsum " * 250]))
            os._exit(0)

    if child := os.fork():
        os.waitpid(child, 0)
        assert (data / "tchat.db-wal").stat().st_size
    else:
        Thread(target=trio.run, args=(run,)).start()  # not inside the test's own run
        signal.pause()


async def test_a_killed_server_starts_again(data: Path) -> None:
    run_and_kill(data, 20)
    async with open_store(data) as store:
        assert await last_seq(store, "ops") == 23


async def test_a_torn_log_is_no_reason_to_refuse(data: Path) -> None:
    """After a power failure, the end of the log may have come to the disk without the middle."""
    run_and_kill(data, 20)
    log_file = data / "tchat.db-wal"
    torn = bytearray(log_file.read_bytes())
    for frame in range(32, len(torn) - 2 * (24 + 4096), 24 + 4096):
        torn[frame : frame + 4] = (1).to_bytes(4, "big")  # as if only the last had been written
    log_file.write_bytes(torn)
    async with open_store(data) as store:
        assert await last_seq(store, "ops") == 3


async def test_a_log_beside_a_backup_is_refused(data: Path, tmp_path: Path) -> None:
    """Restored over a killed server's, the database would be mixed with the newer log."""
    with (
        closing(sqlite3.connect(data / "tchat.db")) as original,
        closing(sqlite3.connect(tmp_path / "copy.db")) as copy,
    ):
        original.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
    run_and_kill(data, 5)
    shutil.copy(tmp_path / "copy.db", data / "tchat.db")
    wal = data / "tchat.db-wal"
    sentence = await refusal(data)
    assert f"{wal} does not belong to {data / 'tchat.db'}" in sentence
    assert "Keep the log: it may have acknowledged changes" in sentence
    assert f"tchat admin restore BACKUP --data {data} (what is there is kept" in sentence
    kept = wal.read_bytes()
    report = await trio.to_thread.run_sync(set_aside, data)
    assert (Path(report.target) / wal.name).read_bytes() == kept
    await assert_usable(data)


async def test_a_log_of_a_truncated_database_has_changes(data: Path, tmp_path: Path) -> None:
    """Without the log, what only it has would be lost; `salvage` keeps that."""
    run_and_kill(data, 20)
    os.truncate(data / "tchat.db", 4 * 4096)
    sentence = await refusal(data)
    assert "-wal does not belong to" in sentence
    assert f"tchat admin salvage --data {data}." in sentence
    without = shutil.copytree(data, tmp_path / "without")
    (without / "tchat.db-wal").unlink()
    assert len(await salvaged_texts(data)) == 22
    assert len(await salvaged_texts(without)) < 22


async def salvaged_texts(data: Path) -> list[object]:
    """Salvage a directory; return the messages that it has then."""
    await trio.to_thread.run_sync(salvage, data)
    async with open_store(data) as store:
        events = [decode_event(body) for body in await read_all(store, "ops")]
    return [event.body for event in events if isinstance(event.body, Posted)]


async def test_a_log_of_a_longer_database_is_refused(data: Path, tmp_path: Path) -> None:
    shutil.copy(data / "tchat.db", tmp_path / "older.db")
    async with open_store(data) as store:
        await post(store, *(60 * ["lorem ipsum " * 250]))
    run_and_kill(data, 5)
    shutil.copy(tmp_path / "older.db", data / "tchat.db")
    assert "-wal does not belong to" in await refusal(data)


async def test_a_log_of_another_program_is_refused(data: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE recipes (name TEXT)")
        shutil.copy(tmp_path / "other.db-wal", data / "tchat.db-wal")
    assert "-wal does not belong to" in await refusal(data)


# ------------------------------------------------------------------ copies of a running directory


async def test_a_whole_copy_of_a_killed_server_starts(data: Path, tmp_path: Path) -> None:
    run_and_kill(data, 20)
    shutil.copytree(data, tmp_path / "copy")
    async with open_store(tmp_path / "copy") as store:
        assert await last_seq(store, "ops") == 23


async def test_a_broken_copy_of_a_server_is_refused(data: Path, tmp_path: Path) -> None:
    """The log was copied after a checkpoint that the copied database does not have."""
    run_and_kill(data, 20)
    with closing(sqlite3.connect(data / "tchat.db")) as connection:
        connection.execute("UPDATE segments SET frames = zeroblob(length(frames)) WHERE last = 3")
        connection.commit()
    shutil.copytree(data, tmp_path / "copy")
    sentence = await refusal(tmp_path / "copy")
    assert "it was copied, or restored, while a server was writing it" in sentence
    assert "tchat admin backup" in sentence


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM segments WHERE last = 2",
        "DELETE FROM segments WHERE last = 4",
        "PRAGMA writable_schema = 1; UPDATE sqlite_schema SET rootpage = 5 WHERE name = 'blobs'",
    ],
)
async def test_gaps_and_structure_of_copies_are_checked(
    data: Path, tmp_path: Path, change: str
) -> None:
    run_and_kill(data, 1)
    with closing(sqlite3.connect(data / "tchat.db")) as connection:
        connection.executescript(change)
    shutil.copytree(data, tmp_path / "copy")
    assert "while a server was writing it" in await refusal(tmp_path / "copy")


# ------------------------------------------------------------------ older than the files


async def test_a_database_older_than_its_files_is_refused(data: Path, tmp_path: Path) -> None:
    shutil.copy(data / "tchat.db", tmp_path / "backup.db")
    async with open_store(data) as store:
        await share(store, data, b"newer", 2)
        await share(store, data, b"newest", 3)
    shutil.copy(tmp_path / "backup.db", data / "tchat.db")
    with pytest.raises(Unusable) as caught:
        async with open_store(data):
            pass
    assert "is older than the files beside it: it lacks 2 of its last changes" in str(caught.value)
    assert "does not have 2 of the files" in str(caught.value)
    assert f"tchat admin set-aside --data {data}" in str(caught.value)


async def test_a_kill_right_after_sharing_is_recorded(data: Path, tmp_path: Path) -> None:
    """The record is there before the server ends, whatever ends it."""
    shutil.copy(data / "tchat.db", tmp_path / "backup.db")
    with trio.CancelScope() as scope:
        async with open_store(data) as store:
            await share(store, data, b"newer", 2)
            shutil.copytree(data, tmp_path / "killed")
            scope.cancel()
    shutil.copy(tmp_path / "backup.db", tmp_path / "killed" / "tchat.db")
    (tmp_path / "killed" / "tchat.db-wal").unlink()
    with pytest.raises(Unusable, match="is older than the files"):
        async with open_store(tmp_path / "killed"):
            pass


async def test_lost_changes_are_told_at_the_next_start(data: Path, tmp_path: Path) -> None:
    older = shutil.copy(data / "tchat.db", tmp_path / "older")
    async with open_store(data) as store:
        await post(store, "three", "four")
    shutil.copy(older, data / "tchat.db")
    async with open_store(data) as store:
        (damaged,) = store.damage.found
    assert "the last 2 changes are missing" in damaged


async def test_an_older_database_with_its_files_is_usable(data: Path, tmp_path: Path) -> None:
    """Nothing can be destroyed then; clients notice by the log."""
    shutil.copy(data / "tchat.db", tmp_path / "backup.db")
    async with open_store(data) as store:
        await post(store, "newer")
    shutil.copy(tmp_path / "backup.db", data / "tchat.db")
    await assert_usable(data)


async def test_files_that_a_crash_left_are_accepted(data: Path) -> None:
    """An upload was complete, but not in the index; or one was removed from it first."""
    path = blob_path(data / "files", bytes(32))
    path.parent.mkdir()
    path.write_bytes(b"unknown")
    await assert_usable(data)


@pytest.mark.parametrize(("minutes", "refused"), [(59, False), (61, True)])
async def test_times_tell_it_without_a_record(data: Path, minutes: int, refused: bool) -> None:
    """As in a directory of an earlier version, or one that was put together by hand."""
    (data / "lock").write_bytes(b"")
    path = blob_path(data / "files", bytes(32))
    path.parent.mkdir()
    path.write_bytes(b"unknown")
    newest = NOON / 1000 + 60 * minutes
    os.utime(path, (newest, newest))
    if refused:
        with pytest.raises(Unusable, match="is older than the files"):
            async with open_store(data):
                pass
    else:
        await assert_usable(data)
