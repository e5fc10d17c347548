"""Automatic saving of shared files: a daily budget for each group, a reserve of the disk, one copy.

    {"sha256:Y2hhdC5l…": {"alice": {
        "day": "2026-11-30", "server_day": "2026-11-30",
        "groups": {"ops": {"bytes": 8388608, "digests": ["9f86d081884c7d65…"]}},
        "copies": {"9f86d081884c7d65…": ["/home/alice/report.pdf", 1796054400000000000]}}}}

A share costs its author a hundred bytes, and each reader up to `FILE_LIMIT` of their disk. So what
is saved without being asked for is counted before it is downloaded, for each group and day, by all
programs of the person together: the record is changed under a lock. A file counts once, by its
digest, however often its download is begun anew: a server could give many files one number. All
groups of a server together have `GROUPS_IN_FULL` times the budget of one, since the server decides
how many there are. No more files than that wait to be saved, since each takes memory, and a look at
the record. `/get` is not counted, and not limited.

Another day begins when both the wall clock and the server's time show a later one than at the
beginning of this day: one clock that jumps, or a server that tells any time, neither lifts the
budget nor uses it up for years.

`copies` are the files that were saved, by digest, with their modification times. What the person
has, unchanged, is not downloaded again under another name.
"""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from tchat.client.clock import LATEST_MS
from tchat.client.files.budget import Budget
from tchat.client.native_paths import native, readable
from tchat.client.shared_records import PersonRecords, table_of
from tchat.core.text import fold, safe_filename, size_text
from tchat.transfer.threads import in_thread, in_thread_shielded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tchat.client.clock import ClientClock
    from tchat.core.group.state import File

FILE_LIMIT = 8 * 1024 * 1024
"""The size in bytes of the largest file that is saved automatically."""

GROUPS_IN_FULL = 5
"""How many groups of one server may use up their budgets in a day."""

_MEGABYTE = 1_000_000
_DIGITS = 64  # of a digest in the record: all, since whoever shares a file can choose some
_MOST_COPIES = 1000
"""How many saved files are remembered, the latest ones."""

_OFF = "automatic saving is off"

_LEAST_WAITING = 100

CROWDED = "more files wait to be saved automatically than a day's budget allows"
"""Why a file is not saved that was shared while too many others waited."""


