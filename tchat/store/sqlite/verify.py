"""Verify a data directory without changing it: its logs, what is derived from them, its files.

What is checked, and what a fault of each kind means:

- the structure of the database file, by SQLite's own check, and its write-ahead log (see `wal`);
- every log: its checksums and running digests, that its numbers have no gaps, and that its events
  can be decoded;
- what the server derived from a log against the log itself, replayed from its first event: the
  stored state (see `_check_restored`), people's standings and keys, the group's files, its name,
  what is to be erased, the search index;
- every file against its SHA-256, and against the index of files.

A change that leaves no trace in any of these is not found: somebody who rewrites an event together
with its checksum; a log that lost its last events and their number at the same time; a missing key
of somebody who is in no group, or a changed read position, which nothing else repeats.

A damaged database does not end the check. What SQLite cannot read is looked for page by page
(`pages`), so that the report has all lost events, and where in the file the damage is. Each fault
says what helps (`Remedy`).

The server may run meanwhile. Each group is read from a snapshot of its own, because the server's
write-ahead log grows as long as one is held. A file that is removed meanwhile is looked up again
before it counts as missing.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Literal

from tchat.core.group.features import decode_event
from tchat.core.group.log_digest import EMPTY, UNKNOWN, extend
from tchat.core.group.membership import Created
from tchat.core.group.messages import Edited, Erased, Posted
from tchat.core.group.operation import Expired
from tchat.core.group.rules import apply
from tchat.core.group.snapshots import MADE_WITH, thaw_whole
from tchat.core.group.state import Group
from tchat.core.lookalikes import appearances_of
from tchat.core.protocol.framing import split_frames
from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.core.text import fold
from tchat.errors import ProtocolError, StartupError, StorageError
from tchat.store.blobs import blob_path
from tchat.store.sqlite.appearances import group_appearances
from tchat.store.sqlite.directory import DATABASE
from tchat.store.sqlite.log import checksum
from tchat.store.sqlite.pages import PageReader
from tchat.store.sqlite.schema import GROUP_USAGE, PERSON_USAGE
from tchat.store.sqlite.search import SearchCheck
from tchat.store.sqlite.view import open_view
from tchat.store.sqlite.wal import find_damage
from tchat.transfer.partial_file import DIGESTS_SUFFIX
from tchat.transfer.pieces import join_digests

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from tchat.core.group.feature import Event

Where = Literal["database", "log", "state", "members", "files", "search", "accounts", "keys"]

Remedy = Literal["harmless", "resend", "restore", "salvage"]
"""What helps against a fault.

Nothing is needed, since the server repairs it by itself; the file has to be sent again, or copied
from a backup; the keys have to be restored; or a backup has to be restored, or else `salvage` keeps
what can be read, and makes anew all that follows from the logs.
"""

_REMEDIES: dict[Where, Remedy] = {"files": "resend", "keys": "restore"}
_MOST_FAULTS_EACH = 20
_KEY_SIZE = 32
_DIGEST = re.compile("[0-9a-f]{64}")
_WRONG_DIGESTS = "The file is whole, but the digests of its pieces have changed."


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: the part of the data, the group or file that it concerns, and a sentence.

    `first` and `last` are the events of the group that it concerns, `offset` is where in the
    database file it is, if that is known.
    """

    where: Where
    subject: str
    sentence: str
    remedy: Remedy = "salvage"
    first: int | None = None
    last: int | None = None
    offset: int | None = None


