"""`tchat admin restore`: the old data or the backup is in place, and nothing is ever deleted."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.errors import Code, Refused, StartupError
from tchat.file_lock import try_lock
from tchat.server.operations import restore as module
from tchat.server.operations.backup import take_backup
from tchat.server.operations.restore import restore
from tchat.server.operations.verification import verify_server
from tchat.testing import open_server
from tests.server.killed import killed_at
from tests.server.operated import FILES, MESSAGES, make_data
from tests.store.older import remove_tables_since

if TYPE_CHECKING:
    from pathlib import Path

KILLED_AT = int(os.environ.get("TCHAT_KILLS", "5"))


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a backup, which no test changes."""
    place = tmp_path_factory.mktemp("original")
    take_backup(make_data(place), place / "backup")
    return place / "backup"


def key_of(data: Path) -> bytes:
    return (data / "server-key.pem").read_bytes()


def test_a_backup_is_restored_to_a_new_directory(backup: Path, tmp_path: Path) -> None:
    report = restore(backup, tmp_path / "new" / "data")
    assert (report.groups, report.people, report.files, report.former) == (4, 2, FILES, None)
    assert report.events > MESSAGES
    assert report.last_at > 0
    assert verify_server(tmp_path / "new" / "data").faults == []
    assert key_of(tmp_path / "new" / "data") == key_of(backup)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["data"]


def test_an_empty_directory_is_filled(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert restore(backup, tmp_path / "data").former is None
    assert verify_server(tmp_path / "data").faults == []


@pytest.mark.parametrize("atomic", [True, False])
def test_former_data_is_kept_beside_it(
    backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, atomic: bool
) -> None:
    """Also on a system that cannot exchange two directories."""
    if not atomic:
        monkeypatch.setattr(module, "_exchange", lambda *_: False)
    (tmp_path / "data" / "files").mkdir(parents=True)
    (tmp_path / "data" / "tchat.db").write_bytes(b"broken")
    report = restore(backup, tmp_path / "data")
    assert report.former is not None
    (former,) = tmp_path.glob("data.replaced-*")
    assert (str(former), (former / "tchat.db").read_bytes()) == (report.former, b"broken")
    assert verify_server(tmp_path / "data").faults == []
    assert len(list(tmp_path.iterdir())) == 2


def test_a_server_goes_on_with_the_backup(tmp_path: Path) -> None:
    """Its clients come back by themselves, and what they post is in the restored group."""

    async def main() -> None:
        async with open_server(tmp_path) as server, server.connect("alice") as alice:
            group = await alice.join("ops", create=True)
            await group.say("before")
            backup = partial(take_backup, tmp_path / "server", tmp_path / "backup")
            await trio.to_thread.run_sync(backup)
            await group.say("after")
        await trio.to_thread.run_sync(restore, tmp_path / "backup", tmp_path / "server")
        async with open_server(tmp_path) as server, server.connect("alice") as alice:
            group = await alice.open("ops")
            await group.say("on the restored server")
            said = [event.text for event in await group.history() if hasattr(event, "text")]
            assert said == ["before", "on the restored server"]
        assert verify_server(tmp_path / "server").faults == []

    trio.run(main)


def test_a_directory_in_use_is_refused(backup: Path, tmp_path: Path) -> None:
    shutil.copytree(backup, tmp_path / "data")
    lock = try_lock(tmp_path / "data" / "lock")
    assert lock is not None
    with lock, pytest.raises(Refused, match="stop it first") as caught:
        restore(backup, tmp_path / "data")
    assert caught.value.code == Code.BUSY
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_damaged_backup_changes_nothing(backup: Path, tmp_path: Path) -> None:
    shutil.copytree(backup, tmp_path / "backup")
    next((tmp_path / "backup" / "files").glob("??/*[0-9a-f]")).unlink()
    (tmp_path / "data" / "files").mkdir(parents=True)
    with pytest.raises(Refused, match=r"has \d faults?, the first: .* is as it was") as caught:
        restore(tmp_path / "backup", tmp_path / "data")
    assert caught.value.code == Code.FILE_DAMAGED
    (tmp_path / "backup" / "tchat.db").write_bytes(b"SQLite format 3\0" + bytes(9000))
    with pytest.raises((Refused, StartupError)):
        restore(tmp_path / "backup", tmp_path / "data")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "data"]
    assert [path.name for path in (tmp_path / "data").iterdir() if path.name != "lock"] == ["files"]


def test_a_backup_of_an_earlier_version_is_updated(backup: Path, tmp_path: Path) -> None:
    """And not changed itself."""
    shutil.copytree(backup, tmp_path / "backup")
    with closing(sqlite3.connect(tmp_path / "backup" / "tchat.db")) as connection, connection:
        remove_tables_since(connection, "group_appearances")
    before = (tmp_path / "backup" / "tchat.db").read_bytes()
    restore(tmp_path / "backup", tmp_path / "data")
    assert (tmp_path / "backup" / "tchat.db").read_bytes() == before
    assert verify_server(tmp_path / "data").faults == []


def test_other_directories_are_not_replaced(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis").touch()
    shutil.copytree(backup, tmp_path / "data")
    for source, target, sentence in (
        (backup, tmp_path / "home", "something else"),
        (tmp_path / "data", tmp_path / "data", "contain each other"),
        (tmp_path / "data", tmp_path, "contain each other"),
        (tmp_path / "data", tmp_path / "data" / "new", "contain each other"),
        (tmp_path / "data", tmp_path / "home" / "thesis", "something else"),
    ):
        with pytest.raises(Refused, match=sentence):
            restore(source, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "home"]


IMPORTS = """
import shutil
from tchat.server.operations.restore import restore
from tchat.server.operations.verification import verify_server
backup, place = Path({backup!r}), Path({place!r})
data = place / "data"
def prepare():
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    shutil.copytree(backup, data)
    (data / "tchat.db").write_bytes(b"broken")
def is_old(path):
    return (path / "tchat.db").read_bytes() == b"broken"
def again():
    was_old = is_old(data)
    if was_old:
        restore(backup, data)
    else:
        assert verify_server(data).count == 0
        restore(backup, data)
    old = [path.name for path in place.iterdir() if is_old(path)]
    return [was_old, verify_server(data).count, len(old), old[0].split("-")[0]]
"""


def test_a_restore_killed_anywhere_leaves_old_or_new(backup: Path, tmp_path: Path) -> None:
    """The broken data is kept once, under its later name, after another restore."""
    imports = IMPORTS.format(backup=str(backup), place=str(tmp_path / "place"))
    found = killed_at(KILLED_AT, imports, "prepare", "lambda: restore(backup, data)", "again")
    for state in found:
        match state:
            case [bool(), 0, 1, "data.replaced"]:
                continue
            case _:
                raise AssertionError(state)
