"""Records in a file that programs share: simultaneous changes keep each other's records."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tchat.client.shared_records import PersonRecords

if TYPE_CHECKING:
    from pathlib import Path

SERVER = ("sha256:abc", "localhost:7777")
CHANGES = 60
COUNT_UP = f"""
import sys
from pathlib import Path
from tchat.client.shared_records import PersonRecords
records = PersonRecords(Path(sys.argv[1]), ["sha256:abc"], sys.argv[2])
sys.stdin.readline()
for _ in range({CHANGES}):
    records.update(lambda count: (count or 0) + 1)
"""


def test_simultaneous_programs_keep_all_changes(tmp_path: Path) -> None:
    """Of two people, and of two programs of the same person."""
    file = tmp_path / "state" / "records.json"
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", COUNT_UP, str(file), user], stdin=subprocess.PIPE, text=True
        )
        for user in ("alice", "alice", "bob")
    ]
    for program in programs:
        assert program.stdin is not None
        program.stdin.write("\n")
        program.stdin.close()
    assert [program.wait() for program in programs] == [0, 0, 0]
    counts = {user: PersonRecords(file, SERVER, user).read() for user in ("alice", "bob")}
    assert counts == {"alice": 2 * CHANGES, "bob": CHANGES}


def test_record_moves_to_the_best_name(tmp_path: Path) -> None:
    file = tmp_path / "records.json"
    PersonRecords(file, SERVER[1:], "Alice").update(lambda _: 1)
    records = PersonRecords(file, SERVER, "alice")
    assert records.read() == 1
    records.update(lambda found: [found, 2])
    assert records.read() == [1, 2]
    assert PersonRecords(file, SERVER[1:], "alice").read() == 1


@pytest.mark.parametrize("damage", ["", "[]", '{"sha256:abc": 1}', "[" * 10_000])
def test_damaged_file_is_empty(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "records.json"
    file.write_text(damage)
    records = PersonRecords(file, SERVER, "alice")
    assert records.read() is None
    records.update(lambda _: 1)
    assert json.loads(file.read_text()) == {"sha256:abc": {"alice": 1}}


def test_without_a_file_nothing_is_saved() -> None:
    records = PersonRecords()
    records.update(lambda _: 1)
    assert records.read() is None
