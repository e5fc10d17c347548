"""The SQLite store: a directory with a database file and the blobs.

A commit appends a segment to the log of a group. The indexes derived from its events are updated in
the same transaction, so they can never disagree with the log: people's standings, the group's
files, erased messages. What is left of erased messages elsewhere on the disk is removed in the
background (see `erasing`).
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from tchat.durable_directory import make_directory, sync_directory, sync_file
from tchat.errors import Code, StartupError
from tchat.file_lock import try_lock
from tchat.store.base import (
    NO_EFFECTS,
    UNKNOWN_HEAD,
    Accounts,
    Conflict,
    DamageReports,
    DataDamaged,
    FileIndex,
    GroupLookalike,
    Hit,
    LogHead,
    Maintenance,
    Membership,
    Page,
    SideEffects,
    StateSnapshot,
    Store,
    StoredGroup,
)
from tchat.store.blobs import BlobDirectory
from tchat.store.sqlite.accounts import SqliteAccounts
from tchat.store.sqlite.appearances import (
    has_group_like,
    prepare_appearances,
    remove_group_appearances,
    set_group_appearances,
)
from tchat.store.sqlite.closing import finish_erasing
from tchat.store.sqlite.damage import SegmentDamaged, damage_in
from tchat.store.sqlite.database import Database, open_database, postponed_if_full
from tchat.store.sqlite.directory import (
    COMPANIONS,
    DATABASE,
    FILES,
    LOCK,
    check_age,
    check_present,
    check_unopened,
    commits_of,
    explain_error,
    full,
    lacking_commits,
    read_record,
    write_record,
)
from tchat.store.sqlite.erasing import Eraser, open_eraser
from tchat.store.sqlite.files import SqliteFileIndex, update_files
from tchat.store.sqlite.log import (
    add_segment,
    body_of,
    check_end,
    edits_of,
    erase,
    find_group,
    page_after,
    page_before,
)
from tchat.store.sqlite.log_heads import digests_at, find_head
from tchat.store.sqlite.maintenance import SqliteMaintenance
from tchat.store.sqlite.memberships import groups_of, memberships_of
from tchat.store.sqlite.schema import forget_before, migrate, set_standings
from tchat.store.sqlite.search import prepare_search, remove_messages
from tchat.store.sqlite.soundness import (
    check_schema,
    check_structure,
    find_doubtful_groups,
    find_place_for_events,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
    from io import FileIO
    from pathlib import Path

    from tchat.core.protocol.frames import Standing
    from tchat.store.sqlite.search import Tokenized
    from tchat.store.words import Term


class SqliteStore(Store):
    """A store in one directory: `tchat.db`, and blobs under `files`."""

    def __init__(
        self, database: Database, blobs: BlobDirectory, eraser: Eraser, commits: _Commits
    ) -> None:
        self.accounts: Accounts = SqliteAccounts(database)
        self.files: FileIndex = SqliteFileIndex(database)
        self.blobs = blobs
        self.troubles = database.troubles
        self.maintenance: Maintenance = SqliteMaintenance(database, eraser)
        self.damage = database.damage
        self.database = database
        self._index = eraser.index
        self._eraser = eraser
        self._commits = commits

    async def append(
        self,
        group: str,
        expected: int,
        count: int,
        frames: bytes,
        effects: SideEffects = NO_EFFECTS,
        head: LogHead = UNKNOWN_HEAD,
    ) -> None:
        """Add packed events; see `Store.append`."""
        if self.damage.logs_closed is not None:
            raise self.damage.logs_closed.with_traceback(None)
        tokenized = await self._index.tokenize(group, effects.erased) if effects.erased else {}

        def work(connection: sqlite3.Connection) -> int:
            number, last = find_group(connection, group)
            if last != expected:
                check_end(connection, number, last)
                raise Conflict(group, expected, last)
            if (name := effects.display_name) and has_group_like(connection, number, name):
                raise GroupLookalike(name)
            if number is None:
                number = _add_group(connection, group, head.identity)
            commits = add_segment(
                connection,
                number,
                expected + 1,
                expected + count,
                frames,
                head.digest,
                at_front=self.damage.logs_grow_at_front,
            )
            connection.execute(
                "UPDATE groups SET last = ? WHERE id = ?", (expected + count, number)
            )
            if effects:
                _update_indexes(connection, number, effects, tokenized)
            return commits

        erases = bool(effects.erased or effects.closed_after or effects.expired_to)
        commits = await self.database.write(work, group=group, alone=erases)
        # What is committed must not be reported as failed: nothing from here on can fail.
        if effects.added_files:
            # A database without this commit, beside the file, has been replaced by an older one.
            self._commits.record(commits)
        else:
            self._commits.note(commits)
        if erases:
            self._eraser.start()

    async def read(self, group: str, after: int) -> Page | None:
        """Return a page; see `Store.read`."""
        return await self.database.read(lambda c: page_after(c, group, after), group)

    async def load(self, group: str) -> StoredGroup:
        """Return what is needed to load a group; see `Store.load`.

        A snapshot that cannot be read is as good as none. Nor are read positions worth a group:
        without them, more seems to be unread than is.
        """
        lost: list[DataDamaged] = []

        def query(connection: sqlite3.Connection) -> StoredGroup:
            with _missing(lost, f"the snapshot of {group}"):
                snapshot = None
                snapshot = _find_snapshot(connection, group)
            with _missing(lost, f"the read positions of {group}"):
                cursors: dict[str, int] = {}
                cursors = _cursors(connection, group)
            page = page_after(connection, group, snapshot.seq if snapshot else 0)
            return StoredGroup(snapshot, page, cursors, find_head(connection, group))

        stored = await self.database.read(query, group)
        for damaged in lost:
            self.damage.report(damaged)
        return stored

    async def digests(self, group: str, seqs: Collection[int]) -> dict[int, bytes]:
        """Return digests of a log; see `Store.digests`."""
        return await self.database.read(lambda c: digests_at(c, group, seqs), group)

    async def save_snapshot(self, group: str, snapshot: StateSnapshot) -> None:
        """Save a snapshot; see `Store.save_snapshot`."""
        sql = (
            "INSERT INTO states (group_id, seq, made_with, data)"
            " SELECT id, ?1, ?2, ?3 FROM groups WHERE name = ?4 AND last >= ?1 AND erase_to < ?1"
            " ON CONFLICT DO UPDATE SET seq = excluded.seq, made_with = excluded.made_with,"
            " data = excluded.data WHERE excluded.seq >= seq"
        )
        values = (snapshot.seq, snapshot.made_with, snapshot.data, group)
        await self.database.write(lambda c: c.execute(sql, values).rowcount, group=group)

    async def read_before(self, group: str, before: int) -> Page | None:
        """Return the page before an event; see `Store.read_before`."""
        return await self.database.read(lambda c: page_before(c, group, before), group)

    async def find(self, group: str, seqs: Collection[int]) -> dict[int, bytes]:
        """Return some events; see `Store.find`."""

        def query(connection: sqlite3.Connection) -> dict[int, bytes]:
            number, _ = find_group(connection, group)
            found = ((seq, body_of(connection, number, seq)) for seq in seqs)
            return {seq: body for seq, body in found if body is not None}

        return await self.database.read(query, group)

    async def edits_of(self, group: str, message: int, upto: int) -> tuple[int, ...]:
        """Return the edits of a message; see `Store.edits_of`."""
        found: list[int] = []
        after = message
        while after < upto:
            # Not by the connection of searches: nobody who deletes waits for them.
            query = partial(edits_of, group=group, message=message, after=after, upto=upto)
            edits, after = await self.database.read(query, group)
            found += edits
        return tuple(found)

    async def groups_of(self, person: str) -> dict[str, Standing]:
        """Return the groups of a person; see `Store.groups_of`."""
        return await self.database.read(partial(groups_of, person=person))

    async def memberships_of(self, person: str) -> list[Membership]:
        """Return the groups of a person, with details; see `Store.memberships_of`."""
        return await self.database.read(partial(memberships_of, person=person))

    async def share_a_group(self, one: str, other: str) -> bool:
        """Return whether two people share a group; see `Store.share_a_group`."""
        sql = (
            "SELECT EXISTS (SELECT 1 FROM standings AS a JOIN standings AS b USING (group_id)"
            " WHERE a.person = ? AND b.person = ? AND a.standing = 'member'"
            " AND b.standing = 'member')"
        )
        return await self.database.read(lambda c: bool(c.execute(sql, (one, other)).fetchone()[0]))

    async def search(
        self,
        groups: Collection[str],
        terms: Sequence[Term],
        skip: int,
        most: int,
        on_work: Callable[[float], None] = lambda _: None,
    ) -> list[Hit]:
        """Return messages that match all terms; see `Store.search`."""
        return await self._index.search(groups, terms, skip, most, on_work)

    async def cursors(self, group: str) -> dict[str, int]:
        """Return the read cursors of a group; see `Store.cursors`."""
        return await self.database.read(lambda c: _cursors(c, group), group)

    async def set_cursors(self, group: str, cursors: dict[str, int]) -> None:
        """Advance read cursors; see `Store.set_cursors`."""

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT INTO cursors (group_id, person, seq)"
                " SELECT id, ?1, ?2 FROM groups WHERE name = ?3 AND NOT EXISTS"
                " (SELECT 1 FROM people WHERE key = ?1 AND erased IS NOT NULL)"
                " ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)",
                [(person, seq, group) for person, seq in cursors.items()],
            )

        await self.database.write(work, group=group)


@asynccontextmanager
async def open_sqlite(directory: Path) -> AsyncIterator[SqliteStore]:
    """Open or create the store in `directory`, and lock it until the end of the block.

    Raises `StartupError` when the directory cannot be used or another server uses it; then nothing
    in it has changed (see `directory`).
    """
    with startup_errors(directory):
        check_present(directory)
        make_directory(directory)
        lock = try_lock(directory / LOCK)
    if lock is None:
        raise in_use(directory)
    with lock:
        async with AsyncExitStack() as stack:
            with startup_errors(directory):
                if not check_unopened(directory):
                    create_database(directory)
                commits = _Commits(lock)
                stack.callback(commits.record_end)  # once the database is closed
                database = await stack.enter_async_context(
                    open_database(
                        directory / DATABASE, partial(_prepare, directory), directory / LOCK
                    )
                )
                known = await database.read(commits_of)
                if known is None:  # damaged, so that nobody can tell: remember the last record
                    known = read_record(directory).commits
                commits.record(known, directory / DATABASE)
                blobs = BlobDirectory(directory / FILES)
                eraser = await stack.enter_async_context(open_eraser(database))
            yield SqliteStore(database, blobs, eraser, commits)


def in_use(directory: Path) -> StartupError:
    """Return the error for a directory that is locked."""
    return StartupError(
        Code.CANNOT_START,
        f"Another tchat server is using the data directory {directory}. Stop that one, or give"
        " another directory with --data.",
    )


def create_database(directory: Path) -> None:
    """Create the database in a locked directory without one.

    It gets its name when it is complete, so a crash leaves none or a whole one. Raises OSError or
    sqlite3.Error.
    """
    path = directory / DATABASE
    draft = path.with_name(f"{path.name}.new")
    for suffix in ("", *COMPANIONS):
        draft.with_name(draft.name + suffix).unlink(missing_ok=True)  # of a start that crashed
    draft.touch(mode=0o600)
    with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        _prepare(directory, connection, DamageReports())
    sync_file(draft)
    draft.rename(path)
    sync_directory(directory)


def _prepare(directory: Path, connection: sqlite3.Connection, damage: DamageReports) -> None:
    """Bring the tables up to date. What is damaged and can be done without is reported."""
    check_structure(connection)
    migrate(connection)
    check_age(directory, connection)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as new:
        migrate(new)
        check_schema(connection, new)
    connection.execute("SELECT * FROM bans").fetchall()  # without them, anybody could get in
    find_doubtful_groups(connection, damage)
    with postponed_if_full(connection):
        find_place_for_events(connection, damage)
    lost: list[DataDamaged] = []
    if lacking := lacking_commits(directory, connection):
        reason = f"an older copy was put in its place, or its {DATABASE}-wal was removed"
        lost.append(DataDamaged(reason, f"the last {lacking} changes are missing"))
    with _missing(lost, "the search index", connection):
        prepare_search(connection)
    with _missing(lost, "the index of names that look alike", connection):
        prepare_appearances(connection)
    with _missing(lost, "what has to be erased", connection):
        finish_erasing(connection, damage)
    for damaged in lost:
        damage.report(damaged)


@contextmanager
def _missing(
    lost: list[DataDamaged], what: str, connection: sqlite3.Connection | None = None
) -> Iterator[None]:
    """Note in `lost` if what the block reads or prepares is damaged: it is done without.

    The transaction of `connection`, if there is one, is rolled back.
    """
    try:
        yield
    except Exception as error:
        damaged = damage_in(error, None)
        if damaged is None:
            raise
        if connection is not None:
            connection.rollback()
        lost.append(DataDamaged(damaged.reason, what))


_RECORD_SECONDS = 1.0


class _Commits:
    """Keeps the record of the last use in the lock file up to date; see `directory`."""

    def __init__(self, lock: FileIO) -> None:
        self._lock = lock
        self._commits = 0
        self._inode = 0
        self._next_write = 0.0

    def record(self, commits: int, database: Path | None = None) -> None:
        """Record the number of durable commits, and at the start the database that is in use."""
        self._commits = max(self._commits, commits)
        if database is not None:
            self._inode = database.stat().st_ino
        self._next_write = time.monotonic() + _RECORD_SECONDS
        write_record(self._lock, self._commits, self._inode)

    def note(self, commits: int) -> None:
        """Record the number of durable commits, but write it once a second at most."""
        self._commits = max(self._commits, commits)
        if time.monotonic() >= self._next_write:
            self.record(commits)

    def record_end(self) -> None:
        """Record that the database was closed, if it has been open."""
        if self._inode:
            write_record(self._lock, self._commits, 0)


def _add_group(connection: sqlite3.Connection, name: str, identity: bytes) -> int:
    sql = "INSERT INTO groups (name, last, identity) VALUES (?, 0, ?)"
    added = connection.execute(sql, (name, identity))
    return added.lastrowid or 0


def _find_snapshot(connection: sqlite3.Connection, group: str) -> StateSnapshot | None:
    sql = "SELECT seq, made_with, data FROM states JOIN groups ON id = group_id WHERE name = ?"
    match connection.execute(sql, (group,)).fetchone():
        case None:
            return None
        case int(seq), str(made_with), bytes(data):
            return StateSnapshot(seq, made_with, data)
    raise ValueError("a snapshot has values of other types")


def _cursors(connection: sqlite3.Connection, group: str) -> dict[str, int]:
    sql = "SELECT person, seq FROM cursors JOIN groups ON id = group_id WHERE name = ?"
    rows = connection.execute(sql, (group,))
    return {str(person): int(seq) for person, seq in rows}


def _update_indexes(
    connection: sqlite3.Connection, number: int, effects: SideEffects, tokenized: Tokenized
) -> None:
    """Apply index updates."""
    set_standings(connection, number, effects.standings)
    update_files(connection, number, effects)
    if effects.display_name is not None:
        connection.execute(
            "UPDATE groups SET shown = ? WHERE id = ?", (effects.display_name, number)
        )
        set_group_appearances(connection, number, effects.display_name)
    if effects.closed_after:
        remove_group_appearances(connection, number)
    forget_before(connection, number, effects.closed_after)
    if effects.expired_to:
        connection.execute(
            "UPDATE groups SET expire_to = ? WHERE id = ?", (effects.expired_to, number)
        )
    if effects.erased:
        remove_messages(connection, number, effects.erased, tokenized)
        erase(connection, number, effects.erased)


@contextmanager
def startup_errors(directory: Path) -> Iterator[None]:
    """Turn an error of the system or of SQLite within the block into `StartupError`."""
    try:
        yield
    except (OSError, sqlite3.Error, DataDamaged, SegmentDamaged) as error:
        damaged = damage_in(error, None)
        if damaged is not None:
            raise StartupError(
                Code.CANNOT_START,
                f"The database {directory / DATABASE} is damaged, and no group could be served:"
                f" {damaged.reason}. Keep a copy of it; `tchat admin verify --data {directory}`"
                " says more. Then restore a backup.",
            ) from error
        if isinstance(error, OSError):
            raise StartupError(Code.CANNOT_START, explain_error(directory, error)) from error
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            raise StartupError(Code.CANNOT_START, full(directory)) from error
        raise StartupError(
            Code.CANNOT_START,
            f"The data directory {directory} cannot be used: {error}. Check it with: tchat admin"
            f" verify --data {directory}; or restore it from a backup.",
        ) from error
