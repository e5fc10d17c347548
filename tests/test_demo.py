"""The demo in a terminal, as a newcomer sees it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.ui.scenes import F9, F20, alt, ctrl, wait_typed
from tests.ui.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

ASIDE = b"\x1b[?1049l"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of temporary files, which the demo has to leave empty."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


def demo(place: Path, *options: str, width: int = 80, height: int = 24) -> Terminal:
    home = str(place.parent / "home")
    return Terminal(["demo", *options], home, width, height, pause=F20, TMPDIR=str(place))


def left_behind(place: Path) -> list[str]:
    """Return the files that the demo left in the temporary folder or in the home."""
    home = place.parent / "home"
    return [str(path) for path in (*place.iterdir(), *(home.iterdir() if home.exists() else ()))]


def test_demo_shows_a_chat_and_leaves_no_files(place: Path) -> None:
    with demo(place) as you:
        you.sees("#lounge", "Welcome! 欢迎", "you are the admin. Bob", "bob asks to join: F9 or /1")
        you.type("ada, who are you?\r")
        you.sees("ada │ The server has every message on disk")
        you.type("half a thou" + F9)
        you.sees("bob joined, approved by guest", "bob shared what-to-try.txt", "bob waves")
        you.sees("3 of 3 online", "● bob", "▸ half a thou")
        you.type(ctrl("c") + "/files\r")
        you.sees("1  what-to-try.txt")
        you.type("/get 1 notes.txt\r")
        you.sees("file 1 saved as")
        you.type("/msg ada psst\r")
        you.sees("[1 #lounge]  2 @ada 1!")
        you.type(alt("2"))
        you.sees("guest │ psst", "ada │ ")
        you.type(ctrl("d"))
        you.sees("Quit? Ctrl-D again, or y")
        you.type(ctrl("d"))
        assert you.end() == 0
        assert ASIDE in you.raw
        assert b"Traceback" not in you.raw
    assert left_behind(place) == []


@pytest.mark.parametrize("plain", [{"TERM": "dumb"}, {}])
def test_demo_works_in_plain_lines(place: Path, plain: dict[str, str]) -> None:
    options = [] if plain else ["--plain"]
    home = str(place.parent / "home")
    with Terminal(["demo", *options], home, 100, 60, TMPDIR=str(place), **plain) as you:
        you.sees("-- bob asks to join")
        you.type("/approve bob\n")
        you.sees("shared what-to-try.txt", "<bob> It says:↵", "* bob waves")
        you.type("/quit\n")
        assert you.end() == 0
    assert left_behind(place) == []


def test_demo_works_in_a_small_terminal(place: Path) -> None:
    with demo(place, "--user", "carol", width=40, height=10) as carol:
        carol.sees("carol ▸", "bob asks to join: F9")
        carol.type(F9)
        carol.sees("bob waves")
        assert all(len(row) <= 40 for row in carol.text.split("\n"))
        carol.type("bob?\r")
        carol.sees("have about forty lines.")  # the last line: a save may be under way
        wait_typed(carol, "")
        carol.type("/quit\r")
        assert carol.end() == 0
    assert left_behind(place) == []


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP])
def test_signal_leaves_nothing_behind(place: Path, ending: int) -> None:
    with demo(place) as you:
        you.sees("you are the admin. Bob")
        you.signal(ending)
        assert you.end() == 0
        assert ASIDE in you.raw
    assert left_behind(place) == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--user", "Ada"], "Ada is one of the demo's bots; choose another --user."),
        (["--user", "not a name"], "letters, digits"),
    ],
)
def test_demo_refuses_an_invalid_name(place: Path, options: list[str], sentence: str) -> None:
    with demo(place, *options) as nobody:
        nobody.sees(sentence)
        assert nobody.end() == 1


def test_demo_without_a_terminal_is_an_error(place: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tchat", "demo"],
        env={**os.environ, "TMPDIR": str(place)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "The demo needs a terminal." in ran.stderr
