"""The tables of the SQLite store, and the migrations that create them.

`user_version` in the file is the number of migrations applied. A released migration is never
edited: a later one corrects it.

A segment holds the events that one commit added to the log of one group, as packed frames. A quiet
group has one segment per event; a busy group has fewer and longer ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tchat.core.group.features import decode_event
from tchat.core.group.rules import apply
from tchat.core.group.state import Group
from tchat.core.protocol.framing import split_frames
from tchat.core.protocol.handshake import PIECE_SIZE
from tchat.core.text import fold
from tchat.errors import Code, StartupError
from tchat.store.sqlite.log import checksum
from tchat.store.sqlite.log_heads import fill_digests

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping

    from tchat.core.protocol.frames import Standing

APPLICATION_ID = 0x74636874
"""Identifies the file as tchat's ("tcht") to tools such as `file`."""


def set_standings(
    connection: sqlite3.Connection, number: int | None, standings: Mapping[str, Standing]
) -> None:
    """Store the new standing of people (folded) in the group with that id."""
    outsiders = [
        (person, number) for person, standing in standings.items() if standing == "outsider"
    ]
    others = [(person, number, s) for person, s in standings.items() if s != "outsider"]
    connection.executemany("DELETE FROM standings WHERE person = ? AND group_id = ?", outsiders)
    connection.executemany(
        "INSERT INTO standings (person, group_id, standing, place)"
        " SELECT ?1, ?2, ?3, ifnull(max(place), 0) + 1 FROM standings WHERE person = ?1"
        " ON CONFLICT DO UPDATE SET standing = excluded.standing",
        others,
    )


def _fill_standings(connection: sqlite3.Connection) -> None:
    """Compute everybody's standing from the logs."""
    for number, group in _replayed(connection):
        connection.executemany(
            "INSERT INTO standings (person, group_id, standing) VALUES (?, ?, ?)",
            [(p, number, group.standing(p)) for p in (*group.members, *group.requests)],
        )


def _fill_shelves(connection: sqlite3.Connection) -> None:
    """Compute the files of all groups from the logs."""
    for group_id, group in _replayed(connection):
        for file in group.files.values():
            # The digest of a longer file's first piece is unknown until it is uploaded again.
            head = file.sha256 if file.size <= PIECE_SIZE else None
            connection.execute(
                "INSERT INTO blobs VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (file.sha256, file.size, head),
            )
            connection.execute(
                "INSERT INTO shelf VALUES (?, ?, ?, ?, ?, ?)",
                (group_id, file.number, file.sha256, file.size, fold(file.by), file.at),
            )


def _fill_names(connection: sqlite3.Connection) -> None:
    """Compute the groups' display names from the logs."""
    last = (
        "SELECT id, frames FROM groups JOIN segments"
        " ON group_id = id AND segments.last = groups.last"
    )
    for number, frames in connection.execute(last).fetchall():
        *_, body = split_frames(frames)
        shown = decode_event(body).group
        connection.execute("UPDATE groups SET shown = ? WHERE id = ?", (shown, number))


def _replayed(connection: sqlite3.Connection) -> Iterator[tuple[int, Group]]:
    """Yield the id of each group and its state after all events of its log."""
    for number, name in connection.execute("SELECT id, name FROM groups").fetchall():
        group = Group.unwritten(name)  # with the two members of a direct conversation
        segments = connection.execute(
            "SELECT frames FROM segments WHERE group_id = ? ORDER BY last", (number,)
        )
        for (frames,) in segments:
            for body in split_frames(frames):
                apply(group, decode_event(body))
        yield number, group


_TABLES = """
    CREATE TABLE groups (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, last INTEGER NOT NULL);
    CREATE TABLE segments (
        group_id INTEGER NOT NULL REFERENCES groups, last INTEGER NOT NULL,
        first INTEGER NOT NULL, frames BLOB NOT NULL, PRIMARY KEY (group_id, last));
    CREATE TABLE cursors (
        group_id INTEGER NOT NULL REFERENCES groups, person TEXT NOT NULL,
        seq INTEGER NOT NULL, PRIMARY KEY (group_id, person)) WITHOUT ROWID;
    CREATE TABLE people (
        key TEXT PRIMARY KEY, name TEXT NOT NULL, since INTEGER NOT NULL) WITHOUT ROWID;
    """

