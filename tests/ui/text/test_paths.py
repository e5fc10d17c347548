"""Typed paths parsed, and completed with Tab so that they parse back to the same file."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tchat.ui.chat.commands import Do
from tchat.ui.commands.table import COMMANDS
from tchat.ui.text.paths import (
    complete_path,
    complete_paths,
    expand_home,
    parse_destination,
    parse_paths,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


def touch(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def strings(paths: Iterable[Path]) -> list[str]:
    return [str(path) for path in paths]


# ------------------------------------------------------------------ parsing


@pytest.mark.parametrize(
    ("typed", "paths"),
    [
        ("report.pdf", ["report.pdf"]),
        ("my report.pdf", ["my report.pdf"]),
        ("my\\ report.pdf", ["my report.pdf"]),
        ("'my report.pdf' report.pdf", ["my report.pdf", "report.pdf"]),
        ("my\\ report.pdf report.pdf", ["my report.pdf", "report.pdf"]),
        ("not there", ["not there"]),
        ("not there report.pdf", ["not", "there", "report.pdf"]),
        ("'not there' nor\\ there", ["not there", "nor there"]),
        ("bob's notes.txt", ["bob's notes.txt"]),
        ("bob's other notes.txt", ["bob's other notes.txt"]),
        ("''", ["''"]),
        ("'' report.pdf", ["report.pdf"]),
    ],
)
def test_existing_path_is_literal_and_others_are_words(typed: str, paths: list[str]) -> None:
    touch("report.pdf", "my report.pdf", "bob's notes.txt")
    assert strings(parse_paths(typed)) == paths


def test_home_is_expanded_in_each_path(home: Path) -> None:
    touch(f"{home}/a b.txt", f"{home}/c.txt")
    assert parse_paths("~/a b.txt") == [home / "a b.txt"]
    assert parse_paths("~/a\\ b.txt ~/c.txt") == [home / "a b.txt", home / "c.txt"]
    assert parse_paths("~") == [home]


@pytest.mark.parametrize("typed", ["~nobody-of-that-name/x", "~nobody-of-that-name"])
def test_home_of_unknown_user_is_a_name(typed: str) -> None:
    assert strings(parse_paths(typed)) == [typed]
    assert str(expand_home(typed)) == typed


@pytest.mark.parametrize("typed", ["\0", "p" * 3000, "a/" * 2000 + "b", "'", '"', "\\"])
def test_no_typed_text_raises(typed: str) -> None:
    assert parse_paths(typed)
    assert parse_destination(typed)
    complete_paths(typed)
    complete_path(typed)


@pytest.mark.parametrize(
    ("typed", "into", "name"),
    [
        ("there", "there", None),
        ("there/", "there", None),
        ("not/there/", "not/there", None),
        ("not/there", "not", "there"),
        ("new name.pdf", ".", "new name.pdf"),
        ("my\\ folder", "my folder", None),
        ("my\\ folder/new\\ name.pdf", "my folder", "new name.pdf"),
        ("my folder/new name.pdf", "my folder", "new name.pdf"),
        ("file.txt", ".", "file.txt"),
        ("bob's.txt", ".", "bob's.txt"),
        ("..", "..", None),
    ],
)
def test_destination_is_directory_or_new_name(typed: str, into: str, name: str | None) -> None:
    for directory in ("there", "my folder"):
        Path(directory).mkdir()
    touch("file.txt")
    assert parse_destination(typed) == (Path(into), name)


# ------------------------------------------------------------------ completion


@pytest.mark.parametrize(
    ("begun", "offers"),
    [
        ("", ["a.txt", "b\\ c.txt", "folder/"]),
        ("b", ["b\\ c.txt"]),
        ("b ", ["b\\ c.txt", "b a.txt", "b b\\ c.txt", "b folder/"]),
        ("b c", ["b\\ c.txt"]),
        ("b\\ c", ["b\\ c.txt"]),
        ("'b c", ["b\\ c.txt"]),
        ("a.txt b", ["a.txt b\\ c.txt"]),
        ("b\\ c.txt fo", ["b\\ c.txt folder/"]),
        ("folder/", ["folder/inside"]),
        ("a.txt folder/in", ["a.txt folder/inside"]),
        (".", [".hidden"]),
        ("nothing", []),
        ("no/such/place", []),
        ("~", ["~/"]),
    ],
)
def test_last_path_is_completed(begun: str, offers: list[str]) -> None:
    touch("a.txt", "b c.txt", "folder/inside", ".hidden")
    assert complete_paths(begun) == offers


def test_path_at_home_keeps_its_tilde(home: Path) -> None:
    touch(f"{home}/a b.txt", f"{home}/c/d")
    assert complete_paths("~/") == ["~/a\\ b.txt", "~/c/"]
    assert complete_paths("x ~/a") == ["x ~/a\\ b.txt"]
    assert parse_paths("~/a\\ b.txt") == [home / "a b.txt"]


def test_single_path_with_spaces_is_completed() -> None:
    touch("my folder/new name.pdf")
    assert complete_path("my f") == ["my\\ folder/"]
    assert complete_path("my\\ folder/") == ["my\\ folder/new\\ name.pdf"]


names = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 200)


@settings(max_examples=300, deadline=None)
@given(names, st.booleans())
def test_completed_path_parses_to_that_file(name: str, several: bool) -> None:
    with TemporaryDirectory() as place:
        path = Path(place) / name
        path.touch()
        begun = f"{place}/{'.' if name.startswith('.') else ''}"
        (offer,) = complete_paths(begun)
        line = f"/send {place} {offer}" if several else f"/send {offer}"
        done = COMMANDS.parse(line)
        assert isinstance(done, Do)
        assert parse_paths(done.argument) == ([Path(place)] if several else []) + [path]
        assert complete_paths(offer) == [offer]


@settings(max_examples=100, deadline=None)
@given(names)
def test_name_in_current_directory_completes_to_itself(name: str) -> None:
    assume(not name.startswith("."))
    Path("place").mkdir(exist_ok=True)
    with TemporaryDirectory(dir="place") as place, pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        Path(name).touch()
        (offer,) = complete_paths("")
        done = COMMANDS.parse(f"/9 {offer}")
        assert isinstance(done, Do)
        (path,) = parse_paths(done.argument)
        assert path.samefile(name)
