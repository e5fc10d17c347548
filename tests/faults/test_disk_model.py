"""The model of a disk: what a sync has covered stays, and the rest may be there in any part."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.faults.disk_model import MODES, SECTOR, DiskModel
from tests.faults.recording import (
    Create,
    Remove,
    Rename,
    SyncBegins,
    SyncDirectory,
    SyncEnds,
    Truncate,
    Write,
)

if TYPE_CHECKING:
    from tests.faults.disk_model import Mode
    from tests.faults.recording import Step

OLD, NEW = b"o" * 2 * SECTOR, b"n" * 2 * SECTOR


def disk(*steps: Step, obeys: bool = True) -> DiskModel:
    model = DiskModel("/data", obeys=obeys)
    for step in steps:
        model.apply(step)
    return model


def synced(file: int) -> list[Step]:
    return [SyncBegins(file, 1), SyncEnds(file, 1)]


CREATED: list[Step] = [Create("/data/a", 1), SyncDirectory("/data")]


@pytest.mark.parametrize("mode", MODES)
def test_synced_writes_stay_in_every_mode(mode: Mode) -> None:
    model = disk(*CREATED, Write(1, 0, OLD), *synced(1))
    assert model.after_cut(mode, Random(1)) == {"/data/a": OLD}


def test_unsynced_writes_are_there_or_not() -> None:
    model = disk(*CREATED, Write(1, 0, OLD), *synced(1), Write(1, 0, NEW))
    assert model.after_cut("all", Random(1)) == {"/data/a": NEW}
    assert model.after_cut("synced", Random(1)) == {"/data/a": OLD}


def test_writes_are_torn_at_sectors() -> None:
    model = disk(*CREATED, Write(1, 0, OLD), *synced(1), Write(1, 0, NEW))
    seen = {model.after_cut("torn", Random(seed))["/data/a"] for seed in range(40)}
    halves = [b"o" * SECTOR, b"n" * SECTOR]
    assert seen == {one + two for one in halves for two in halves}


def test_sync_covers_only_what_was_before_its_start() -> None:
    model = disk(*CREATED, Write(1, 0, OLD), SyncBegins(1, 1), Write(1, 0, NEW), SyncEnds(1, 1))
    assert model.after_cut("synced", Random(1)) == {"/data/a": OLD}


def test_file_without_a_synced_entry_is_gone() -> None:
    model = disk(Create("/data/a", 1), Write(1, 0, OLD), *synced(1))
    assert model.after_cut("synced", Random(1)) == {}
    assert model.after_cut("all", Random(1)) == {"/data/a": OLD}


def test_rename_needs_a_sync_of_its_directory() -> None:
    renamed: list[Step] = [*CREATED, Write(1, 0, OLD), *synced(1), Rename("/data/a", "/data/b", 1)]
    assert disk(*renamed).after_cut("synced", Random(1)) == {"/data/a": OLD}
    assert disk(*renamed, SyncDirectory("/data")).after_cut("synced", Random(1)) == {"/data/b": OLD}


def test_removal_and_truncation_may_be_undone() -> None:
    steps: list[Step] = [*CREATED, Write(1, 0, OLD), *synced(1), Truncate(1, 0), Remove("/data/a")]
    assert disk(*steps).after_cut("synced", Random(1)) == {"/data/a": OLD}
    assert disk(*steps).after_cut("all", Random(1)) == {}


def test_file_below_an_unsynced_directory_is_gone() -> None:
    steps: list[Step] = [Create("/data/d", 0), Create("/data/d/a", 1), SyncDirectory("/data/d")]
    assert disk(*steps).after_cut("synced", Random(1)) == {}
    both = disk(*steps, SyncDirectory("/data")).after_cut("synced", Random(1))
    assert both == {"/data/d": None, "/data/d/a": b""}


def test_lying_disk_loses_what_was_synced() -> None:
    model = disk(*CREATED, Write(1, 0, OLD), *synced(1), obeys=False)
    assert model.after_cut("synced", Random(1)) == {}
