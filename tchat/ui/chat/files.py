"""Files in a chat: what the commands about them do, and which are saved without being asked for.

What the server has of a group's files, and how that reads.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from tchat.client.files.transfer import AUTOMATIC_LIMIT
from tchat.core.group.commands import RemoveFile
from tchat.core.group.events import (
    Approved,
    Banned,
    Created,
    Event,
    FileRemoved,
    FileShared,
    Joined,
    Kicked,
    Left,
)
from tchat.core.group.state import File
from tchat.core.protocol.frames import FileList, FileListRequest
from tchat.core.text import clean_line, fold, quote_name, size_text
from tchat.errors import Code, Refused
from tchat.ui.chat.lines import latest, progress_text
from tchat.ui.text.cells import cells, left, right
from tchat.ui.text.paths import destination, paths_in

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tchat.client.files.queue import Transfer, Transfers
    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.ui.chat.commands import CommandSpec

_MOST_NAME = 24
_ALL_NAMES = 3


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file that is there: `until` a time in ms, if not 0, and by whom it was fetched so far."""

    file: File
    until: int
    fetched: int
    by: tuple[str, ...]


async def ask_shelf(
    session: Session, replica: Replica, most: float, before: int | None = None
) -> tuple[list[ListedFile], bool]:
    """Return up to `most` files that are there, the oldest first, and whether there are older ones.

    Raises `Refused`.
    """
    found: list[ListedFile] = []
    older = True
    while older and len(found) < most:
        answer = await session.ask(lambda i: FileListRequest(i, replica.name, before))  # noqa: B023
        if not isinstance(answer, FileList):
            break
        found += _known(answer, replica)
        lowest = min((file.number for file in answer.files), default=0)
        older = answer.older and lowest > 0 and (before is None or lowest < before)
        before = lowest
    kept = found if len(found) <= most else found[: int(most)]
    return kept[::-1], older or len(kept) < len(found)


def _known(shelf: FileList, replica: Replica) -> list[ListedFile]:
    """Return what the group knows of what a server says it has."""
    return [
        ListedFile(file, info.until or 0, info.fetched, tuple(map(clean_line, info.by)))
        for info in shelf.files
        if (file := replica.state.files.get(info.number)) is not None
    ]


def shelf_lines(found: list[ListedFile]) -> list[str]:
    """Return a line for each file, with its facts below each other."""
    names = [clean_line(one.file.name) for one in found]
    people = [clean_line(one.file.by) for one in found]
    number = max((len(str(one.file.number)) for one in found), default=0)
    name = min(max(map(cells, names), default=0), _MOST_NAME)
    person = max(map(cells, people), default=0)
    return [
        f"{one.file.number:>{number}}  {_padded(shown, name)}  {right(size_text(one.file.size), 8)}"
        f"  {left(by, person)}  {moment_text(one.file.at)}  {one.file.sha256.hex()[:16]}"
        f"  {_fate(one)}"
        for one, shown, by in zip(found, names, people, strict=True)
    ]


def file_lines(one: ListedFile) -> list[str]:
    """Return all there is to say of one file."""
    file = one.file
    name, person = clean_line(file.name), clean_line(file.by)
    size = f"{size_text(file.size)} ({file.size} bytes)"
    return [
        f"file {file.number}: {name}, {size}, shared by {person} on {moment_text(file.at)}",
        f"{_fate(one, most=len(one.by))}; its SHA-256, as sha256sum prints it:",
        f"{file.sha256.hex()}  {name}",
    ]


def fetched_text(fetched: int, by: tuple[str, ...], most: int = _ALL_NAMES) -> str:
    """Return who has fetched a file: "fetched by alice, carol and 3 more"."""
    if not fetched:
        return "fetched by nobody yet"
    shown = by[:fetched] if fetched <= most else by[: max(most - 1, 1)]
    others = fetched - len(shown)
    names = [*shown, *([f"{others} more" if shown else f"{others}"] if others else [])]
    return "fetched by " + " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def moment_text(at: int) -> str:
    """Return a time (ms since the Unix epoch) to the minute: "22 Nov 10:03", or with its year."""
    moment = time.localtime(latest(at) / 1000)
    this_year = moment.tm_year == time.localtime().tm_year
    return time.strftime("%d %b %H:%M" if this_year else "%d %b  %Y", moment)