# A key that was removed from a name stays in `keys`, with the time of removal in `until`, and
# cannot claim the name again. `standings` is derived from the logs, except for its
# `place`. `uploads` maps people to the
# files they uploaded.
_ACCOUNTS = """
    CREATE TABLE keys (
        person TEXT NOT NULL, key BLOB NOT NULL, since INTEGER NOT NULL, until INTEGER,
        PRIMARY KEY (person, key)) WITHOUT ROWID;
    CREATE TABLE standings (
        person TEXT NOT NULL, group_id INTEGER NOT NULL REFERENCES groups,
        standing TEXT NOT NULL, PRIMARY KEY (person, group_id)) WITHOUT ROWID;
    CREATE TABLE uploads (
        person TEXT NOT NULL, sha256 BLOB NOT NULL, size INTEGER NOT NULL,
        PRIMARY KEY (person, sha256)) WITHOUT ROWID;
    """

# `blobs` are the stored files; `head` is the SHA-256 of the first piece, null for long files that
# are older than this table. `held` are leases: a person who uploads a file has one until it is
# shared. `shelf` are the files of groups. `uploads` is dropped: files in it that are in no group
# are unreachable.
_SHELVES = """
    CREATE TABLE blobs (
        sha256 BLOB PRIMARY KEY, size INTEGER NOT NULL, head BLOB) WITHOUT ROWID;
    CREATE INDEX blobs_alike ON blobs (size, head);
    CREATE TABLE held (
        person TEXT NOT NULL, sha256 BLOB NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (person, sha256)) WITHOUT ROWID;
    CREATE INDEX held_by_file ON held (sha256);
    CREATE TABLE shelf (
        group_id INTEGER NOT NULL REFERENCES groups, number INTEGER NOT NULL,
        sha256 BLOB NOT NULL, size INTEGER NOT NULL, person TEXT NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (group_id, number)) WITHOUT ROWID;
    CREATE INDEX shelf_by_file ON shelf (sha256, group_id);
    CREATE INDEX shelf_by_person ON shelf (person, sha256);
    CREATE TABLE fetches (
        group_id INTEGER NOT NULL REFERENCES groups, number INTEGER NOT NULL,
        person TEXT NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (group_id, number, person)) WITHOUT ROWID;
    DROP TABLE uploads;
    """

# `shown` is the group's display name. `searchable` is the progress of the search index: `upto` is
# the last indexed event of a group, `floor` the first event that a search may find. `reworded` is
# the last edit of each message.
_SEARCH = """
    ALTER TABLE groups ADD COLUMN shown TEXT;
    CREATE TABLE searchable (
        group_id INTEGER PRIMARY KEY REFERENCES groups, upto INTEGER NOT NULL,
        floor INTEGER NOT NULL);
    CREATE TABLE reworded (
        group_id INTEGER NOT NULL REFERENCES groups, target INTEGER NOT NULL,
        seq INTEGER NOT NULL, PRIMARY KEY (group_id, target)) WITHOUT ROWID;
    CREATE TABLE search_state (made_with TEXT NOT NULL, merging INTEGER NOT NULL);
    """

# Snapshots of the groups' states as of event `seq`, so that loading a group does not replay its
# whole log. `data` contains names, times and topics, but no messages: nothing that can be erased.
_STATES = """
    CREATE TABLE states (
        group_id INTEGER PRIMARY KEY REFERENCES groups, seq INTEGER NOT NULL,
        made_with TEXT NOT NULL, data BLOB NOT NULL);
    """

# When a group is closed, `erase_to` is set to its last event: all events up to it have to be
# erased. The events up to `erased` have been erased already. Groups that were closed under earlier
# versions are erased at the next start.
_CLOSED = """
    ALTER TABLE groups ADD COLUMN erase_to INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE groups ADD COLUMN erased INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX groups_to_erase ON groups (id) WHERE erased < erase_to;
    """


# `place` is the order in which a person joined their groups, or asked to, and began conversations.
# For those of earlier versions, it is the order in which these were founded.
_PLACES = """
    ALTER TABLE standings ADD COLUMN place INTEGER NOT NULL DEFAULT 0;
    UPDATE standings SET place = (
        SELECT count(*) FROM standings AS one
        WHERE one.person = standings.person AND one.group_id <= standings.group_id);
    """


# `crc` is the checksum of a segment. The table is copied, because a column that is added to rows
# makes the B-tree move them (see `log`); the pages of the old table are overwritten.
_CHECKSUMS = """
    CREATE TABLE checked (
        group_id INTEGER NOT NULL REFERENCES groups, last INTEGER NOT NULL,
        first INTEGER NOT NULL, frames BLOB NOT NULL, crc BLOB NOT NULL,
        PRIMARY KEY (group_id, last));
    INSERT INTO checked SELECT group_id, last, first, frames,
        segment_checksum(group_id, first, last, frames) FROM segments ORDER BY rowid;
    DROP TABLE segments;
    ALTER TABLE checked RENAME TO segments;
    """


