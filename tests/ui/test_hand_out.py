"""An invite is shown on the terminal itself, whole, and the chat comes back as it was."""

from __future__ import annotations

import re
import shlex
import termios
from typing import TYPE_CHECKING

import pytest

from tchat.cli import parser
from tests.ui.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ui.conftest import ServerProcess

ASIDE, BACK = b"\x1b[?1049l", b"\x1b[?1049h"
WORDS = b"Enter goes back to the chat."


def join(server: ServerProcess, home: Path, user: str, **size: int) -> Terminal:
    arguments = ["join", "127.0.0.1", server.port, "--user", user, "--group", "ops"]
    return Terminal(arguments, str(home / user), **size)  # type: ignore[arg-type]


def is_raw(terminal: Terminal) -> bool:
    """Return whether the terminal gives every key to the program, and shows none by itself."""
    flags = termios.tcgetattr(terminal._process.fd)[3]
    return not flags & (termios.ICANON | termios.ECHO)


def is_given_back(terminal: Terminal) -> bool:
    """Return whether the terminal is as a shell would want it."""
    flags = termios.tcgetattr(terminal._process.fd)[3]
    return bool(flags & termios.ICANON and flags & termios.ECHO)


def handed_out(terminal: Terminal, times: int = 1) -> list[str]:
    """Wait until lines were handed out, and return them."""
    terminal.until(lambda: terminal.raw.count(WORDS) == times, f"{times} lines to copy")
    assert is_given_back(terminal)
    shown = terminal.raw.rpartition(ASIDE)[2]
    assert BACK not in shown
    return re.findall(r"^python -m tchat join [^\r\n]+", shown.decode(), re.MULTILINE)


def assert_chats_on(terminal: Terminal, text: str) -> None:
    """Go back to the chat and say something there."""
    before = terminal.raw.count(BACK)
    terminal.type("\r")
    terminal.until(lambda: terminal.raw.count(BACK) == before + 1, "the chat again")
    terminal.sees("alice ▸")
    assert is_raw(terminal)
    terminal.type(text)
    terminal.until(
        lambda: terminal.screen.display[-1].rstrip() == f"alice ▸ {text}", "what is typed, once"
    )
    terminal.type("\r")
    terminal.sees(f"alice │ {text}")
    terminal.until(lambda: terminal.screen.display[-1].rstrip() == "alice ▸", "an empty line")
    assert terminal.text.count(text) == 1


@pytest.mark.parametrize("width", [40, 80, 200])
def test_an_invite_is_shown_unwrapped_and_enter_goes_back(
    server: ServerProcess, tmp_path: Path, width: int
) -> None:
    with join(server, tmp_path, "alice", width=width) as alice:
        alice.sees("alice ▸", "you")
        alice.type("/invite --for bob\r")
        (line,) = handed_out(alice)
        program, given = shlex.split(line)[:3], parser().parse_args(shlex.split(line)[3:])
        assert program == ["python", "-m", "tchat"]
        assert (given.host, str(given.port)) == ("127.0.0.1", server.port)
        assert (given.user, given.group) == ("bob", "ops")
        token, pin = given.invite
        assert (len(token), len(pin)) == (16, 32)
        assert_chats_on(alice, "still here")


def test_the_line_lets_in_whoever_pastes_it(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as alice:
        alice.sees("nobody else")
        alice.type("/invite\r")
        (line,) = handed_out(alice)
        with Terminal([*shlex.split(line)[3:], "--user", "bob"], str(tmp_path / "bob")) as bob:
            bob.sees("bob ▸", "★ alice")
            bob.type("let in\r")
            bob.sees("bob │ let in")
            assert_chats_on(alice, "still here")
            alice.sees("bob │ let in")
            assert b"let in" not in alice.raw.rpartition(ASIDE)[2].partition(BACK)[0]
            bob.sees("alice │ still here")


def test_two_invites_in_a_row_are_both_shown_and_one_enter_goes_back(
    server: ServerProcess, tmp_path: Path
) -> None:
    with join(server, tmp_path, "alice") as alice:
        alice.sees("nobody else")
        alice.type("/invite\r/invite\r")
        one, other = handed_out(alice, times=2)
        assert one != other
        assert_chats_on(alice, "still here")
        alice.type("/invite\r")
        assert len(handed_out(alice, times=3)) == 1
        assert_chats_on(alice, "and again")


@pytest.mark.parametrize(("width", "height"), [(120, 30), (50, 12)])
def test_a_terminal_that_was_resized_meanwhile_is_painted_in_its_new_size(
    server: ServerProcess, tmp_path: Path, width: int, height: int
) -> None:
    with join(server, tmp_path, "alice") as alice:
        alice.sees("nobody else")
        alice.type("/invite\r")
        handed_out(alice)
        alice.resize(width, height)
        assert_chats_on(alice, "still here")
        assert alice.screen.display[-1].startswith("alice ▸")


def test_one_who_leaves_behind_an_invite_leaves_the_terminal_as_it_was(
    server: ServerProcess, tmp_path: Path
) -> None:
    with join(server, tmp_path, "alice") as alice:
        alice.sees("nobody else")
        before = alice.raw.count(BACK)
        alice.type("/invite\r")
        handed_out(alice)
        alice.type("\r")
        alice.until(lambda: alice.raw.count(BACK) == before + 1, "the chat again")
        alice.sees("alice ▸")
        alice.type("/3\r")
        assert alice.end() == 0
        assert b"Traceback" not in alice.raw
