"""Write a new database with everything that can be read of a damaged one.

The rows are read page by page (`pages`). Logs are rebuilt without gaps (`salvaged_log`), and what
the server derives from logs is derived again: standings, files of groups, sizes, the search index.
What only these tables have is copied: accounts, read positions, downloads, bans, leases.

Accounts are repaired from the logs, where every membership has the key that it began with: nobody
else may claim the name of somebody whose row was lost. But the row could also have said that the
key was removed, for example with a lost device. So such a key gets the name only if the name has no
other; all others count as removed.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tchat.core.group.features import decode_event
from tchat.core.group.log_digest import EMPTY, extend
from tchat.core.group.snapshots import MADE_WITH, thaw_whole
from tchat.core.group.state import File, Group
from tchat.core.protocol.framing import split_frames
from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.core.text import fold
from tchat.errors import ProtocolError
from tchat.store.blobs import blob_path
from tchat.store.sqlite.log import add_segment, checksum
from tchat.store.sqlite.pages import PageReader
from tchat.store.sqlite.salvaged_log import Rebuilt, Remains, rebuild
from tchat.store.sqlite.schema import migrate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tchat.store.sqlite.pages import Row
    from tchat.store.sqlite.salvaged_log import Segment

_SUSPICIOUS = 1_000_000
"""A group's last seq, as its row has it, may be so far beyond its last sound segment."""

_KEYS_OF_TABLES = {
    "people": 1,
    "keys": 2,
    "standings": 2,
    "cursors": 2,
    "blobs": 1,
    "held": 2,
    "shelf": 2,
    "fetches": 3,
    "bans": 2,
}
"""How many of the first columns are the primary key; these tables have no rowid."""


@dataclass(frozen=True, slots=True)
class SalvagedGroup:
    """A group of the new database: its display name, its last seq, and the ranges that were lost.

    `guessed_admin` is the name of the admin, if the log no longer says who it was.
    """

    name: str
    events: int
    lost: tuple[tuple[int, int], ...]
    guessed_admin: str | None = None

    @property
    def missing(self) -> int:
        """The number of lost events."""
        return sum(last - first + 1 for first, last in self.lost)


@dataclass(slots=True)
class Salvaged:
    """What was salvaged.

    `people` whose account was lost got it from the logs. `missing_files` are the SHA-256 of files
    that groups have and the disk has not.
    """

    groups: list[SalvagedGroup] = field(default_factory=list)
    people: list[str] = field(default_factory=list)
    missing_files: list[bytes] = field(default_factory=list)


def salvage_database(path: Path, target: Path, files: Path, now: int) -> Salvaged:
    """Write what can be read of the database at `path` to a new one at `target`.

    `files` is the directory of files; `now` is in ms since the Unix epoch. Raises OSError or
    `sqlite3.Error` if the new one cannot be written.
    """
    scratch = target.with_name(f"{target.name}-segments")
    for one in (scratch, target):
        one.unlink(missing_ok=True)
    target.touch(mode=0o600)
    with (
        PageReader(path) as reader,
        closing(sqlite3.connect(scratch, isolation_level=None)) as segments,
        closing(sqlite3.connect(target, isolation_level=None)) as connection,
    ):
        migrate(connection)
        tables = _read(reader, segments)
        connection.execute("BEGIN IMMEDIATE")
        found = _Writer(connection, segments, tables, files, now).write()
        connection.execute("COMMIT")
    scratch.unlink()
    return found


# ------------------------------------------------------------------ reading


@dataclass(slots=True)
class _Tables:
    """The rows that were found, by table and primary key; `groups` and `states` by group id."""

    rows: dict[str, dict[tuple[object, ...], tuple[object, ...]]]
    groups: dict[int, tuple[object, ...]] = field(default_factory=dict)
    states: dict[int, tuple[object, ...]] = field(default_factory=dict)
    standings_are_complete: bool = False
    swept: int | None = None

    def of(self, table: str) -> Iterable[tuple[object, ...]]:
        """Return the rows of a table."""
        return self.rows[table].values()