# The messages of a group up to `expire_to` are to be erased, since they are older than the server
# keeps messages; up to `expired` they are.
_EXPIRED = """
    ALTER TABLE groups ADD COLUMN expire_to INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE groups ADD COLUMN expired INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX groups_to_expire ON groups (id) WHERE expired < expire_to;
    """

# The operator's bans on the whole server.
_BANS = """
    CREATE TABLE bans (
        kind TEXT NOT NULL, value TEXT NOT NULL, at INTEGER NOT NULL, reason TEXT NOT NULL,
        PRIMARY KEY (kind, value)) WITHOUT ROWID;
    """

# An erased name keeps its row, without keys, so that nobody else can claim it; `erased` is when.
_ERASED = """
    ALTER TABLE people ADD COLUMN erased INTEGER;
    """

# Files that were shared earlier than `upto` may have expired, and then are in no `shelf`. For the
# files that expired under earlier versions, it is the time of the oldest that is left.
_SWEPT = """
    CREATE TABLE swept (upto INTEGER NOT NULL);
    INSERT INTO swept SELECT CASE
        WHEN EXISTS (SELECT 1 FROM shelf) THEN (SELECT min(at) FROM shelf)
        WHEN EXISTS (SELECT 1 FROM segments) THEN CAST(strftime('%s', 'now') AS INTEGER) * 1000
        ELSE 0 END;
    """

# What the names of people look like (see `lookalikes`), computed anew for other versions of the
# data, which are in `appearances_made_with`.
_APPEARANCES = """
    CREATE TABLE appearances (
        appearance TEXT NOT NULL, person TEXT NOT NULL REFERENCES people,
        PRIMARY KEY (appearance, person)) WITHOUT ROWID;
    CREATE TABLE appearances_made_with (versions TEXT NOT NULL);
    """

# What the names of groups look like; `appearances_made_with` says for both tables whether they are
# up to date, so that the groups of earlier versions are added at the next start.
_GROUP_APPEARANCES = """
    CREATE TABLE group_appearances (
        appearance TEXT NOT NULL, group_id INTEGER NOT NULL REFERENCES groups,
        PRIMARY KEY (appearance, group_id)) WITHOUT ROWID;
    CREATE INDEX appearances_by_group ON group_appearances (group_id);
    DELETE FROM appearances_made_with;
    """

# `identity` names a log, and `digest` is its running digest after a segment (see `log_heads`). The
# table is copied for the same reason as for the checksums.
_HEADS = """
    ALTER TABLE groups ADD COLUMN identity BLOB NOT NULL DEFAULT x'';
    UPDATE groups SET identity = randomblob(16);
    CREATE TABLE chained (
        group_id INTEGER NOT NULL REFERENCES groups, last INTEGER NOT NULL,
        first INTEGER NOT NULL, frames BLOB NOT NULL, crc BLOB NOT NULL, digest BLOB NOT NULL,
        PRIMARY KEY (group_id, last));
    """


def _find_closed(connection: sqlite3.Connection) -> None:
    """Mark the events of groups that were closed, whether or not they were founded anew."""
    for number, group in _replayed(connection):
        forget_before(connection, number, (group.floor if group.members else group.seq) - 1)


def forget_before(connection: sqlite3.Connection, number: int, seq: int) -> None:
    """Mark all events up to `seq` of the group with that id for erasure, and delete its caches."""
    if seq > 0:
        connection.execute("UPDATE groups SET erase_to = ? WHERE id = ?", (seq, number))
        connection.execute("DELETE FROM states WHERE group_id = ? AND seq <= ?", (number, seq))
        connection.execute("DELETE FROM cursors WHERE group_id = ? AND seq <= ?", (number, seq))


# The bytes of the files that count towards the quotas: the sums would take longer with every file.
# A file counts once for each person and group, and for a person only while it is stored.
_FILE_USAGE = """
    CREATE TABLE person_usage (person TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE group_usage (
        group_id INTEGER PRIMARY KEY REFERENCES groups, bytes INTEGER NOT NULL);
    """

PERSON_USAGE = (
    "SELECT person, sum(size) AS bytes FROM"
    " (SELECT person, sha256 FROM shelf UNION SELECT person, sha256 FROM held)"
    " JOIN blobs USING (sha256) GROUP BY person"
)
GROUP_USAGE = (
    "SELECT group_id, sum(size) AS bytes FROM"
    " (SELECT DISTINCT group_id, sha256, size FROM shelf) GROUP BY group_id"
)
"""What the two tables contain, as sums; there is no row for those without files."""

_IN_GROUP = "SELECT 1 FROM shelf WHERE sha256 = {0}.sha256 AND group_id = {0}.group_id"
_SHARED = "SELECT 1 FROM shelf WHERE person = {0}.person AND sha256 = {0}.sha256"
_LEASED = "SELECT 1 FROM held WHERE person = {0}.person AND sha256 = {0}.sha256"
_OTHER = "(group_id, number) <> (NEW.group_id, NEW.number)"