def _fate(one: ListedFile, most: int = _ALL_NAMES) -> str:
    until = f", kept until {moment_text(one.until)}" if one.until else ""
    return fetched_text(one.fetched, one.by, most) + until


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cells(text))


TELL_SECONDS = 2.0
"""How often it is told, where that takes a line, how far a transfer is."""

_NEWEST = 20
_NUMBER = re.compile("[0-9]{1,9}")


class Host(Protocol):
    """The chat in which all this happens."""

    session: Session
    replica: Replica

    def notice(self, text: str) -> None:
        """Show a line."""

    def fail(self, refusal: Refused) -> None:
        """Show that something was refused."""

    def require_member(self) -> None:
        """Raise `Refused` unless the person is a member."""

    def mark_seen(self) -> None:
        """Let the server know what was seen."""

    def start(self, work: Callable[..., Awaitable[object]], *arguments: object) -> None:
        """Begin some work, of which a refusal is shown."""


class GroupFiles:
    """The files of one group; its transfers are among those of the whole chat."""

    def __init__(self, host: Host, downloads: Path, transfers: Transfers) -> None:
        self.transfers = transfers
        self._host = host
        self._downloads = downloads
        self._names: dict[int, str] = {}
        self._unsaved: set[int] = set()
        self._inside: bool | None = None

    # ------------------------------------------------------------------ what the person types

    def run(self, word: str, argument: str) -> None:
        """Run a command about files. Raises `Refused`."""
        if word == "cancel":
            self._cancel(argument)
            return
        self._host.require_member()
        match word:
            case "send":
                self._host.start(self._send, argument)
            case "files" if argument in ("", "all"):
                self._host.start(self._list, math.inf if argument else _NEWEST)
            case "files":
                self._host.start(self._describe, self._file(argument))
            case "get":
                number, _, place = argument.partition(" ")
                self._host.start(self._get, self._file(number), place.strip())
            case "remove":
                self._remove(self._file(argument))

    def choices(self, command: CommandSpec) -> list[str]:
        """Return what the command's argument could be, if that is the number of something."""
        state, user = self._host.replica.state, self._host.session.user
        if command.choice == "transfer":
            return [str(transfer.number) for transfer in self.transfers.active]
        if command.choice == "file" and not state.is_admin(user):
            mine = (file for file in state.files.values() if fold(file.by) == fold(user))
            return [str(file.number) for file in mine][::-1]
        if command.choice in ("file", "saving", "shelf"):
            return [str(number) for number in state.files][::-1]
        return []

    def show_transfers(self) -> None:
        """Show what is under way. Raises `Refused` (no_such_transfer) if nothing is."""
        if not self.transfers.active:
            raise Refused(Code.NO_SUCH_TRANSFER, "Nothing is being sent or saved.")
        for progress in self.transfers.progress():
            self._host.notice(f"{progress.number}: {progress_text(progress)}")

    async def _send(self, argument: str) -> None:
        for path in await trio.to_thread.run_sync(paths_in, argument):
            self._host.start(self.transfers.sending(self._host.replica, path))

    async def _get(self, file: File, place: str = "") -> None:
        into, name = self._downloads, None
        if "\0" in place:
            raise Refused(Code.FILE_UNREADABLE, "No path can have a null character in it.")
        if place:
            into, name = await trio.to_thread.run_sync(destination, place)
        saved = await self.transfers.fetch(self._host.replica, file, into, name)
        self._host.notice(f"file {file.number} saved as {saved}")

    async def _list(self, most: float) -> None:
        found, older = await ask_shelf(self._host.session, self._host.replica, most)
        if not found:
            self._host.notice("no files yet; /send PATH shares one")
            return
        count = f"the newest {len(found)}; older ones: /files all" if older else str(len(found))
        self._host.notice(f"files ({count}):")
        for line in shelf_lines(found):
            self._host.notice(line)

    async def _describe(self, file: File) -> None:
        found, _ = await ask_shelf(self._host.session, self._host.replica, 1, file.number + 1)
        if not found or found[0].file.number != file.number:
            name = clean_line(file.name)
            raise Refused(Code.NO_SUCH_FILE, f"{name} is not kept on the server any more.")
        for line in file_lines(found[0]):
            self._host.notice(line)

    def _cancel(self, argument: str) -> None:
        if not _NUMBER.fullmatch(argument):
            self.show_transfers()
            raise Refused(
                Code.NO_SUCH_TRANSFER, f"{quote_name(argument)} is not the number of a transfer."
            )
        self.transfers.cancel(int(argument))

    def _remove(self, file: File) -> None:
        group = self._host.replica.name
        receipt = self._host.session.submit(lambda i, n: RemoveFile(i, n, group, file.number))
        self._host.start(receipt.wait)

    @property
    def _files(self) -> dict[int, File]:
        return self._host.replica.state.files

    def _file(self, argument: str) -> File:
        number = int(argument) if _NUMBER.fullmatch(argument) else 0
        file = self._files.get(number)
        if file is None:
            raise Refused(Code.NO_SUCH_FILE, f"The group has no file {quote_name(argument)}.")
        return file

    # ------------------------------------------------------------------ what happens

    def name_of_removed(self, event: Event) -> str:
        """Return the name of the file that an event takes away, as far as it was heard of."""
        return self._names.get(event.body.number, "") if isinstance(event.body, FileRemoved) else ""

    def take(self, event: Event, *, unseen: bool) -> None:
        """Do what follows from an event: what is shared unseen is saved, or offered."""
        me = fold(self._host.session.user)
        if self._inside is None:  # the log here may begin behind the event that let the person in
            self._inside = self._host.replica.read > 0
            self._names = {file.number: file.name for file in self._files.values()}
        match event.body:
            # What was shared while the person was no member is not saved unasked.
            case Created() | Joined() | Left() if fold(event.actor) == me:
                self._inside = not isinstance(event.body, Left)
            case Approved(name) | Kicked(name) | Banned(name) if fold(name) == me:
                self._inside = isinstance(event.body, Approved)
            case FileShared() as file:
                self._names[file.number] = file.name
                # The group may be further than what is shown, and have it no more.
                there = file.number in self._files
                if there and unseen and self._inside and fold(event.actor) != me:
                    self._offer(event, file)
            case FileRemoved(number):
                self._names.pop(number, None)

    def seen(self, shown: int) -> int:
        """Return up to which event all is seen: short of the first file that is not saved yet."""
        return min(self._unsaved) - 1 if self._unsaved else shown

    def _offer(self, event: Event, shared: FileShared) -> None:
        """Save a file that is small enough; say how to get a larger one."""
        number, size = shared.number, shared.size
        if size > AUTOMATIC_LIMIT:
            self._host.notice(f"file {number} is large ({size_text(size)}): /get {number} saves it")
            return
        file = File(number, shared.name, size, shared.sha256, event.actor, event.at)
        self._unsaved.add(event.seq)
        self._host.start(self._save, file, event.seq)

    async def _save(self, file: File, seq: int) -> None:
        """Save a file that was not asked for; until then its event does not count as seen."""
        try:
            await self._get(file)
        except Refused as refusal:
            self._host.fail(refusal)
        self._unsaved.discard(seq)
        self._host.mark_seen()


class ProgressReporter:
    """Tells of transfers in lines: of a long one now and then, of a short one never.

    To be used where there is no place that shows how far they are.
    """

    def __init__(self, transfers: Transfers, notice: Callable[[str], None]) -> None:
        self._transfers = transfers
        self._notice = notice
        self._last = 0

    def take_new(self, nursery: trio.Nursery) -> None:
        """Begin to tell of transfers that are new."""
        for transfer in self._transfers.active:
            if transfer.number > self._last:
                self._last = transfer.number
                nursery.start_soon(self._tell, transfer)

    async def _tell(self, transfer: Transfer) -> None:
        while True:
            with trio.move_on_after(TELL_SECONDS):
                await transfer.ended.wait()
                return
            if transfer.phase != "queued":
                progress = transfer.progress(trio.current_time())
                self._notice(f"{progress_text(progress)} (/cancel {transfer.number})")