class AutomaticSaving:
    """Decides which files a person's programs save by themselves.

    `servers` are the names that identify the server, the most reliable first. Without a path, or
    if the record cannot be written, what this program has saved is counted.
    """

    def __init__(
        self,
        path: Path | None = None,
        servers: Sequence[str] = ("",),
        user: str = "",
        budget: Budget | None = None,
    ) -> None:
        self._records = PersonRecords(path, servers, user)
        self._budget = budget or Budget()
        self._alone = path is None
        self._own: dict[str, Any] = {}
        """The record as this program wrote it last."""
        self._lock = trio.Lock()
        self._waiting = 0
        self._saving: dict[bytes, trio.Event] = {}
        """The digests of the files that are being saved; the events are set at their ends."""

    def begin(self) -> bool:
        """Note that a file waits to be saved; return False if too many do. Then call `end`.

        Of more than a day's budget, none could be saved; to find that out takes a write for each.
        """
        if self._waiting >= GROUPS_IN_FULL * max(self._budget.files, _LEAST_WAITING):
            return False
        self._waiting += 1
        return True

    def end(self) -> None:
        """Note that a file does not wait any more."""
        self._waiting -= 1

    @asynccontextmanager
    async def alone(self, file: File) -> AsyncIterator[None]:
        """Wait until no other file with the same bytes is being saved, and save one in the block.

        The next one finds the copy.
        """
        while (other := self._saving.get(file.sha256)) is not None:
            await other.wait()
        self._saving[file.sha256] = ended = trio.Event()
        try:
            yield
        finally:
            del self._saving[file.sha256]
            ended.set()

    async def refusal(self, group: str, file: File, into: Path, clock: ClientClock) -> str:
        """Count a file that is to be saved into a directory; return why it must not be, or ""."""
        async with self._lock:
            return await in_thread(partial(self._refusal, fold(group), file, into, clock))

    async def has_saved(self, file: File) -> bool:
        """Return whether a file was saved before, for the same person on the same server."""
        async with self._lock:
            return await in_thread(partial(self._has_saved, file.sha256.hex()))

    async def on_saved(self, file: File, path: Path) -> None:
        """Remember where a file is saved, unless it has been moved or removed already."""
        async with self._lock:
            await in_thread_shielded(partial(self._remember, file.sha256.hex(), path))

    # ------------------------------------------------------------------ in worker threads

    def _refusal(self, group: str, file: File, into: Path, clock: ClientClock) -> str:
        reason = ""

        def decide(record: dict[str, Any]) -> None:
            nonlocal reason
            _begin_day(record, clock)
            reason = self._copy(record, file) or self._lack_of_space(file, into)
            reason = reason or self._count(record, group, file)

        self._change(decide)
        return reason

    def _has_saved(self, digest: str) -> bool:
        record = self._own if self._alone else self._records.read()
        return digest in table_of(table_of(record).get("copies"))

    def _remember(self, digest: str, path: Path) -> None:
        try:
            changed = path.stat().st_mtime_ns
        except OSError:
            return

        def add(record: dict[str, Any]) -> None:
            copies = table_of(record.get("copies"))
            copies.pop(digest, None)
            copies[digest] = [str(path), changed]
            record["copies"] = dict(list(copies.items())[-_MOST_COPIES:])

        self._change(add)

    def _change(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the record, in the file if that is possible."""

        def update(record: object) -> dict[str, Any]:
            self._own = table_of(record)
            change(self._own)
            return self._own

        if not self._alone:
            try:
                self._records.update(update)
            except OSError:  # the disk is full, for example: this program counts alone from now on
                self._alone = True
        if self._alone:
            update(self._own)

    def _copy(self, record: dict[str, Any], file: File) -> str:
        """Return where the person has a file under another name, unchanged."""
        match table_of(record.get("copies")).get(file.sha256.hex()):
            case [str(place), int(changed)]:
                return _same_as(place, changed, file)
        return ""

    def _lack_of_space(self, file: File, into: Path) -> str:
        """Return that saving a file would leave too little of the disk free."""
        reserve = self._budget.free * _MEGABYTE
        try:
            existing = next((one for one in (into, *into.parents) if one.exists()), into)
            free = shutil.disk_usage(existing).free
        except OSError:
            return ""  # saving it fails, and says why
        if free - file.size >= reserve:
            return ""
        return f"less than {size_text(reserve)} of the disk would stay free"

    def _count(self, record: dict[str, Any], group: str, file: File) -> str:
        """Count a file; return which part of the budget does not allow it, or ""."""
        groups = table_of(record.get("groups"))
        digests, spent = _spent(groups.get(group))
        digest = file.sha256.hex()[:_DIGITS]
        if digest in digests:
            return ""
        most, largest = self._budget.files, self._budget.megabytes * _MEGABYTE
        if len(digests) >= most:
            return f"today's {most} automatic files of this group are saved" if most else _OFF
        if spent + file.size > largest:
            limit = size_text(largest)
            return f"more than {limit} of this group would be saved automatically today"
        all_groups = [_spent(one) for one in groups.values()]
        count, total = sum(len(one) for one, _ in all_groups), sum(one for _, one in all_groups)
        if count >= GROUPS_IN_FULL * most or total + file.size > GROUPS_IN_FULL * largest:
            return "today's automatic files of all groups of this server are saved"
        groups[group] = {"bytes": spent + file.size, "digests": [*digests, digest]}
        record["groups"] = groups
        return ""


def _begin_day(record: dict[str, Any], clock: ClientClock) -> None:
    """Forget what was saved on an earlier day; see the module."""
    found = {"day": _day_text(clock.wall()), "server_day": _day_text(clock())}
    day = _text_of(record.get("day"))
    known = {"day": day, "server_day": _text_of(record.get("server_day")) or day}
    if all(found[name] > known[name] for name in found):
        record["groups"] = {}
        known = found
    # A clock that was set back counts from there on.
    record.update({name: min(found[name], known[name]) for name in found})


def _text_of(value: object) -> str:
    return value if isinstance(value, str) else ""


def _day_text(at: int) -> str:
    """Return the day of a time (ms since the Unix epoch), so that a later one is greater."""
    return datetime.fromtimestamp(min(at, LATEST_MS) / 1000).astimezone().strftime("%Y-%m-%d")


def _spent(group: object) -> tuple[list[str], int]:
    """Return what was saved automatically of a group: the digests and the bytes of the files."""
    match group:
        case {"digests": list(digests), "bytes": int(spent)}:
            return digests, spent
    return [], 0


def _same_as(place: str, changed: int, file: File) -> str:
    """Return a sentence that names the unchanged copy of a file at `place`; "" if there is none."""
    path = Path(place)
    if path.name == native(safe_filename(file.name)):
        return ""  # then downloading finds it, and says where it is
    try:
        found = path.stat()
    except (OSError, ValueError):
        return ""
    is_same = (found.st_mtime_ns, found.st_size) == (changed, file.size)
    return f"you have it as {readable(path)}" if is_same else ""
