"""Files of a group: list them as text, save small ones automatically, offer large ones.

A file that somebody shares while this person is a member is saved at once if it is small enough.
The event counts as unseen until the file is on disk. If the program ends before that, the file is
saved at the next start, on any device. What `tchat.client.files.automatic` refuses to save counts
as seen, and is told with the command that saves it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio

from tchat.client.files.automatic import CROWDED, FILE_LIMIT
from tchat.client.native_paths import readable
from tchat.core.group.files import FileRemoved, FileShared
from tchat.core.group.membership import Approved, Banned, Created, Joined, Kicked, Left
from tchat.core.group.state import File
from tchat.core.protocol.frames import FileList, FileListRequest
from tchat.core.text import clean_line, fold, size_text
from tchat.errors import Code, Refused
from tchat.ui.chat.gathering import some_of
from tchat.ui.chat.lines import latest
from tchat.ui.text.cells import cells, pad_right
from tchat.ui.text.paths import parse_destination

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tchat.client.files.automatic import AutomaticSaving
    from tchat.client.files.queue import Transfers
    from tchat.client.replica import Replica
    from tchat.client.session import Session
    from tchat.core.group.feature import Event
    from tchat.ui.chat.gathering import Gatherings

_NAME_WIDTH = 24
_NAMED_FETCHERS = 3


# ---------------------------------------------------------------------- the list of files


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file on the server, kept until `until` (ms since the Unix epoch; 0: no limit).

    `fetched` counts the people who have fetched it, `by` names some of them.
    """

    file: File
    until: int
    fetched: int
    by: tuple[str, ...]


async def list_files(
    session: Session, replica: Replica, most: float, before: int | None = None
) -> tuple[list[ListedFile], bool]:
    """Return the newest files on the server, at most `most`, and whether there are older ones.

    The oldest is first; with `before`, only files with lower numbers. Raises `Refused`.
    """
    found: list[ListedFile] = []
    older = True
    while older and len(found) < most:
        answer = await session.ask(partial(FileListRequest, group=replica.name, before=before))
        if not isinstance(answer, FileList):
            break
        found += _known(answer, replica)
        lowest = min((file.number for file in answer.files), default=0)
        older = answer.older and lowest > 0 and (before is None or lowest < before)
        before = lowest
    kept = found if len(found) <= most else found[: int(most)]
    return kept[::-1], older or len(kept) < len(found)


def _known(listed: FileList, replica: Replica) -> list[ListedFile]:
    """Return the listed files that are in the group's state."""
    return [
        ListedFile(file, info.until or 0, info.fetched, tuple(map(clean_line, info.by)))
        for info in listed.files
        if (file := replica.state.files.get(info.number)) is not None
    ]


def file_table(found: list[ListedFile], now: int) -> list[str]:
    """Return a table with one line for each file.

    Beside the list of members, it fits into a terminal of 80 columns. `now` is the server's time,
    as in all of these functions: the files have its dates.
    """
    names = [clean_line(one.file.name) for one in found]
    people = [clean_line(one.file.by) for one in found]
    sizes = [size_text(one.file.size) for one in found]
    number = max((len(str(one.file.number)) for one in found), default=0)
    name = min(max(map(cells, names), default=0), _NAME_WIDTH)
    size = max(map(len, sizes), default=0)
    person = max(map(cells, people), default=0)
    return [
        f"{one.file.number:>{number}}  {_padded(shown, name)}  {amount:>{size}}"
        f"  {pad_right(by, person)}  {_short_moment(one.file.at, now)}"
        for one, shown, amount, by in zip(found, names, sizes, people, strict=True)
    ]


def file_details(one: ListedFile, now: int) -> list[str]:
    """Return all details of one file, as lines."""
    file = one.file
    name, person = clean_line(file.name), clean_line(file.by)
    size = f"{size_text(file.size)} ({file.size} bytes)"
    return [
        f"file {file.number}: {name}, {size}, shared by {person} on {moment_text(file.at, now)}",
        f"{_status(one, now, most=len(one.by))}; SHA-256, as printed by sha256sum:",
        f"{file.sha256.hex()}  {name}",
    ]


def fetched_text(fetched: int, by: tuple[str, ...], most: int = _NAMED_FETCHERS) -> str:
    """Return who has fetched a file: "fetched by alice, carol and 3 more"."""
    if not fetched:
        return "fetched by nobody yet"
    shown = by[:fetched] if fetched <= most else by[: max(most - 1, 1)]
    others = fetched - len(shown)
    names = [*shown, *([f"{others} more" if shown else f"{others}"] if others else [])]
    return "fetched by " + " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def moment_text(at: int, now: int) -> str:
    """Return a time (ms since the Unix epoch) to the minute: "22 Nov 10:03", or with its year."""
    moment = time.localtime(latest(at) / 1000)
    this_year = moment.tm_year == time.localtime(now / 1000).tm_year
    return time.strftime("%d %b %H:%M" if this_year else "%d %b  %Y", moment)


def _short_moment(at: int, now: int) -> str:
    """Return a time as "10:03" if it is today, "22 Nov", or "Nov 2025"."""
    moment, today = time.localtime(latest(at) / 1000), time.localtime(now / 1000)
    if moment.tm_year != today.tm_year:
        return time.strftime("%b %Y", moment)
    return time.strftime("%H:%M" if moment.tm_yday == today.tm_yday else "%d %b", moment)