@dataclass(slots=True)
class Verified:
    """The faults that were found, and how much was read.

    `unknown_files` are on the disk and in no index; the server removes them at its next start.
    `further_faults` counts those beyond the first few of their kind.
    """

    faults: list[Fault] = field(default_factory=list)
    groups: int = 0
    events: int = 0
    files: int = 0
    size: int = 0
    unknown_files: int = 0
    further_faults: int = 0
    _counts: Counter[tuple[Where, str]] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        """The number of all faults."""
        return len(self.faults) + self.further_faults

    def report(self) -> dict[str, object]:
        """Return everything as values for JSON."""
        return {
            "whole": not self.count,
            "groups": self.groups,
            "events": self.events,
            "files": self.files,
            "size": self.size,
            "unknown_files": self.unknown_files,
            "further_faults": self.further_faults,
            "faults": [asdict(fault) for fault in self.faults],
        }

    def fault(
        self,
        where: Where,
        subject: str,
        sentence: str,
        remedy: Remedy | None = None,
        *,
        events: tuple[int, int] | None = None,
        offset: int | None = None,
    ) -> None:
        """Add a fault, unless it is known, or there are many of its kind already."""
        remedy = remedy or _REMEDIES.get(where, "salvage")
        first, last = events or (None, None)
        fault = Fault(where, subject, sentence, remedy, first, last, offset)
        if fault in self.faults:
            return
        self._counts[where, subject] += 1
        if self._counts[where, subject] > _MOST_FAULTS_EACH:
            self.further_faults += 1
        else:
            self.faults.append(fault)


def verify_data(directory: Path) -> Verified:
    """Verify the database and the files in `directory`.

    Raises `StartupError` if there is no data that this version can read.
    """
    found = Verified()
    keys: set[tuple[str, bytes]] = set()
    groups: list[tuple[int, str]] = []
    read: set[int] = set()
    stored: dict[bytes, int] | None = None
    with _errors_as_faults(found, "database", DATABASE), open_view(directory) as connection:
        _check_log_ahead(directory, found)
        with _errors_as_faults(found, "database", DATABASE):
            _check_database(connection, found)
        groups = connection.execute("SELECT id, name FROM groups").fetchall()
    for number, name in groups:
        with _errors_as_faults(found, "log", str(name)), open_view(directory) as connection:
            keys |= _GroupCheck(connection, number, found).run()
            read.add(number)
    # Afterwards, so that whatever the groups refer to is there already.
    with _errors_as_faults(found, "accounts", DATABASE), open_view(directory) as connection:
        _check_accounts(connection, keys, found)
    with _errors_as_faults(found, "files", DATABASE), open_view(directory) as connection:
        stored = _check_index_of_files(connection, found)
    if any(
        fault.where == "database" or fault.sentence.startswith(_UNREAD) for fault in found.faults
    ):
        with _errors_as_faults(found, "database", DATABASE):
            _check_pages(directory / DATABASE, read, found)
    _check_files(directory, stored, found)
    return found


_UNREAD = "It cannot be read"


@contextmanager
def _errors_as_faults(found: Verified, where: Where, subject: str) -> Iterator[None]:
    """Turn an error within the block into a fault, so that the other checks go on.

    Damaged data may cause any error in code that expects sound data.
    """
    try:
        yield
    except StartupError:
        raise
    except (sqlite3.DatabaseError, StorageError) as error:
        cause = error.__cause__ if isinstance(error, StorageError) else error
        found.fault(where, subject, f"{_UNREAD}: {cause or error}.", "salvage")
    except Exception as error:  # noqa: BLE001  # see above
        found.fault(where, subject, f"{_UNREAD}: {error!r}.", "salvage")


# ------------------------------------------------------------------ the database and the accounts


def _check_log_ahead(directory: Path, found: Verified) -> None:
    name = f"{DATABASE}-wal"
    try:
        damage = find_damage(directory / name)
    except OSError as error:
        found.fault("database", name, f"The file cannot be read: {error.strerror}.")
    else:
        if damage is not None:
            found.fault("database", name, damage.sentence)


def _check_database(connection: sqlite3.Connection, found: Verified) -> None:
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    for (line,) in connection.execute("PRAGMA integrity_check"):
        if line != "ok":
            page = re.search(r"page (\d+)", str(line))
            offset = (int(page[1]) - 1) * size if page else None
            found.fault("database", DATABASE, f"Its structure is damaged: {line}.", offset=offset)
    for table, *_ in connection.execute("PRAGMA foreign_key_check"):
        found.fault("database", DATABASE, f"A row of {table} belongs to no group.")


