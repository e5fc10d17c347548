"""`tchat admin set-aside`: whatever `serve` refuses is moved, and nothing is deleted."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.errors import Code, Refused, StartupError
from tchat.net.tls import make_credentials
from tchat.server.operations.salvage import salvage
from tchat.server.operations.set_aside import SetAside, set_aside
from tchat.server.operations.verification import verify_server
from tchat.store.open import open_store
from tests.store.batches import last_seq
from tests.store.logs import post
from tests.store.sharing import share

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """Make a data directory with a log, a file and a key."""
    data = tmp_path / "data"
    async with open_store(data) as store:
        await post(store, "one", "two")
        await share(store, data, b"a file", 1)
    make_credentials(data)
    shutil.copytree(data, tmp_path / "backup")
    return data


def contents(directory: Path) -> list[bytes]:
    """Return the contents of all files below a directory, but for the lock."""
    files = (path for path in directory.rglob("*") if path.is_file() and path.name != "lock")
    return sorted(path.read_bytes() for path in files)


def entries(directory: Path) -> list[Path]:
    return list(directory.iterdir())


def missing(data: Path) -> None:
    (data / "tchat.db").unlink()


def empty(data: Path) -> None:
    (data / "tchat.db").write_bytes(b"")


def another(data: Path) -> None:
    (data / "tchat.db").write_bytes(b"recipes" * 1000)


def a_log_alone(data: Path) -> None:
    (data / "tchat.db").rename(data / "tchat.db-wal")


@pytest.mark.parametrize("breaking", [missing, empty, another, a_log_alone])
async def test_a_server_begins_anew_with_its_key(
    data: Path, breaking: Callable[[Path], None]
) -> None:
    breaking(data)
    before = contents(data)
    with pytest.raises(StartupError, match="tchat admin set-aside"):
        async with open_store(data):
            pass
    report = set_aside(data)
    assert report.anew
    assert (data / "server-key.pem").exists()
    after = contents(data)
    assert all(after.count(one) >= before.count(one) for one in before)
    async with open_store(data) as store:
        assert await last_seq(store, "ops") == 0
        assert await store.files.digests() == set()


async def test_files_newer_than_the_database_are_moved(data: Path, tmp_path: Path) -> None:
    async with open_store(data) as store:
        await share(store, data, b"newer", 2)
    shutil.copy(tmp_path / "backup" / "tchat.db", data / "tchat.db")
    report = set_aside(data)
    assert (report.moved, report.anew) == (1, False)
    assert b"newer" in contents(data / report.target)
    async with open_store(data) as store:
        assert await last_seq(store, "ops") == 3
        known = await store.files.digests()
        await store.blobs.remove_unknown(known)
    assert contents(data / "files") == [b"a file"]
    assert contents(data / report.target) == [b"newer"]
    assert set_aside(data) == SetAside("", 0, anew=False)


async def test_nothing_is_moved_without_a_reason(data: Path) -> None:
    before = contents(data)
    assert set_aside(data) == SetAside("", 0, anew=False)
    assert contents(data) == before


def test_other_directories_stay_as_they_are(tmp_path: Path) -> None:
    for place in (tmp_path / "typo", tmp_path):
        with pytest.raises(StartupError, match="There is no server data in"):
            set_aside(place)
    assert list(tmp_path.iterdir()) == []


async def test_a_directory_in_use_is_refused(data: Path) -> None:
    async with open_store(data):
        with pytest.raises(Refused, match="stop it first") as caught:
            set_aside(data)
    assert caught.value.code == Code.BUSY


async def test_a_file_called_files_is_moved(data: Path) -> None:
    shutil.rmtree(data / "files")
    (data / "files").write_bytes(b"in the way")
    report = set_aside(data)
    assert (report.moved, report.anew) == (1, False)
    assert b"in the way" in contents(data / report.target)
    async with open_store(data) as store:
        assert await last_seq(store, "ops") == 3


@pytest.mark.parametrize("name", ["server-key.pem", "server-cert.pem"])
async def test_a_damaged_key_is_not_usable(data: Path, name: str) -> None:
    (data / name).write_bytes(b"")
    with pytest.raises(StartupError, match=f"{name} is empty"):
        set_aside(data)
    (fault,) = [fault for fault in verify_server(data).faults if fault.where == "keys"]
    assert f"{name} is empty" in fault.sentence
    assert "from a backup" in fault.sentence or "clients notice nothing" in fault.sentence


@pytest.mark.parametrize("name", ["", "server-key.pem"])
async def test_what_others_may_use_is_not_usable(data: Path, name: str) -> None:
    (data / name).chmod(0o777)
    with pytest.raises(StartupError, match=r"[Rr]un: chmod"):
        set_aside(data)


@pytest.mark.parametrize("mend", [set_aside, salvage])
async def test_what_root_makes_belongs_to_the_owner(
    data: Path, mend: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    if mend is set_aside:
        empty(data)
    given: set[str] = set()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, *_, **__: given.add(str(path)))
    await trio.to_thread.run_sync(mend, data)
    assert any(path.endswith("/tchat.db") for path in given)
    aside = [path for path in entries(data) if path.name.startswith(("set-aside", "damaged"))]
    assert given >= {str(path) for path in aside}
