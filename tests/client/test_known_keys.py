"""New keys of a name are reported once for each program, and no bad file is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tchat.client import known_keys
from tchat.client.known_keys import KnownKeys
from tchat.core.fingerprints import fingerprint
from tchat.core.protocol.frames import NameKey

if TYPE_CHECKING:
    from pathlib import Path

SERVER = ("sha256:abc", "localhost:7777")
ONE, TWO = NameKey(b"1" * 32, 1), NameKey(b"2" * 32, 2)


def test_first_keys_are_not_new(tmp_path: Path) -> None:
    file = tmp_path / "state" / "known_keys.json"
    known = KnownKeys(file, SERVER, "Alice")
    assert known.compare([ONE]) == ([], [])
    assert known.compare([ONE, TWO]) == ([TWO], [])
    assert known.compare([ONE, TWO]) == ([], [])
    assert KnownKeys(file, SERVER, "bob").compare([ONE, TWO]) == ([], [])


def test_key_is_new_to_each_running_program(tmp_path: Path) -> None:
    file = tmp_path / "known_keys.json"
    KnownKeys(file, SERVER, "alice").compare([ONE])
    programs = [KnownKeys(file, SERVER, "alice") for _ in range(2)]
    assert [program.compare([ONE, TWO])[0] for program in programs] == [[TWO], [TWO]]
    assert KnownKeys(file, SERVER, "alice").compare([ONE, TWO]) == ([], [])


def test_removed_key_is_new_when_added_again(tmp_path: Path) -> None:
    file = tmp_path / "known_keys.json"
    known = KnownKeys(file, SERVER, "alice")
    known.compare([ONE, TWO])
    known.compare([ONE])
    assert known.compare([ONE, TWO]) == ([TWO], [])
    again = NameKey(TWO.key, 3)  # removed and added while no program was running
    assert KnownKeys(file, SERVER, "alice").compare([ONE, again]) == ([again], [])


def test_removed_keys_are_reported_once(tmp_path: Path) -> None:
    file = tmp_path / "known_keys.json"
    KnownKeys(file, SERVER, "alice").compare([ONE, TWO])
    assert KnownKeys(file, SERVER, "alice").compare([ONE]) == ([], [fingerprint(TWO.key)])
    assert KnownKeys(file, SERVER, "alice").compare([ONE]) == ([], [])


def test_reported_removal_is_not_reported_again(tmp_path: Path) -> None:
    file = tmp_path / "known_keys.json"
    known = KnownKeys(file, SERVER, "alice")
    known.remove(TWO.key)  # nothing is known yet
    known.compare([ONE, TWO])
    known.remove(TWO.key)
    assert known.compare([ONE]) == ([], [])
    assert KnownKeys(file, SERVER, "alice").compare([ONE]) == ([], [])


def test_single_key_does_not_make_the_others_new(tmp_path: Path) -> None:
    """A key that is added before the first list arrives is not the whole list."""
    file = tmp_path / "known_keys.json"
    known = KnownKeys(file, SERVER, "alice")
    known.add(TWO)
    assert known.compare([ONE, TWO]) == ([], [])
    assert KnownKeys(file, SERVER, "alice").compare([ONE, TWO]) == ([], [])


def test_added_key_is_remembered(tmp_path: Path) -> None:
    file = tmp_path / "known_keys.json"
    known = KnownKeys(file, SERVER, "alice")
    known.compare([ONE])
    known.add(TWO)
    assert known.compare([ONE, TWO]) == ([], [])
    assert KnownKeys(file, SERVER, "alice").compare([ONE, TWO]) == ([], [])


def test_keys_under_the_address_are_known(tmp_path: Path) -> None:
    """A visit that began before the server's pin was known has saved them under its address."""
    file = tmp_path / "known_keys.json"
    KnownKeys(file, SERVER[1:], "alice").compare([ONE])
    assert KnownKeys(file, SERVER, "alice").compare([ONE, TWO]) == ([TWO], [])


@pytest.mark.parametrize(
    "damage", ["", "[]", '{"sha256:abc": {"alice": {"3f2a": "x"}}}', "[" * 10_000]
)
def test_damaged_file_reports_nothing(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "known_keys.json"
    file.write_text(damage)
    assert KnownKeys(file, SERVER, "alice").compare([ONE, TWO]) == ([], [])


def test_unwritable_file_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert KnownKeys(tmp_path / "file" / "known_keys.json", SERVER).compare([ONE]) == ([], [])


def test_latest_keys_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that tells of many keys does not make the file of all servers grow."""
    monkeypatch.setattr(known_keys, "MOST_KEYS", 3)
    known = KnownKeys(tmp_path / "known_keys.json", SERVER, "alice")
    known.compare([ONE])
    keys = [NameKey(bytes([number]) * 32, 1) for number in range(9)]
    for key in keys:
        known.add(key)
    again = KnownKeys(tmp_path / "known_keys.json", SERVER, "alice")
    assert again.compare(keys[-3:]) == ([], [])
