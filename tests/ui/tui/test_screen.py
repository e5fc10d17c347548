"""`Screen` in a real terminal: what is painted, and how the terminal is released."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tchat.ui.tui.styles import STYLES
from tests.ui.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

PAINTER = (sys.executable, str(Path(__file__).with_name("painter.py")))
SHELL = ("/bin/sh", "-i")

KNOWN = ["xterm-256color", "xterm", "tmux-256color", "screen-256color", "screen", "linux", "vt100"]
OLD = ["linux", "vt100"]
CTRL_Z = "\x1a"
ASIDE, BACK = b"\x1b[?1049l", b"\x1b[?1049h"
PASTE_ON, PASTE_OFF = b"\x1b[?2004h", b"\x1b[?2004l"


def painter(
    home: Path, *wishes: str, program: Sequence[str] = PAINTER, size: str = "80x24", **extra: str
) -> Terminal:
    width, height = map(int, size.split("x"))
    return Terminal(list(wishes), str(home), width, height, program=program, **extra)


def painted(terminal: Terminal, size: str = "80x24") -> int:
    """Wait until the whole screen is painted, and return the painter's process."""
    terminal.sees(f"size {size}", "\n>")
    terminal.until(lambda: terminal.screen.cursor.x == 2, "the cursor in its place")
    match = re.search(r"process (\d+)\.", terminal.text)
    return int(match.group(1)) if match else 0


def lines_of(terminal: Terminal) -> list[int]:
    """Return the numbers of the lines between the first row and the last."""
    return [int(number) for number in re.findall(r"^line (\d+) ", terminal.text, re.MULTILINE)]


def is_raw(terminal: Terminal) -> bool:
    """Return whether the terminal is in raw mode, without echo."""
    return not terminal.flags & (termios.ICANON | termios.ECHO | termios.ISIG)


def is_released(terminal: Terminal) -> bool:
    """Return whether the terminal is released: cooked mode, main screen, visible cursor."""
    flags = termios.ICANON | termios.ECHO | termios.ISIG
    shown = terminal.raw.count(BACK) == terminal.raw.count(ASIDE)
    pasting = terminal.raw.rfind(PASTE_ON) <= terminal.raw.rfind(PASTE_OFF)
    visible = not terminal.screen.cursor.hidden
    return terminal.flags & flags == flags and shown and pasting and visible


def colour_commands(raw: bytes) -> set[bytes]:
    """Return the parameters of all colours that are set; 38 and 48 with what follows them."""
    found = set()
    for command in re.findall(rb"\x1b\[([0-9;]*)m", raw):
        for numbers in re.findall(rb"(?:38|48);5;\d+|\d+", command):
            if numbers[:2] in (b"38", b"48") or 30 <= int(numbers) < 48 or int(numbers) >= 90:
                found.add(numbers)
    return found - {b"39"}


# ------------------------------------------------------------------ terminals


@pytest.mark.parametrize("term", KNOWN)
def test_terminal_is_painted_and_released(tmp_path: Path, term: str) -> None:
    with painter(tmp_path, TERM=term) as terminal:
        painted(terminal)
        assert terminal.screen.display[0].startswith(" size 80x24")
        assert all(cell.reverse for cell in terminal.screen.buffer[0].values())
        assert is_raw(terminal)
        terminal.type("q")
        assert terminal.end() == 0
        assert is_released(terminal)
        assert "the end" in terminal.text


@pytest.mark.parametrize("term", OLD)
def test_old_terminal_gets_no_osc_and_is_cleared(tmp_path: Path, term: str) -> None:
    with painter(tmp_path, TERM=term) as terminal:
        painted(terminal)
        terminal.type("tq")
        assert terminal.end() == 0
        assert b"\x1b]" not in terminal.raw
        assert b"2004" not in terminal.raw
        assert terminal.text.split() == ["the", "end"]


