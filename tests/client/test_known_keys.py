"""New keys of a name are reported once for each program, and no bad file is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tchat.client.known_keys import KnownKeys
from tchat.core.protocol.frames import NameKey

if TYPE_CHECKING:
    from pathlib import Path

SERVER = ("sha256:abc", "localhost:7777")
ONE, TWO = NameKey(b"1" * 32, 1), NameKey(b"2" * 32, 2)


def test_first_keys_are_not_new(tmp_path: Path) -> None:
    file = tmp_path / "state" / "known_keys.json"
    known = KnownKeys(file, SERVER, "Alice")
    assert known.find_new([ONE]) == []
    assert known.find_new([ONE, TWO]) == [TWO]
    assert known.find_new([ONE, TWO]) == []
    assert KnownKeys(file, SERVER, "bob").find_new([ONE, TWO]) == []


def test_key_is_new_to_each_program_once(tmp_path: Path) -> None:
    file = tmp_path / "known_keys.json"
    KnownKeys(file, SERVER, "alice").find_new([ONE])
    programs = [KnownKeys(file, SERVER, "alice") for _ in range(2)]
    assert [program.find_new([ONE, TWO]) for program in programs] == [[TWO], [TWO]]
    assert KnownKeys(file, SERVER, "alice").find_new([ONE, TWO]) == []


@pytest.mark.parametrize("damage", ["", "[]", '{"sha256:abc": {"alice": [1]}}', "[" * 10_000])
def test_damaged_file_reports_nothing(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "known_keys.json"
    file.write_text(damage)
    assert KnownKeys(file, SERVER, "alice").find_new([ONE, TWO]) == []


def test_unwritable_file_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert KnownKeys(tmp_path / "file" / "known_keys.json", SERVER).find_new([ONE]) == []
