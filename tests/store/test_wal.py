"""Damage of SQLite's write-ahead log, after which SQLite drops committed transactions."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import trio

from tchat.errors import StartupError
from tchat.server.operations.salvage import salvage
from tchat.store.open import open_store
from tchat.store.sqlite.verify import verify_data
from tchat.store.sqlite.wal import find_damage
from tests.helpers import THOROUGH, log_of
from tests.store.logs import post

if TYPE_CHECKING:
    from pathlib import Path

FRAME = 24 + 4096
TEXTS = 30


@pytest.fixture
async def killed(tmp_path: Path) -> Path:
    """Return a directory as a server leaves it that is killed: all events are in the log ahead."""
    async with open_store(tmp_path / "running") as store:
        for number in range(TEXTS):
            await post(store, f"text number {number}")
        (tmp_path / "killed" / "files").mkdir(parents=True)
        for name in ("tchat.db", "tchat.db-wal"):
            shutil.copy(tmp_path / "running" / name, tmp_path / "killed" / name)
    return tmp_path / "killed"


def log_ahead(directory: Path) -> Path:
    return directory / "tchat.db-wal"


def damages(directory: Path) -> list[tuple[str, str]]:
    faults = verify_data(directory).faults
    return [(one.subject, one.sentence) for one in faults if one.where == "database"]


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1 << random.Random(offset).randrange(8)
    path.write_bytes(content)


def frames(path: Path) -> list[int]:
    """Return the offset of each frame."""
    return list(range(32, path.stat().st_size, FRAME))


async def test_a_whole_log_has_no_damage(killed: Path) -> None:
    assert len(frames(log_ahead(killed))) > TEXTS
    assert find_damage(log_ahead(killed)) is None
    assert damages(killed) == []
    assert verify_data(killed).events == TEXTS


async def test_a_flipped_byte_anywhere_is_found(killed: Path) -> None:
    path = log_ahead(killed)
    content = path.read_bytes()
    chosen = random.Random(5)
    offsets = [
        *range(0, 32, 1 if THOROUGH else 3),
        *(chosen.randrange(len(content)) for _ in range(60 if THOROUGH else 15)),
    ]
    for start in (frames(path)[3], frames(path)[-1]):
        offsets += [start + step for step in (0, 3, *range(8, 24), 24, FRAME - 1)]
    missed = []
    for offset in offsets:
        flip(path, offset)
        if find_damage(path) is None:
            missed.append(offset)
        path.write_bytes(content)
    assert missed == []


async def test_verify_reports_lost_transactions(killed: Path) -> None:
    flip(log_ahead(killed), frames(log_ahead(killed))[-4] + 100)
    assert verify_data(killed).events < TEXTS, "SQLite has dropped the rest"
    ((subject, sentence),) = damages(killed)
    assert subject == "tchat.db-wal"
    assert "transactions are lost" in sentence


async def test_a_half_written_transaction_is_no_damage(killed: Path) -> None:
    """The process was killed, or the power failed, before the frame with the commit."""
    path = log_ahead(killed)
    content = path.read_bytes()
    for lost in (1, 100, FRAME - 1):
        path.write_bytes(content[:-lost])
        assert find_damage(path) is None
    path.write_bytes(content + bytes(FRAME))
    assert find_damage(path) is None
    without_commit = bytearray(content[-FRAME:])
    without_commit[4:8] = bytes(4)
    path.write_bytes(content + without_commit)  # its checksum is wrong, too
    assert find_damage(path) is None


async def test_frames_of_an_earlier_use_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "any.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE texts (text)")
        for _ in range(20):
            connection.execute("INSERT INTO texts VALUES (hex(randomblob(3000)))")
        connection.execute("PRAGMA wal_checkpoint(RESTART)")
        connection.execute("INSERT INTO texts VALUES ('one more')")
        copy = tmp_path / "copy"
        shutil.copy(f"{path}-wal", copy)
    assert find_damage(copy) is None
    flip(copy, 32 + 30)
    assert find_damage(copy) is not None


def test_no_log_is_no_damage(tmp_path: Path) -> None:
    assert find_damage(tmp_path / "missing") is None
    (tmp_path / "empty").touch()
    assert find_damage(tmp_path / "empty") is None


@pytest.mark.parametrize("frame", [None, 0, 5, -12])
async def test_acknowledged_losses_refuse_the_start(killed: Path, frame: int | None) -> None:
    """SQLite would drop the transactions from the damage on; `salvage` keeps most of them."""
    path = log_ahead(killed)
    flip(path, 20 if frame is None else frames(path)[frame] + 100)
    before = path.read_bytes()
    with pytest.raises(StartupError, match="tchat admin salvage"):
        async with open_store(killed):
            raise AssertionError
    assert path.read_bytes() == before
    await trio.to_thread.run_sync(salvage, killed)
    async with open_store(killed) as store:
        assert len(await log_of(store, "ops")) >= TEXTS - 1


async def test_the_last_transaction_may_be_unacknowledged(killed: Path) -> None:
    """The power may have failed while it was written, so the server starts without it."""
    flip(log_ahead(killed), frames(log_ahead(killed))[-1] + 100)
    async with open_store(killed) as store:
        assert len(await log_of(store, "ops")) == TEXTS - 1