def _add_usage(table: str, of: str, rows: str) -> str:
    """Return the statement that adds `rows`, each an owner and bytes, to the usage in a table."""
    return (
        f"INSERT INTO {table} ({of}, bytes) {rows}"  # noqa: S608  # ours
        " ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes;"
        f" DELETE FROM {table} WHERE bytes = 0 AND {of} IN (SELECT {of} FROM ({rows}));"
    )


def _owners_of_blob(row: str, sign: str) -> str:
    return (
        f"SELECT person, {sign}{row}.size FROM"  # noqa: S608  # ours
        f" (SELECT person FROM shelf WHERE sha256 = {row}.sha256"
        f"  UNION SELECT person FROM held WHERE sha256 = {row}.sha256) WHERE {row}.size > 0"
    )


def _person_rows(row: str, sign: str, *others: str) -> str:
    """Return the row for a person who begins or ceases to have a file: nothing `others` find."""
    absent = "".join(f" AND NOT EXISTS ({other.format(row)})" for other in others)
    return (
        f"SELECT {row}.person, {sign}size FROM blobs"  # noqa: S608  # ours
        f" WHERE sha256 = {row}.sha256 AND size > 0{absent}"
    )


def _group_rows(row: str, sign: str, other: str) -> str:
    return (
        f"SELECT {row}.group_id, {sign}{row}.size"
        f" WHERE {row}.size > 0 AND NOT EXISTS ({other.format(row)})"
    )


def _count_usage(connection: sqlite3.Connection) -> None:
    """Fill the tables of usage, and create the triggers that keep them up to date.

    Triggers, so that whatever changes the files changes the usage in the same transaction.
    """
    connection.execute(f"INSERT INTO person_usage {PERSON_USAGE} HAVING sum(size) > 0")
    connection.execute(f"INSERT INTO group_usage {GROUP_USAGE} HAVING sum(size) > 0")
    person, group = ("person_usage", "person"), ("group_usage", "group_id")
    shared_otherwise = f"{_SHARED} AND {_OTHER}"
    in_group_otherwise = f"{_IN_GROUP} AND {_OTHER}"
    bodies = {
        "shelf INSERT": _add_usage(*group, _group_rows("NEW", "+", in_group_otherwise))
        + _add_usage(*person, _person_rows("NEW", "+", shared_otherwise, _LEASED)),
        "shelf DELETE": _add_usage(*group, _group_rows("OLD", "-", _IN_GROUP))
        + _add_usage(*person, _person_rows("OLD", "-", _SHARED, _LEASED)),
        "held INSERT": _add_usage(*person, _person_rows("NEW", "+", _SHARED)),
        "held DELETE": _add_usage(*person, _person_rows("OLD", "-", _SHARED)),
        "blobs INSERT": _add_usage(*person, _owners_of_blob("NEW", "+")),
        "blobs DELETE": _add_usage(*person, _owners_of_blob("OLD", "-")),
    }
    for name, body in bodies.items():
        table, action = name.split()
        connection.execute(
            f"CREATE TRIGGER {table}_{action.lower()}_usage AFTER {action} ON {table}"
            f" BEGIN {body} END"
        )


MIGRATIONS = (
    (_TABLES, None),
    (_ACCOUNTS, _fill_standings),
    (_SHELVES, _fill_shelves),
    (_SEARCH, _fill_names),
    (_STATES, None),
    (_CLOSED, _find_closed),
    (_PLACES, None),
    (_CHECKSUMS, None),
    (_BANS, None),
    (_EXPIRED, None),
    (_ERASED, None),
    (_SWEPT, None),
    (_APPEARANCES, None),
    (_FILE_USAGE, _count_usage),
    (_GROUP_APPEARANCES, None),
    (_HEADS, fill_digests),
)
"""For each migration, its SQL statements and a function that fills the new tables, if any."""


def migrate(connection: sqlite3.Connection) -> None:
    """Apply the missing migrations, each in a transaction. Raises `StartupError`."""
    connection.create_function("segment_checksum", 4, checksum, deterministic=True)
    # Only if needed: it is a write, and the disk may be full.
    if connection.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    (applied,) = connection.execute("PRAGMA user_version").fetchone()
    if applied > len(MIGRATIONS):
        raise StartupError(
            Code.CANNOT_START,
            "The data directory was written by a newer version of tchat; start that version, or a"
            " newer one.",
        )
    for version, (statements, fill) in enumerate(MIGRATIONS[applied:], start=applied + 1):
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements.split(";"):
            connection.execute(statement)
        if fill is not None:
            fill(connection)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")