def _check_pages(path: Path, read: Collection[int], found: Verified) -> None:
    """Say which pages of a damaged database are damaged, and which events cannot be read.

    The groups in `read` have been checked.
    """
    names: dict[int, tuple[str, int]] = {}
    ranges: dict[int, list[tuple[int, int]]] = {}
    with PageReader(path) as reader:
        for page, table in reader.damaged():
            found.fault(
                "database",
                DATABASE,
                f"Page {page} is damaged; it belongs to {table}.",
                offset=(page - 1) * reader.page_size,
            )
        for row in reader.rows():
            match row.table, row.values:
                case "groups", (_, str(name), int(last), *_):
                    names.setdefault(row.rowid, (name, last))
                case "segments", (int(group), int(last), int(first), bytes(frames), crc, *_):
                    if group not in read and checksum(group, first, last, frames) == crc:
                        ranges.setdefault(group, []).append((first, last))
                        found.events += last - first + 1
    for group in {*names, *ranges} - set(read):
        name, last = names.get(group, (f"group {group}", 0))
        _check_ranges(name, last, sorted(ranges.get(group, [])), found)


def _check_ranges(name: str, last: int, ranges: list[tuple[int, int]], found: Verified) -> None:
    """Say which of the events up to `last` are in no range."""
    found.groups += 1
    expected = 1
    for first, end in [*ranges, (last + 1, last)]:
        if first > expected:
            sentence = f"Events {expected} to {first - 1} cannot be read."
            found.fault("log", name, sentence, events=(expected, first - 1))
        expected = max(expected, end + 1)


def _check_accounts(
    connection: sqlite3.Connection, keys: set[tuple[str, bytes]], found: Verified
) -> None:
    """Check all names; `keys` are pairs of a name (folded) and a key that the logs have.

    The key of a name is never deleted, unless its person is erased.
    """
    for person, name in connection.execute("SELECT key, name FROM people"):
        if not isinstance(name, str) or fold(name) != person:
            found.fault("accounts", str(person), f"The display name does not fit: {name!r}.")
    sql = (
        "SELECT person, key FROM keys"
        " WHERE length(key) <> ? OR person NOT IN (SELECT key FROM people)"
    )
    for person, _ in connection.execute(sql, (_KEY_SIZE,)):
        found.fault("accounts", str(person), "A key is damaged, or belongs to an unknown name.")
    kept = set(connection.execute("SELECT person, key FROM keys"))
    people = {
        person for (person,) in connection.execute("SELECT key FROM people WHERE erased IS NULL")
    }
    for person, _ in sorted(keys - kept):
        if person in people:
            found.fault("accounts", person, "A key is missing that this person had in a group.")


# ------------------------------------------------------------------ groups


