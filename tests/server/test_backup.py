"""`tchat admin backup`: taken under load, it restores to whole logs with what was acknowledged."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
import trio
import trio.testing

from tchat.errors import Code, Refused, StartupError
from tchat.server import retention
from tchat.server.operations.backup import take_backup
from tchat.server.operations.verification import verify_server
from tchat.store.open import open_store
from tchat.store.sqlite.backup import Copied, back_up
from tchat.testing import open_server
from tests.helpers import log_of, texts
from tests.server.killed import killed_at
from tests.server.operated import FILES, LONG_FILE, MESSAGES, make_data

if TYPE_CHECKING:
    from tchat.api.client import Client

ROUNDS = int(os.environ.get("TCHAT_BACKUPS", "6"))
"""How many backups the test under load takes."""


@dataclass(slots=True)
class _Load:
    """People who post, edit, delete, share and remove files; `acknowledged` are texts that stay."""

    place: Path
    acknowledged: list[str] = field(default_factory=list)

    async def post(self, client: Client) -> None:
        """Post messages without end, and delete every third."""
        group = await client.join("ops", create=True)
        number = 0
        while True:
            number += 1
            text = f"{client.user} says {number}"
            message = await group.say(text)
            if number % 3:
                self.acknowledged.append(text)
            else:
                await message.delete()

    async def share(self, client: Client) -> None:
        """Share files without end, and remove each of them again."""
        group = await client.join("files", create=True)
        path = self.place / "file.bin"
        for number in range(1_000_000):
            path.write_bytes(number.to_bytes(8, "big") * 20_000)
            file = await group.send_file(path, name=f"{number}.bin")
            await file.remove()


async def test_backups_under_load_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People post and delete, files come and go, and the server removes files all the time."""
    monkeypatch.setattr(retention, "SWEEP_SECONDS", 0.02)
    load = _Load(tmp_path)
    async with (
        open_server(tmp_path) as server,
        server.connect("alice") as alice,
        server.connect("bob") as bob,
        server.connect("carol") as carol,
        trio.open_nursery() as nursery,
    ):
        group = await alice.join("ops", create=True)
        await group.set_policy("open")
        for work in (partial(load.post, alice), partial(load.post, bob)):
            nursery.start_soon(work)
        nursery.start_soon(load.share, carol)
        expected: list[set[str]] = []
        for number in range(ROUNDS):
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(20):
                await group.say("between two backups")
            expected.append(set(load.acknowledged))
            backup = partial(take_backup, tmp_path / "server", tmp_path / f"backup {number}")
            report = await trio.to_thread.run_sync(backup)
            assert report.damaged == ()
        nursery.cancel_scope.cancel()
    for number, sent in enumerate(expected):
        backup_directory = tmp_path / f"backup {number}"
        assert verify_server(backup_directory).faults == []
        async with open_store(backup_directory) as store:
            assert sent <= set(texts(await log_of(store)))
    assert len(expected[-1]) > len(expected[0])


async def test_a_server_continues_on_a_backup(tmp_path: Path) -> None:
    """With its own key, its messages and its files."""
    async with open_server(tmp_path) as server, server.connect("alice") as alice:
        group = await alice.join("ops", create=True)
        await group.say("before the backup")
        (tmp_path / "long.bin").write_bytes(LONG_FILE)
        await group.send_file(tmp_path / "long.bin")
        backup = partial(take_backup, tmp_path / "server", tmp_path / "restored" / "server")
        await trio.to_thread.run_sync(backup)
        await group.say("after the backup")
        pin = server.pin
    (tmp_path / "homes").rename(tmp_path / "restored" / "homes")
    async with open_server(tmp_path / "restored") as server, server.connect("alice") as alice:
        assert server.pin == pin
        group = await alice.open("ops")
        said = [event for event in await group.history() if hasattr(event, "text")]
        assert [event.text for event in said] == ["before the backup"]
        (file,) = group.files
        saved = await file.save(tmp_path / "downloads")
        assert saved.read_bytes() == LONG_FILE


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a data directory, to be copied."""
    return make_data(tmp_path_factory.mktemp("original"))


@pytest.fixture
def data(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "server", ignore=shutil.ignore_patterns("control"))
    return tmp_path / "server"


def test_a_backup_is_private(data: Path, tmp_path: Path) -> None:
    take_backup(data, tmp_path / "backup")
    for path in (tmp_path / "backup", *(tmp_path / "backup").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert not list(tmp_path.glob("*.incomplete"))
    assert not (tmp_path / "backup" / "unfinished-backup").exists()


def test_an_empty_directory_may_be_the_target(data: Path, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    assert take_backup(data, tmp_path / "backup").files == FILES
    assert verify_server(tmp_path / "backup").events > MESSAGES


KILLED = """
import os, signal, sys
from pathlib import Path
from tchat.server.operations import backup

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

