"""Partial downloads that nobody resumes: the next download into the directory removes them."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tchat.client.clock import LATEST_MS, ClientClock
from tchat.client.files.downloads import PARTS_KEPT_DAYS, close_part, open_part, part_name
from tchat.core.group.state import File
from tchat.core.protocol.converters import INT_LIMIT
from tchat.machine_clocks import DAY_MS
from tests.client.clocks import YEARS, told

if TYPE_CHECKING:
    from pathlib import Path

DAY = 24 * 3600
OLD, RECENT = PARTS_KEPT_DAYS + 1, PARTS_KEPT_DAYS - 1
FILE = File(1, "plan.txt", 100, bytes(32), "bob", 0)
OWNER = "sha256:abc\0alice"
WANTED = part_name(FILE, OWNER)
OTHER = "." + bytes(15).hex() + "01.part"
SPARE = "." + bytes(15).hex() + "01-0123abcd.part"


def put(place: Path, name: str, days: float) -> Path:
    """Write a file that was last changed so many days ago."""
    path = place / name
    path.write_bytes(b"x" * 10)
    os.utime(path, (time.time() - days * DAY,) * 2)
    return path


def download(into: Path, clock: ClientClock | None = None) -> None:
    clock = clock or told()
    part = open_part(into, FILE, OWNER, clock)
    part.add_incomplete(b"x")
    close_part(part, FILE, OWNER, clock)


@pytest.mark.parametrize("name", [OTHER, f"{OTHER}.sums", SPARE, f"{SPARE}.sums"])
def test_old_parts_are_removed(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name, OLD)
    download(tmp_path)
    assert not path.exists()


@pytest.mark.parametrize("name", [OTHER, f"{OTHER}.sums", SPARE])
def test_recent_parts_are_kept(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name, RECENT)
    download(tmp_path)
    assert path.exists()


@pytest.mark.parametrize("now", [0, LATEST_MS, INT_LIMIT - 1])
def test_lying_server_leaves_the_parts_of_others(tmp_path: Path, now: int) -> None:
    """Nor does a part that is dated by such a server stay for ever."""
    path, liar = put(tmp_path, OTHER, RECENT), ClientClock()
    liar.on_welcome(now)
    download(tmp_path, liar)
    assert path.exists()
    part = open_part(tmp_path, replace(FILE, sha256=bytes(31) + b"x"), OWNER, told())
    close_part(part, FILE, OWNER, told())
    assert path.exists()
    assert (tmp_path / WANTED).stat().st_mtime < time.time() + DAY


@pytest.mark.parametrize("name", ["plan.part", ".plan.part", ".0123.part", OTHER[1:], "old.txt"])
def test_other_files_are_never_removed(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name, OLD)
    download(tmp_path)
    assert path.exists()


def test_old_part_of_the_file_is_resumed(tmp_path: Path) -> None:
    put(tmp_path, WANTED, OLD)
    part = open_part(tmp_path, FILE, OWNER, told())
    assert part.offset == 10
    close_part(part, FILE, OWNER, told())


def test_part_in_use_is_kept(tmp_path: Path) -> None:
    other = File(2, "other", 100, bytes(15) + b"\x01" + bytes(16), "bob", 0)
    used = open_part(tmp_path, other, OWNER, told())
    used.add_incomplete(b"x")
    os.utime(used.path, (0, 0))
    download(tmp_path)
    assert used.path.exists()
    close_part(used, other, OWNER, told())
    os.utime(used.path, (0, 0))
    download(tmp_path)
    assert not used.path.exists()


def test_link_and_pipe_are_not_followed(tmp_path: Path) -> None:
    target = put(tmp_path, "mine.txt", OLD)
    link, pipe = tmp_path / OTHER, tmp_path / SPARE
    link.symlink_to(target)
    os.utime(link, (0, 0), follow_symlinks=False)
    os.mkfifo(pipe)
    os.utime(pipe, (0, 0))
    download(tmp_path)
    assert target.exists()


@pytest.mark.parametrize(
    "clock",
    [told(wall=YEARS), told(server=YEARS), ClientClock(lambda: 2 * YEARS)],
    ids=["wall clock ahead", "server ahead", "server silent"],
)
def test_one_wrong_clock_removes_no_part(tmp_path: Path, clock: ClientClock) -> None:
    path = put(tmp_path, OTHER, RECENT)
    download(tmp_path, clock)
    assert path.exists()


def test_part_written_in_the_past_is_kept(tmp_path: Path) -> None:
    """The wall clock was years behind, and is right when the next file is downloaded."""
    other = File(2, "other", 100, bytes(15) + b"\x01" + bytes(16), "bob", 0)
    behind = told(wall=-YEARS)
    part = open_part(tmp_path, other, OWNER, behind)
    part.add_incomplete(b"x")
    os.utime(part.path, (0, 0))
    close_part(part, other, OWNER, behind)
    download(tmp_path)
    assert part.path.exists()


def test_part_written_in_the_future_becomes_old(tmp_path: Path) -> None:
    path = put(tmp_path, OTHER, -YEARS / DAY_MS)
    download(tmp_path)
    assert path.stat().st_mtime < time.time() + DAY
