"""/invite in a terminal: the line to copy is printed on a page of its own, unwrapped."""

from __future__ import annotations

import re
import shlex
import signal
import sys
import termios
from typing import TYPE_CHECKING

import pytest

from tchat.cli import parser
from tests.ui.scenes import F20, ctrl, wait_typed
from tests.ui.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ui.conftest import ServerProcess

MAIN_SCREEN, FULL_SCREEN = b"\x1b[?1049l", b"\x1b[?1049h"
PROBE = b"\x1b[6n"
CLEAR = b"\x1b[H\x1b[2J"
PROMPT = b"Press Enter to return to the chat."


def join(server: ServerProcess, home: Path, user: str, **size: int) -> Terminal:
    arguments = ["join", "127.0.0.1", server.port, "--user", user, "--group", "ops"]
    return Terminal(arguments, str(home / user), pause=F20, **size)  # type: ignore[arg-type]


def is_raw(terminal: Terminal) -> bool:
    """Return whether the terminal passes every key to the program, without echo."""
    flags = terminal.flags
    return not flags & (termios.ICANON | termios.ECHO)


def is_restored(terminal: Terminal) -> bool:
    """Return whether the terminal has the modes that a shell expects."""
    flags = terminal.flags
    return bool(flags & termios.ICANON and flags & termios.ECHO)


def passes_keys(terminal: Terminal) -> bool:
    """Return whether no key is a signal, or is held back until Enter, as in the full screen."""
    return is_raw(terminal) and not terminal.flags & termios.ISIG


def is_page(terminal: Terminal) -> bool:
    """Return whether lines end as on the normal screen: the full screen moves the cursor itself."""
    return bool(terminal.output_flags & termios.ONLCR)


def printed_lines(terminal: Terminal, times: int = 1) -> list[str]:
    """Wait until lines to copy were printed, and return them."""
    terminal.until(lambda: terminal.raw.count(PROMPT) == times, f"{times} lines to copy")
    terminal.until(lambda: passes_keys(terminal), "a page that reads keys")
    shown = terminal.raw.rpartition(CLEAR)[2]
    # Without room for sentences, what curses sends to leave the keypad mode stands in front of it.
    return re.findall(r"/[^\s\x1b]* -m tchat join [^\r\n]+", shown.decode())


def wait_for_chat(terminal: Terminal) -> None:
    """Wait until the page has gone, with all that was on it."""
    terminal.until(
        lambda: not is_page(terminal) and PROMPT.decode() not in terminal.text, "the chat again"
    )


def is_secret_kept(terminal: Terminal) -> bool:
    """Return whether the normal screen, outside the full screen, has never shown an invite."""
    before, _, rest = terminal.raw.partition(FULL_SCREEN)
    parts = [before, *(part.partition(FULL_SCREEN)[0] for part in rest.split(MAIN_SCREEN)[1:])]
    return MAIN_SCREEN in rest and not any(b"tchat join" in part for part in parts)


def assert_chat_continues(terminal: Terminal, text: str) -> None:
    """Go back to the chat and send a message there."""
    terminal.type("\r")
    wait_for_chat(terminal)
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
def test_an_invite_is_shown_on_one_line(server: ServerProcess, tmp_path: Path, width: int) -> None:
    with join(server, tmp_path, "alice", width=width) as alice:
        alice.sees("alice ▸", "you")
        alice.type("/invite --for bob\r")
        (line,) = printed_lines(alice)
        page = "".join(alice.text.split())
        for about in ("It works once.", "replace 127.0.0.1 with", "lets bob join within 1 day:"):
            assert about.replace(" ", "") in page
        program, given = shlex.split(line)[:3], parser().parse_args(shlex.split(line)[3:])
        assert program == [sys.executable, "-m", "tchat"]
        assert (given.host, str(given.port)) == ("127.0.0.1", server.port)
        assert (given.user, given.group) == ("bob", "ops")
        token, pin = given.invite
        assert (len(token), len(pin)) == (16, 32)
        assert_chat_continues(alice, "still here")


def test_low_screen_shows_the_whole_command(server: ServerProcess, tmp_path: Path) -> None:
    """Sentences that would push it out of sight stay in the window only."""
    with join(server, tmp_path, "alice", width=40, height=10) as alice:
        alice.sees("alice ▸", "you")
        alice.type("/invite --for bob\r")
        (line,) = printed_lines(alice)
        alice.sees(PROMPT.decode())
        assert line in "".join(alice.screen.display)
        assert_chat_continues(alice, "still here")
        alice.type("\x1b[5~" * 3)
        alice.sees("It works once.")