backup.replace_file = die
backup.take_backup(Path(sys.argv[1]), Path(sys.argv[2]))
"""
"""Takes a backup, and is killed before it copies the keys."""


def test_an_interrupted_backup_is_removed_by_another(data: Path, tmp_path: Path) -> None:
    killed = [sys.executable, "-c", KILLED, str(data), str(tmp_path / "backup")]
    assert subprocess.run(killed, check=False).returncode == -signal.SIGKILL
    (draft,) = tmp_path.glob("*.incomplete")
    assert (draft / "tchat.db").exists()
    take_backup(data, tmp_path / "backup")
    assert verify_server(tmp_path / "backup").faults == []
    assert not draft.exists()


KILLED_AT = int(os.environ.get("TCHAT_KILLS", "5"))
"""At how many points of its work a program is killed."""

IMPORTS = """
import shutil
from tchat.server.operations.backup import take_backup
from tchat.server.operations.restore import restore
from tchat.server.operations.verification import verify_server
data, place = Path({data!r}), Path({place!r})
target = place / "backup"
def prepare():
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
def again():
    was_there = target.exists()
    if not was_there:
        take_backup(data, target)
    found = verify_server(target)
    return [was_there, found.count, found.files, [path.name for path in place.iterdir()]]
"""


def test_a_backup_killed_anywhere_can_begin_anew(data: Path, tmp_path: Path) -> None:
    """There is no backup then, or the whole one; the next removes what is left of it."""
    imports = IMPORTS.format(data=str(data), place=str(tmp_path / "place"))
    found = killed_at(KILLED_AT, imports, "prepare", "lambda: take_backup(data, target)", "again")
    for state in found:
        match state:
            case [_, 0, 3, list(names)]:
                assert "backup" in names
                # A draft without its mark could be somebody else's.
                assert len(names) <= 2
            case _:
                raise AssertionError(state)
    assert any(state == [False, 0, FILES, ["backup"]] for state in found)


def test_a_finished_backup_is_on_the_disk(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file and every directory of it is synced, and the directory above."""
    synced: set[tuple[int, int]] = set()
    fsync = os.fsync

    def record(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced.add((status.st_dev, status.st_ino))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    take_backup(data, tmp_path / "new" / "backup")
    made = [tmp_path, tmp_path / "new", *(tmp_path / "new").rglob("*")]
    # SQLite syncs its file itself.
    missed = [
        path
        for path in made
        if (path.stat().st_dev, path.stat().st_ino) not in synced and path.name != "tchat.db"
    ]
    assert missed == []


def test_an_unreadable_file_does_not_end_the_backup(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk may be unable to read one file."""
    bad = next((data / "files").glob("??/*[0-9a-f]"))
    read = Path.open

    class Unreadable:
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

        def read(self, _: int) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    def open_file(path: Path, mode: str = "r", buffering: int = -1) -> object:
        return Unreadable() if path == bad else read(path, mode, buffering)

    monkeypatch.setattr(Path, "open", open_file)
    report = take_backup(data, tmp_path / "backup")
    assert (report.damaged, report.files) == ((bad.name,), FILES - 1)


def test_a_directory_of_others_is_not_removed(data: Path, tmp_path: Path) -> None:
    """Although it is called as an unfinished backup would be."""
    for name in ("backup.incomplete", "backup.mine.incomplete"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "precious").touch()
    (tmp_path / "backup.mine.incomplete" / "unfinished-backup").touch()
    take_backup(data, tmp_path / "backup")
    for name in ("backup.incomplete", "backup.mine.incomplete"):
        assert (tmp_path / name / "precious").exists()


def test_backups_to_one_target_are_independent(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins and ends while the first copies files; only one gets the name."""
    first_copies = True

    def copy(source: Path, target: Path) -> Copied:
        nonlocal first_copies
        copied = back_up(source, target)
        if first_copies:
            first_copies = False
            take_backup(data, tmp_path / "backup")
        return copied

    monkeypatch.setattr("tchat.server.operations.backup.back_up", copy)
    with pytest.raises(Refused, match="exists already") as caught:
        take_backup(data, tmp_path / "backup")
    assert caught.value.code == Code.BAD_FILE
    report = verify_server(tmp_path / "backup")
    assert (report.faults, report.events > MESSAGES) == ([], True)
    assert not list(tmp_path.glob("*.incomplete"))


def test_a_target_that_vanishes_is_an_error(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of the data are not reported as damaged for it."""

    def copy(source: Path, target: Path) -> Copied:
        (target / "files").rmdir()
        (target / "files").symlink_to(tmp_path / "unmounted")
        return back_up(source, target)

    def create(source: Path, target: Path) -> Copied:
        (target / "files").mkdir()
        return copy(source, target)

    monkeypatch.setattr("tchat.server.operations.backup.back_up", create)
    with pytest.raises(Refused) as caught:
        take_backup(data, tmp_path / "backup")
    assert caught.value.code == Code.FILE_UNREADABLE
    assert not (tmp_path / "backup").exists()


def test_nothing_is_overwritten(data: Path, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "precious").touch()
    with pytest.raises(Refused) as caught:
        take_backup(data, tmp_path / "backup")
    assert caught.value.code == Code.BAD_FILE
    assert [path.name for path in (tmp_path / "backup").iterdir()] == ["precious"]


def test_the_data_directory_cannot_have_its_backup(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whatever path."""
    (tmp_path / "link").symlink_to(data)
    (tmp_path / "dangling").symlink_to(data / "backup")
    monkeypatch.chdir(data)
    for target in (
        *(data, data / "backup", tmp_path / "link" / "backup", tmp_path / "dangling"),
        *(Path(), Path("backup"), Path("files/../backup")),
    ):
        with pytest.raises(Refused, match="inside the data directory") as caught:
            take_backup(data, target)
        assert caught.value.code == Code.BAD_FILE
    assert not list(data.glob("*backup*"))


def test_backups_beside_the_data_have_any_path(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data)
    assert take_backup(Path(), Path("../backup")).target == str(tmp_path / "backup")
    assert take_backup(data, data / ".." / "another").target == str(tmp_path / "another")


def test_the_working_directory_is_no_target(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(Refused, match=r"is the working directory; .*/here/tchat"):
        take_backup(data, Path())


def test_a_mount_point_is_no_target(data: Path) -> None:
    with pytest.raises(Refused, match="is a mount point"):
        take_backup(data, Path("/"))


def test_links_in_a_circle_are_an_error(data: Path, tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    with pytest.raises(Refused, match="/one/backup"):
        take_backup(data, tmp_path / "one" / "backup")


def test_damaged_files_are_reported(data: Path, tmp_path: Path) -> None:
    """The rest is backed up nevertheless."""
    first, second, _ = sorted((data / "files").glob("??/*[0-9a-f]"))
    first.unlink()
    second.write_bytes(b"?" + second.read_bytes()[1:])
    report = take_backup(data, tmp_path / "backup")
    assert sorted(report.damaged) == [first.name, second.name]
    assert {fault.where for fault in verify_server(tmp_path / "backup").faults} == {"files"}


def test_a_backup_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="There is no server data"):
        take_backup(tmp_path / "nothing", tmp_path / "backup")
    assert list(tmp_path.iterdir()) == []