def _status(one: ListedFile, now: int, most: int) -> str:
    until = f", kept until {moment_text(one.until, now)}" if one.until else ""
    return fetched_text(one.fetched, one.by, most) + until


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cells(text))


# ---------------------------------------------------------------------- saving files


class FilesContext(Protocol):
    """The window's interface to its `GroupFiles`."""

    session: Session
    replica: Replica
    transfers: Transfers
    automatic: AutomaticSaving
    gatherings: Gatherings

    def notice(self, text: str) -> None:
        """Show a notice."""

    def fail(self, refusal: Refused) -> None:
        """Show a refusal."""

    def mark_seen(self) -> None:
        """Send the read position."""

    def start(self, work: Callable[..., Awaitable[object]], *arguments: object) -> None:
        """Run something in the background; a refusal is shown."""


class GroupFiles:
    """The files of one group: saves shared files, and remembers the names of removed ones."""

    def __init__(self, context: FilesContext, downloads: Path) -> None:
        self._context = context
        self._downloads = downloads
        self._names: dict[int, str] = {}
        self._unsaved: set[int] = set()
        self._refusals = context.gatherings.new(self._tell_refused)
        self._is_member: bool | None = None

    async def save(self, file: File, typed: str = "", *, anew: bool = False) -> None:
        """Save a file to a typed path or to the downloads, and show its path. Raises `Refused`.

        For `anew`, see `fetch_file`.
        """
        directory, name = self._downloads, None
        if "\0" in typed:
            raise Refused(Code.FILE_UNREADABLE, "A path cannot contain a null character.")
        if typed:
            directory, name = await trio.to_thread.run_sync(parse_destination, typed)
        context = self._context
        saved = await context.transfers.fetch(context.replica, file, directory, name, anew=anew)
        await context.automatic.on_saved(file, saved)
        context.notice(f"file {file.number} saved as {readable(saved)}")

    def name_of_removed(self, event: Event) -> str:
        """Return the name of the file that an event removes; empty if it is not known."""
        return self._names.get(event.body.number, "") if isinstance(event.body, FileRemoved) else ""

    def seen(self, shown: int) -> int:
        """Return the read position: `shown`, or the event before the first unsaved file."""
        return min(self._unsaved) - 1 if self._unsaved else shown

    def handle_event(self, event: Event, *, unseen: bool) -> None:
        """Save an unseen shared file, or show how to get it; remember the names of files."""
        me, files = fold(self._context.session.user), self._context.replica.state.files
        if self._is_member is None:  # the loaded log may begin after this person joined
            self._is_member = self._context.replica.read > 0
            self._names = {file.number: file.name for file in files.values()}
        match event.body:
            # Files that were shared while the person was not a member are not saved automatically.
            case Created() | Joined() | Left() if fold(event.actor) == me:
                self._is_member = not isinstance(event.body, Left)
            case Approved(name) | Kicked(name) | Banned(name) if fold(name) == me:
                self._is_member = isinstance(event.body, Approved)
            case FileShared() as shared:
                self._names[shared.number] = shared.name
                # The state may be ahead of this event, and the file removed already.
                exists = shared.number in files
                if exists and unseen and self._is_member and fold(event.actor) != me:
                    self._save_or_offer(event, shared)
            case FileRemoved(number):
                self._names.pop(number, None)

    def _save_or_offer(self, event: Event, shared: FileShared) -> None:
        number, size = shared.number, shared.size
        if size > FILE_LIMIT:
            self._context.notice(
                f"file {number} is large ({size_text(size)}): /get {number} saves it"
            )
            return
        if not self._context.automatic.begin():
            self._refusals.add((number, CROWDED))
            return
        file = File(number, shared.name, size, shared.sha256, event.actor, event.at)
        self._unsaved.add(event.seq)
        self._context.start(self._save_automatically, file, event.seq)

    async def _save_automatically(self, file: File, seq: int) -> None:
        """Save a shared file, if it may be saved; until then its event does not count as seen."""
        context, group = self._context, self._context.replica.name
        try:
            async with context.automatic.alone(file):
                clock = context.session.clock
                reason = await context.automatic.refusal(group, file, self._downloads, clock)
                if reason:
                    self._refusals.add((file.number, reason))
                else:
                    await self.save(file, anew=not await context.automatic.has_saved(file))
        except Refused as refusal:
            self._context.fail(refusal)
        finally:
            context.automatic.end()
        self._unsaved.discard(seq)
        self._context.mark_seen()

    def _tell_refused(self, refused: list[tuple[int, str]]) -> None:
        """Show which files are not saved, a line for each reason, and what saves them."""
        for reason in dict.fromkeys(reason for _, reason in refused):
            numbers = [str(number) for number, why in refused if why == reason]
            one = len(numbers) == 1
            files = f"file {numbers[0]} is" if one else f"files {some_of(numbers)} are"
            saves = f"/get {numbers[0]} saves it" if one else "/get N saves one"
            self._context.notice(f"{files} not saved, since {reason}: {saves}")
