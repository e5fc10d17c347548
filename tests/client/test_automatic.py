"""Automatic saving: what a day's budget lets through, across programs and restarts, and copies."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tchat.client.files import automatic
from tchat.client.files.automatic import FILE_LIMIT, GROUPS_IN_FULL, AutomaticSaving
from tchat.client.files.budget import Budget
from tchat.client.shared_records import update_table
from tchat.core.group.state import File
from tchat.machine_clocks import DAY_MS
from tchat.transfer.durable import replace_file
from tests.client.clocks import YEARS, told
from tests.full_disk import small_disk

if TYPE_CHECKING:
    from pathlib import Path

    from tchat.client.clock import ClientClock

SERVER = ("sha256:abc", "localhost:7777")
MEGABYTE = 1_000_000


class _Usage(NamedTuple):
    total: int
    used: int
    free: int


def file(number: int, size: int = 10, name: str = "", data: bytes = b"") -> File:
    name = name or f"f{number}"
    digest = hashlib.sha256(data or name.encode()).digest()
    return File(number, name, size, digest, "alice", 0)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state" / "saved_files.json"


def program(record: Path | None, **budget: int) -> AutomaticSaving:
    return AutomaticSaving(record, SERVER, "bob", Budget(**budget))


async def admitted(
    saving: AutomaticSaving,
    into: Path,
    *files: File,
    group: str = "ops",
    clock: ClientClock | None = None,
) -> int:
    """Return how many of the files may be saved."""
    return sum([not await saving.refusal(group, one, into, clock or told()) for one in files])


async def test_files_of_a_day_are_counted(record: Path, tmp_path: Path) -> None:
    saving = program(record, files=3)
    assert await admitted(saving, tmp_path, *map(file, range(1, 6))) == 3
    reason = await saving.refusal("ops", file(9), tmp_path, told())
    assert reason == "today's 3 automatic files of this group are saved"
    assert await admitted(saving, tmp_path, file(1), group="Lab") == 1


async def test_bytes_of_a_day_are_counted(record: Path, tmp_path: Path) -> None:
    saving = program(record, megabytes=20)
    files = [file(number, 8 * MEGABYTE) for number in range(1, 5)]
    assert await admitted(saving, tmp_path, *files) == 2
    reason = await saving.refusal("ops", files[3], tmp_path, told())
    assert reason == "more than 20.0 MB of this group would be saved automatically today"
    assert await admitted(saving, tmp_path, file(9, 4 * MEGABYTE)) == 1


async def test_files_with_one_number_are_all_counted(record: Path, tmp_path: Path) -> None:
    """A server that gave all files the same number filled the disk, up to its reserve."""
    saving = program(record, files=3)
    files = [file(1, name=f"f{each}") for each in range(5)]
    assert await admitted(saving, tmp_path, *files) == 3


async def test_digests_that_begin_alike_are_all_counted(record: Path, tmp_path: Path) -> None:
    """A member can announce any digests; only a part of each was compared."""
    saving = program(record, files=3)
    files = [replace(file(n), sha256=n.to_bytes(32, "big")) for n in range(1, 9)]
    assert await admitted(saving, tmp_path, *files) == 3


async def test_groups_of_a_server_share_a_budget(record: Path, tmp_path: Path) -> None:
    saving = program(record, files=3)
    count = 0
    for group in range(10):
        files = [file(number, name=f"{group}-{number}") for number in range(3)]
        count += await admitted(saving, tmp_path, *files, group=f"ops{group}")
    assert count == 3 * GROUPS_IN_FULL
    reason = await saving.refusal("ops9", file(1), tmp_path, told())
    assert reason == "today's automatic files of all groups of this server are saved"


async def test_budget_is_one_for_all_programs(record: Path, tmp_path: Path) -> None:
    """And restarts; the same file counts once."""
    first, second = program(record, files=3), program(record, files=3)
    assert await admitted(first, tmp_path, file(1), file(2)) == 2
    assert await admitted(second, tmp_path, file(1), file(2), file(3), file(4)) == 3
    assert await admitted(program(record, files=3), tmp_path, file(3), file(5)) == 1


async def test_next_day_has_a_budget_of_its_own(record: Path, tmp_path: Path) -> None:
    saving = program(record, files=1)
    assert await admitted(saving, tmp_path, file(1), file(2)) == 1
    tomorrow = told(wall=DAY_MS, server=DAY_MS)
    assert await admitted(saving, tmp_path, file(2), file(3), clock=tomorrow) == 1


@pytest.mark.parametrize("jump", [YEARS, -YEARS])
@pytest.mark.parametrize("which", ["wall", "server"])
async def test_one_wrong_clock_leaves_the_budget(
    record: Path, tmp_path: Path, which: str, jump: int
) -> None:
    """It neither lifts the budget, nor keeps it used up after the next day."""
    saving = program(record, files=1)
    assert await admitted(saving, tmp_path, file(1)) == 1
    for clock in (told(**{which: jump}), told()):
        assert await admitted(saving, tmp_path, file(2), clock=clock) == 0
    days = [told(wall=day * DAY_MS, server=day * DAY_MS) for day in (1, 2)]
    assert sum([await admitted(saving, tmp_path, *map(file, (2, 3)), clock=day) for day in days])


async def test_clock_that_stays_wrong_renews_the_budget(record: Path, tmp_path: Path) -> None:
    saving = program(record, files=1)
    clocks = [told(wall=YEARS + day * DAY_MS, server=day * DAY_MS) for day in range(3)]
    found = [await admitted(saving, tmp_path, *map(file, range(5)), clock=one) for one in clocks]
    assert found == [1, 1, 1]


async def test_record_of_an_earlier_version_counts(record: Path, tmp_path: Path) -> None:
    saving = program(record, files=1)
    assert await admitted(saving, tmp_path, file(1)) == 1
    update_table(record, lambda table: table[SERVER[0]]["bob"].pop("server_day"))
    assert await admitted(program(record, files=1), tmp_path, file(2)) == 0


async def test_a_budget_of_no_files_switches_it_off(record: Path, tmp_path: Path) -> None:
    saving = program(record, files=0)
    assert await saving.refusal("ops", file(1), tmp_path, told()) == "automatic saving is off"


def test_few_files_wait_to_be_saved(record: Path) -> None:
    """A server announced 43,000; to look at the record for each took minutes."""
    saving = program(record, files=200)
    assert sum(saving.begin() for _ in range(5000)) == GROUPS_IN_FULL * 200
    saving.end()
    assert [saving.begin(), saving.begin()] == [True, False]


async def test_a_reserve_of_the_disk_stays_free(
    record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saving, size = program(record, free=500), 8 * MEGABYTE
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage(0, 0, 500 * MEGABYTE + size))
    into = tmp_path / "not" / "there yet"
    assert await admitted(saving, into, file(1, size), file(2, size + 1)) == 1
    reason = await saving.refusal("ops", file(2, size + 1), into, told())
    assert reason == "less than 500.0 MB of the disk would stay free"


@pytest.mark.parametrize("text", ["{", "[]", '{"sha256:abc": {"bob": {"groups": 1, "day": []}}}'])
async def test_a_damaged_record_is_begun_anew(record: Path, tmp_path: Path, text: str) -> None:
    replace_file(record, text.encode())
    assert await admitted(program(record, files=2), tmp_path, *map(file, range(4))) == 2


async def test_a_full_disk_does_not_lift_the_budget(tmp_path: Path) -> None:
    with small_disk("limit", tmp_path / "state") as disk:
        saving = program(tmp_path / "state" / "saved_files.json", files=3, free=0)
        assert await admitted(saving, tmp_path, file(1)) == 1
        disk.fill()
        assert await admitted(saving, tmp_path, *map(file, range(2, 9))) == 2


# ------------------------------------------------------------------ copies


async def test_what_is_saved_is_not_saved_again(record: Path, tmp_path: Path) -> None:
    """A share of the same bytes under another name costs neither disk nor budget."""
    saving, place = program(record, files=1), tmp_path / "report.pdf"
    report = file(1, 4, "report.pdf", b"data")
    assert await admitted(saving, tmp_path, report) == 1
    place.write_bytes(b"data")
    await saving.on_saved(report, place)
    for one in (saving, program(record, files=1)):
        reason = await one.refusal("ops", file(2, 4, "copy.pdf", b"data"), tmp_path, told())
        assert reason == f"you have it as {place}"
        assert await one.refusal("ops", report, tmp_path, told()) == ""


@pytest.mark.parametrize("change", ["removed", "edited"])
async def test_a_lost_copy_is_saved_again(record: Path, tmp_path: Path, change: str) -> None:
    saving, place = program(record), tmp_path / "report.pdf"
    place.write_bytes(b"data")
    await saving.on_saved(file(1, 4, "report.pdf", b"data"), place)
    if change == "removed":
        place.unlink()
    else:
        place.write_bytes(b"mine, not data")
    assert await admitted(saving, tmp_path, file(2, 4, "copy.pdf", b"data")) == 1


async def test_a_copy_moved_at_once_is_not_remembered(record: Path, tmp_path: Path) -> None:
    saving, report = program(record, files=2), file(1, 4, "report.pdf", b"data")
    await saving.on_saved(report, tmp_path / "report.pdf")
    assert await admitted(saving, tmp_path, report, file(2, 4, "other.pdf", b"more")) == 2
    assert await admitted(program(record, files=2), tmp_path, file(3)) == 0  # it is counted for all


async def test_the_latest_copies_are_remembered(
    record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(automatic, "_MOST_COPIES", 2)
    saving, place = program(record), tmp_path / "report.pdf"
    place.write_bytes(b"data")
    for data in (b"a", b"b", b"c"):
        await saving.on_saved(file(1, 4, data=data), place)
    shared = [file(2, 4, f"copy {data!r}", data) for data in (b"a", b"b", b"c")]
    assert await admitted(saving, tmp_path, *shared) == 1


def test_the_largest_file_fits_into_the_budget() -> None:
    assert Budget().megabytes * MEGABYTE > FILE_LIMIT