def test_page_is_written_again_after_a_resize(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as alice:
        alice.sees("alice ▸", "you")
        alice.type("/invite --for bob\r")
        (line,) = printed_lines(alice)
        alice.resize(60, 24)
        alice.until(lambda: line in "".join(alice.screen.display), "the whole line")


def test_the_invite_line_lets_another_person_join(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as alice:
        alice.sees("nobody else")
        alice.type("/invite\r")
        (line,) = printed_lines(alice)
        with Terminal([*shlex.split(line)[3:], "--user", "bob"], str(tmp_path / "bob")) as bob:
            bob.sees("bob ▸", "★● alice")
            bob.type("let in\r")
            bob.sees("bob │ let in")
            assert_chat_continues(alice, "still here")
            alice.sees("bob │ let in")
            assert b"let in" not in alice.raw.rpartition(PROMPT)[2].partition(CLEAR)[0]
            bob.sees("alice │ still here")


def test_one_enter_goes_back_from_two_invites(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as alice:
        alice.sees("nobody else")
        alice.type("/invite\r/invite\r")
        one, other = printed_lines(alice, times=2)
        assert one != other
        assert_chat_continues(alice, "still here")
        alice.type("/invite\r")
        assert len(printed_lines(alice, times=3)) == 1
        assert_chat_continues(alice, "and again")


@pytest.mark.parametrize(("width", "height"), [(120, 30), (50, 12)])
def test_a_resize_meanwhile_redraws_the_chat(
    server: ServerProcess, tmp_path: Path, width: int, height: int
) -> None:
    with join(server, tmp_path, "alice") as alice:
        alice.sees("nobody else")
        alice.type("/invite\r")
        printed_lines(alice)
        alice.resize(width, height)
        assert_chat_continues(alice, "still here")
        assert alice.screen.display[-1].startswith("alice ▸")


def test_quitting_after_an_invite_restores_the_terminal(
    server: ServerProcess, tmp_path: Path
) -> None:
    with join(server, tmp_path, "alice") as alice:
        alice.sees("nobody else")
        alice.type("/invite\r")
        printed_lines(alice)
        alice.type("\r")
        wait_for_chat(alice)
        alice.sees("alice ▸")
        alice.type("/3\r")
        assert alice.end() == 0
        assert b"Traceback" not in alice.raw
        assert is_restored(alice)
        assert is_secret_kept(alice)


@pytest.mark.parametrize("key", [ctrl("c"), ctrl("d"), "\x1c", ctrl("c") * 3])
def test_keys_go_back_and_never_end_the_program(
    server: ServerProcess, tmp_path: Path, key: str
) -> None:
    with join(server, tmp_path, "alice") as alice:
        alice.sees("nobody else")
        alice.type("/invite\r")
        printed_lines(alice)
        alice.type(key)
        wait_for_chat(alice)
        wait_typed(alice, "")
        alice.type("still here\r")
        alice.sees("alice │ still here")


@pytest.mark.parametrize("report", [b"\x1b[I", b"\x1b[3;2R", b"\x1b]11;rgb:0/0/0\x07"])
def test_only_a_key_leaves_the_page(server: ServerProcess, tmp_path: Path, report: bytes) -> None:
    with join(server, tmp_path, "alice") as alice:
        alice.sees("nobody else")
        alice.type("/invite\r")
        printed_lines(alice)
        alice.wait_handled(report)
        assert is_page(alice)
        alice.type(ctrl("d"))
        wait_for_chat(alice)
        alice.wait_handled(report)
        alice.type(ctrl("d"))
        alice.sees("Quit?")


def test_ctrl_z_on_the_page_keeps_it(server: ServerProcess, tmp_path: Path) -> None:
    """The full screen would ask the terminal for widths, and the shell get the answers."""
    with join(server, tmp_path, "alice") as alice:
        alice.sees("nobody else")
        alice.type("/invite\r")
        printed_lines(alice)
        before = alice.raw.count(PROBE)
        alice.type(ctrl("z"))  # a process group that nobody could continue does not stay stopped
        alice.until(lambda: alice.raw.count(PROMPT) == 2, "the page again")
        alice.until(lambda: passes_keys(alice), "a page that reads keys")
        assert alice.raw.count(PROBE) == before
        assert_chat_continues(alice, "still here")


def test_typing_on_the_page_goes_into_the_chat(server: ServerProcess, tmp_path: Path) -> None:
    with join(server, tmp_path, "alice") as alice:
        alice.sees("nobody else")
        alice.type("/invite\r")
        printed_lines(alice)
        alice.type("hi Zoë")
        wait_typed(alice, "hi Zoë")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_signals_on_the_page_restore_the_terminal(
    server: ServerProcess, tmp_path: Path, number: int
) -> None:
    with join(server, tmp_path, "alice") as alice:
        alice.sees("nobody else")
        alice.type("/invite\r")
        printed_lines(alice)
        alice.signal(number)
        assert alice.end() == 0
        assert is_restored(alice)
        assert is_secret_kept(alice)
