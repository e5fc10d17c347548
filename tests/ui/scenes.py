"""People at real terminals, and raw clients that act as the other members of a group."""

from __future__ import annotations

import json
import re
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import trio
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tchat.core.group.membership import Join
from tchat.core.group.settings import SetPolicy
from tchat.net.address import Address
from tests.helpers import GROUP, identity_of, raw_client
from tests.ui.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.helpers import RawClient
    from tests.ui.conftest import ServerProcess

ENTER, ESCAPE, TAB, S_TAB, BACKSPACE = "\r", "\x1b", "\t", "\x1b[Z", "\x7f"
UP, END, PAGE_UP, PAGE_DOWN = "\x1b[A", "\x1b[F", "\x1b[5~", "\x1b[6~"
F7, F9, F20 = "\x1b[18~", "\x1b[20~", "\x1b[34~"


def ctrl(letter: str) -> str:
    """Return what a terminal sends for Ctrl with a letter."""
    return chr(ord(letter.upper()) & 0x1F)


def alt(key: str) -> str:
    """Return what a terminal sends for Alt with a key."""
    return ESCAPE + key


def join(
    server: ServerProcess,
    home: Path,
    user: str,
    *options: str,
    group: str = GROUP,
    width: int = 80,
    height: int = 24,
    extra: dict[str, str] | None = None,
    host: str = "127.0.0.1",
) -> Terminal:
    """Start the full-screen client; each person has a home of their own.

    `extra` is added to its environment.
    """
    arguments = ["join", host, server.port, "--user", user, "--group", group, *options]
    return Terminal(arguments, str(home / user), width, height, pause=F20, **(extra or {}))


def store_identity(home: Path, user: str) -> None:
    """Write the identity that a raw client of that name uses to the person's home."""
    place = home / user / "identity"
    if place.exists():
        return
    pem = identity_of(user)._private.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch(mode=0o600)
    place.write_bytes(pem)


@asynccontextmanager
async def headless(server: ServerProcess, user: str) -> AsyncIterator[RawClient]:
    """Connect as somebody without a terminal for the length of the block."""
    async with raw_client(Address("127.0.0.1", int(server.port)), user, tls=True) as person:
        yield person


@asynccontextmanager
async def open_group(
    server: ServerProcess, home: Path, *names: str, group: str = GROUP
) -> AsyncIterator[list[RawClient]]:
    """Create an open group, and connect as its members for the length of the block.

    The first name creates it, and disconnects: that person is going to use a terminal.
    """
    founder, *others = names
    store_identity(home, founder)
    async with headless(server, founder) as person:
        await person.command(Join, group=group)
        await person.command(SetPolicy, "open", group=group)
    async with AsyncExitStack() as stack:
        people = [await stack.enter_async_context(headless(server, name)) for name in others]
        for person in people:
            await person.command(Join, group=group)
        yield people


async def sees(terminal: Terminal, *texts: str) -> None:
    """Wait until the screen shows all of `texts`, while the rest of the test goes on."""
    await trio.to_thread.run_sync(terminal.sees, *texts)


def row_with(terminal: Terminal, text: str) -> int:
    """Return the index of the first row, from the top, that contains a text."""
    rows = terminal.screen.display
    return next(y for y, row in enumerate(rows) if text in row)


def wait_gone(terminal: Terminal, *texts: str) -> None:
    """Wait until the screen shows none of `texts` any more."""
    terminal.until(lambda: not any(text in terminal.text for text in texts), f"no more {texts}")


def wait_typed(terminal: Terminal, text: str) -> None:
    """Wait until the input line has exactly that text."""
    end = f"▸ {text}".rstrip()
    terminal.until(lambda: terminal.screen.display[-1].rstrip().endswith(end), f"{text!r} typed")


def wait_edit(terminal: Terminal, text: str) -> None:
    """Wait until the input line edits a message into that text."""
    pattern = re.compile(rf"▸ /edit \^#\d+-[0-9a-f]{{6}} {re.escape(text)}$")
    terminal.until(
        lambda: bool(pattern.search(terminal.screen.display[-1].rstrip())), f"edit of {text!r}"
    )


def saved(home: Path, user: str = "alice") -> str:
    """Return the drafts on the disk."""
    directory = home / user / "drafts"
    found = [path.read_text() for path in sorted(directory.glob("*.json"))]
    return "\n".join(map(str, map(json.loads, found)))


def wait_saved(terminal: Terminal, home: Path, text: str) -> None:
    terminal.until(lambda: text in saved(home), f"{text!r} saved")
