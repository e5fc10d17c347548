"""The disk's reserve: 5 %, within bounds that suit small and large disks."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tchat.store.disk_space import DiskSpace, automatic_reserve

if TYPE_CHECKING:
    from pathlib import Path

MIB, GIB = 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("disk", "reserve"),
    [
        (100 * MIB, 20 * MIB),
        (GIB, GIB // 5),
        (4 * GIB, 256 * MIB),
        (20 * GIB, GIB),
        (100 * GIB, 5 * GIB),
        (10_000 * GIB, 8 * GIB),
    ],
)
def test_the_reserve_suits_the_disk(disk: int, reserve: int) -> None:
    assert automatic_reserve(disk) == reserve


def test_an_operator_may_set_the_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    disk = usage._replace(total=100 * GIB, free=6 * GIB)
    monkeypatch.setattr("shutil.disk_usage", lambda _: disk)
    space = DiskSpace(tmp_path)
    assert space.available() == GIB
    space.reserve = 7 * GIB
    assert space.available() == -GIB
    space.reserve = 0
    assert space.available() == 6 * GIB