class _GroupCheck:
    """The check of one group: replays its log, then compares what was derived from it."""

    def __init__(self, connection: sqlite3.Connection, number: int, found: Verified) -> None:
        self._connection = connection
        self._number = number
        self._name, self._last, self._shown, *self._erasures = connection.execute(
            "SELECT name, last, shown, erased, erase_to, expired, expire_to FROM groups"
            " WHERE id = ?",
            (number,),
        ).fetchone()
        self._found = found
        self._seq = 0
        self._digests = {EMPTY}  # that the next events may follow
        self._is_whole = True
        self._group = Group.unwritten(self._name)
        self._searched = SearchCheck(connection, number)
        row = connection.execute(
            "SELECT seq, made_with, data FROM states WHERE group_id = ?", (number,)
        ).fetchone()
        self._state = row
        self._restored: Group | None = None
        self._founded_as: str | None = None
        self._expired_to: int | None = None

    def run(self) -> set[tuple[str, bytes]]:
        """Check the log, and if that is whole, what was derived from it.

        Return the keys that the log has, with the names (folded) of their owners.
        """
        self._found.groups += 1
        sql = (
            "SELECT first, last, frames, crc, digest FROM segments WHERE group_id = ? ORDER BY last"
        )
        for row in self._connection.execute(sql, (self._number,)):
            self._check_segment(*row)
        if self._seq != self._last:
            self._damage(f"The log ends with event {self._seq} instead of {self._last}.")
        if not self._is_whole:
            return set()
        self._check_place_of_state()
        self._check_restored()
        self._check_name()
        self._check_appearances()
        self._check_erasures()
        self._check_standings()
        self._check_read_positions()
        self._check_shelf()
        _, erase_to, *_ = self._erasures
        for sentence in self._searched.faults(erase_to):
            self._found.fault("search", self._name, sentence)
        owners = {(fold(name), key) for key, name in self._group.keys.items()}
        requests = self._group.requests.items()
        return owners | {(person, one.key) for person, one in requests if one.key is not None}

    def _damage(self, sentence: str, first: int | None = None, last: int | None = None) -> None:
        self._is_whole = False
        events = None if first is None else (first, first if last is None else last)
        self._found.fault("log", self._name, sentence, events=events)

    def _check_segment(
        self, first: object, last: object, frames: object, crc: object, digest: object
    ) -> None:
        expected = self._seq + 1
        if not (isinstance(first, int) and isinstance(last, int) and isinstance(frames, bytes)):
            self._damage(f"A row after event {self._seq} has values of other types.")
            return
        if first > expected:
            self._damage(f"Events {expected} to {first - 1} are missing.", expected, first - 1)
        elif first < expected:
            self._damage(f"Event {first} is there more than once.", first)
        self._seq = max(self._seq, last)
        if checksum(self._number, first, last, frames) != crc:
            self._damage(
                f"Events {first} to {last} have changed: their checksum is wrong.", first, last
            )
        elif self._is_whole:
            self._replay(first, last, frames, digest)

    def _replay(self, first: int, last: int, frames: bytes, digest: object) -> None:
        try:
            events = [decode_event(body) for body in split_frames(frames)]
        except ProtocolError as error:
            self._damage(
                f"Events {first} to {last} cannot be decoded: {error.sentence}", first, last
            )
            return
        if [event.seq for event in events] != list(range(first, last + 1)):
            self._damage(f"Events {first} to {last} have other numbers inside.", first, last)
            return
        self._check_digest(events, digest)
        for event in events:
            self._apply(event)

    def _check_digest(self, events: list[Event], kept: object) -> None:
        """Check the running digest after a segment, by which clients know the log (`log_digest`).

        A digest that is unknown is stored as such. After a wrong one, the next may follow that, if
        the server went on from it, or the right one: so one wrong digest is one fault.
        """
        right = {extend(digest, events) for digest in self._digests}
        first, last = events[0].seq, events[-1].seq
        if isinstance(kept, bytes) and (kept in right or kept == UNKNOWN):
            self._digests = {kept}
            return
        if isinstance(kept, bytes):
            right.add(kept)
        self._digests = right
        sentence = f"The running digest after event {last} is wrong; clients load the log anew."
        self._found.fault("log", self._name, sentence, events=(first, last))

    def _apply(self, event: Event) -> None:
        if fold(event.group) != self._name or event.at < self._group.at:
            self._damage(f"Event {event.seq} has the name or the time of another one.", event.seq)
        self._found.events += 1
        apply(self._group, event)
        self._searched.add(event)
        self._check_erased(event)
        match event.body:
            case Created():
                self._founded_as = event.group
            case Expired(upto):
                self._expired_to = upto
        if self._restored is not None:
            apply(self._restored, event)
        elif self._state is not None and self._state[:2] == (event.seq, MADE_WITH):
            self._restore(*self._state)

    def _check_erased(self, event: Event) -> None:
        """Check that an event is erased if it has to be; an event without a text stays."""
        erased, _, expired, _ = self._erasures
        is_text = isinstance(event.body, Posted | Edited)
        has_any = not isinstance(event.body, Erased) and bool(event.body.to_map())
        if (event.seq <= erased and has_any) or (event.seq <= expired and is_text):
            self._damage(f"Event {event.seq} should be erased.", event.seq)

    def _restore(self, seq: int, _made_with: str, data: bytes) -> None:
        """Start from the stored state, as a server does when it loads the group."""
        try:
            self._restored = thaw_whole(data, seq)
        except ProtocolError as error:
            self._found.fault("state", self._name, error.sentence, "harmless")

    def _check_restored(self) -> None:
        """Check that the stored state and the events after it lead to the state of the whole log.

        The stored state itself cannot be compared: what was deleted after it was stored, or has
        expired, may still be in it, but not in the log. The later events remove it from there.
        """
        if self._restored is None or self._state is None:
            return
        differing = [
            part.name
            for part in fields(Group)
            if part.compare  # and is no index of the others
            and not _are_alike(getattr(self._restored, part.name), getattr(self._group, part.name))
        ]
        if differing:
            self._found.fault(
                "state",
                self._name,
                f"The state stored at event {self._state[0]} differs from the log:"
                f" {', '.join(differing)}.",
            )

    def _check_place_of_state(self) -> None:
        """Check that the log has the event after which the state was stored, not erased."""
        _, erase_to, *_ = self._erasures
        if self._state is not None and not erase_to < self._state[0] <= self._seq:
            self._found.fault(
                "state", self._name, f"The state is that after event {self._state[0]}."
            )

    def _check_name(self) -> None:
        """Check the display name: that of the founding, or in an old log any spelling."""
        if self._founded_as is not None:
            fits = self._shown == self._founded_as
        else:  # of a direct conversation, or a group that is closed
            fits = self._shown is None or fold(self._shown) == self._name
        if not fits:
            self._found.fault("state", self._name, f"The display name is {self._shown!r}.")

    def _check_appearances(self) -> None:
        """Check what the name looks like, unless the server computes that again at its start."""
        kept = group_appearances(self._connection, self._number)
        is_open = self._group.members and not self._group.direct
        if kept is not None and kept != (appearances_of(self._group.name) if is_open else set()):
            self._found.fault("state", self._name, "The index of names that look alike is wrong.")

    def _check_erasures(self) -> None:
        """Check up to where events and messages are erased, and have to be.

        All events are erased that are older than the present founding, and in a closed group those
        before the closing. Messages expire up to where the last event of that kind says.
        """
        erased, erase_to, expired, expire_to = self._erasures
        limit = max(self._group.floor, 1) - 1 if self._group.members else self._seq
        if not 0 <= erased <= erase_to <= limit:
            self._found.fault(
                "state",
                self._name,
                f"Events are erased up to {erased} of {erase_to}; {limit} is possible.",
            )
        # Without such an event, the one that said so is erased itself.
        said = range(erase_to + 1) if self._expired_to is None else (self._expired_to,)
        if not (expire_to in said and 0 <= expired <= expire_to):
            self._found.fault(
                "state",
                self._name,
                f"Messages are erased up to {expired} of {expire_to}; the log says"
                f" {self._expired_to or 'nothing'}.",
            )

    def _check_read_positions(self) -> None:
        rows = self._connection.execute(
            "SELECT person, seq FROM cursors WHERE group_id = ? AND NOT seq BETWEEN 0 AND ?",
            (self._number, self._seq),
        )
        for person, seq in rows.fetchall():
            self._found.fault(
                "members", self._name, f"{person!r} has read up to event {seq}, beyond the log."
            )

    def _check_standings(self) -> None:
        rows = self._connection.execute(
            "SELECT person, standing FROM standings WHERE group_id = ?", (self._number,)
        )
        kept = dict(rows.fetchall())
        people = (*self._group.members, *self._group.requests) if self._group.seq else ()
        for person in sorted({*kept, *people}, key=str):
            standing = self._group.standing(person) if person in people else "outsider"
            if kept.get(person, "outsider") != standing:
                self._found.fault(
                    "members", self._name, f"The index has {person!r} wrong: they are {standing}."
                )

    def _check_shelf(self) -> None:
        rows = self._connection.execute(
            "SELECT number, sha256, size, person, at FROM shelf WHERE group_id = ?",
            (self._number,),
        )
        indexed = {number: row for number, *row in rows}
        for number, row in indexed.items():
            file = self._group.files.get(number)
            if file is None or row != [file.sha256, file.size, fold(file.by), file.at]:
                self._found.fault(
                    "files", self._name, f"The index of files has file {number} wrong.", "salvage"
                )
        (swept,) = self._connection.execute("SELECT upto FROM swept").fetchone() or (0,)
        for number, file in self._group.files.items():
            if number not in indexed and file.at >= swept:  # others have expired
                self._found.fault(
                    "files",
                    self._name,
                    f"File {number} is missing in the index of files.",
                    "salvage",
                )