@pytest.mark.parametrize("term", ["no-such-terminal", "dumb", ""])
def test_terminal_without_cursor_movement_is_refused(tmp_path: Path, term: str) -> None:
    with painter(tmp_path, TERM=term) as terminal:
        terminal.sees("cannot show a full screen", f"TERM is {term!r}")
        assert terminal.end() == 1
        assert b"Traceback" not in terminal.raw


def test_terminal_size_overrides_the_environment(tmp_path: Path) -> None:
    with painter(tmp_path, COLUMNS="200", LINES="60") as terminal:
        painted(terminal)


# ------------------------------------------------------------------ colours


def test_256_colours_are_shown(tmp_path: Path) -> None:
    with painter(tmp_path, size="80x60") as terminal:
        painted(terminal, "80x60")
        rows = dict(zip(STYLES, range(1, 60), strict=False))
        looks = [terminal.screen.buffer[row][0].fg for row in rows.values()]
        assert len(set(looks)) > 12
        assert colour_commands(terminal.raw) >= {b"38;5;244", b"38;5;160"}


@pytest.mark.parametrize("term", ["xterm", "screen", "linux"])
def test_terminal_with_8_colours_gets_only_those(tmp_path: Path, term: str) -> None:
    with painter(tmp_path, TERM=term, size="80x60") as terminal:
        painted(terminal, "80x60")
        assert colour_commands(terminal.raw) == {b"31", b"32", b"35", b"36"}


@pytest.mark.parametrize(("term", "no_color"), [("xterm-256color", "1"), ("vt100", "")])
def test_no_color_sends_no_colours(tmp_path: Path, term: str, no_color: str) -> None:
    wish = "mention=underline #ff0000"
    with painter(tmp_path, wish, TERM=term, NO_COLOR=no_color, size="80x60") as terminal:
        painted(terminal, "80x60")
        assert colour_commands(terminal.raw) == set()
        assert terminal.screen.buffer[1 + STYLES.index("error")][0].bold
        assert terminal.screen.buffer[1 + STYLES.index("mention")][0].underscore


def test_empty_no_color_is_ignored(tmp_path: Path) -> None:
    with painter(tmp_path, NO_COLOR="", size="80x60") as terminal:
        painted(terminal, "80x60")
        assert colour_commands(terminal.raw)


def test_own_looks_are_shown(tmp_path: Path) -> None:
    with painter(tmp_path, "mention=reverse #ff0000", "text=colour 39") as terminal:
        painted(terminal)
        mention = terminal.screen.buffer[1 + STYLES.index("mention")][0]
        assert (mention.fg, mention.reverse, mention.bold) == ("ff0000", True, False)
        assert terminal.screen.buffer[1][0].fg == "00afff"


# ------------------------------------------------------------------ amount of output


def test_small_changes_write_little(tmp_path: Path) -> None:
    with painter(tmp_path) as terminal:
        painted(terminal)
        whole = len(terminal.raw)
        terminal.type("n" * 40)
        terminal.sees("line 39")
        start = len(terminal.raw)
        terminal.type("n")
        terminal.sees("line 40")
        line = len(terminal.raw)
        terminal.type("o")
        terminal.sees("something else")
        assert line - start < 400 < whole
        assert len(terminal.raw) - line < 80


def test_unchanged_picture_writes_nothing(tmp_path: Path) -> None:
    with painter(tmp_path) as terminal:
        painted(terminal)
        before = len(terminal.raw)
        terminal.type("????")
        terminal.type("w")
        terminal.until(lambda: terminal.raw.endswith(b"\a"), "the bell")
        assert terminal.raw[before:] == b"\a"


# ------------------------------------------------------------------ resizing


def test_many_resizes_end_with_the_last_size(tmp_path: Path) -> None:
    with painter(tmp_path) as terminal:
        painted(terminal)
        terminal.type("n" * 40)
        terminal.sees("line 39")
        for number in range(60):
            terminal.resize(20 + number * 7 % 80, 2 + number * 5 % 40)
        terminal.resize(70, 20)
        painted(terminal, "70x20")
        terminal.until(lambda: lines_of(terminal) == [*range(22, 40)], "the last lines")


