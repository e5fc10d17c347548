"""Hostile text in the full-screen client: the terminal's cells, state and received bytes."""

from __future__ import annotations

import re
import unicodedata
from codecs import getincrementaldecoder
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest
import trio
from wcwidth import wcwidth

from tchat.core.group.membership import Join
from tchat.net.address import Address
from tests.fake_server import ScriptedPeer, fake_server
from tests.helpers import GROUP, raw_client
from tests.hostile_text import (
    CONTROLS,
    EVERYTHING,
    HARMLESS,
    HOSTILE,
    LONG_NAME,
    SEQUENCES,
    UNSEEN,
    unsafe_characters,
)
from tests.ui.conftest import ServerProcess
from tests.ui.scenes import ctrl, join, sees

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pyte

    from tests.helpers import RawClient
    from tests.ui.terminal import Emulator, Terminal

WIDE, NARROW = 80, 60
HEIGHT = 24
BORDER = WIDE - 19
"""The column between messages and members, who are only shown on the wide screen."""
TEXT = 15
"""The column in which messages begin: after time, name and mark."""

USUAL = {
    *(b"\x1b[?1049h", b"\x1b[22;0;0t", b"\x1b[?1h", b"\x1b=", b"\x1b[4l", b"\x1b[?7h"),
    *(b"\x1b[?1049l", b"\x1b[23;0;0t", b"\x1b[?1l", b"\x1b>"),
    *(b"\x1b[?25l", b"\x1b[?25h", b"\x1b[?12l", b"\x1b(B"),
    *(b"\x1b[?2004h", b"\x1b[?2004l", b"\x1b[?7l", b"\x1b[6n"),
}
"""Sequences that curses and the screen send by themselves, without those of colours."""

PAINTING = b"\x1b[?7l"
"""While the screen is painted, rows do not wrap."""

FOREIGN = [case.text.encode() for case in SEQUENCES if case.text.encode() != PAINTING]
"""Sequences that the screen does not send by itself before the end."""

_COMMAND = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[ -/]+[0-~]|[0-Z\\-~])")
_UNFINISHED = re.compile(rb"\x1b(?:[\[(][0-9;?]*)?\Z")
_TITLE = re.compile(rb"\x1b\]2;(?:#ops - tchat)?\x07")
_CALL = re.compile(rb"\x07\x1b\]777;notify;#ops;bob: [^\x00-\x1f\x7f]*\x07")
_MOVES = re.compile(rb"\x1b\[[0-9;]*[ABCDGHJKLMPXbdr@ST]|\x1bM")


# ------------------------------------------------------------------ what is compared


class Frame(NamedTuple):
    """All of the screen but the messages, and the terminal's state."""

    title: list[pyte.screens.Char]
    status: list[pyte.screens.Char]
    prompt: list[pyte.screens.Char]
    people: list[list[pyte.screens.Char]]
    state: tuple[object, ...]


def frame_of(screen: Emulator) -> Frame:
    rows = [[screen.buffer[y][x] for x in range(screen.columns)] for y in range(screen.lines)]
    cursor = (screen.cursor.x, screen.cursor.y, screen.cursor.hidden)
    window = (screen.title, screen.icon_name, frozenset(screen.mode), screen.margins)
    people = [row[BORDER:] for row in rows[1:-2]]
    return Frame(rows[0], rows[-2], rows[-1], people, (cursor, window, screen.charset))


def message_rows(screen: Emulator) -> list[list[pyte.screens.Char]]:
    end = BORDER if screen.columns == WIDE else screen.columns
    return [[screen.buffer[y][x] for x in range(end)] for y in range(1, HEIGHT - 2)]


def messages_stand_in_place(screen: Emulator) -> bool:
    """Return whether every message is in its column, in one of the two looks in use."""
    # A message that begins with a combining mark puts it on the space before it.
    rules = {"".join(c.data[:1] for c in row[TEXT - 3 : TEXT]) for row in message_rows(screen)}
    looks = {cell._replace(data=" ") for row in message_rows(screen) for cell in row[TEXT:]}
    meant = screen.default_char._replace(fg="d75f00", bold=True)
    return rules <= {" │ ", " » "} and looks <= {screen.default_char, meant}


def text_of(screen: Emulator) -> str:
    """Return the text of the messages, without spaces and characters of no width."""
    cells = (cell.data for row in message_rows(screen) for cell in row[TEXT:])
    return essence("".join(cells))


def essence(text: str) -> str:
    composed = unicodedata.normalize("NFC", text)
    return "".join(c for c in composed if wcwidth(c) > 0 and not c.isspace())


def commands(raw: bytes) -> set[bytes]:
    """Return the escape sequences in `raw`, except cursor movements, titles and notifications.

    An unfinished one at the end is left out: the program may still be writing.
    """
    raw = _CALL.sub(b"", _TITLE.sub(b"", raw))
    found = {c for c in _COMMAND.findall(raw) if not _MOVES.fullmatch(c)}
    rest = _UNFINISHED.sub(b"", _COMMAND.sub(b"", raw)).translate(None, b"\r\n\b")
    assert unsafe_characters(getincrementaldecoder("utf-8")().decode(rest)) == []
    return found


# ------------------------------------------------------------------ hostile messages


