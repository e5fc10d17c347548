"""One-shot commands `tchat send` and `tchat get`: upload or download files without chatting.

`send` prints nothing on success, and `get` prints the path of each saved file on a line, in the
order asked for. Progress goes to standard error: a bar that is redrawn on a terminal, lines about
what is new elsewhere. A file that is refused is reported there too; the others are still
transferred.
"""

from __future__ import annotations

import os
import re
import sys
from functools import partial
from typing import TYPE_CHECKING

import trio

from tchat.client.config.options import join_hint
from tchat.client.connector import first_visit_notice, rotation_notice
from tchat.client.files.queue import Transfers
from tchat.client.updates import (
    Connected,
    Disconnected,
    JournalDamaged,
    KeyRotated,
    NewServer,
    UnsentElsewhere,
)
from tchat.core.text import clean_line, quote_name
from tchat.errors import Code, Refused
from tchat.exits import exit_status
from tchat.streams import complain, print_path
from tchat.ui.chat.lines import progress_text
from tchat.ui.plain.progress import REPORT_SECONDS, ProgressFilter, bar_text
from tchat.ui.plain.spool import saved_input
from tchat.ui.text.cells import cells, clip
from tchat.ui.text.paths import parse_destination

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from tchat.client.files.queue import Progress
    from tchat.client.session import Session
    from tchat.core.group.state import File

_REDRAW_SECONDS = 0.2
_NUMBER = re.compile("[0-9]{1,9}")


async def send_files(
    session: Session,
    group: str,
    paths: Sequence[Path | None],
    invite: bytes | None,
    name: str | None,
    most_input: int,
) -> int:
    """Send files to a group, one after the other; return the exit status.

    None is standard input, of at most `most_input` bytes. A single file is sent as `name`, if that
    is given.
    """
    async with trio.open_nursery() as nursery:
        job = _OneShot(session, group)
        nursery.start_soon(job.follow)
        nursery.start_soon(job.report)
        await job.enter(invite)
        for path in paths:
            await job.attempt(partial(job.send, path, name, most_input))
        nursery.cancel_scope.cancel()
    return job.status


async def get_files(
    session: Session, group: str, numbers: Sequence[str], to: str, invite: bytes | None
) -> int:
    """Save files of a group, one after the other; return the exit status."""
    async with trio.open_nursery() as nursery:
        job = _OneShot(session, group)
        nursery.start_soon(job.follow)
        nursery.start_soon(job.report)
        target = f"{to}/" if len(numbers) > 1 else to
        into, name = await trio.to_thread.run_sync(parse_destination, target)
        await job.enter(invite, everything=True)
        for number in numbers:
            await job.attempt(partial(job.get, number, into, name))
        nursery.cancel_scope.cancel()
    return job.status


class _OneShot:
    """Transfers files of one group, and reports to stderr; `status` is the exit status."""

    def __init__(self, session: Session, group: str) -> None:
        self.status = 0
        self._session = session
        # Followed before the session connects, so that it attaches this group and nothing else.
        self._replica = session.follow(group)
        self._transfers = Transfers(session, lambda: None)
        self._updated = trio.Event()
        self._offline = False
        self._on_terminal = sys.stderr.isatty()
        self._progress_line = ""
        self._news = ProgressFilter()

    async def enter(self, invite: bytes | None, *, everything: bool = False) -> None:
        """Attach the group, using an invite if there is one; with `everything`, wait for its log.

        Raises `Refused` (not_member) rather than found a group or ask to join one.
        """
        replica = self._replica
        if invite is not None:
            await self._session.enter(replica.name, invite=invite)
        while replica.standing is None or (
            everything and replica.standing == "member" and not replica.caught_up
        ):
            self._updated = trio.Event()
            await self._updated.wait()
            if replica.unusable:
                raise replica.unusable
        if replica.standing != "member":
            session = self._session
            hint = join_hint(session.connector.address, session.user, replica.name)
            raise replica.not_member_refusal(hint)

    async def attempt(self, work: Callable[[], Awaitable[None]]) -> None:
        """Transfer one file; report a refusal, and do not stop the other transfers."""
        try:
            await work()
        except Refused as refusal:
            self.status = self.status or exit_status(refusal)
            self._print(f"tchat: {refusal}")

    async def send(self, path: Path | None, name: str | None, most_input: int) -> None:
        """Send a file, or standard input; on a terminal, report success."""
        if path is None:
            async with saved_input(most_input) as file:
                await self._transfers.send(self._replica, file, name)
        else:
            await self._transfers.send(self._replica, path, name)
        if self._on_terminal:
            self._print(f"sent {name or (path and path.name) or path}")

    async def get(self, number: str, into: Path, name: str | None) -> None:
        """Save a file and print its path."""
        path = await self._transfers.fetch(self._replica, self._file(number), into, name)
        self._wipe()
        print_path(path)

    def _file(self, number: str) -> File:
        known = int(number) if _NUMBER.fullmatch(number) else 0
        file = self._replica.state.files.get(known)
        if file is None:
            raise Refused(Code.NO_SUCH_FILE, f"The group has no file {quote_name(number)}.")
        return file

    async def follow(self) -> None:
        """Follow the session: report a new server and lost connections."""
        async for update in self._session.updates:
            match update:
                case NewServer(pin):
                    self._print(first_visit_notice(pin))
                case KeyRotated(pin):
                    self._print(rotation_notice(pin))
                case JournalDamaged() | UnsentElsewhere():
                    self._print(update.sentence)
                case Connected():
                    self._offline = False
                case Disconnected(reason) if not self._offline:
                    self._offline = True  # said once for each outage, not for each attempt
                    self._print(f"connection lost ({reason}); trying again")
            self._updated.set()

    async def report(self) -> None:
        """Report the progress of transfers."""
        while True:
            await trio.sleep(_REDRAW_SECONDS if self._on_terminal else REPORT_SECONDS)
            for progress in self._transfers.progress():
                if self._on_terminal:
                    self._redraw(progress)
                elif self._news.has(progress):
                    self._print(progress_text(progress))

    def _redraw(self, progress: Progress) -> None:
        """Replace the progress line."""
        self._wipe()
        width = os.get_terminal_size(sys.stderr.fileno()).columns - 1
        self._progress_line = clip(bar_text(progress, width), width)
        complain(self._progress_line, end="")

    def _wipe(self) -> None:
        if self._progress_line:
            complain(f"\r{' ' * cells(self._progress_line)}\r", end="")
            self._progress_line = ""

    def _print(self, text: str) -> None:
        self._wipe()
        complain(clean_line(text))