# ------------------------------------------------------------------ window title


def test_title_is_sanitized_and_restored(tmp_path: Path) -> None:
    with painter(tmp_path) as terminal:
        painted(terminal)
        terminal.type("t")
        terminal.until(lambda: bool(terminal.screen.title), "a title")
        assert terminal.screen.title == "a title␛]0;owned␇"
        terminal.type("q")
        assert terminal.end() == 0
        assert terminal.screen.title == ""


# ------------------------------------------------------------------ release


def test_traceback_is_printed_on_the_released_terminal(tmp_path: Path) -> None:
    with painter(tmp_path) as terminal:
        painted(terminal)
        terminal.type("x")
        assert terminal.end() == 1
        assert is_released(terminal)
        before, _, after = terminal.raw.partition(b"Traceback")
        assert before.count(ASIDE) == 1
        assert b"ZeroDivisionError" in after


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_releases_the_terminal(tmp_path: Path, number: int) -> None:
    with painter(tmp_path) as terminal:
        painted(terminal)
        terminal.type("t")
        terminal.until(lambda: bool(terminal.screen.title), "a title")
        terminal.signal(number)
        assert terminal.end() == -number
        assert is_released(terminal)
        assert terminal.screen.title == ""


def test_page_for_copying_covers_the_chat_until_enter(tmp_path: Path) -> None:
    """It is not on the normal screen, where what is secret would stay."""
    with painter(tmp_path) as terminal:
        painted(terminal)
        terminal.type("a")
        terminal.sees("COPY THIS", "Press Enter to return")
        terminal.until(lambda: is_raw(terminal), "a page on which no key is a signal")
        assert terminal.raw.count(BACK) == terminal.raw.count(ASIDE) + 1
        terminal.type("\r")
        terminal.until(lambda: "COPY" not in terminal.text, "the screen again")
        painted(terminal)
        assert is_raw(terminal)
        assert terminal.raw.count(PASTE_ON) == 2
        terminal.type("a")
        terminal.until(lambda: terminal.raw.count(b"COPY THIS") == 2, "the text again")
        terminal.signal(signal.SIGTERM)
        assert terminal.end() == -signal.SIGTERM
        assert is_released(terminal)


@pytest.mark.parametrize("name", OLD)
def test_page_is_cleared_without_an_alternate_screen(tmp_path: Path, name: str) -> None:
    with painter(tmp_path, TERM=name) as terminal:
        painted(terminal)
        terminal.type("a")
        terminal.sees("COPY THIS", "Press Enter to return")
        terminal.until(lambda: is_raw(terminal), "a page on which no key is a signal")
        terminal.signal(signal.SIGTERM)
        assert terminal.end() == -signal.SIGTERM
        assert "COPY THIS" not in terminal.text


# ------------------------------------------------------------------ suspend and continue


def start_from_shell(shell: Terminal) -> int:
    """Start a painter from a shell with job control; return its process."""
    shell.type(f"PS1='ready: '; {shlex.join(PAINTER)}\r")
    process = painted(shell)
    shell.type("n" * 5)
    shell.sees("line 4")
    return process


def continue_painter(shell: Terminal, size: str = "80x24") -> None:
    """Run a command in the shell, then bring the painter back to the foreground."""
    shell.until(lambda: is_released(shell), "the terminal")
    shell.type("echo $((4200 + 42))\r")
    shell.sees("4242")
    shell.type("fg\r")
    shell.until(lambda: shell.raw.count(BACK) == shell.raw.count(ASIDE) + 1, "the screen again")
    shell.until(lambda: "4242" not in shell.text and lines_of(shell) == [*range(5)], "the lines")
    painted(shell, size)
    assert is_raw(shell)
    assert shell.raw.count(PASTE_ON) == shell.raw.count(PASTE_OFF) + 1


