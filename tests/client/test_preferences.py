"""Preferences: ignored people and muted groups, remembered for each server and person."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tchat.client.preferences import Preferences
from tchat.core.fingerprints import fingerprint
from tchat.errors import Code, Refused

if TYPE_CHECKING:
    from pathlib import Path

SERVER = ("sha256:abc", "localhost:7777")


def at(path: Path, user: str = "alice", ignore: tuple[str, ...] = ()) -> Preferences:
    return Preferences(path, SERVER, user, ignore=ignore, mute=("Noise",))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "preferences.json"


def test_changes_outlast_the_program(file: Path) -> None:
    first = at(file)
    first.change("ignore", "Mallory", on=True)
    first.change("mute", "noise", on=False)
    again = at(file)
    assert (again.ignored, again.muted) == ({"mallory"}, set())
    again.change("ignore", "mallory", on=False)
    assert at(file).ignored == set()


def test_an_exception_to_the_settings_is_remembered(file: Path) -> None:
    first = at(file, ignore=("Eve", "mallory"))
    assert first.ignored == {"eve", "mallory"}
    assert first.is_default("ignore", "EVE")
    first.change("ignore", "eve", on=False)
    assert at(file, ignore=("Eve", "mallory")).ignored == {"mallory"}


def test_servers_and_people_have_lists_of_their_own(file: Path) -> None:
    at(file).change("ignore", "mallory", on=True)
    assert at(file, "bob").ignored == set()
    assert Preferences(file, ("elsewhere:7777",), "alice").ignored == set()
    assert at(file, "ALICE").ignored == {"mallory"}


def test_a_list_follows_when_the_key_becomes_known(file: Path) -> None:
    Preferences(file, SERVER[1:], "alice").change("ignore", "mallory", on=True)
    known = at(file)
    assert known.ignored == {"mallory"}
    known.change("ignore", "mallory", on=False)
    assert at(file).ignored == set()


def test_clients_keep_the_changes_of_each_other(file: Path) -> None:
    one, other = at(file), at(file)
    one.change("ignore", "mallory", on=True)
    other.change("ignore", "eve", on=True)
    assert other.ignored == {"mallory", "eve"}
    assert one.ignored == {"mallory"}
    assert one.refresh()
    assert one.ignored == {"mallory", "eve"}
    assert not one.refresh()
    assert at(file).ignored == {"mallory", "eve"}


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"a": 1}', '{"a": {"alice": {"ignore": {"x": 1}}}}', "[" * 100_000, "\ud800"],
)
def test_a_damaged_file_is_set_aside(file: Path, content: str) -> None:
    file.parent.mkdir()
    file.write_bytes(content.encode(errors="surrogatepass"))
    preferences = at(file)
    assert preferences.damage == (
        f"{file} is damaged: the lists of people and muted groups are lost."
        " It is kept as preferences.json.damaged."
    )
    preferences.change("ignore", "mallory", on=True)
    assert at(file).ignored == {"mallory"}
    assert at(file).damage is None


def test_lists_of_newer_versions_are_kept(file: Path) -> None:
    file.parent.mkdir()
    file.write_text(json.dumps({SERVER[0]: {"alice": {"star": {"bob": True}}}}))
    at(file).change("ignore", "mallory", on=True)
    kept = json.loads(file.read_text())[SERVER[0]]["alice"]
    assert kept == {"star": {"bob": True}, "ignore": {"mallory": True}, "mute": {}, "block": {}}


def test_an_unsaved_change_holds_until_the_end(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")
    preferences = at(tmp_path / "state" / "preferences.json")
    with pytest.raises(Refused) as caught:
        preferences.change("ignore", "mallory", on=True)
    assert caught.value.code == Code.FILE_UNREADABLE
    assert preferences.ignored == {"mallory"}


def test_without_a_file_changes_hold_until_the_end() -> None:
    preferences = Preferences(ignore=("eve",))
    preferences.change("ignore", "mallory", on=True)
    preferences.change("ignore", "eve", on=False)
    assert not preferences.refresh()
    assert preferences.ignored == {"mallory"}


def test_blocked_people_are_ignored_everywhere(file: Path) -> None:
    first = at(file)
    first.block({"Mallory": [b"key"]})
    again = at(file)
    assert (again.blocked, again.ignored) == ({"mallory"}, {"mallory"})
    assert not again.has("ignore", "mallory")
    assert again.blocked_keys == {fingerprint(b"key"): "mallory"}


def test_a_block_and_ignoring_are_independent(file: Path) -> None:
    people = at(file)
    people.block({"mallory": []})
    people.change("ignore", "mallory", on=True)
    assert people.unblock("Mallory") == ["mallory"]
    assert (people.blocked, people.ignored) == (set(), {"mallory"})


def test_names_with_one_key_are_unblocked_together(file: Path) -> None:
    people = at(file)
    people.block({"mallory": [b"one", b"two"], "mal": [b"two"], "eve": [b"three"]})
    assert people.unblock("mal") == ["mal", "mallory"]
    assert at(file).blocked == {"eve"}
    assert list(at(file).blocked_keys.values()) == ["eve"]