def _are_alike(one: object, other: object) -> bool:
    """Return whether two fields are the same; if they are dicts, also in the same order.

    The order of the members, for example, says who becomes the admin after this one.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return [*one.items()] == [*other.items()]
    return one == other


# ------------------------------------------------------------------ files


def _check_index_of_files(connection: sqlite3.Connection, found: Verified) -> dict[bytes, int]:
    """Check that every file of a group is in the index; return the sizes of all in it."""
    stored = dict(connection.execute("SELECT sha256, size FROM blobs").fetchall())
    for sha256 in [one for one in stored if not (isinstance(one, bytes) and len(one) == _KEY_SIZE)]:
        del stored[sha256]
        found.fault(
            "files", DATABASE, f"The index of files has a wrong digest: {sha256!r}.", "salvage"
        )
    rows = connection.execute(
        "SELECT name, number, sha256, size FROM shelf JOIN groups ON id = group_id"
    )
    for name, number, sha256, size in rows:
        if sha256 not in stored:
            found.fault(
                "files",
                name,
                f"File {number} was found damaged and removed; sending it again repairs it.",
            )
        elif stored[sha256] != size:
            found.fault("files", name, f"File {number} has another size in the index.", "salvage")
    _check_usage(connection, found)
    return stored


def _check_usage(connection: sqlite3.Connection, found: Verified) -> None:
    """Check the bytes that count towards the quotas of people and groups against the sums."""
    names = dict(connection.execute("SELECT id, name FROM groups"))
    for table, sums in (("person_usage", PERSON_USAGE), ("group_usage", GROUP_USAGE)):
        kept = dict(connection.execute(f"SELECT * FROM {table}").fetchall())  # noqa: S608  # ours
        right = {owner: size for owner, size in connection.execute(sums) if size}
        for owner in sorted({*kept, *right}, key=str):
            size, counted = right.get(owner, 0), kept.get(owner, 0)
            if size != counted:
                name = str(names.get(owner, owner))
                sentence = f"The files take {size} bytes; {counted} are counted."
                found.fault("files", name, sentence, "salvage")


def _check_files(directory: Path, stored: dict[bytes, int] | None, found: Verified) -> None:
    """Check the files on the disk. Those in question are looked up in the index again.

    The server may have removed or added them since the index was read. Without an index, all files
    are checked by their names, which are their digests.
    """
    files = directory / "files"
    if stored is None:
        named = [path for path in files.glob("??/*") if _DIGEST.fullmatch(path.name)]
        stored = {bytes.fromhex(path.name): path.stat().st_size for path in named}
    problems: dict[bytes, str] = {}
    for sha256, size in stored.items():
        problem = _problem_of(blob_path(files, sha256), sha256, size)
        if problem:
            problems[sha256] = problem
        else:
            found.files += 1
            found.size += size
    known = set(stored)
    with suppress(StorageError), open_view(directory) as connection:
        known = {sha256 for (sha256,) in connection.execute("SELECT sha256 FROM blobs")}
    for sha256, problem in problems.items():
        if sha256 in known:
            is_harmless = problem == _WRONG_DIGESTS
            found.fault("files", sha256.hex(), problem, "harmless" if is_harmless else "resend")
    names = {sha256.hex() for sha256 in {*known, *stored}}
    found.unknown_files = sum(
        path.name.removesuffix(DIGESTS_SUFFIX) not in names for path in files.glob("??/*")
    )


def _problem_of(path: Path, sha256: bytes, size: int) -> str:
    """Return what is wrong with a file, in a sentence; empty if nothing is."""
    digests, running, length = [], hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE_SIZE):
                running.update(piece)
                digests.append(running.digest())
                length += len(piece)
        sums = path.with_name(path.name + DIGESTS_SUFFIX)
        kept = sums.read_bytes() if sums.exists() else None
    except FileNotFoundError:
        return "The file is missing."
    except OSError as error:
        return f"The file cannot be read: {error.strerror}."
    if length != size:
        return f"The file has {length} bytes instead of {size}."
    if running.digest() != sha256:
        return "The file has changed: its digest is wrong."
    if kept is not None and kept != join_digests(digests):
        return _WRONG_DIGESTS
    return ""
