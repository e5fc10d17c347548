"""Sending and getting files from the command line, for scripts and for people in a hurry.

`send` says nothing when all is well, and `get` prints where each file is, a line each, in the
order asked for. How far it is goes to standard error: one line that changes on a terminal, a line
now and then elsewhere. Whatever is refused is said there too, and the rest is done all the same.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from typing import TYPE_CHECKING

import trio

from tchat.client.connector import first_visit_notice
from tchat.client.files.queue import Transfers
from tchat.client.updates import Disconnected, NewServer
from tchat.core.text import clean_line, quote_name
from tchat.errors import Code, Refused, complain
from tchat.ui.chat.files import TELL_SECONDS
from tchat.ui.chat.lines import progress_text
from tchat.ui.text.cells import cells, clip
from tchat.ui.text.paths import parse_destination

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.core.group.state import File

_REDRAW_SECONDS = 0.2
_INTERRUPTED = "tchat: interrupted; the same command goes on where this one stopped."
_NUMBER = re.compile("[0-9]{1,9}")


async def run_interruptible(run: Callable[[], Awaitable[int]]) -> int:
    """Return the exit status of `run`, or 130 after Ctrl-C, which is said in a line."""
    status = 0

    async def end_on_signal() -> None:
        nonlocal status
        async for number in signals:
            status = 128 + number
            nursery.cancel_scope.cancel()

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end_on_signal)
            status = await run()
            nursery.cancel_scope.cancel()
    if status > 1:
        complain(_INTERRUPTED)
    return status


async def send_files(
    session: Session, group: str, paths: Sequence[Path], invite: bytes | None
) -> int:
    """Send files to a group, one behind the other; return the exit status."""
    async with trio.open_nursery() as nursery:
        once = _Once(session, group)
        nursery.start_soon(once.follow)
        nursery.start_soon(once.tell)
        await once.enter(invite)
        for path in paths:
            await once.attempt(lambda: once.send(path))  # noqa: B023  # awaited at once
        nursery.cancel_scope.cancel()
    return once.status


async def get_files(
    session: Session, group: str, numbers: Sequence[str], to: str, invite: bytes | None
) -> int:
    """Save files of a group, one behind the other; return the exit status."""
    async with trio.open_nursery() as nursery:
        once = _Once(session, group)
        nursery.start_soon(once.follow)
        nursery.start_soon(once.tell)
        place = f"{to}/" if len(numbers) > 1 else to
        into, name = await trio.to_thread.run_sync(parse_destination, place)
        await once.enter(invite, everything=True)
        for number in numbers:
            await once.attempt(lambda: once.get(number, into, name))  # noqa: B023
        nursery.cancel_scope.cancel()
    return once.status


class _Once:
    """A person who is in a group for a few files only. `status` is that of the program."""

    def __init__(self, session: Session, group: str) -> None:
        self.status = 0
        self._session = session
        # Before there is a connection: it then attaches the group, and asks for nothing else.
        self._replica = session.follow(group)
        self._transfers = Transfers(session, lambda: None)
        self._news = trio.Event()
        self._on_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._told = ""

    async def enter(self, invite: bytes | None, *, everything: bool = False) -> None:
        """Be in the group, by an invite if need be; with all that has happened in it, if told to.

        Raises `Refused` (not_member) rather than founding a group or asking to join one.
        """
        replica = self._replica
        if invite is not None:
            await self._session.enter(replica.name, invite=invite)
        while replica.standing is None or (
            everything and replica.standing == "member" and not replica.caught_up
        ):
            self._news = trio.Event()
            await self._news.wait()
        if replica.standing != "member":
            raise _not_member(replica)

    async def attempt(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do one of the things that were asked for; a refusal is said, and ends nothing else."""
        try:
            await work()
        except Refused as refusal:
            self.status = 1
            self._say(f"tchat: {refusal}")

    async def send(self, path: Path) -> None:
        """Send a file; one who watches is told when it is there."""
        await self._transfers.send(self._replica, path)
        if self._on_terminal:
            self._say(f"sent {path.name or path}")

    async def get(self, number: str, into: Path, name: str | None) -> None:
        """Save a file and print where it is."""
        place = await self._transfers.fetch(self._replica, self._file(number), into, name)
        self._wipe()
        print(place, flush=True)

    def _file(self, number: str) -> File:
        known = int(number) if _NUMBER.fullmatch(number) else 0
        file = self._replica.state.files.get(known)
        if file is None:
            raise Refused(Code.NO_SUCH_FILE, f"The group has no file {quote_name(number)}.")
        return file

    async def follow(self) -> None:
        """Take what the session tells."""
        async for update in self._session.updates:
            match update:
                case NewServer(pin):
                    self._say(first_visit_notice(pin))
                case Disconnected(reason):
                    self._say(f"connection lost ({reason}); trying again")
            self._news.set()

    async def tell(self) -> None:
        """Tell now and then how far it is."""
        while True:
            await trio.sleep(_REDRAW_SECONDS if self._on_terminal else TELL_SECONDS)
            for progress in self._transfers.progress():
                if self._on_terminal:
                    self._redraw(progress_text(progress))
                else:
                    self._say(progress_text(progress))

    def _redraw(self, text: str) -> None:
        """Show a line in the place of the one before."""
        self._wipe()
        self._told = clip(text, os.get_terminal_size(sys.stderr.fileno()).columns - 1)
        complain(self._told, end="")

    def _wipe(self) -> None:
        if self._told:
            complain(f"\r{' ' * cells(self._told)}\r", end="")
            self._told = ""

    def _say(self, text: str) -> None:
        self._wipe()
        complain(clean_line(text))


def _not_member(replica: Replica) -> Refused:
    if replica.standing == "waiting":
        admin = replica.admin or "its admin"
        sentence = f"You are not a member of {replica.name} yet: {admin} has not approved you."
    else:
        sentence = f"You are not a member of {replica.name}; join it first, or use an --invite."
    return Refused(Code.NOT_MEMBER, sentence)