def _read(reader: PageReader, segments: sqlite3.Connection) -> _Tables:
    """Return all rows; those of the logs whose checksum is right go to a table of `segments`."""
    segments.execute("PRAGMA synchronous = OFF")
    segments.execute(
        "CREATE TABLE found (id INTEGER, last INTEGER, first INTEGER, place INTEGER, frames BLOB,"
        " PRIMARY KEY (id, last))"
    )
    tables = _Tables({table: {} for table in _KEYS_OF_TABLES})
    segments.execute("BEGIN")
    for row in reader.rows():
        if row.table == "segments":
            _keep_segment(segments, row)
        elif row.table in ("groups", "states"):
            known = tables.groups if row.table == "groups" else tables.states
            known.setdefault(row.rowid, row.values)
        elif row.table in _KEYS_OF_TABLES:
            key = row.values[: _KEYS_OF_TABLES[row.table]]
            tables.rows[row.table].setdefault(key, row.values)
    segments.execute("COMMIT")
    tables.standings_are_complete = reader.is_whole("standings")
    tables.swept = reader.single_integer("swept")
    return tables


def _keep_segment(segments: sqlite3.Connection, row: Row) -> None:
    match row.values:
        case (int(group), int(last), int(first), bytes(frames), bytes(crc), *_) if (
            checksum(group, first, last, frames) == crc
        ):
            segments.execute(
                "INSERT OR IGNORE INTO found VALUES (?, ?, ?, ?, ?)",
                (group, last, first, row.rowid, frames),
            )


# ------------------------------------------------------------------ writing


