"""Bytes typed, pasted and reported at the full-screen client, in every terminal and locale."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tchat.core.group.messages import Posted
from tests.ui.scenes import ENTER, F20, UP, ctrl, join, open_group
from tests.ui.tmux import Tmux, require_tmux

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.helpers import RawClient
    from tests.ui.conftest import ServerProcess
    from tests.ui.terminal import Terminal

TERMS = ["xterm-256color", "tmux-256color", "screen", "linux", "vt100"]
UNMARKED = ("linux", "vt100")
LOCALES = ["C.UTF-8", "C"]
BEGIN, END = b"\x1b[200~", b"\x1b[201~"
CHINESE = "".join(chr(0x4E00 + number) for number in range(3000))
REPORTS = (
    *(b"\x1b]11;rgb:0000/0000/0000\x07", b"\x1b]4;1;rgb:cdcd/0000/0000\x1b\\"),
    *(b"\x1bP>|XTerm(370)\x1b\\", b"\x1b_Gi=31;OK\x1b\\", b"\x1b^private\x1b\\", b"\x1bXa\x1b\\"),
    *(b"\x1b[M a!", b"\x1b[M\x20\xe9\xfa", b"\x1b[<0;33;5M", b"\x1b[32;40;50M"),
    *(b"\x1b[I", b"\x1b[O", b"\x1b[24;80R", b"\x1b[?1;2c", b"\x1b[0n", b"\x1b[8;24;80t"),
)


@asynccontextmanager
async def alice_typing_to_bob(
    server: ServerProcess, home: Path, term: str = "xterm-256color", locale: str = "C.UTF-8"
) -> AsyncIterator[tuple[Terminal, RawClient]]:
    async with open_group(server, home, "alice", "bob") as (bob,):
        with join(server, home, "alice", extra={"TERM": term, "LC_ALL": locale}) as alice:
            alice.sees("in #ops with 1 other member")
            await bob.attach()
            yield alice, bob


async def heard(bob: RawClient) -> str:
    """Return the text of the next message."""
    while True:
        (event,) = await bob.events(1)
        if isinstance(event.body, Posted):
            return event.body.text


def wait_input(terminal: Terminal, text: str) -> None:
    """Wait until the input line is exactly that text, whatever the prompt looks like."""
    rows = {f"alice {mark} {text}" for mark in "▸>"}
    terminal.until(lambda: terminal.screen.display[-1].rstrip() in rows, f"{text!r} typed")


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("term", TERMS)
async def test_every_byte_arrives(
    server: ServerProcess, tmp_path: Path, term: str, locale: str
) -> None:
    async with alice_typing_to_bob(server, tmp_path, term, locale) as (alice, bob):
        # A character in two reads, an invalid byte, and what terminals send by themselves.
        alice.send(b"gr\xc3")
        wait_input(alice, "gr")
        alice.send("ü".encode()[1:] + "n 你好".encode())
        alice.type(ENTER)
        assert await heard(bob) == "grün 你好"
        alice.send(b"a\xffb\xfcc")
        alice.type(ENTER)
        assert await heard(bob) == "a\ufffdb\ufffdc"
        alice.send(b"re" + b"".join(REPORTS) + b"ports")
        alice.type(ENTER)
        assert await heard(bob) == "reports"
        # Keys; also quick ones, or over a slow link, which come in one read.
        alice.send(b"hi\r")
        assert await heard(bob) == "hi"
        alice.type(f"b{ctrl('a')}a{ctrl('e')}c{ENTER}")
        assert await heard(bob) == "abc"
        alice.type(UP)
        wait_input(alice, "abc")
        alice.type(ctrl("c"))
        # Long pastes, in pieces.
        begin, end = (BEGIN, END) if term not in UNMARKED else (b"", b"")
        data = begin + CHINESE.encode() + end
        for start in range(0, len(data), 1000):
            alice.send(data[start : start + 1000])
        alice.type(F20 + ENTER)  # not in one go with a paste that the terminal does not mark
        assert await heard(bob) == CHINESE


async def test_character_right_after_escape_is_typed(server: ServerProcess, tmp_path: Path) -> None:
    """In one read, as over a slow link: the bytes are those of Alt-/."""
    async with alice_typing_to_bob(server, tmp_path) as (alice, _):
        alice.type("/kick bob" + ENTER)
        alice.sees("Kick bob from #ops? (y or n)")
        alice.send(b"\x1b/")
        wait_input(alice, "/")
        alice.sees('Nothing was done: "Kick bob from #ops?"')


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("term", TERMS)
async def test_lines_at_once_are_pasted(
    server: ServerProcess, tmp_path: Path, term: str, locale: str
) -> None:
    """More than the terminal's line discipline gives in one read, which is 4095 bytes."""
    lines = [f"\tnumber {number} grün {'again ' * 30}." for number in range(30)]
    async with alice_typing_to_bob(server, tmp_path, term, locale) as (alice, bob):
        alice.send("".join(f"{line}\r" for line in lines).encode())
        alice.sees("30 lines")
        alice.until(lambda: alice.screen.display[-1].rstrip().endswith("again ."), "the last line")
        alice.type(ENTER)
        assert await heard(bob) == "\n".join(lines)


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("term", TERMS)
async def test_one_pasted_line_waits_for_enter(
    server: ServerProcess, tmp_path: Path, term: str, locale: str
) -> None:
    begin, end = (BEGIN, END) if term not in UNMARKED else (b"", b"")
    async with alice_typing_to_bob(server, tmp_path, term, locale) as (alice, bob):
        alice.send(begin + b"rm -rf important\r" + end)
        wait_input(alice, "rm -rf important")
        if term in UNMARKED:  # the pause after the paste ends before the draft is saved
            alice.until(lambda: is_saved(tmp_path / "alice", "rm -rf important"), "the draft")
        alice.type(f" not{F20}{ENTER}")
        assert await heard(bob) == "rm -rf important not"