@asynccontextmanager
async def alice_watches_bob(
    server: ServerProcess, home: Path, width: int
) -> AsyncIterator[tuple[Terminal, RawClient]]:
    """Let Bob fill Alice's screen with harmless messages."""
    with join(server, home, "alice", width=width, height=HEIGHT) as alice:
        alice.sees("nobody else")
        async with raw_client(Address("127.0.0.1", int(server.port)), "bob", tls=True) as bob:
            await bob.command(Join)
            alice.sees("bob asks to join")
            alice.type("/2 bob\r")
            alice.sees("bob joined")
            await bob.post("harmless to alice")
            alice.sees("harmless to alice")  # in the colour of mentions
            for number in range(HEIGHT):
                await bob.post(f"harmless {number}")
            alice.sees(f"harmless {HEIGHT - 1}")
            alice.type("half a line")
            typed = "alice ▸ half a line"
            alice.until(lambda: alice.screen.cursor.x == len(typed), f"the cursor behind {typed}")
            yield alice, bob


async def show(alice: Terminal, bob: RawClient, frame: Frame, text: str, wanted: str) -> None:
    """Let Bob post a text, and wait until `wanted` is shown and nothing else has changed."""
    await bob.post(text)

    def at_rest() -> bool:
        alike = frame_of(alice.screen) == frame and messages_stand_in_place(alice.screen)
        return alike and essence(wanted) in text_of(alice.screen)

    alice.until(at_rest, f"{text[:99]!a}, with nothing else changed")


@pytest.mark.parametrize("width", [WIDE, NARROW])
async def test_message_changes_only_its_own_rows(
    server: ServerProcess, tmp_path: Path, width: int
) -> None:
    async with alice_watches_bob(server, tmp_path, width) as (alice, bob):
        frame, usual = frame_of(alice.screen), commands(alice.raw)
        for number, case in enumerate(HOSTILE):
            # The number comes first: the text after it may reach the last cell of the last row.
            await show(alice, bob, frame, f"<{number}> {case.text}", f"<{number}>")
        await show(alice, bob, frame, "the end", "the end")
        assert commands(alice.raw) <= usual
        assert not any(sequence in alice.raw for sequence in FOREIGN)


async def test_hostile_message_stays_readable(server: ServerProcess, tmp_path: Path) -> None:
    cases = [(case.text, case.shown) for case in (*SEQUENCES, *CONTROLS, *UNSEEN)]
    async with alice_watches_bob(server, tmp_path, WIDE) as (alice, bob):
        frame = frame_of(alice.screen)
        for number, (text, shown) in enumerate([*cases, *zip(HARMLESS, HARMLESS, strict=True)]):
            await show(alice, bob, frame, f"{text} <{number}>", f"{shown} <{number}>")


async def test_hostile_file_name_is_typed_safely(server: ServerProcess, tmp_path: Path) -> None:
    name = "fdp\u202etxt.exe\x9b31m\u200b"
    (tmp_path / name).touch()
    async with alice_watches_bob(server, tmp_path, NARROW) as (alice, bob):
        frame, usual = frame_of(alice.screen), commands(alice.raw)
        alice.type("\x15/9 fdp\t")
        alice.sees("alice ▸ /9 fdptxt.exe\ufffd31m")
        alice.type("\x15half a line")
        await show(alice, bob, frame, "the end", "the end")
        assert commands(alice.raw) <= usual


# ------------------------------------------------------------------ hostile server


async def lie(peer: ScriptedPeer, looked: trio.Event) -> None:
    """Send hostile text in every field that is shown, in a log that ends in the far future."""
    await peer.welcome()
    await peer.attach(seq=4)
    await peer.group_list(LONG_NAME, f"@alice,{LONG_NAME}")
    await peer.event("created", LONG_NAME)
    await peer.event("approved", LONG_NAME, name=f"al{LONG_NAME}", at=2**50)
    await peer.event("posted", LONG_NAME, text=EVERYTHING, at=2**53 - 1)
    await peer.event("posted", "mallory", text="the last word", at=2**53 - 1)
    here = {"online": [{"name": LONG_NAME, "away": LONG_NAME}], "offline": []}
    await peer.send("presence", group=GROUP, reset=True, **here)
    await looked.wait()
    await peer.send("goodbye", code=LONG_NAME, text=f"too bad {EVERYTHING}")


async def be_brief(peer: ScriptedPeer, looked: trio.Event) -> None:
    """Let the client in late, as waiting for approval, with a hostile admin's name."""
    await looked.wait()
    await peer.welcome()
    await peer.attach("waiting", admin=LONG_NAME)
    await peer.expect("end")


async def test_hostile_server_cannot_control_the_terminal(tmp_path: Path) -> None:
    looked, again = trio.Event(), trio.Event()
    stories = (lambda peer: lie(peer, looked), lambda peer: be_brief(peer, again))
    async with fake_server(*stories) as address:
        server = ServerProcess(tmp_path, str(address.port))
        with join(server, tmp_path, "alice", "--no-tls", width=WIDE, height=HEIGHT + 4) as alice:
            await sees(alice, "mallory │ the last word", "│ ○ ␛[2J", "\nalice ▸")
            looked.set()
            await sees(alice, "offline: too bad ␛[2J")
            again.set()
            await sees(alice, "Waiting for ␛[2J", "connected ", "alice ▸")
            assert (alice.screen.title, alice.screen.icon_name) == ("#ops - tchat", "")
            assert alice.screen.display[0].startswith(" #ops ")
            assert alice.screen.display[-1].startswith("alice ▸ ")
            alice.type(ctrl("d") + ctrl("d"))
            assert await trio.to_thread.run_sync(alice.end) == 0
    assert {command for command in commands(alice.raw) if not command.endswith(b"m")} <= USUAL
    # The end itself is one of the sequences: the screen's own.
    before_the_end = alice.raw.rpartition(b"\x1b[?2004l")[0]
    assert not any(sequence in before_the_end for sequence in FOREIGN)