def leave(shell: Terminal) -> None:
    shell.type("q")
    shell.sees("the end")
    assert is_released(shell)
    shell.type("exit\r")
    assert shell.end() == 0


def test_ctrl_z_suspends_and_fg_continues(tmp_path: Path) -> None:
    with painter(tmp_path, program=SHELL) as shell:
        start_from_shell(shell)
        for _ in range(2):
            shell.type(CTRL_Z)
            shell.sees("Stopped")
            continue_painter(shell)
        leave(shell)


def test_page_for_copying_survives_a_stop(tmp_path: Path) -> None:
    with painter(tmp_path, program=SHELL) as shell:
        process = start_from_shell(shell)
        shell.type("a")
        shell.sees("COPY THIS")
        os.kill(process, signal.SIGTSTP)
        shell.sees("Stopped")
        shell.until(lambda: bool(shell.flags & termios.ISIG), "the shell's modes")
        shell.type("fg\r")
        shell.until(lambda: not shell.flags & (termios.ISIG | termios.ECHO), "the page's modes")
        shell.type("\x03")
        shell.until(lambda: "COPY" not in shell.text, "the screen again")
        leave(shell)


def test_sigtstp_from_outside_suspends(tmp_path: Path) -> None:
    with painter(tmp_path, program=SHELL) as shell:
        process = start_from_shell(shell)
        shell.type("t")
        shell.until(lambda: bool(shell.screen.title), "a title")
        os.kill(process, signal.SIGTSTP)
        shell.sees("Stopped")
        assert shell.screen.title == ""
        continue_painter(shell)
        assert shell.screen.title.startswith("a title")
        leave(shell)


def test_screen_is_repainted_after_sigstop(tmp_path: Path) -> None:
    with painter(tmp_path, program=SHELL) as shell:
        process = start_from_shell(shell)
        os.kill(process, signal.SIGSTOP)
        shell.sees("Stopped")
        shell.type("echo $((4200 + 42))\n")
        shell.sees("4242")
        shell.type("fg\n")
        painted(shell)
        shell.until(lambda: "4242" not in shell.text and is_raw(shell), "the terminal taken again")
        leave(shell)


def test_resize_while_suspended_is_noticed(tmp_path: Path) -> None:
    with painter(tmp_path, program=SHELL) as shell:
        os.kill(start_from_shell(shell), signal.SIGTSTP)
        shell.sees("Stopped")
        shell.resize(60, 16)
        continue_painter(shell, "60x16")
        leave(shell)


def test_orphaned_process_group_does_not_stop(tmp_path: Path) -> None:
    with painter(tmp_path) as terminal:
        painted(terminal)
        terminal.type(CTRL_Z)
        terminal.until(lambda: terminal.raw.count(BACK) == 2, "the screen again")
        terminal.type("n")
        terminal.sees("line 0")
        terminal.type("q")
        assert terminal.end() == 0
        assert is_released(terminal)


def test_stop_while_painting_repaints_everything(tmp_path: Path) -> None:
    with painter(tmp_path) as terminal:
        painted(terminal)
        terminal.type("n" * 30)
        terminal.sees("line 29")
        terminal.type("i")
        terminal.until(lambda: terminal.raw.count(BACK) == 2, "the screen again")
        terminal.until(lambda: lines_of(terminal) == [*range(9, 31)], "all lines")
        terminal.type("n")
        terminal.sees("line 31")
        assert terminal.raw.count(BACK) == 2
        assert is_raw(terminal)


def test_sigcont_without_stop_repaints(tmp_path: Path) -> None:
    with painter(tmp_path) as terminal:
        painted(terminal)
        terminal.signal(signal.SIGCONT)
        terminal.until(lambda: terminal.raw.count(PASTE_ON) == 2, "the screen again")
        painted(terminal)
        terminal.type("q")
        assert terminal.end() == 0
        assert is_released(terminal)