def is_saved(home: Path, text: str) -> bool:
    """Return whether a text is saved as a draft."""
    return any(text in path.read_text() for path in (home / "drafts").glob("*.json"))


@pytest.mark.parametrize("bracketed", [True, False])
async def test_pasted_lines_wait_for_enter(
    server: ServerProcess, tmp_path: Path, bracketed: bool
) -> None:
    begin, end = (BEGIN, END) if bracketed else (b"", b"")
    async with alice_typing_to_bob(server, tmp_path) as (alice, bob):
        alice.send(begin + b"/leave\r/quit\r" + end)
        alice.sees("2 lines: Enter sends")
        alice.type(ctrl("c") + "y")
        wait_input(alice, "y")
        alice.type(ENTER)
        assert await heard(bob) == "y"


@pytest.mark.parametrize("term", TERMS)
def test_pictures_are_ascii_in_locale_c(server: ServerProcess, tmp_path: Path, term: str) -> None:
    with join(server, tmp_path, "alice", extra={"TERM": term, "LC_ALL": "C"}) as alice:
        alice.sees("nobody else", "|@* alice", "alice >", "\n-----")
        alice.type("/topic a very long topic that needs much more room than there is: naïve\r")
        alice.sees("alice set the topic", "... ")
        alice.type("für 你 “x”\r")
        alice.sees('alice | fur ?  "x"')
        alice.type("some more words, wait\u2026")
        alice.sees("alice > some more words, wait.")
        assert alice.text.isascii()
        assert "?" not in alice.text.replace("fur ? ", "")


def make_locale(place: Path, language: str, encoding: str) -> str:
    """Compile a locale into a directory for `LOCPATH`, and return its name."""
    name = f"{language}.{encoding}"
    command = ["localedef", "-i", language, "-f", encoding, str(place / name)]
    if shutil.which("localedef") is None or subprocess.run(command, check=False).returncode:
        pytest.skip("the locale cannot be made")
    return name


@pytest.mark.parametrize(
    ("language", "encoding", "text"),
    [("de_DE", "ISO-8859-1", "für äh »"), ("ja_JP", "EUC-JP", "日本 ok")],
)
async def test_other_encodings_are_typed_and_shown(
    server: ServerProcess, tmp_path: Path, language: str, encoding: str, text: str
) -> None:
    locale = make_locale(tmp_path, language, encoding)
    async with open_group(server, tmp_path, "alice", "bob") as (bob,):
        await bob.attach()
        extra = {"LC_ALL": locale, "LOCPATH": str(tmp_path)}
        with join(server, tmp_path, "alice", extra=extra) as alice:
            alice.until(lambda: b"1 other member" in alice.raw, "the group")
            alice.send(text.encode(encoding) + b"\r")
            assert await heard(bob) == text
            await bob.post(text + " again")
            alice.until(lambda: f"{text} again".encode(encoding) in alice.raw, "the answer")
            assert "│".encode("EUC-JP") not in alice.raw  # which takes two cells there


# ------------------------------------------------------------------ tmux


@asynccontextmanager
async def alice_in_tmux(server: ServerProcess, home: Path) -> AsyncIterator[tuple[Tmux, RawClient]]:
    require_tmux()
    async with open_group(server, home, "alice", "bob") as (bob,):
        await bob.attach()
        where = ["join", "127.0.0.1", server.port, "--user", "alice", "--group", "ops"]
        command = [sys.executable, "-m", "tchat", *where]
        tmux = Tmux(home, command, TCHAT_HOME=str(home / "alice"), LC_ALL="C.UTF-8")
        try:
            tmux.sees("in #ops with 1 other member")
            yield tmux, bob
        finally:
            tmux.end()


@pytest.mark.parametrize("option", [["-p"], []], ids=["bracketed", "unbracketed"])
async def test_hundred_pastes_of_tmux_arrive(
    server: ServerProcess, tmp_path: Path, option: list[str]
) -> None:
    pastes = [f"paste {number} grün\nand 你好; " for number in range(100)]
    async with alice_in_tmux(server, tmp_path) as (tmux, bob):
        for paste in pastes:
            tmux.run("load-buffer", "-", text=paste)
            tmux.run("paste-buffer", *option)
        tmux.sees("101 lines", "and 你好;")
        tmux.run("send-keys", "Enter")
        assert await heard(bob) == "".join(pastes)


async def test_hundred_messages_pasted_by_tmux_arrive(
    server: ServerProcess, tmp_path: Path
) -> None:
    async with alice_in_tmux(server, tmp_path) as (tmux, bob):
        for number in range(100):
            tmux.run("load-buffer", "-", text=f"paste {number} 你好\n")
            tmux.run("paste-buffer", "-p", ";", "send-keys", "Enter")
        assert [await heard(bob) for _ in range(100)] == [f"paste {n} 你好" for n in range(100)]


@pytest.mark.parametrize("option", [["-p"], []], ids=["bracketed", "unbracketed"])
async def test_pasted_tabs_are_sent_unchanged(
    server: ServerProcess, tmp_path: Path, option: list[str]
) -> None:
    makefile = "all:\n\tgcc -o a a.c\n\nname\tvalue\tx"
    async with alice_in_tmux(server, tmp_path) as (tmux, bob):
        tmux.run("load-buffer", "-", text=makefile)
        tmux.run("paste-buffer", *option)
        tmux.sees("alice ▸ all:\n                gcc -o a a.c", "        name    value   x")
        tmux.run("send-keys", "Enter")
        assert await heard(bob) == makefile
        tmux.sees("│ all:", "│         gcc -o a a.c", "│ name    value   x")