class _Writer:
    """Writes the new database."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        segments: sqlite3.Connection,
        tables: _Tables,
        files: Path,
        now: int,
    ) -> None:
        self._connection = connection
        self._segments = segments
        self._tables = tables
        self._files = files
        self._now = now
        self._found = Salvaged()
        self._names: set[str] = set()
        self._names_of: dict[str, list[str]] = {}  # of the columns of tables
        self._people = {str(row[0]): str(row[1]) for row in tables.of("people")}
        self._keys: dict[str, bytes] = {}
        for person, key, _, until in tables.of("keys"):
            if until is None and isinstance(key, bytes):
                self._keys[str(person)] = key
        self._claims: dict[str, dict[bytes, str]] = {}  # by person: keys, and display names
        self._states: list[tuple[int, Group]] = []

    def write(self) -> Salvaged:
        """Write everything; return what it is."""
        for number in self._numbers():
            self._write_group(number)
        self._write_accounts()
        self._write_standings()
        self._write_files()
        self._write_others()
        return self._found

    def _numbers(self) -> list[int]:
        """Return the ids of all groups; that with the most recent event is written last."""
        sql = "SELECT id, max(place) FROM found GROUP BY id"
        places = dict(self._segments.execute(sql).fetchall())
        return sorted({*self._tables.groups, *places}, key=lambda number: places.get(number, 0))

    # ------------------------------------------------------------------ groups

    def _write_group(self, number: int) -> None:
        remains, state_row = self._remains(number)
        if remains is None or remains.name in self._names:
            return
        self._names.add(remains.name)
        rebuilt = rebuild(remains)
        row = self._columns("groups", self._tables.groups.get(number, (None, "", 0)))
        row |= {"id": number, "name": remains.name, "last": rebuilt.group.seq}
        group = rebuilt.group
        if rebuilt.lost or number not in self._tables.groups:
            row |= {"erased": 0, "erase_to": rebuilt.erase_to}
            row |= {"expired": 0, "expire_to": rebuilt.expire_to}
            row["shown"] = group.name if group.members and not group.direct else remains.shown
        self._insert("groups", row)
        digest = EMPTY
        for first, end, frames in rebuilt.segments:
            digest = extend(digest, map(decode_event, split_frames(frames)))
            add_segment(self._connection, number, first, end, frames, digest)
        if state_row is not None and not rebuilt.lost:
            self._insert("states", {**self._columns("states", state_row), "group_id": number})
        self._note(number, remains, rebuilt)

    def _note(self, number: int, remains: Remains, rebuilt: Rebuilt) -> None:
        group = rebuilt.group
        self._states.append((number, group))
        for key, name in group.keys.items():
            self._claims.setdefault(fold(name), {})[key] = name
        for person, request in group.requests.items():
            if request.key is not None:
                self._claims.setdefault(person, {})[request.key] = request.name
        is_guess = bool(rebuilt.lost) and remains.state is None and group.admin is not None
        admin = group.admin_name if is_guess else None
        shown = group.name or remains.shown
        self._found.groups.append(SalvagedGroup(shown, group.seq, tuple(rebuilt.lost), admin))

    def _remains(self, number: int) -> tuple[Remains | None, tuple[object, ...] | None]:
        """Return what is left of a group, and the row of its state if that is sound."""
        columns = self._columns("groups", self._tables.groups.get(number, (None, "", 0)))
        stored, said, shown = (columns.get(name) for name in ("name", "last", "shown"))
        segments = _SoundSegments(self._segments, number)
        if segments.name:
            name = segments.name
        elif isinstance(stored, str) and stored:
            name = shown if isinstance(shown, str) and fold(shown) == stored else stored
        else:
            return None, None
        key = fold(name)
        state_row = self._tables.states.get(number)
        state = _thawed(state_row, key)
        last = max(segments.last, state.seq if state else 0)
        if isinstance(said, int) and stored == key and last < said <= last + _SUSPICIOUS:
            last = said
        standings = [row for row in self._tables.of("standings") if row[1] == number]
        return (
            Remains(
                key,
                name,
                last,
                segments,
                state,
                {str(row[0]): "member" if row[2] == "member" else "waiting" for row in standings},
                self._tables.standings_are_complete,
                self._people,
                self._keys,
                self._shelf(number),
                _bounded(columns.get("erase_to"), last),
                _bounded(columns.get("expire_to"), last),
                self._now,
            ),
            state_row if state is not None else None,
        )

    def _shelf(self, number: int) -> list[File]:
        """Return the files in the index; their names are only in the log."""
        files = []
        for row in self._tables.of("shelf"):
            match row:
                case (group, int(n), bytes(sha256), int(size), str(person), int(at)) if (
                    group == number
                ):
                    by = self._people.get(person, person)
                    files.append(File(n, f"file-{n}", size, sha256, by, at))
        return sorted(files, key=lambda file: file.number)

    # ------------------------------------------------------------------ accounts

    def _write_accounts(self) -> None:
        people = dict(self._tables.rows["people"])
        keys = dict(self._tables.rows["keys"])
        erased = {str(row[0]) for row in people.values() if len(row) > 3 and row[3] is not None}
        for person, claims in self._claims.items():
            if person in erased:
                continue
            lost = [key for key in claims if (person, key) not in keys]
            if not lost and (person,) in people:
                continue
            name = self._people.get(person) or next(reversed(claims.values()))
            people.setdefault((person,), (person, name, self._now))
            has_key = any(owner == person and row[3] is None for (owner, _), row in keys.items())
            for key in reversed(lost):  # the latest first
                keys[person, key] = (person, key, self._now, self._now if has_key else None)
                has_key = True
            self._found.people.append(name)
        for person in {str(row[0]) for row in keys.values()} - {str(key[0]) for key in people}:
            people[(person,)] = (person, person, self._now)
        rows = [row for row in people.values() if fold(str(row[1])) == row[0]]
        known = {row[0] for row in rows}
        self._insert_all("people", rows)
        self._insert_all("keys", [row for row in keys.values() if row[0] in known])

    def _write_standings(self) -> None:
        old = self._tables.rows["standings"]
        places: dict[str, int] = {}
        for row in old.values():
            if len(row) > 3 and isinstance(row[3], int):
                places[str(row[0])] = max(places.get(str(row[0]), 0), row[3])
        rows: list[tuple[object, ...]] = []
        for number, group in self._states:
            people = (*group.members, *group.requests) if group.seq else ()
            for person in people:
                known = old.get((person, number), ())
                if len(known) > 3:
                    place = known[3]
                else:
                    place = places[person] = places.get(person, 0) + 1
                rows.append((person, number, group.standing(person), place))
        self._insert_all("standings", rows)

    # ------------------------------------------------------------------ files and the rest

    def _write_files(self) -> None:
        old = self._tables.rows["shelf"]
        swept = self._tables.swept
        if swept is None:
            times = [row[5] for row in old.values() if isinstance(row[5], int)]
            swept = min(times, default=self._now)
        self._connection.execute("UPDATE swept SET upto = ?", (swept,))
        shelf = [
            (number, n, file.sha256, file.size, fold(file.by), file.at)
            for number, group in self._states
            for n, file in group.files.items()
            if (number, n) in old or file.at >= swept
        ]
        blobs = self._stored(shelf)
        self._insert_all("blobs", blobs.values())
        self._insert_all("shelf", shelf)
        self._insert_all("held", [row for row in self._tables.of("held") if (row[1],) in blobs])
        there = {(number, n) for number, n, *_ in shelf}
        fetches = [row for row in self._tables.of("fetches") if (row[0], row[1]) in there]
        self._insert_all("fetches", fetches)

    def _stored(
        self, shelf: Iterable[tuple[int, int, bytes, int, str, int]]
    ) -> dict[tuple[bytes], tuple[object, ...]]:
        """Return the rows of the stored files: of those in the index or in a group, on the disk."""
        stored: dict[tuple[bytes], tuple[object, ...]] = {}
        sizes = {sha256: size for _, _, sha256, size, *_ in shelf}
        indexed = {row[0]: row for row in self._tables.of("blobs")}
        for sha256 in {*sizes, *(one for one in indexed if isinstance(one, bytes))}:
            row = indexed.get(sha256, (sha256, sizes.get(sha256), None))
            head = _head_of(blob_path(self._files, sha256), row[1])
            if head is not None:
                stored[(sha256,)] = (*row[:2], head)
            elif sha256 in sizes:
                self._found.missing_files.append(sha256)
        return stored

    def _write_others(self) -> None:
        last = {number: group.seq for number, group in self._states}
        cursors = [
            (row[0], row[1], min(row[2], last[row[0]]))
            for row in self._tables.of("cursors")
            if isinstance(row[0], int) and isinstance(row[2], int) and row[0] in last
        ]
        self._insert_all("cursors", [row for row in cursors if row[2] >= 0])
        self._insert_all("bans", self._tables.of("bans"))

    # ------------------------------------------------------------------ SQL

    def _columns(self, table: str, values: Iterable[object]) -> dict[str, object]:
        """Return the values of a row by column; columns were only ever added at the end."""
        if table not in self._names_of:
            rows = self._connection.execute(f"PRAGMA table_info({table})")
            self._names_of[table] = [row[1] for row in rows]
        return dict(zip(self._names_of[table], values, strict=False))

    def _insert(self, table: str, row: dict[str, object]) -> None:
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        self._connection.execute(
            f"INSERT INTO {table} ({names}) VALUES ({marks})",  # noqa: S608  # ours
            tuple(row.values()),
        )

    def _insert_all(self, table: str, rows: Iterable[tuple[object, ...]]) -> None:
        for row in rows:
            self._insert(table, self._columns(table, row))


def _bounded(value: object, most: int) -> int:
    return value if isinstance(value, int) and 0 <= value <= most else 0


class _SoundSegments:
    """The segments of a group in a table `found`, without those that are not sound.

    Sound are those whose events can be decoded, and that do not overlap. `name` is the display name
    in the first event, or empty, and `last` the last seq. Each iteration reads them one at a time.
    """

    def __init__(self, connection: sqlite3.Connection, number: int) -> None:
        self._connection = connection
        self._number = number
        self.name = ""
        self.last = 0
        unsound = [segment[1] for segment in self if not self._add(segment)]
        sql = "DELETE FROM found WHERE id = ? AND last = ?"
        connection.executemany(sql, [(number, last) for last in unsound])

    def __iter__(self) -> Iterator[Segment]:
        sql = "SELECT first, last, frames FROM found WHERE id = ? ORDER BY last"
        yield from self._connection.execute(sql, (self._number,))

    def _add(self, segment: Segment) -> bool:
        """Return whether a segment, the next one, is sound; it then belongs to the log."""
        first, last, frames = segment
        try:
            events = [decode_event(body) for body in split_frames(frames)]
        except ProtocolError:
            return False
        if first <= self.last or [event.seq for event in events] != list(range(first, last + 1)):
            return False
        name = self.name or events[0].group
        if any(fold(event.group) != fold(name) for event in events):
            return False
        self.name, self.last = name, last
        return True


def _thawed(row: tuple[object, ...] | None, name: str) -> Group | None:
    """Return the state in a stored snapshot, if this version can use it."""
    match row:
        case (_, int(seq), str(made_with), bytes(data)) if made_with == MADE_WITH:
            try:
                group = thaw_whole(data, seq)
            except ProtocolError:
                return None
            return group if fold(group.name) == name else None
    return None


def _head_of(path: Path, size: object) -> bytes | None:
    """Return the SHA-256 of the first piece of a file; None if it is not there with this size."""
    try:
        with path.open("rb") as file:
            head = hashlib.sha256(file.read(PIECE_SIZE)).digest()
            return head if path.stat().st_size == size else None
    except OSError:
        return None
